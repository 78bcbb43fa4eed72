//! `retrain_config.yaml`.

use mloop_core::{ModelName, Subject, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Component, Envelope, FormatVersion, MOST_HOURS, check_lease, check_names, check_range,
    check_some, lease_secs,
};
use crate::problem::Problems;

/// When `retraining_main` asks for a new version, and who trains it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrainConfig {
    /// Format of this file: 1.
    pub version: FormatVersion,
    /// The model.
    pub model: ModelName,
    /// Where it serves.
    pub target: TargetName,
    /// Where the past is read and decisions are recorded.
    pub ledger: Component,
    /// Where versions are kept.
    pub registry: Component,
    /// What asks for a retraining.
    pub triggers: Vec<Component>,
    /// How the triggers' verdicts become one decision.
    #[serde(default)]
    pub combination: Combination,
    /// Whether to decide although the newest window is broken.
    #[serde(default)]
    pub allow_on_broken: bool,
    /// Hours after a failed or rejected job before the next attempt.
    #[serde(default = "one_day")]
    pub cooldown_hours: u32,
    /// Attempts for one cause, the first included.
    #[serde(default = "three")]
    pub max_attempts: u32,
    /// How often a lost job is started again before it counts as failed.
    #[serde(default = "three")]
    pub max_restarts: u32,
    /// How many hours of the past the triggers are shown.
    #[serde(default = "two_weeks")]
    pub history_hours: u32,
    /// How many hours before its decision the labelled traffic of a job may begin: more than labels
    /// take to arrive. Nothing is read of the time before the switch to the version that serves.
    #[serde(default = "one_week")]
    pub traffic_lookback_hours: u32,
    /// Seconds for which a killed run blocks the next one; a run that is at work renews its lease.
    #[serde(default = "lease_secs")]
    pub lease_secs: u64,
    /// What runs training jobs.
    pub submitter: Component,
    /// Who is told of each job that was submitted, of each that ended without a version to deploy,
    /// and when no attempt is left.
    #[serde(default)]
    pub notifiers: Vec<Component>,
}

/// How the triggers' verdicts become one decision; *cannot tell* is never a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// One yes is enough.
    #[default]
    Any,
    /// All must say yes.
    All,
}

fn one_day() -> u32 {
    24
}

fn three() -> u32 {
    3
}

fn one_week() -> u32 {
    7 * 24
}

fn two_weeks() -> u32 {
    14 * 24
}

impl RetrainConfig {
    /// Model and target.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { model: self.model.clone(), target: self.target.clone() }
    }
}

impl Envelope for RetrainConfig {
    fn validate(&self, problems: &mut Problems<'_>) {
        check_some("triggers", &self.triggers, problems);
        check_names("triggers", &self.triggers, problems);
        check_names("notifiers", &self.notifiers, problems);
        check_lease(self.lease_secs, problems);
        if self.max_attempts == 0 {
            problems.add("max_attempts", "must be 1 or more");
        }
        for (key, hours, least) in [
            ("cooldown_hours", self.cooldown_hours, 0.0),
            ("history_hours", self.history_hours, 1.0),
            ("traffic_lookback_hours", self.traffic_lookback_hours, 1.0),
        ] {
            check_range(key, hours.into(), [least, MOST_HOURS], problems);
        }
    }
}
