//! `--check` and `--dry-run`: what can be reached, and what would be done, by the functions that
//! choose. Neither changes anything.

use mloop_cli::{Exit, Outcome};
use mloop_orchestrators::choice::{Choice, Wish, choose, choose_rollback};
use mloop_orchestrators::{DeploymentConfig, DeploymentDeps, OrchestratorError, Task, untouched};
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
    let (would, version) = match choice.map_err(|why| PlatformError::invalid(doing, why))? {
        Choice::Nothing => ("nothing", None),
        Choice::Done(deployment) => ("nothing", Some(deployment.version)),
        Choice::Resume(deployment) => ("go_on", Some(deployment.version)),
        Choice::Begin { version, .. } => ("begin", Some(version.version)),
    };
    let result = json!({"outcome": "dry_run", "would": would, "version": version});
    Ok(Outcome::new(Exit::Done, result))
}
