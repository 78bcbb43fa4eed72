//! The contracts of the outside systems that orchestrators call.
//!
//! | trait | what it stands for | embedded default |
//! |---|---|---|
//! | [`ProfileSource`], [`TrafficSource`] | captured traffic | capture files on disk |
//! | [`LatencySource`] | where latencies are measured | the window itself |
//! | [`ProfileBuilder`] | the maker of reference profiles | DataFusion in the process |
//! | [`JobSubmitter`] | whatever runs training jobs | a child process |
//! | [`ModelRegistry`] | where versions are kept | a directory |
//! | [`Notifier`] | a channel to people | a JSON-lines file |
//! | [`Journal`], [`Leases`], [`ProfileStore`], [`Outbox`] | the ledger | a SQLite file |
//!
//! Feature `testing` exports the mockall mocks, the in-memory `fakes` and the
//! `conformance` suites.

mod error;
pub mod files;
mod jobs;
mod latency;
mod ledger;
mod models;
mod notify;
mod sources;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod fakes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_core::registry::KindRegistry;
use mloop_core::secret::NoSecrets;
use mloop_core::{Clock, Secret, Secrets};

pub use error::PlatformError;
pub use jobs::{JobSubmitter, Submission};
pub use latency::{LatencyRequest, LatencySource};
pub use ledger::{
    Again, Journal, Lease, Leases, Ledger, Message, Outbox, ProfilePlace, ProfileQuery,
    ProfileStore, RunQuery, Waiting, mergeable,
};
pub use mloop_core::registry::{BuildError, Spec};
pub use models::{ModelRegistry, Registration};
pub use notify::{
    Notifier, attempt_ended, attempts_used_up, deliver_pending, probe_notifiers, send_slack_alert,
    submission,
};
pub use sources::{
    LabelledRow, LabelledTraffic, ProfileBuilder, ProfileRequest, ProfileRow, ProfileSource,
    Reference, ReferenceRequest, ServedSpan, SourceReference, Sources, TrafficLimit, TrafficSource,
};

#[cfg(feature = "testing")]
pub use jobs::MockJobSubmitter;
#[cfg(feature = "testing")]
pub use latency::MockLatencySource;
#[cfg(feature = "testing")]
pub use ledger::{MockJournal, MockLeases, MockOutbox, MockProfileStore};
#[cfg(feature = "testing")]
pub use models::MockModelRegistry;
#[cfg(feature = "testing")]
pub use notify::MockNotifier;
#[cfg(feature = "testing")]
pub use sources::{MockProfileBuilder, MockProfileSource, MockTrafficSource};

/// What every component of this crate's registries may need.
#[derive(Clone)]
pub struct PlatformDeps {
    /// Folder that relative paths in settings start from: that of the configuration file.
    pub base: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where `*_env` and `*_file` lead.
    pub secrets: Arc<dyn Secrets>,
}

impl PlatformDeps {
    /// What components need that know no secret.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { base: base.into(), clock, secrets: NoSecrets::shared() }
    }

    /// The same, with secrets.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, ..self }
    }

    /// The secret that the settings `{key}_env` and `{key}_file` refer to; none when neither is set.
    ///
    /// # Errors
    /// [`BuildError::Settings`] when both are set, or when the reference leads nowhere.
    pub fn secret(
        &self,
        key: &str,
        env: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, BuildError> {
        let (from, found) = match (env, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let problem = format!("set either `{key}_env` or `{key}_file`, not both");
                return Err(BuildError::invalid(format!("{key}_env"), problem));
            }
            (Some(name), None) => ("env", self.secrets.in_env(name)),
            (None, Some(path)) => ("file", self.secrets.in_file(&self.resolve(path))),
        };
        found
            .map(Some)
            .map_err(|error| BuildError::invalid(format!("{key}_{from}"), error.to_string()))
    }

    /// A path of the settings, relative ones taken from the configuration's folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        mloop_core::paths::from_folder(&self.base, path)
    }
}

/// Kinds of window sources.
pub type SourceRegistry = KindRegistry<Sources, PlatformDeps>;
/// Kinds of latency sources.
pub type LatencySourceRegistry = KindRegistry<Arc<dyn LatencySource>, PlatformDeps>;
/// Kinds of job submitters.
pub type SubmitterRegistry = KindRegistry<Arc<dyn JobSubmitter>, PlatformDeps>;
/// Kinds of model registries.
pub type ModelRegistryKinds = KindRegistry<Arc<dyn ModelRegistry>, PlatformDeps>;
/// Kinds of notifiers.
pub type NotifierRegistry = KindRegistry<Arc<dyn Notifier>, PlatformDeps>;
/// Kinds of ledgers. Building one does not open it yet.
pub type LedgerRegistry = KindRegistry<Ledger, PlatformDeps>;
