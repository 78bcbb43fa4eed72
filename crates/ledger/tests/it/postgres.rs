//! The ledger in the bench's PostgreSQL.

use std::time::{Duration, Instant};

use mloop_core::run::RunKind;
use mloop_platform::conformance::{check_ledger, samples};
use mloop_platform::{PlatformError, RunQuery};

use crate::database::{self, Database, connect, fresh};
use crate::parts::{LONG, Process};
use crate::place::Place;
use crate::processes::{self, block_on, hold_at};
use crate::profiles;

#[test]
fn it_keeps_the_contract() {
    let (_database, place) = fresh();
    block_on(check_ledger(&place.ledger()));
}

#[test]
fn eight_processes_share_one_database() {
    let (_database, place) = fresh();
    processes::many_share_one(&place, 8);
}

#[test]
fn of_eight_processes_that_find_no_ledger_one_makes_it() {
    for _ in 0..3 {
        let (_database, place) = fresh();
        let started: Vec<Process> = (0..8).map(|_| Process::start("open", &place, &[])).collect();
        for process in started {
            assert!(process.succeeds(), "a process failed");
        }
        assert_eq!(place.count("SELECT count(*) FROM leases"), 8, "each has its lease");
        let version = place.count("SELECT value::bigint FROM meta WHERE key = 'schema_version'");
        assert_eq!(version, i64::from(mloop_ledger::SCHEMA_VERSION));
    }
}

#[test]
fn tasks_of_one_process_take_a_lease_one_at_a_time() {
    let (_database, place) = fresh();
    processes::tasks_take_a_lease_one_at_a_time(&place);
}

#[test]
fn a_kill_at_any_point_leaves_all_or_nothing_and_a_repeat_completes_it() {
    processes::kills_leave_all_or_nothing(fresh);
}

#[test]
fn kills_at_any_moment_damage_nothing() {
    let (_database, place) = fresh();
    processes::kills_at_any_moment_damage_nothing(&place, || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE application_name = 'mloop' AND datname = current_database()";
        let begun = Instant::now();
        while place.count(sql) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not connect");
        }
    });
}

#[test]
fn a_stopped_holder_is_overtaken_and_writes_nothing() {
    let (_database, place) = fresh();
    processes::a_stopped_holder_is_overtaken(&place);
}

/// The check of the lease and the write are one: a lease that expires in between is taken only after
/// the write is there, or is undone.
#[test]
fn nobody_takes_a_lease_from_under_a_write() {
    let (_database, place) = fresh();
    let folder = tempfile::tempdir().expect("a folder");
    let point = "ledger.save_deployment.before_commit";
    let writer = hold_at(point, &place, &folder.path().join("mark"));
    place.execute("UPDATE leases SET expires_at = 0");
    let ledger = place.ledger();
    let second = std::thread::spawn(move || {
        block_on(ledger.leases.acquire("loop", "second", LONG)).expect("it had expired")
    });
    let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
                   WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
    let begun = Instant::now();
    while place.count(waiting) == 0 {
        assert!(!second.is_finished(), "it did not wait for the write");
        assert!(begun.elapsed() < Duration::from_secs(20), "it never asked");
    }
    writer.kill();
    assert_eq!(second.join().expect("no panic").fence, 2);
    assert_eq!(place.count("SELECT count(*) FROM deployments"), 0, "what was killed is undone");
}

/// Stopped within a transaction, a process holds its locks: the server ends it, so that others wait
/// no longer than one statement may take.
#[test]
fn a_process_that_hangs_within_its_transaction_holds_nobody_up() {
    let (_database, place) = fresh();
    let folder = tempfile::tempdir().expect("a folder");
    let impatient = place.with("statement_timeout_secs", 1);
    let point = "ledger.save_deployment.before_commit";
    let hung = hold_at(point, &impatient, &folder.path().join("mark"));
    let ledger = place.ledger();
    let refusal = block_on(ledger.leases.acquire("loop", "second", LONG)).expect_err("it is held");
    assert!(matches!(refusal, PlatformError::LeaseHeld { .. }), "held, not blocked: {refusal:?}");
    assert_eq!(place.count("SELECT count(*) FROM deployments"), 0, "what hung was rolled back");
    hung.kill();
}

#[test]
fn reading_what_is_not_there_finds_nothing_and_makes_nothing() {
    let (_database, place) = fresh();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'mloop'";
    let subject = samples::subject("production");
    let kind = RunKind::Monitoring;
    let query = RunQuery { kind, subject: subject.clone(), since: None, limit: 10 };
    block_on(async {
        let ledger = place.ledger();
        ledger.journal.probe().await.expect("it can be made");
        assert_eq!(ledger.journal.runs(&query).await.expect("no ledger, no rows"), []);
        assert_eq!(
            ledger.outbox.pending(&subject, "chat", 10).await.expect("no ledger, no rows"),
            []
        );
        connect(&place).await;
    });
    assert_eq!(place.count(schemas), 0, "looking makes nothing");
    block_on(place.ledger().leases.acquire("any", "run", LONG)).expect("it is made");
    assert_eq!(place.count(schemas), 1, "writing makes it");
}

