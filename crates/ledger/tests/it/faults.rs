//! PostgreSQL that is down, slow, cut off, strange or not for us: the right error, and nothing doubled.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use mloop_core::error_chain;
use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_platform::conformance::samples;
use mloop_platform::{Lease, PlatformError};

use crate::database::{self, Database, fresh, server};
use crate::parts::{LONG, walk};
use crate::place::Place;
use crate::processes::block_on;
use crate::relay::{Fault, Relay};

fn acquire(place: &Place) -> Result<Lease, PlatformError> {
    block_on(place.ledger().leases.acquire("any", "run", LONG))
}

/// The error of a write, of the class that decides the exit code. It never tells the password.
fn refused(place: &Place, class: ExitClass, expected: &str) {
    let error = acquire(place).expect_err(expected);
    let told = error_chain(&error);
    assert_eq!(error.exit_class(), class, "{told}");
    assert!(told.contains(expected), "{expected}: {told}");
    assert!(!told.contains(&place.password), "{told}");
}

/// Commits of a walk: two of opening the ledger, and one of each call; two of the one that merges.
const COMMITS: u32 = 20;

/// Cut before or after the commit of any call, the walk ends as transient; a repeat leaves what an
/// undisturbed walk leaves.
#[test]
fn a_connection_that_is_cut_around_a_commit_doubles_nothing() {
    let (_database, place) = fresh();
    block_on(walk(&place.ledger())).expect("a walk");
    let expected = place.rows();
    for commit in 1..=COMMITS {
        for fault in [Fault::BeforeCommit(commit), Fault::AfterCommit(commit)] {
            let database = Database::new();
            let relay = Relay::to(server().port);
            relay.set(fault);
            let error = block_on(walk(&database.behind(relay.port).ledger()));
            let error = error.expect_err("cut");
            assert!(matches!(error, PlatformError::Unavailable { .. }), "{fault:?}: {error:?}");
            block_on(walk(&database.behind(relay.port).ledger())).expect("a repeat");
            assert_eq!(database.place().rows(), expected, "{fault:?}");
            let lease = database.place().count("SELECT fence FROM leases WHERE name = 'loop'");
            // After a release whose answer was lost, the repeat takes the lease anew.
            let again = matches!(fault, Fault::AfterCommit(COMMITS));
            assert_eq!(lease, if again { 2 } else { 1 }, "{fault:?}");
        }
    }
}

#[test]
fn a_connection_that_ended_between_calls_is_replaced() {
    let database = Database::new();
    let relay = Relay::to(server().port);
    let ledger = database.behind(relay.port).ledger();
    let subject = samples::subject("production");
    block_on(async {
        ledger.journal.record_run(&samples::monitoring_run(&subject, 0)).await.expect("a run");
        relay.cut();
        ledger.journal.record_run(&samples::monitoring_run(&subject, 1)).await.expect("a run");
    });
    database.place().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'mloop' AND datname = current_database()",
    );
    block_on(async {
        let found = ledger.journal.run(&samples::monitoring_run(&subject, 0).run_id).await;
        found.expect("a new connection").expect("the run");
    });
    assert_eq!(database.place().count("SELECT count(*) FROM runs"), 2);
}

#[test]
fn a_server_that_is_down_or_silent_is_transient_in_time() {
    let database = Database::new();
    // A port that was free a moment ago, and one that takes connections and says nothing.
    let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (down, silence) = (port(&free), port(&silent));
    drop(free);
    refused(&database.behind(down), ExitClass::Transient, "Connection refused");
    let begun = Instant::now();
    let patient = database.behind(silence).with("connect_timeout_secs", 1);
    refused(&patient, ExitClass::Transient, "");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_falls_silent_within_a_call_is_transient_in_time() {
    let database = Database::new();
    let relay = Relay::to(server().port);
    let place = database.behind(relay.port).with("statement_timeout_secs", 1);
    let ledger = place.ledger();
    let subject = samples::subject("production");
    let run = samples::monitoring_run(&subject, 0);
    block_on(ledger.leases.acquire("any", "run", LONG)).expect("a ledger");
    relay.set(Fault::Silence);
    let begun = Instant::now();
    let error = block_on(ledger.journal.record_run(&run)).expect_err("silence");
    assert!(matches!(error, PlatformError::Unavailable { .. }), "{error:?}");
    assert!(error_chain(&error).contains("no answer within 3 seconds"), "{}", error_chain(&error));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    relay.set(Fault::None);
    block_on(ledger.journal.record_run(&run)).expect("over a new connection");
    assert_eq!(database.place().count("SELECT count(*) FROM runs"), 1);
}

#[test]
fn a_server_that_is_slow_is_transient_and_says_so() {
    let (database, place) = fresh();
    acquire(&place).expect("a ledger");
    let slow = place.with("statement_timeout_secs", 1);
    database::with(&database.place(), async |client| {
        client.batch_execute("BEGIN; LOCK TABLE leases").await.expect("a lock");
        let ledger = slow.ledger();
        let error = ledger.leases.acquire("any", "run", LONG).await.expect_err("locked");
        let told = error_chain(&error);
        assert_eq!(error.exit_class(), ExitClass::Transient, "{told}");
        assert!(told.contains("canceling statement due to statement timeout"), "{told}");
        client.batch_execute("ROLLBACK").await.expect("released");
        ledger.leases.acquire("any", "run", LONG).await.expect("free now");
    });
}

#[test]
fn what_is_no_postgresql_is_told() {
    let database = Database::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.read_exact(&mut [0; 8]).expect("a greeting");
        // As MySQL greets.
        client.write_all(b"J\0\0\0\x0a8.0.36\0another's port").expect("an answer");
    });
    let place = database.behind(port);
    refused(&place, ExitClass::Configuration, "does not answer as PostgreSQL does");
}

#[test]
fn credentials_that_do_not_suffice_are_told() {
    let (database, place) = fresh();
    let wrong = Place { password: "not-the-password".to_owned(), ..place.clone() };
    refused(&wrong, ExitClass::Credentials, "password authentication failed");
    let nobody = database::place("nobody_such", "x-y-z", server().port, &database.name);
    refused(&nobody, ExitClass::Credentials, "password authentication failed");
    let mut none = place.clone();
    none.settings.as_object_mut().expect("a map").remove("password_env");
    refused(&none, ExitClass::Credentials, "set `password_env` or `password_file`");

    let guest = format!("guest_{}", database.name);
    place.execute(&format!("CREATE ROLE {guest} LOGIN PASSWORD 'guest-secret'"));
    let guest_place = database::place(&guest, "guest-secret", server().port, &database.name);
    refused(&guest_place, ExitClass::Credentials, "permission denied for database");
    acquire(&place).expect("a ledger");
    refused(&guest_place, ExitClass::Credentials, "permission denied for schema mloop");
    place.execute(&format!("DROP ROLE {guest}"));
}

#[test]
fn a_database_that_is_missing_is_told_with_what_to_do() {
    let server = server();
    let place = database::place(&server.admin, &server.password, server.port, "no_such_database");
    let expected =
        format!("make it there: CREATE DATABASE no_such_database OWNER {}", server.admin);
    refused(&place, ExitClass::Configuration, &expected);
}
