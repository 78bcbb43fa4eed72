//! `--check` and `--dry-run`: what can be reached, and what would be trained. Neither changes anything.

use std::sync::Arc;

use chrono::TimeDelta;
use mloop_cli::{Exit, Failure, Outcome};
use mloop_core::job::JobSpec;
use mloop_core::{Sha256Digest, Window};
use mloop_orchestrators::{TrainingConfig as Settings, TrainingDeps};
use mloop_trainer::{StopFlag, TrainingRequest};
use serde_json::json;

/// Reaches everything, and changes nothing; a dry run also says what would be trained.
pub(crate) async fn look(
    deps: &TrainingDeps,
    settings: &Settings,
    job: &JobSpec,
    dry_run: bool,
) -> Result<Outcome, Failure> {
    let versions = deps.registry.versions(&job.subject.model).await;
    let versions = versions.map_err(Failure::of)?;
    let rows = match (&deps.traffic, last_hour(job)) {
        (Some(traffic), Some(window)) => {
            let rows = traffic.labelled(&window, job.as_of, settings.traffic_limit).await;
            rows.map_err(Failure::of)?.rows.len()
        }
        _ => 0,
    };
    let key = data(deps, settings).await?;
    if !dry_run {
        let names = ["registry", "traffic", "data"];
        return Ok(Outcome::new(Exit::Done, json!({"outcome": "checked", "reached": names})));
    }
    let newest = versions.first().map(|version| version.version);
    let result = json!({"outcome": "dry_run", "would": "train", "job_id": job.job_id,
        "data": key, "labelled_rows": rows, "newest_version": newest});
    Ok(Outcome::new(Exit::Done, result))
}

/// Digest of what would be trained from, labelled traffic aside.
pub(crate) async fn data(
    deps: &TrainingDeps,
    settings: &Settings,
) -> Result<Sha256Digest, Failure> {
    let request = TrainingRequest {
        traffic: Arc::default(),
        work: settings.work.clone(),
        stop: StopFlag::default(),
        progress: Arc::clone(&deps.progress),
    };
    deps.training.trainer.key(&request).await.map_err(Failure::of)
}

fn last_hour(job: &JobSpec) -> Option<Window> {
    job.traffic.or_else(|| Window::new(job.as_of - TimeDelta::hours(1), job.as_of).ok())
}
