//! The ledger as its callers see it, in one process.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use mloop_core::FixedClock;
use mloop_core::registry::KindRegistry;
use mloop_core::run::RunRecord;
use mloop_platform::conformance::{check_ledger, samples};
use mloop_platform::{Ledger, PlatformDeps, PlatformError, RunQuery};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{Probe, SCHEMA_VERSION, SqliteLedger, probe, register_builtin};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn opened(path: &Path) -> Ledger {
    SqliteLedger::open(path).await.expect("a ledger").ledger()
}

async fn refusal(path: &Path) -> PlatformError {
    SqliteLedger::open(path).await.map(|_| ()).expect_err("no ledger")
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let folder = folder();
    check_ledger(&SqliteLedger::new(folder.path().join("ledger.sqlite")).ledger()).await;
}

#[tokio::test]
async fn its_kind_is_built_from_settings_without_touching_the_disk() {
    let folder = folder();
    let clock = Arc::new(FixedClock(samples::day_one()));
    let deps = PlatformDeps::new(folder.path().to_owned(), clock);
    let mut registry = KindRegistry::new("ledger");
    register_builtin(&mut registry);
    let settings = serde_json::json!({"path": "state/ledger.sqlite"});
    let ledger = registry.build("sqlite", "ledger", &settings, &deps).expect("a ledger");
    let subject = samples::subject("production");
    assert_eq!(ledger.journal.episodes(&subject).await.expect("no ledger, no rows"), []);
    assert!(!folder.path().join("state").exists(), "reading makes no file");
    ledger.journal.record_run(&samples::monitoring_run(&subject, 0)).await.expect("written");
    let file = folder.path().join("state/ledger.sqlite");
    let mode = std::fs::metadata(file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner alone reads it");
    for (settings, expected) in [
        (serde_json::json!({"path": "/"}), "must name a file"),
        (serde_json::json!({"path": "a", "paht": "b"}), "unknown field `paht`"),
        (serde_json::json!({}), "missing field `path`"),
    ] {
        let error =
            registry.build("sqlite", "ledger", &settings, &deps).map(|_| ()).expect_err("bad");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn findings_can_be_asked_for_in_sql_and_follow_the_newest_record() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    let ledger = opened(&path).await;
    let mut run = samples::monitoring_run(&samples::subject("production"), 0);
    ledger.journal.record_run(&run).await.expect("written");
    ledger.journal.record_run(&run).await.expect("written again");
    let connection = Connection::open(&path).expect("the file");
    let sql = "SELECT run_id, \"column\", method, value, lower, upper, threshold, n FROM verdicts
               WHERE status = 'drifted'";
    let row = connection.query_row(sql, [], |row| {
        let bounds: (f64, f64, f64, f64) = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, bounds))
    });
    let expected = (
        run.run_id.to_string(),
        "brightness".to_owned(),
        "psi".to_owned(),
        (0.31, 0.25, 0.37, 0.2),
    );
    assert_eq!(row.expect("one row"), expected);
    run.body = serde_json::json!({"findings": []});
    ledger.journal.record_run(&run).await.expect("replaced");
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("a count");
    assert_eq!(count("SELECT count(*) FROM verdicts"), 0);
    run.body = serde_json::json!({"findings": "many"});
    let refusal = ledger.journal.record_run(&run).await.expect_err("no findings");
    assert!(matches!(refusal, PlatformError::Invalid { .. }), "{refusal:?}");
}

#[tokio::test]
async fn evidence_is_kept_when_its_window_is_judged_again() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    let journal = opened(&path).await.journal;
    let first = samples::monitoring_run(&samples::subject("production"), 0);
    let says = |outcome: &str, stale: bool, after_days: i64| RunRecord {
        as_of: first.as_of + TimeDelta::days(after_days),
        outcome: outcome.to_owned(),
        body: serde_json::json!({"findings": [], "stale": stale}),
        ..first.clone()
    };
    let late = says("insufficient_data", true, 4);
    let mended = says("ok", false, 1);
    let later_still = RunRecord { as_of: late.as_of + TimeDelta::days(1), ..late.clone() };
    for run in [&first, &late, &late, &later_still, &first, &mended, &mended] {
        journal.record_run(run).await.expect("written");
    }
    assert_eq!(journal.run(&first.run_id).await.expect("an answer"), Some(mended));
    let connection = Connection::open(&path).expect("the file");
    let sql = "SELECT revision, outcome, body FROM run_revisions WHERE run_id = ?1
               UNION ALL SELECT revision, outcome, NULL FROM runs ORDER BY revision";
    let mut statement = connection.prepare(sql).expect("a query");
    let rows = statement
        .query_map([first.run_id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let rows: Vec<(u32, String, Option<String>)> =
        rows.and_then(Iterator::collect).expect("the revisions");
    let told: Vec<(u32, &str)> =
        rows.iter().map(|(revision, outcome, _)| (*revision, outcome.as_str())).collect();
    assert_eq!(told, [(1, "alert"), (2, "insufficient_data"), (3, "ok")]);
    let kept: Option<RunRecord> =
        rows[0].2.as_deref().map(|body| serde_json::from_str(body).expect("a record"));
    assert_eq!(kept, Some(first), "with its findings");
}

#[tokio::test]
async fn a_version_leads_back_to_the_drift_that_asked_for_it() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    let ledger = opened(&path).await;
    let subject = samples::subject("production");
    let lease = ledger.leases.acquire("l", "run", Duration::from_secs(60)).await;
    let lease = lease.expect("a lease");
    let episode = samples::episode(&subject, 1);
    let run = samples::monitoring_run(&subject, 0);
    ledger.journal.record_run(&run).await.expect("written");
    ledger.journal.save_episode(&lease, &episode).await.expect("written");
    ledger.journal.record_version(&samples::version(2), Some(episode.id)).await.expect("written");
    ledger.journal.record_version(&samples::version(2), None).await.expect("written again");
    let deployment = samples::deployment(&subject, 2);
    ledger.journal.save_deployment(&lease, &deployment).await.expect("written");
    let connection = Connection::open(&path).expect("the file");
    let sql = "SELECT verdicts.\"column\" FROM deployments
               JOIN model_versions USING (model, number)
               JOIN episodes ON episodes.id = model_versions.episode
               JOIN jobs ON jobs.episode = episodes.id
               JOIN json_each(episodes.body, '$.evidence') AS evidence
               JOIN verdicts ON verdicts.run_id = evidence.value";
    let column: String = connection.query_row(sql, [], |row| row.get(0)).expect("the cause");
    assert_eq!(column, "brightness");
}

