//! Training jobs as Kubernetes Jobs.
//!
//! | contract | kind | implementation |
//! |---|---|---|
//! | job submitter | `kubernetes` | [`KubernetesSubmitter`] |
//!
//! A job is one object `batch/v1` Job, whose name derives from the job's id and which carries the digest
//! of what was asked for. The API server takes each name once: whoever submits again finds the Job,
//! compares the digest, and adopts it. A job that was interrupted goes on in a further Job, `…-r2` and so
//! on, since one that has ended keeps its name until its time to live is over.
//!
//! The job file reaches the pod as an annotation, by a downward-API volume: no `ConfigMap` is made, and no
//! right to make one is needed. The result comes back as exit code and termination message of the
//! container. docs/how-to/kubernetes.md says what the cluster must have and allow.

mod cluster;
mod connection;
mod jobs;
mod manifest;
mod settings;
mod status;
mod submitter;
#[cfg(feature = "testing")]
pub mod testing;

use mloop_platform::SubmitterRegistry;
pub use settings::{KubernetesSubmitterSettings, Kueue, Resources, SecretVariable, Work};
pub use submitter::KubernetesSubmitter;

/// Registers the kind of job submitters.
pub fn register_submitters(registry: &mut SubmitterRegistry) {
    registry.register::<KubernetesSubmitterSettings>();
}
