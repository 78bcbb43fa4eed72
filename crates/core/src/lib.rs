//! The vocabulary of mloop: what every other crate speaks.
//!
//! Nothing here does I/O, waits or reads the time (but [`SystemClock`], the only place that may).
//! A type stands here when more than one layer needs it; what one layer needs lives there.
//!
//! | module | holds |
//! |---|---|
//! | [`digest`], [`ids`], [`window`], [`clock`] | identity and time |
//! | [`schema`], [`profile`], [`counts`], [`latency`] | what a window of traffic is boiled down to |
//! | [`capture`], [`attributes`] | one captured request with its answer, and ground truth |
//! | [`finding`], [`report`] | what a monitor says |
//! | [`history`], [`episode`], [`job`] | what retraining decides over, and its cause |
//! | [`version`], [`evaluation`], [`deployment`] | models: their files, verdicts and journeys |
//! | [`notification`], [`metrics`] | what people and dashboards are told |
//! | [`registry`], [`secret`] | `kind:` → component, the plug-in mechanism; secrets by reference |

pub mod attributes;
pub mod capture;
pub mod clock;
pub mod counts;
pub mod decode;
pub mod deployment;
pub mod digest;
pub mod episode;
pub mod evaluation;
pub mod evidence;
pub mod exit_class;
pub mod failpoint;
pub mod finding;
pub mod history;
pub mod ids;
pub mod job;
pub mod latency;
pub mod metrics;
pub mod notification;
pub mod paths;
pub mod profile;
pub mod registry;
pub mod report;
pub mod run;
pub mod schema;
pub mod secret;
pub mod version;
pub mod window;

pub use clock::{Clock, FixedClock, SystemClock};
pub use digest::{Sha256Digest, canonical_json};
pub use evidence::Evidence;
pub use finding::{Finding, Status};
pub use ids::{
    DeploymentId, EndpointName, EpisodeId, InvalidName, JobId, ModelName, RunId, Subject,
    TargetName,
};
pub use profile::Profile;
pub use report::{MonitoringOutcome, MonitoringReport};
pub use schema::ProfileSchema;
pub use secret::{Secret, Secrets};
pub use version::{Manifest, ModelVersion, VersionRef};
pub use window::{InvalidWindow, Window};

/// Any error, as a source to carry along.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error and all its sources on one line, for logs and records.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
