//! Episodes, versions and deployments as rows. Every statement names its columns, so that it goes on
//! working when a later release adds one.

use mloop_core::deployment::{ChangeCall, Deployment, DeploymentVerdict, JournalEntry};
use mloop_core::episode::Episode;
use mloop_core::{DeploymentId, EpisodeId, ModelVersion};
use mloop_platform::PlatformError;

use crate::error::Failure;
use crate::session::{Session, first, insert};
use crate::value::Value;

/// Writes an episode with its job as they now stand.
pub(super) fn write_episode(session: &mut dyn Session, episode: &Episode) -> Result<(), Failure> {
    let closed = episode.closed.as_ref();
    let version = closed.and_then(|closing| closing.version);
    let outcome = closed.map(|closing| Value::word(&closing.outcome)).transpose()?;
    let row = [
        ("id", episode.id.as_str().into()),
        ("model", episode.subject.model.as_str().into()),
        ("target", episode.subject.target.as_str().into()),
        ("serving", episode.serving.map(|version| version.digest.to_string()).into()),
        ("attempt", episode.attempt.into()),
        ("opened_at", episode.opened_at.into()),
        ("closed_at", closed.map(|closing| closing.at).into()),
        ("outcome", outcome.unwrap_or_else(|| None::<String>.into())),
        ("version_number", version.map(|version| version.number).into()),
        ("version_digest", version.map(|version| version.digest.to_string()).into()),
        ("body", Value::json(episode)?),
    ];
    let conflict = "ON CONFLICT (id) DO UPDATE SET closed_at = excluded.closed_at,
                    outcome = excluded.outcome, version_number = excluded.version_number,
                    version_digest = excluded.version_digest, body = excluded.body";
    insert(session, "episodes", row, conflict)?;
    let job = &episode.job;
    let row = [
        ("id", job.id.as_str().into()),
        ("episode", episode.id.as_str().into()),
        ("state", Value::word(&job.state)?),
        ("submissions", job.submissions.into()),
    ];
    let conflict = "ON CONFLICT (id) DO UPDATE SET state = excluded.state,
                    submissions = excluded.submissions";
    insert(session, "jobs", row, conflict)
}

pub(super) fn write_version(
    session: &mut dyn Session,
    version: &ModelVersion,
    episode: Option<&EpisodeId>,
    doing: &str,
) -> Result<(), Failure> {
    let (model, number) = (version.model.as_str(), version.version.number);
    session.lock(&format!("version {number} {model}"))?;
    let digest = version.version.digest.to_string();
    let sql = "SELECT digest FROM model_versions WHERE model = $1 AND number = $2";
    let known = first(session, sql, &[model.into(), number.into()])?;
    if let Some(known) = known
        && known.text(0)? != digest
    {
        let problem = "its number is known with another digest: the registry was replaced or a version changed after it was registered; find out which, and use a new ledger for a new registry";
        return Err(PlatformError::conflict(doing, problem).into());
    }
    let row = [
        ("model", model.into()),
        ("number", number.into()),
        ("digest", digest.into()),
        ("created_at", version.created_at.into()),
        ("source", (&version.source).into()),
        ("episode", episode.map(EpisodeId::as_str).into()),
        ("body", Value::json(version)?),
    ];
    let conflict = "ON CONFLICT (model, number) DO UPDATE SET source = excluded.source,
                    episode = coalesce(excluded.episode, model_versions.episode),
                    body = excluded.body";
    insert(session, "model_versions", row, conflict)
}

pub(super) fn write_deployment(
    session: &mut dyn Session,
    deployment: &Deployment,
) -> Result<(), Failure> {
    let row = [
        ("id", deployment.id.as_str().into()),
        ("model", deployment.subject.model.as_str().into()),
        ("target", deployment.subject.target.as_str().into()),
        ("number", deployment.version.number.into()),
        ("digest", deployment.version.digest.to_string().into()),
        ("attempt", deployment.attempt.into()),
        ("opened_at", deployment.opened_at.into()),
        ("closed_at", deployment.closed_at.into()),
        ("verdict", deployment.verdict.map(DeploymentVerdict::as_str).into()),
        ("way_back", deployment.way_back.map(DeploymentVerdict::as_str).into()),
        ("body", Value::json(deployment)?),
    ];
    let conflict = "ON CONFLICT (id) DO UPDATE SET closed_at = excluded.closed_at,
                    verdict = excluded.verdict, way_back = excluded.way_back,
                    body = excluded.body";
    insert(session, "deployments", row, conflict)
}

/// Adds an entry, unless one of its step and phase is there.
pub(super) fn append(
    session: &mut dyn Session,
    entry: &JournalEntry,
    doing: &str,
) -> Result<(), Failure> {
    check_saved(session, &entry.deployment, doing)?;
    let row = [
        ("deployment", entry.deployment.as_str().into()),
        ("position", u32::from(entry.step as u8).into()),
        ("step", entry.step.as_str().into()),
        ("phase", entry.phase.as_str().into()),
        ("at", entry.at.into()),
        ("body", Value::json(entry)?),
    ];
    insert(
        session,
        "deployment_journal",
        row,
        "ON CONFLICT (deployment, position, phase) DO NOTHING",
    )
}

fn check_saved(session: &mut dyn Session, id: &DeploymentId, doing: &str) -> Result<(), Failure> {
    let sql = "SELECT id FROM deployments WHERE id = $1";
    if first(session, sql, &[id.as_str().into()])?.is_some() {
        return Ok(());
    }
    let problem = "the deployment was never saved; save it before its first step";
    Err(PlatformError::invalid(doing, problem).into())
}

/// Writes a call of a run as it now stands.
pub(super) fn write_call(
    session: &mut dyn Session,
    call: &ChangeCall,
    doing: &str,
) -> Result<(), Failure> {
    check_saved(session, &call.deployment, doing)?;
    let row = [
        ("deployment", call.deployment.as_str().into()),
        ("position", u32::from(call.step as u8).into()),
        ("fence", call.fence.into()),
        ("step", call.step.as_str().into()),
        ("announced_at", call.announced_at.into()),
        ("returned_at", call.returned_at.into()),
        ("body", Value::json(call)?),
    ];
    let conflict = "ON CONFLICT (deployment, position, fence) DO UPDATE SET
                    announced_at = excluded.announced_at, returned_at = excluded.returned_at,
                    body = excluded.body";
    insert(session, "change_calls", row, conflict)
}
