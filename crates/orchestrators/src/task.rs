//! The tasks of a deployment, each of which can be one of a DAG.

use mloop_core::deployment::{Deployment, JournalEntry, Step};

use crate::progress::{self, Next};
use crate::{DeploymentOutcome, OrchestratorError};

/// What a deployment run is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Choose a version and bring it to the staging endpoint.
    Deploy,
    /// Test the staging endpoint of the deployment under way.
    SmokeTest,
    /// Give all traffic to the version whose smoke tests passed, and verify that it answers.
    Switch,
    /// All of these in order.
    Run,
    /// Give all traffic back to the version before, verified in the same way.
    Rollback,
}

impl Task {
    /// As it is written on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::SmokeTest => "smoke-test",
            Self::Switch => "switch-to-production",
            Self::Run => "run",
            Self::Rollback => "rollback",
        }
    }

    /// Whether it may begin a deployment, rather than go on with one alone.
    #[must_use]
    pub fn may_begin(self) -> bool {
        matches!(self, Self::Deploy | Self::Run)
    }

    /// The first step that it does itself: those before must have been done.
    pub(crate) fn from(self) -> Step {
        match self {
            Self::Deploy | Self::Run | Self::Rollback => Step::Planned,
            Self::SmokeTest => Step::SmokePassed,
            Self::Switch => Step::ProductionSubmitted,
        }
    }

    /// The last step that it does.
    pub(crate) fn until(self) -> Step {
        match self {
            Self::Deploy => Step::StagingVerified,
            Self::SmokeTest => Step::SmokePassed,
            Self::Switch | Self::Run | Self::Rollback => Step::Notified,
        }
    }

    /// What it comes to while the deployment has no verdict.
    pub(crate) fn under_way(self) -> DeploymentOutcome {
        match self {
            Self::SmokeTest => DeploymentOutcome::SmokePassed,
            _ => DeploymentOutcome::Staged,
        }
    }
}

/// Refuses a step whose predecessors have no outcome yet; each task can be one of a DAG.
///
/// # Errors
/// [`OrchestratorError::Invalid`], which names the task to run first.
pub fn check_order(
    task: Task,
    deployment: &Deployment,
    entries: &[JournalEntry],
) -> Result<(), OrchestratorError> {
    match progress::next(deployment, entries) {
        Next::Do(step) if step < task.from() => {
            let doing = format!("{} of {}", task.as_str(), deployment.version);
            let before = if step <= Task::Deploy.until() { Task::Deploy } else { Task::SmokeTest };
            let before = before.as_str();
            let problem = format!("run `{before}` first: it has not succeeded for this version");
            Err(OrchestratorError::invalid(doing, problem))
        }
        _ => Ok(()),
    }
}
