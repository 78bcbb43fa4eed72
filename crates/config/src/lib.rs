//! Configuration files: the only reader of YAML and of the environment.
//!
//! [`Document::read`] turns a file into values that remember their lines; [`Document::decode`] turns
//! those into one of the envelopes ([`MonitoringConfig`], [`RetrainConfig`], [`TrainingConfig`],
//! [`DeploymentConfig`]). The settings of a component stay values here: its struct lives beside the
//! component, and its problems come back through [`Problems::component`], so that one
//! [`ConfigError`] names everything that is wrong with a file at once, each with `file:line`.
//!
//! Nothing is interpolated (`${…}` is plain text), and no secret may stand in a file: see [`secret`].

mod document;
mod envelope;
pub mod environment;
mod node;
mod problem;
mod schema;
pub mod secret;

pub use document::Document;
pub use envelope::{
    Bake, Combination, Component, DeploymentConfig, Envelope, FormatVersion, MonitoringConfig,
    RetrainConfig, TrafficConfig, TrainingConfig,
};
pub use problem::{ConfigError, Problem, Problems};
pub use schema::EnvelopeSchema;
pub use secret::secrets;
