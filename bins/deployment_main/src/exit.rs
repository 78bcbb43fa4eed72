//! Outcomes of the flow as exit codes.

use mloop_cli::Exit;
use mloop_orchestrators::DeploymentOutcome;

/// The same for every subcommand: whoever reads only the code knows which version serves.
pub(crate) fn exit_of(outcome: DeploymentOutcome) -> Exit {
    match outcome {
        DeploymentOutcome::Staged
        | DeploymentOutcome::SmokePassed
        | DeploymentOutcome::Switched => Exit::Done,
        DeploymentOutcome::NothingToDeploy => Exit::NothingToDo,
        DeploymentOutcome::SmokeFailed => Exit::SmokeTestsFailed,
        DeploymentOutcome::RolledBack | DeploymentOutcome::Abandoned => Exit::RolledBack,
    }
}
