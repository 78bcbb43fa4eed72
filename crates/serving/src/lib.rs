//! The model server: what answers for images.
//!
//! It keeps SageMaker's container contract (`GET /ping`, `POST /invocations`), and beside it has
//! named endpoints, each of which is switched between versions atomically: a request is answered by
//! the version that served when its head arrived. Every answer carries the digest of the bytes that
//! were loaded, and the features that monitoring needs.
//!
//! | module | does |
//! |---|---|
//! | [`settings`] | what the server is told at its start |
//! | [`server`] | listens, accepts, drains |
//! | `invocations`, `admin` | the two planes of the HTTP interface |
//! | `endpoints`, `changes` | which version serves where, and how that changes |
//! | `model`, `store` | a verified version in memory, and on disk for the next start |
//! | `workers` | bounded, fair use of the processor |
//! | `capture` | SageMaker's data capture: bounded, and never in a request's way |
//! | `metrics` | numbers for Prometheus |

mod admin;
mod app;
mod capture;
mod changes;
mod endpoints;
mod error;
mod invocations;
mod metrics;
mod model;
pub mod server;
pub mod settings;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod workers;

pub use error::ServeError;
pub use metrics::Render;
pub use server::{Addresses, Drained, Server, check};
pub use settings::{CaptureSettings, Limits, Settings};
pub use store::StoreError;
