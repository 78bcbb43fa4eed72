//! What holds on both databases when several processes use one ledger, or end in the middle.

use std::path::Path;
use std::time::{Duration, Instant};

use mloop_core::deployment::{DeploymentVerdict, Phase, Step};
use mloop_core::run::RunKind;
use mloop_platform::conformance::samples;
use mloop_platform::{Lease, Ledger, PlatformError, RunQuery};
use rustix::process::{Signal, kill_process};

use crate::parts::{HOURS, LONG, Process, wait_for};
use crate::place::Place;

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// Nothing is lost, doubled or run by two, whoever comes first; the ledger is made in the same race.
pub(crate) fn many_share_one(place: &Place, processes: usize) {
    let started = (0..processes).map(|_| Process::start("hammer", place, &[]));
    let started: Vec<Process> = started.collect();
    for process in started {
        assert!(process.succeeds(), "a process failed");
    }
    place.assert_sound();
    let turns = i64::try_from(processes).expect("few") * HOURS;
    assert_eq!(place.count("SELECT count(*) FROM runs"), HOURS, "each run once");
    assert_eq!(place.count("SELECT count(*) FROM run_revisions"), 0, "in one revision");
    assert_eq!(place.count("SELECT count(*) FROM verdicts"), HOURS, "each finding once");
    assert_eq!(place.count("SELECT count(*) FROM profiles"), HOURS, "each profile in one revision");
    assert_eq!(place.count("SELECT count(*) FROM deliveries"), HOURS, "each message once");
    let fence = place.count("SELECT fence FROM leases WHERE name = 'turn'");
    assert_eq!(fence, turns, "a number a turn");
    let deployments = place.count("SELECT count(*) FROM deployments");
    assert_eq!(deployments, turns, "no turn was had by two");
}

/// Of those who ask at once within one process, one gets the lease.
pub(crate) fn tasks_take_a_lease_one_at_a_time(place: &Place) {
    let results = block_on(async {
        let tries = (0..16).map(|number| {
            // Each through a connection of its own.
            let ledger = place.ledger();
            async move { ledger.leases.acquire("one", &format!("holder {number}"), LONG).await }
        });
        futures::future::join_all(tries).await
    });
    let (taken, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 1, "exactly one holder: {refused:?}");
    for refusal in refused {
        assert!(matches!(refusal, Err(PlatformError::LeaseHeld { .. })), "{refusal:?}");
    }
}

/// Killed before or after the commit of any call, all of it happened or nothing; a repeat leaves what
/// an undisturbed walk leaves. `fresh` gives an empty place.
pub(crate) fn kills_leave_all_or_nothing<Guard>(fresh: impl Fn() -> (Guard, Place)) {
    let (_guard, reference) = fresh();
    assert!(Process::start("walk", &reference, &[]).succeeds());
    let expected = reference.rows();
    assert!(expected.iter().all(|(_, count)| *count > 0), "the walk fills them all: {expected:?}");

    for point in mloop_ledger::FAILPOINTS {
        let (_guard, place) = fresh();
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().join("mark");
        hold_at(point, &place, &mark).kill();
        place.assert_sound();
        let rows = place.rows();
        let table = |name| rows.iter().find(|(table, _)| *table == name).map(|(_, n)| *n);
        let runs = i64::from(point != "ledger.record_run.before_commit");
        assert_eq!(table("runs"), Some(runs), "{point}: a commit is a commit");
        assert_eq!(table("verdicts"), Some(runs), "{point}: a run comes with its findings");
        assert_eq!(table("episodes"), table("jobs"), "{point}: an episode comes with its job");
        assert!(Process::start("walk", &place, &[]).succeeds(), "{point}: a repeat");
        assert_eq!(place.rows(), expected, "{point}");
    }
}

/// A process that walks until it waits at a fail point.
pub(crate) fn hold_at(point: &str, place: &Place, mark: &Path) -> Process {
    let mark_text = mark.to_str().expect("a plain path");
    let hold = [("MLOOP_FAILPOINT", point), ("MLOOP_FAILPOINT_MARK", mark_text)];
    let held = Process::start("walk", place, &hold);
    wait_for(mark);
    held
}

/// Killed at any moment, a writer damages nothing. `writes` waits until it writes.
pub(crate) fn kills_at_any_moment_damage_nothing(place: &Place, writes: impl Fn()) {
    block_on(place.ledger().leases.acquire("any", "test", Duration::ZERO)).expect("it is made");
    for round in 0..10u64 {
        let writer = Process::start("endless", place, &[]);
        writes();
        std::thread::sleep(Duration::from_millis(20 + round * 13 % 70));
        writer.kill();
        place.assert_sound();
        // The killed holder's lease is in the way, as it should be, until someone ends it.
        place.execute("UPDATE leases SET expires_at = 0");
    }
    assert!(Process::start("hammer", place, &[]).succeeds(), "it still works");
    let subject = samples::subject("production");
    let query = RunQuery { kind: RunKind::Monitoring, subject, since: None, limit: 1000 };
    let runs = block_on(place.ledger().journal.runs(&query));
    assert_eq!(runs.expect("the runs").len() as i64, HOURS, "each run once");
}

/// A holder that is stopped between its check and its call, overtaken and woken up, writes nothing any
/// more: what stands is what the second did.
pub(crate) fn a_stopped_holder_is_overtaken(place: &Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a plain path");
    let sleepy = Process::start("sleepy", place, &[("LEDGER_FOLDER", path)]);
    wait_for(&folder.path().join("checked"));
    kill_process(sleepy.id(), Signal::STOP).expect("SIGSTOP");

    let ledger = place.ledger();
    let (second, deployment) = block_on(async {
        let second = overtake(&ledger).await;
        let subject = samples::subject("production");
        let mut deployment = samples::deployment(&subject, 1);
        deployment.verdict = Some(DeploymentVerdict::Switched);
        ledger.journal.save_deployment(&second, &deployment).await.expect("the second's");
        let entry = samples::entry(&deployment, Step::Planned, Phase::Intent, "second");
        ledger.journal.append(&second, &entry).await.expect("the second's");
        (second, deployment)
    });
    std::fs::write(folder.path().join("go"), "").expect("a mark");
    kill_process(sleepy.id(), Signal::CONT).expect("SIGCONT");
    assert!(sleepy.succeeds(), "each of its late calls is refused");

    block_on(async {
        let subject = samples::subject("production");
        let kept = ledger.journal.deployments(&subject).await.expect("a list");
        assert_eq!(kept, std::slice::from_ref(&deployment), "the second's");
        let entries = ledger.journal.entries(&deployment.id).await.expect("a list");
        assert_eq!(entries, [samples::entry(&deployment, Step::Planned, Phase::Intent, "second")]);
        assert_eq!(ledger.journal.episodes(&subject).await.expect("a list"), []);
        ledger.leases.renew(&second, LONG).await.expect("still the second's");
    });
}

/// Takes the lease of the stopped process as soon as it has expired, by the database's clock.
async fn overtake(ledger: &Ledger) -> Lease {
    let begun = Instant::now();
    loop {
        match ledger.leases.acquire("loop", "second", LONG).await {
            Ok(lease) => return lease,
            Err(PlatformError::LeaseHeld { holder, .. }) => assert_eq!(holder, "sleepy"),
            Err(other) => panic!("{other}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
