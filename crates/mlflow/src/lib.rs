//! Versions of models on an MLflow tracking server, version 3 or later, that keeps artifacts itself
//! (`--serve-artifacts`, its default).
//!
//! | what | where |
//! |---|---|
//! | parameters, metrics epoch by epoch, evaluation sets | a run of the experiment |
//! | the version's files, `manifest.json` and `MLmodel` | artifacts of a logged model, an output of the run |
//! | number, digest, key, gate | a model version with its tags |
//! | champion and the like | aliases of the registered model |
//!
//! MLflow knows no idempotency keys and gives each `create` a new entity. So everything is searched
//! for by [the key](mloop_core::version::tags::KEY) first, created with all its tags in the same
//! call, and searched for again: of several the oldest counts, and the others are marked
//! `duplicate_of`. Files go to a place that belongs to their digest, so that racing registrations
//! write the same bytes or elsewhere.
//!
//! What the server answers is checked: artifacts are only read from its own store, files are compared
//! with the manifest, and the manifest with the version's digest.

mod answers;
mod api;
mod artifacts;
mod disk;
mod history;
mod logged;
mod mlmodel;
mod registry;
mod runs;
mod settings;
mod versions;

use mloop_platform::ModelRegistryKinds;
pub use registry::MlflowRegistry;
pub use settings::MlflowRegistrySettings;

/// Registers every kind of this crate.
pub fn register_models(registry: &mut ModelRegistryKinds) {
    registry.register::<MlflowRegistrySettings>();
}

/// Tags of versions and runs that only this crate sets; those of mloop at large are
/// [`mloop_core::version::tags`].
pub mod tags {
    /// The digest of the version's manifest.
    pub const DIGEST: &str = "mloop.digest";
    /// Whether the gate passed, so that `staging_ready` is due once the files are verified.
    pub const GATE_PASSED: &str = "mloop.gate_passed";
    /// The number (or id) of the one that counts, when two registrations of a key raced.
    pub const DUPLICATE_OF: &str = "duplicate_of";
}
