//! `--check` and `--dry-run`: what can be reached, and what would be done, by the functions that
//! choose. Neither changes anything.

use mloop_cli::{Exit, Outcome};
use mloop_orchestrators::choice::{Choice, Wish, choose, choose_rollback};
use mloop_orchestrators::{
    DeploymentConfig, DeploymentDeps, OrchestratorError, Task, check_order, untouched,
};
use mloop_platform::{PlatformError, probe_notifiers};
use serde_json::json;

/// Reaches everything.
pub(crate) async fn check(
    deps: &DeploymentDeps,
    settings: &DeploymentConfig,
) -> Result<Outcome, OrchestratorError> {
    deps.journal.probe().await?;
    deps.registry.versions(&settings.subject.model).await?;
    deps.endpoints.deployer.describe(&settings.production).await?;
    let told = probe_notifiers(&deps.notifiers).await?;
    let reached = ["ledger", "registry", "deployer"].map(str::to_owned);
    let reached = [reached.to_vec(), told].concat();
    Ok(Outcome::new(Exit::Done, json!({"outcome": "checked", "reached": reached})))
}

/// Says what the subcommand would do now; changes nothing and takes no lease.
pub(crate) async fn preview(
    task: Task,
    version: Option<u64>,
    again: bool,
    deps: &DeploymentDeps,
    settings: &DeploymentConfig,
) -> Result<Outcome, OrchestratorError> {
    let subject = &settings.subject;
    let deployments = deps.journal.deployments(subject).await?;
    let choice = if task == Task::Rollback {
        let untouched = untouched(deps.journal.as_ref(), &deployments).await?;
        choose_rollback(version, &deployments, &untouched)
    } else {
        let versions = deps.registry.versions(&subject.model).await?;
        let wish = Wish { version, again, may_begin: task.may_begin() };
        choose(wish, &versions, &deployments)
    };
    let doing = format!("choosing a version of {subject}");
    let choice = choice.map_err(|why| PlatformError::invalid(doing, why))?;
    let (would, version, to) = match choice {
        Choice::Nothing => ("nothing", None, None),
        Choice::Done(deployment) => ("nothing", Some(deployment.version), None),
        Choice::Resume(deployment) if task == Task::Rollback => {
            ("roll_back", Some(deployment.version), deployment.previous)
        }
        Choice::Resume(deployment) => {
            let entries = deps.journal.entries(&deployment.id).await?;
            check_order(task, &deployment, &entries)?;
            ("go_on", Some(deployment.version), None)
        }
        Choice::Begin { version, .. } => ("begin", Some(version.version), None),
    };
    let line = json!({"outcome": "dry_run", "would": would, "version": version, "to": to});
    Ok(Outcome::new(Exit::Done, line))
}
