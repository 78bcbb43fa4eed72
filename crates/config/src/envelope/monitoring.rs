//! `monitoring_config.yaml`.

use std::path::PathBuf;

use mloop_core::{ModelName, Subject, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Component, Envelope, FormatVersion, MOST_HOURS, check_names, check_range, check_some};
use crate::problem::Problems;

/// What `monitoring_main` watches, and whom it tells.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitoringConfig {
    /// Format of this file: 1.
    pub version: FormatVersion,
    /// The model.
    pub model: ModelName,
    /// Where it serves.
    pub target: TargetName,
    /// Where runs and profiles are recorded.
    pub ledger: Component,
    /// Where the serving version's reference profile comes from.
    pub registry: Component,
    /// Where captured traffic is read.
    pub source: Component,
    /// Where latencies are measured; `window`, the captured traffic itself, when left out.
    #[serde(default = "window")]
    pub latency_source: Component,
    /// Folder in which references are kept between runs; relative to this file.
    pub work: PathBuf,
    /// A window is measured only so many seconds after its end, for files that arrive late; at most
    /// an hour.
    #[serde(default)]
    pub settle_secs: u64,
    /// Windows that ended more than so many hours before the run are recorded, and neither notify
    /// nor trigger.
    #[serde(default = "two_days")]
    pub stale_after_hours: u32,
    /// How many hours labels take to arrive, at most a year: whatever needs labels is judged on the
    /// window that ended so much earlier. 0: labels are expected within the window.
    #[serde(default)]
    pub label_delay_hours: u32,
    /// So many windows in a row that could not be judged are an alert: 1 to 10,000.
    #[serde(default = "three")]
    pub max_blind_windows: u32,
    /// False alarms that may be expected in a month, over all checks of all monitors, above 0 and at most
    /// 1000: the fewer, the surer each check must be, and the larger a change before it is told. Left out,
    /// each monitor is as sure as its own `confidence` says.
    #[serde(default)]
    pub false_alarms_per_month: Option<f64>,
    /// Windows that are judged in a month, 1 to 100,000: 720 of an hour.
    #[serde(default = "hourly")]
    pub windows_per_month: f64,
    /// What is measured.
    pub monitors: Vec<Component>,
    /// Whom the report goes to, each with its own `when`.
    pub reporters: Vec<Component>,
    /// Channels to people, for reporters that alert.
    #[serde(default)]
    pub notifiers: Vec<Component>,
}

fn window() -> Component {
    Component { kind: "window".to_owned(), name: None, settings: Value::Null }
}

fn hourly() -> f64 {
    720.0
}

fn two_days() -> u32 {
    48
}

fn three() -> u32 {
    3
}

impl MonitoringConfig {
    /// Model and target.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { model: self.model.clone(), target: self.target.clone() }
    }
}

impl Envelope for MonitoringConfig {
    fn validate(&self, problems: &mut Problems<'_>) {
        check_some("monitors", &self.monitors, problems);
        check_some("reporters", &self.reporters, problems);
        check_names("monitors", &self.monitors, problems);
        check_names("reporters", &self.reporters, problems);
        check_names("notifiers", &self.notifiers, problems);
        check_range("settle_secs", self.settle_secs as f64, [0.0, 3600.0], problems);
        check_range(
            "stale_after_hours",
            self.stale_after_hours.into(),
            [0.0, MOST_HOURS],
            problems,
        );
        check_range("label_delay_hours", self.label_delay_hours.into(), [0.0, 8784.0], problems);
        check_range("windows_per_month", self.windows_per_month, [1.0, 100_000.0], problems);
        if self.false_alarms_per_month.is_some_and(|alarms| !(alarms > 0.0 && alarms <= 1000.0)) {
            problems.add("false_alarms_per_month", "must be above 0 and at most 1000");
        }
        if !(1..=10_000).contains(&self.max_blind_windows) {
            problems.add("max_blind_windows", "must be from 1 to 10000");
        }
    }
}
