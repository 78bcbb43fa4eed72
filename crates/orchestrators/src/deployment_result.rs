//! What a deployment run came to: the last line of output, and its record in the ledger.

use mloop_core::deployment::{Deployment, DeploymentVerdict, JournalEntry};
use mloop_core::{DeploymentId, RunId, VersionRef};
use serde::{Deserialize, Serialize};

use crate::progress;
use crate::smoke::SmokeReport;

/// Version of the result's format.
pub const DEPLOYMENT_FORMAT: &str = "mloop.deployment/1";

/// What a deployment run came to, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentOutcome {
    /// The staging endpoint serves the version, verified.
    Staged,
    /// The smoke tests passed.
    SmokePassed,
    /// Production serves the version, verified.
    Switched,
    /// No candidate, or nothing under way to go on with.
    NothingToDeploy,
    /// The smoke tests failed; production was never touched.
    SmokeFailed,
    /// Production serves the version before.
    RolledBack,
    /// The deployment was ended on request; production was never touched.
    Abandoned,
}

impl DeploymentOutcome {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::SmokePassed => "smoke_passed",
            Self::Switched => "switched",
            Self::NothingToDeploy => "nothing_to_deploy",
            Self::SmokeFailed => "smoke_failed",
            Self::RolledBack => "rolled_back",
            Self::Abandoned => "abandoned",
        }
    }

    pub(crate) fn of(verdict: DeploymentVerdict) -> Self {
        match verdict {
            DeploymentVerdict::Switched => Self::Switched,
            DeploymentVerdict::SmokeFailed => Self::SmokeFailed,
            DeploymentVerdict::RolledBack => Self::RolledBack,
            DeploymentVerdict::Abandoned => Self::Abandoned,
        }
    }
}

/// What a deployment run came to: the last line of output, and its record in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentResult {
    /// [`DEPLOYMENT_FORMAT`].
    pub schema: String,
    /// The run.
    pub run_id: RunId,
    /// In one word.
    pub outcome: DeploymentOutcome,
    /// For people: what decided.
    pub reason: String,
    /// The deployment, where there is one.
    pub deployment: Option<DeploymentId>,
    /// Its version.
    pub version: Option<VersionRef>,
    /// What served before.
    pub previous: Option<VersionRef>,
    /// The smoke tests, where they ran.
    pub smoke: Option<SmokeReport>,
    /// Receivers that could not be told; the next run tries again.
    pub notification_failures: Vec<String>,
}

impl DeploymentResult {
    /// There was nothing to do, and why.
    pub(crate) fn nothing(run: &RunId, reason: String) -> Self {
        Self {
            schema: DEPLOYMENT_FORMAT.to_owned(),
            run_id: run.clone(),
            outcome: DeploymentOutcome::NothingToDeploy,
            reason,
            deployment: None,
            version: None,
            previous: None,
            smoke: None,
            notification_failures: vec![],
        }
    }

    /// What a deployment came to; `under_way`, while it has no verdict.
    pub(crate) fn about(
        run: &RunId,
        deployment: &Deployment,
        entries: &[JournalEntry],
        under_way: DeploymentOutcome,
    ) -> Self {
        Self {
            outcome: deployment.verdict.map_or(under_way, DeploymentOutcome::of),
            deployment: Some(deployment.id.clone()),
            version: Some(deployment.version),
            previous: deployment.previous,
            smoke: progress::smoke_report(entries),
            ..Self::nothing(run, progress::reason(entries, deployment.verdict, deployment.previous))
        }
    }
}