#[test]
fn a_newer_ledger_is_refused_and_names_the_release() {
    let (_database, place) = fresh();
    block_on(place.ledger().leases.acquire("any", "run", LONG)).expect("a ledger");
    place.execute(
        "UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'min_writer');
         UPDATE meta SET value = '7.0.0' WHERE key = 'min_writer_release'",
    );
    let ledger = place.ledger();
    let errors = block_on(async {
        let write = ledger.leases.acquire("any", "run", LONG).await.expect_err("too new");
        [ledger.journal.probe().await.expect_err("too new"), write]
    });
    for error in errors {
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains("mloop 7.0.0 or later"), "{error}");
    }
}

/// A ledger of the release before is brought up to date by eight processes at once, and keeps its rows.
#[test]
fn of_eight_processes_that_find_an_older_ledger_one_migrates_it() {
    let (_database, place) = fresh();
    let older = include_str!("../../src/migrations/postgres/0001_initial.sql");
    place.execute(&format!(
        "CREATE SCHEMA mloop; SET search_path = mloop;
         CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
         INSERT INTO meta VALUES ('schema_version', '1'), ('min_writer', '1'),
                                 ('min_writer_release', '0.1.0');
         {older};
         INSERT INTO leases VALUES ('kept', 'someone', 7, 0);
         INSERT INTO runs VALUES ('r', 'deployment', 'm', 't', NULL, NULL, NULL, 'a', 'a', 'switched',
                                  '{{\"body\": {{\"deployment\": \"d\"}}}}')"
    ));
    let started: Vec<Process> = (0..8).map(|_| Process::start("open", &place, &[])).collect();
    for process in started {
        assert!(process.succeeds(), "a process failed");
    }
    let version = place.count("SELECT value::bigint FROM meta WHERE key = 'schema_version'");
    assert_eq!(version, i64::from(mloop_ledger::SCHEMA_VERSION));
    let told = "SELECT revision FROM runs WHERE deployment = 'd' AND outcome = 'switched'";
    assert_eq!(place.count(told), 1, "the new columns are there, and filled");
    assert_eq!(place.count("SELECT fence FROM leases WHERE name = 'kept'"), 7);
}

#[test]
fn databases_that_are_no_ledger_get_a_clear_refusal() {
    let theirs = Database::new();
    theirs.place().execute("CREATE SCHEMA mloop; CREATE TABLE mloop.theirs (x INT)");
    let narrow = Database::with("ENCODING 'SQL_ASCII' TEMPLATE template0");
    for (database, expected) in
        [(&theirs, "holds tables, but no ledger"), (&narrow, "make one with ENCODING 'UTF8'")]
    {
        let ledger = database.place().ledger();
        let errors = block_on(async {
            let write = ledger.leases.acquire("any", "run", LONG).await.expect_err("no ledger");
            [ledger.journal.probe().await.expect_err("no ledger"), write]
        });
        for error in errors {
            assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
    let changed = Database::new();
    block_on(changed.place().ledger().leases.acquire("any", "run", LONG)).expect("a ledger");
    changed.place().execute("DROP TABLE mloop.leases");
    let ledger = changed.place().ledger();
    let error = block_on(ledger.leases.acquire("any", "run", LONG)).expect_err("no table");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("\"leases\" does not exist"), "{error}");
}

/// The statements of the how-to page are all that is needed, and its role has no further right.
#[test]
fn the_rights_of_the_documentation_suffice() {
    let page = include_str!("../../../../docs/how-to/postgresql.md");
    let blocks: Vec<&str> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [owner, runner, walk] = blocks[..] else { panic!("three blocks of SQL: {blocks:?}") };
    let unique = format!("it_{}", std::process::id());
    let named = |sql: &str| {
        sql.replace("mloop_runner", &format!("{unique}_runner"))
            .replace("mloop_owner", &format!("{unique}_owner"))
            .replace("mloop_ledger", &unique)
    };
    let (_database, first) = fresh();
    let port = database::server().port;
    let _roles = Roles(unique.clone(), first.clone());
    for statement in named(owner).split_inclusive(";\n") {
        database::execute(&first, statement);
    }
    let roles =
        |name: &str| database::place(&format!("{unique}_{name}"), "change-me", port, &unique);
    block_on(roles("owner").ledger().leases.acquire("any", "owner", LONG)).expect("it is made");
    database::execute(&roles("owner"), &named(runner));
    block_on(check_ledger(&roles("runner").ledger()));
    database::execute(&roles("runner"), walk);
    for forbidden in ["CREATE TABLE mloop.own (x INT)", "DELETE FROM runs", "DELETE FROM leases"] {
        let told = database::refusal(&roles("runner"), forbidden);
        assert!(told.starts_with("permission denied"), "{forbidden}: {told}");
    }
}

/// Removes the roles of the how-to page and their database.
struct Roles(String, Place);

impl Drop for Roles {
    fn drop(&mut self) {
        let (name, admin) = (self.0.clone(), self.1.clone());
        let work = move || {
            database::execute(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            database::execute(&admin, &format!("DROP ROLE IF EXISTS {name}_runner, {name}_owner"));
        };
        drop(std::thread::spawn(work).join());
    }
}

#[test]
fn profiles_that_are_not_packed_are_read() {
    let (_database, place) = fresh();
    profiles::rows_of_older_ledgers_are_read(&place);
}

#[test]
fn merges_in_a_race_count_nothing_twice() {
    let (_database, place) = fresh();
    profiles::merges_in_a_race_count_nothing_twice(&place);
}
