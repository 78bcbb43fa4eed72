//! `reference build`.

use mloop_cli::{Exit, Failure, Outcome, this_run_is};
use mloop_orchestrators::{BuildReference, ReferenceDeps, ReferenceOrchestrator};

use crate::compose::Parts;

/// Makes a reference of the source's rows.
pub(crate) async fn build(
    parts: Parts,
    request: &BuildReference,
    dry_run: bool,
) -> Result<Outcome, Failure> {
    if dry_run {
        let problem = "a reference is made or not: leave --dry-run out; a repeat over equal rows finds the first";
        return Err(Failure::new(Exit::Config, problem));
    }
    let Parts { deps, settings, .. } = parts;
    let deps = ReferenceDeps { source: deps.source, registry: deps.registry, clock: deps.clock };
    let flow = ReferenceOrchestrator::new(deps, settings.subject, settings.work);
    let built = flow.run(request).await.map_err(Failure::of)?;
    this_run_is(built.run_id.clone());
    Outcome::of(Exit::Done, &built)
}
