//! Runs, their revisions and their findings. Every statement names its columns, so that it goes on
//! working when a later release adds one.

use mloop_core::Finding;
use mloop_core::run::RunRecord;
use mloop_platform::{PlatformError, RunQuery};
use serde_json::Value as Json;

use super::bodies;
use crate::error::Failure;
use crate::session::{Session, first, insert, insert_all};
use crate::value::Value;

/// Writes a run with its findings, or a new revision of it: nothing that was written is lost, and a
/// repeat that says the same changes nothing.
pub(super) fn write(session: &mut dyn Session, run: &RunRecord) -> Result<(), Failure> {
    let id = run.run_id.as_str();
    session.lock(&format!("run {id}"))?;
    let sql = "SELECT revision, body FROM runs WHERE run_id = $1";
    let Some((revision, known)) = revision_of(session, sql, id)? else {
        return write_current(session, run, 1);
    };
    let sql = "SELECT revision, body FROM run_revisions WHERE run_id = $1
               ORDER BY revision DESC LIMIT 1";
    let aside = revision_of(session, sql, id)?;
    let next = 1 + aside.as_ref().map_or(revision, |(last, _)| revision.max(*last));
    if run.replaces(&known) {
        set_aside(session, &known, revision)?;
        return write_current(session, run, next);
    }
    let is_known = |other: &RunRecord| run.says_the_same(other);
    if is_known(&known) || aside.is_some_and(|(_, aside)| is_known(&aside)) {
        return Ok(());
    }
    set_aside(session, run, next)
}

fn revision_of(
    session: &mut dyn Session,
    sql: &str,
    id: &str,
) -> Result<Option<(u32, RunRecord)>, Failure> {
    let Some(row) = first(session, sql, &[id.into()])? else { return Ok(None) };
    Ok(Some((row.revision(0)?, serde_json::from_str(row.text(1)?)?)))
}

fn set_aside(session: &mut dyn Session, run: &RunRecord, revision: u32) -> Result<(), Failure> {
    let row = [
        ("run_id", run.run_id.as_str().into()),
        ("revision", revision.into()),
        ("as_of", run.as_of.into()),
        ("outcome", (&run.outcome).into()),
        ("body", Value::json(run)?),
    ];
    insert(session, "run_revisions", row, "")
}

/// Writes the revision that readers get.
fn write_current(session: &mut dyn Session, run: &RunRecord, revision: u32) -> Result<(), Failure> {
    let end = run.window.map(|window| window.end());
    let row = [
        ("run_id", run.run_id.as_str().into()),
        ("kind", run.kind.as_str().into()),
        ("model", run.subject.model.as_str().into()),
        ("target", run.subject.target.as_str().into()),
        ("version", run.version.map(|digest| digest.to_string()).into()),
        ("window_start", run.window.map(|window| window.start()).into()),
        ("window_end", end.into()),
        ("as_of", run.as_of.into()),
        ("moment", end.unwrap_or(run.as_of).into()),
        ("outcome", (&run.outcome).into()),
        ("body", Value::json(run)?),
        ("revision", revision.into()),
        ("deployment", run.deployment().map(str::to_owned).into()),
    ];
    let conflict = "ON CONFLICT (run_id) DO UPDATE SET kind = excluded.kind,
                    model = excluded.model, target = excluded.target, version = excluded.version,
                    window_start = excluded.window_start, window_end = excluded.window_end,
                    as_of = excluded.as_of, moment = excluded.moment, outcome = excluded.outcome,
                    body = excluded.body, revision = excluded.revision,
                    deployment = excluded.deployment";
    insert(session, "runs", row, conflict)?;
    session.execute("DELETE FROM verdicts WHERE run_id = $1", &[run.run_id.as_str().into()])?;
    write_findings(session, run)
}

/// The findings in a run's body; other kinds of runs have none.
fn findings(run: &RunRecord) -> Result<Vec<Finding>, Failure> {
    let found = run.body.get("findings").cloned().unwrap_or(Json::Array(vec![]));
    serde_json::from_value(found).map_err(|error| {
        let doing = format!("recording {}", run.run_id);
        let problem = format!("`findings` of its body are no findings: {error}");
        PlatformError::invalid(doing, problem).into()
    })
}

fn write_findings(session: &mut dyn Session, run: &RunRecord) -> Result<(), Failure> {
    let columns = [
        "run_id",
        "position",
        "monitor",
        "check",
        "column",
        "group",
        "method",
        "value",
        "lower",
        "upper",
        "threshold",
        "n",
        "status",
    ];
    let row = |(position, finding): (usize, &Finding)| -> Result<[Value; 13], Failure> {
        Ok([
            run.run_id.as_str().into(),
            (position as u64).into(),
            (&finding.monitor).into(),
            (&finding.check).into(),
            finding.column.as_ref().into(),
            finding.group.as_ref().into(),
            (&finding.method).into(),
            finding.value.into(),
            finding.interval.map(|[lower, _]| lower).into(),
            finding.interval.map(|[_, upper]| upper).into(),
            finding.threshold.into(),
            finding.n.into(),
            Value::word(&finding.status)?,
        ])
    };
    let found = findings(run)?;
    let rows = found.iter().enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    insert_all(session, "verdicts", columns, &rows)
}

/// The newest runs of a query, oldest first.
pub(super) fn read(session: &mut dyn Session, query: &RunQuery) -> Result<Vec<RunRecord>, Failure> {
    let sql = "SELECT body FROM runs
               WHERE kind = $1 AND model = $2 AND target = $3
                 AND ($4 IS NULL OR as_of >= $4)
               ORDER BY moment DESC, as_of DESC, run_id DESC LIMIT $5";
    let values = [
        query.kind.as_str().into(),
        query.subject.model.as_str().into(),
        query.subject.target.as_str().into(),
        query.since.into(),
        query.limit.into(),
    ];
    let mut found: Vec<RunRecord> = bodies(session, sql, &values)?;
    found.reverse();
    Ok(found)
}
