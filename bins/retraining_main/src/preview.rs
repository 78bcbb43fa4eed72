//! `--check` and `--dry-run`: what can be reached, and what would be decided, by the functions that
//! decide. Neither changes anything.

use mloop_cli::{Exit, Failure, Outcome};
use mloop_orchestrators::{
    RetrainConfig, RetrainDeps, RetrainOrchestrator, RetrainPreview, RetrainRequest,
};
use mloop_platform::probe_notifiers;
use serde_json::json;

/// Reaches everything.
pub(crate) async fn check(
    deps: &RetrainDeps,
    settings: &RetrainConfig,
) -> Result<Outcome, Failure> {
    let asked = async {
        deps.journal.probe().await?;
        deps.registry.versions(&settings.subject.model).await?;
        deps.submitter.probe().await?;
        probe_notifiers(&deps.notifiers).await
    };
    let told = asked.await.map_err(Failure::of)?;
    let reached = ["ledger", "registry", "submitter"].map(str::to_owned);
    let reached = [reached.to_vec(), told].concat();
    Ok(Outcome::new(Exit::Done, json!({"outcome": "checked", "reached": reached})))
}

/// Says what a run would do; changes nothing and takes no lease.
pub(crate) async fn preview(
    flow: &RetrainOrchestrator,
    request: &RetrainRequest,
) -> Result<Outcome, Failure> {
    let preview = flow.preview(request).await.map_err(Failure::of)?;
    let RetrainPreview { as_of, would, closes, submits, verdicts } = preview;
    let result = json!({"outcome": "dry_run", "as_of": as_of, "would": would, "closes": closes,
        "submits": submits, "verdicts": verdicts});
    Ok(Outcome::new(Exit::Done, result))
}