#[tokio::test]
async fn files_that_are_no_ledger_get_a_clear_refusal() {
    let folder = folder();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "dear diary, ".repeat(1000)).expect("a file");
    let theirs = folder.path().join("theirs.sqlite");
    let connection = Connection::open(&theirs).expect("a file");
    connection.execute_batch("CREATE TABLE theirs (x)").expect("a table");
    for (path, expected) in
        [(&text, "is not a SQLite file"), (&theirs, "but no ledger of mloop; choose another path")]
    {
        let before = std::fs::read(path).expect("the file");
        for error in [refusal(path).await, probe(path).expect_err("no ledger")] {
            assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert_eq!(std::fs::read(path).expect("the file"), before, "it is left as it was");
    }
    let error = refusal(folder.path()).await;
    assert!(matches!(error, PlatformError::Invalid { .. }), "a folder: {error:?}");
    let below_a_file = refusal(&text.join("ledger.sqlite")).await;
    assert!(matches!(below_a_file, PlatformError::Invalid { .. }), "{below_a_file:?}");
}

#[tokio::test]
async fn a_damaged_ledger_says_what_to_do() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    let subject = samples::subject("production");
    {
        let ledger = opened(&path).await;
        for hour in 0..200 {
            ledger.journal.record_run(&samples::monitoring_run(&subject, hour)).await.expect("ok");
        }
    }
    let mut bytes = std::fs::read(&path).expect("the file");
    // Page 1 tells the tables; everything after it turns to noise.
    bytes[4096..].fill(0xA5);
    std::fs::write(&path, bytes).expect("the file");
    let query =
        RunQuery { kind: mloop_core::run::RunKind::Monitoring, subject, since: None, limit: 500 };
    let ledger = SqliteLedger::new(&path).ledger();
    let error = ledger.journal.runs(&query).await.expect_err("damaged");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains(".recover"), "{error}");
}

#[tokio::test]
async fn a_newer_ledger_is_refused_and_names_the_release() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    opened(&path).await;
    let connection = Connection::open(&path).expect("the file");
    connection
        .execute_batch(
            "UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'min_writer');
             UPDATE meta SET value = '7.0.0' WHERE key = 'min_writer_release'",
        )
        .expect("a ledger of the future");
    for error in [refusal(&path).await, probe(&path).expect_err("too new")] {
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains("mloop 7.0.0 or later"), "{error}");
    }
}

#[tokio::test]
async fn a_look_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("deep/ledger.sqlite");
    let found = probe(&path).expect("a fine place");
    assert_eq!(found, Probe { path: path.clone(), schema_version: None });
    assert!(!folder.path().join("deep").exists());
    opened(&path).await;
    let files = || std::fs::read_dir(folder.path().join("deep")).expect("the folder").count();
    assert_eq!(files(), 1, "closed, it is one file");
    assert_eq!(probe(&path).expect("a ledger").schema_version, Some(SCHEMA_VERSION));
    assert_eq!(files(), 1, "the look leaves nothing lying about");
}

#[tokio::test]
async fn a_ledger_that_is_locked_is_busy_and_not_broken() {
    let folder = folder();
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::with_patience(&path, Duration::from_millis(50)).ledger();
    ledger.leases.acquire("any", "run", Duration::ZERO).await.expect("the file is made");
    let blocker = Connection::open(&path).expect("the file");
    blocker.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let run = samples::monitoring_run(&samples::subject("production"), 0);
    let error = ledger.journal.record_run(&run).await.expect_err("locked");
    assert!(error.is_transient(), "{error:?}");
    blocker.execute_batch("ROLLBACK").expect("released");
    ledger.journal.record_run(&run).await.expect("written now");
}
