//! The result of a monitoring run.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::finding::{Finding, Status};
use crate::ids::{RunId, Subject};
use crate::version::VersionRef;
use crate::window::Window;

/// Version of the report's format.
pub const MONITORING_FORMAT: &str = "mloop.monitoring/1";

/// What a window was judged to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitoringOutcome {
    /// Everything that was checked is within its tolerance.
    Ok,
    /// Something is outside its tolerance, or a monitor failed.
    Alert,
    /// Nothing is known to be wrong, but something could not be told.
    InsufficientData,
    /// The data are damaged; nothing may be learnt from this window.
    Broken,
}

impl MonitoringOutcome {
    /// The worst that findings and failed monitors amount to: broken, then alert, then
    /// insufficient data. No findings at all is insufficient data too: nothing was checked.
    #[must_use]
    pub fn of(findings: &[Finding], failures: &[MonitorFailure]) -> Self {
        let any = |status| findings.iter().any(|finding| finding.status == status);
        if any(Status::Broken) {
            Self::Broken
        } else if any(Status::Drifted) || !failures.is_empty() {
            Self::Alert
        } else if any(Status::InsufficientData) || findings.is_empty() {
            Self::InsufficientData
        } else {
            Self::Ok
        }
    }

    /// Whether people are to be told: an alert or broken data.
    #[must_use]
    pub fn is_alerting(self) -> bool {
        matches!(self, Self::Alert | Self::Broken)
    }

    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Alert => "alert",
            Self::InsufficientData => "insufficient_data",
            Self::Broken => "broken",
        }
    }
}

/// A monitor that could not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorFailure {
    /// Name of the monitor in the configuration.
    pub monitor: String,
    /// The error with its causes.
    pub error: String,
}

/// Everything one monitoring run says about one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitoringReport {
    /// [`MONITORING_FORMAT`].
    pub schema: String,
    /// The run.
    pub run_id: RunId,
    /// Model and target.
    pub subject: Subject,
    /// The version that served.
    pub version: VersionRef,
    /// The window with the number of rows in it.
    pub window: ReportWindow,
    /// The judgement.
    pub outcome: MonitoringOutcome,
    /// Every check, in the order of the monitors.
    pub findings: Vec<Finding>,
    /// Monitors that failed.
    pub failures: Vec<MonitorFailure>,
    /// Windows in a row, this one included, whose outcome was `insufficient_data`.
    pub blind_windows: u32,
    /// Whether the window is older than `stale_after`: recorded, but nobody is told.
    pub stale: bool,
    /// The earlier window that labels were looked at in, where they are given time to arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_window: Option<Window>,
    /// Digest of the profile of the window.
    pub profile: Sha256Digest,
    /// Digest of the reference profile.
    pub reference: Sha256Digest,
    /// The moment that the run took for now.
    pub as_of: DateTime<Utc>,
}

/// A window and its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportWindow {
    /// Start (included) and end (excluded).
    #[serde(flatten)]
    pub bounds: Window,
    /// Rows answered by the version.
    pub rows: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Rows of other versions that are known to have served in the window.
    #[serde(default)]
    pub other_version: u64,
    /// Rows of versions that are not known to have served in the window.
    pub mixed: u64,
}

impl MonitoringReport {
    /// Findings that someone should look at, worst status first.
    #[must_use]
    pub fn alerting(&self) -> Vec<&Finding> {
        let mut found: Vec<_> = self.findings.iter().filter(|f| f.is_alerting()).collect();
        found.sort_by_key(|finding| std::cmp::Reverse(finding.status));
        found
    }
}
