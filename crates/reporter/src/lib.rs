//! The contract of reporters: what becomes of a monitoring report.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod fake;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::registry::KindRegistry;
use mloop_core::{BoxError, Evidence, MonitoringReport};
use mloop_platform::{Message, Notifier, Outbox, PlatformDeps};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "testing")]
pub use fake::RecordingReporter;
pub use mloop_core::registry::{BuildError, Spec};

/// All kinds of reporters that a program knows.
pub type ReporterRegistry = KindRegistry<Box<dyn Reporter>, ReporterDeps>;

/// What reporters may need.
#[derive(Clone)]
pub struct ReporterDeps {
    /// Paths and time.
    pub platform: PlatformDeps,
    /// The configured channels to people.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// Where messages wait until they are delivered.
    pub outbox: Arc<dyn Outbox>,
}

/// On which outcomes a reporter is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Only when nobody needs to be told.
    NoAlert,
    /// Only on an alert: something drifted, data are broken, or a monitor failed; and when windows
    /// could not be judged `max_blind_windows` times in a row.
    Alert,
    /// On every outcome.
    Always,
}

impl When {
    /// Whether a reporter is called for a run that does or does not alert.
    #[must_use]
    pub fn applies(self, alerting: bool) -> bool {
        match self {
            Self::NoAlert => !alerting,
            Self::Alert => alerting,
            Self::Always => true,
        }
    }
}

/// A judged window: what was found, what it rests on, and what came before.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What was found.
    pub report: MonitoringReport,
    /// What the monitors looked at.
    pub evidence: Evidence,
    /// Reports of the last windows of this version that ended before this one, oldest first, one a
    /// window, at most [`MAX_HISTORY`]; none when the ledger could not be read.
    pub history: Vec<MonitoringReport>,
}

/// Most earlier windows that reporters get: two days of hours.
pub const MAX_HISTORY: usize = 48;

/// Hands a report on: to a dashboard, to people, to a file.
///
/// # Contract
/// Repeatable: reporting the same run again leaves one record, or delivers a message under the same
/// id. A failure is told, and hides neither the verdict nor the other reporters.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Reporter: Send + Sync {
    /// Stable name, unique within a run.
    fn name(&self) -> &str;

    /// On which outcomes it is called.
    fn when(&self) -> When;

    /// What people are to be told of the report. It is queued in the transaction that records the run,
    /// so that a kill before [`Reporter::report`] loses no message; nothing for reporters that tell
    /// nobody.
    fn messages(&self, report: &MonitoringReport) -> Vec<Message> {
        let _ = report;
        vec![]
    }

    /// The page that [`Reporter::report`] leaves for people to open; none for reporters that leave none.
    fn page(&self, report: &MonitoringReport) -> Option<PathBuf> {
        let _ = report;
        None
    }

    /// Looks whether reports could be handed on, where that can be told without one; then true.
    /// Changes nothing.
    ///
    /// # Errors
    /// As [`Reporter::report`] would fail.
    async fn probe(&self) -> Result<bool, ReporterError> {
        Ok(false)
    }

    /// Hands the report on.
    ///
    /// # Errors
    /// [`ReporterError`].
    async fn report(&self, judged: &Judged) -> Result<(), ReporterError>;
}

/// Why a report could not be handed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReporterError {
    /// A later try may succeed.
    #[error("{doing}: the receiver cannot be reached or is busy")]
    Unavailable {
        /// What was being done, and where.
        doing: String,
        /// The receiver's own error.
        #[source]
        cause: BoxError,
    },
    /// The receiver refuses it for good: settings or permissions must change.
    #[error("{doing}: refused")]
    Refused {
        /// What was being done, and where.
        doing: String,
        /// The receiver's own error.
        #[source]
        cause: BoxError,
    },
}

impl ReporterError {
    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
