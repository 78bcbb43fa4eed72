//! `replay`.

use mloop_cli::{Exit, Failure, Outcome, this_run_is};
use mloop_core::Window;
use mloop_orchestrators::{MonitoringOrchestrator, Replayed};

use crate::compose::Parts;

/// Judges the stored windows of a span, and says of each what was found.
pub(crate) async fn replay(mut parts: Parts, span: Window) -> Result<Outcome, Failure> {
    parts.make_read_only();
    let flow = MonitoringOrchestrator::new(parts.deps, parts.settings);
    this_run_is(flow.replay_id(span));
    let result = flow.replay(span, &mut tell).await.map_err(Failure::of)?;
    Outcome::of(Exit::Done, &result)
}

/// A line for each window, and one for each alert.
fn tell(replayed: &Replayed) {
    match replayed {
        Replayed::Judged(one) => {
            let told = if one.alerting { ", people would be told" } else { "" };
            let outcome = one.outcome.as_str();
            tracing::info!("{} {}: {outcome}{told}, {} rows", one.window, one.version, one.rows);
            one.alerts.iter().for_each(|alert| tracing::info!("  {alert}"));
        }
        Replayed::Skipped { window, why } => tracing::info!("{window} skipped: {why}"),
    }
}
