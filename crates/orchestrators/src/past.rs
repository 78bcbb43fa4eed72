//! What the ledger says about the past, as decisions need it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mloop_core::deployment::{Deployment, DeploymentVerdict};
use mloop_core::episode::Episode;
use mloop_core::history::{History, Serving};
use mloop_core::run::RunRecord;
use mloop_core::{MonitoringReport, Subject};

use crate::OrchestratorError;

/// What serves: the version whose switch was verified last and not taken back.
#[must_use]
pub fn serving(deployments: &[Deployment]) -> Option<Serving> {
    newest_switched(deployments).map(|(deployment, since)| Serving {
        version: deployment.version,
        since,
        created_at: deployment.version_created_at,
    })
}

/// The deployment that put there what serves.
pub(crate) fn newest_switched(deployments: &[Deployment]) -> Option<(&Deployment, DateTime<Utc>)> {
    let switched = deployments
        .iter()
        .filter(|deployment| deployment.verdict == Some(DeploymentVerdict::Switched))
        .filter_map(|deployment| Some((deployment, deployment.closed_at?)));
    switched.max_by_key(|(deployment, at)| (*at, deployment.opened_at, deployment.attempt))
}

/// The recent past of a subject: one report a window (its newest revision), of windows that ended
/// by `as_of`, oldest first; stale ones are left out.
///
/// # Errors
/// [`OrchestratorError::Damaged`] for a run whose report cannot be read.
pub fn history(
    subject: &Subject,
    as_of: DateTime<Utc>,
    runs: &[RunRecord],
    serving: Option<Serving>,
    episodes: &[Episode],
) -> Result<History, OrchestratorError> {
    let mut newest: BTreeMap<_, MonitoringReport> = BTreeMap::new();
    for run in runs {
        let report: MonitoringReport = serde_json::from_value(run.body.clone())
            .map_err(OrchestratorError::damaged(format!("the report of {}", run.run_id)))?;
        let window = report.window.bounds;
        if report.stale || window.end() > as_of {
            continue;
        }
        // Ends first: the order in which windows became known.
        let key = (window.end(), window.start(), report.version.digest);
        let known = newest.get(&key);
        if known.is_none_or(|known| known.as_of <= report.as_of) {
            newest.insert(key, report);
        }
    }
    Ok(History {
        subject: subject.clone(),
        as_of,
        serving,
        reports: newest.into_values().collect(),
        last_job_at: episodes.iter().map(|episode| episode.opened_at).max(),
    })
}
