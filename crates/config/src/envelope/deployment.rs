//! `deployment_config.yaml`.

use std::path::PathBuf;

use mloop_core::{EndpointName, ModelName, Subject, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Component, Envelope, FormatVersion, check_lease, check_names, check_range, lease_secs,
};
use crate::problem::Problems;

/// How `deployment_main` brings a version to production.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentConfig {
    /// Format of this file: 1.
    pub version: FormatVersion,
    /// The model.
    pub model: ModelName,
    /// Where it serves.
    pub target: TargetName,
    /// Where deployments are journaled.
    pub ledger: Component,
    /// Where versions are kept.
    pub registry: Component,
    /// What serves.
    pub deployer: Component,
    /// The endpoint that production asks.
    pub production_endpoint: EndpointName,
    /// The endpoint that a version is tested at first.
    pub staging_endpoint: EndpointName,
    /// Folder in which a version's files are kept while it is deployed; relative to this file.
    pub work: PathBuf,
    /// What a version must prove in staging.
    #[serde(default)]
    pub smoke_tests: Value,
    /// When a switch counts as done.
    #[serde(default)]
    pub bake: Bake,
    /// Leave the staging endpoint when the deployment is over.
    #[serde(default)]
    pub keep_staging: bool,
    /// Seconds for which a killed run blocks the next one; a run that is at work renews its lease.
    #[serde(default = "lease_secs")]
    pub lease_secs: u64,
    /// Who is told.
    #[serde(default)]
    pub notifiers: Vec<Component>,
}

/// When a change of an endpoint counts as done.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bake {
    /// Answers over new connections, all of which must come from the new version.
    pub verify_requests: u32,
    /// Seconds that an endpoint may take to change, at most a week.
    pub patience_secs: u64,
    /// Milliseconds between two looks at an endpoint, 1 to 3600000.
    pub poll_ms: u64,
}

impl Default for Bake {
    fn default() -> Self {
        Self { verify_requests: 20, patience_secs: 600, poll_ms: 200 }
    }
}

impl DeploymentConfig {
    /// Model and target.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { model: self.model.clone(), target: self.target.clone() }
    }
}

impl Envelope for DeploymentConfig {
    fn validate(&self, problems: &mut Problems<'_>) {
        check_names("notifiers", &self.notifiers, problems);
        check_lease(self.lease_secs, problems);
        if self.production_endpoint == self.staging_endpoint {
            problems.add("staging_endpoint", "must be another than production_endpoint");
        }
        if self.bake.verify_requests == 0 {
            let why = "must be 1 or more: a switch is verified, not assumed";
            problems.add("bake.verify_requests", why);
        }
        let Bake { patience_secs, poll_ms, .. } = self.bake;
        check_range("bake.patience_secs", patience_secs as f64, [0.0, 604_800.0], problems);
        check_range("bake.poll_ms", poll_ms as f64, [1.0, 3_600_000.0], problems);
    }
}
