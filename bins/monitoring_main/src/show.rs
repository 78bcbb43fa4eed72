//! `show`.

use mloop_cli::{Exit, Failure, Outcome, screen_has_colors, screen_width};
use mloop_orchestrators::{MonitoringOrchestrator, Recalled};
use mloop_reporters::{Screen, text};
use serde_json::json;

use crate::args::ShowArgs;
use crate::compose::Parts;

/// Shows what an earlier run found; changes nothing.
pub(crate) async fn show(mut parts: Parts, args: &ShowArgs) -> Result<Outcome, Failure> {
    parts.make_read_only();
    let flow = MonitoringOrchestrator::new(parts.deps, parts.settings);
    let found = flow.recall(&args.which()?).await.map_err(Failure::of)?;
    let Recalled { report, evidence, history } = found;
    let screen = Screen { width: screen_width(), colors: !args.no_color && screen_has_colors() };
    let shown = text(&report, evidence.as_ref(), &history, screen);
    let line = json!({
        "run_id": report.run_id,
        "outcome": report.outcome,
        "version": report.version,
        "window": report.window,
    });
    Ok(Outcome::new(Exit::Done, line).below(shown))
}
