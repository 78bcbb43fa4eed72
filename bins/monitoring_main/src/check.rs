//! `--check`: reaches everything, and changes nothing.

use chrono::{DateTime, TimeDelta, Utc};
use mloop_cli::{Exit, Failure, Outcome};
use mloop_core::latency::{LatencyHistogram, LatencySpan};
use mloop_core::{Sha256Digest, Subject, VersionRef, Window};
use mloop_platform::{LatencyRequest, PlatformError, probe_notifiers};
use mloop_reporter::ReporterError;
use serde_json::json;

use crate::compose::Parts;

/// Reads a little of ledger, registry, traffic and latencies, and looks whether whoever gets reports
/// could take one.
pub(crate) async fn check(parts: &Parts, now: DateTime<Utc>) -> Result<Outcome, Failure> {
    let Parts { deps, settings, late, .. } = parts;
    let subject = &settings.subject;
    let mut reached: Vec<String> =
        ["ledger", "registry", "source", "latency_source"].map(str::to_owned).to_vec();
    let asked = async {
        deps.journal.probe().await?;
        deps.registry.versions(&subject.model).await?;
        deps.source.probe(now).await?;
        if let Ok(last_hour) = Window::new(now - TimeDelta::hours(1), now) {
            deps.latency.latency(&any_latencies(subject, last_hour)).await?;
        }
        Ok::<(), PlatformError>(())
    };
    asked.await.map_err(Failure::of)?;
    for reporter in &deps.reporters {
        if reporter.probe().await.map_err(unreported)? {
            reached.push(format!("reporter {}", reporter.name()));
        }
    }
    reached.extend(probe_notifiers(&late.notifiers).await.map_err(Failure::of)?);
    Ok(Outcome::new(Exit::Done, json!({"outcome": "checked", "reached": reached})))
}

fn unreported(error: ReporterError) -> Failure {
    let exit = if error.is_transient() { Exit::Transient } else { Exit::Config };
    Failure::new(exit, error)
}

/// A question that every latency source can answer, with nothing perhaps.
fn any_latencies(subject: &Subject, window: Window) -> LatencyRequest {
    let version = VersionRef { number: 1, digest: Sha256Digest::of(b"") };
    let counted = LatencySpan { window, latency: LatencyHistogram::default() };
    LatencyRequest { subject: subject.clone(), version, window, counted }
}
