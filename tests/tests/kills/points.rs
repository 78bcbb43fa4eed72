//! SIGKILL at every fail point of a binary, each shown to have landed while the process held there.

use std::os::unix::process::ExitStatusExt as _;

use mloop_core::deployment::Step;
use mloop_orchestrators::points;
use mloop_testkit::small::SmallWorld;

use crate::end::Seen;
use crate::world::{
    AS_OF, Bases, Command, DEPLOY, MANY, PATIENCE, TRAIN, bases, ended_with, eventually,
    in_parallel, kill, mark, start, until_done,
};

/// The run that submits, or that closes, under the moment of the test.
pub(crate) const RETRAIN: Command =
    ("retraining_main", &["--config", "retrain_config.yaml", "--as-of", AS_OF]);

/// Fail points of a training, beside those of the flow and the registry.
const CHECKPOINTS: [&str; 2] = ["training.checkpoint.before", "training.checkpoint.after"];

/// Calls of the ledger that a binary never makes.
const NOT_OF_DEPLOYMENT: [(&str, &str); 5] = [
    ("save_episode", "episodes are retraining's"),
    ("put", "profiles are monitoring's"),
    ("merge_days", "profiles are monitoring's"),
    ("enqueue", "messages are queued with what they tell of"),
    ("not_delivered", "everybody can be told"),
];
const NOT_OF_ROLLBACK: [(&str, &str); 6] = [
    ("save_episode", "episodes are retraining's"),
    ("put", "profiles are monitoring's"),
    ("merge_days", "profiles are monitoring's"),
    ("enqueue", "messages are queued with what they tell of"),
    ("not_delivered", "everybody can be told"),
    ("record_version", "the version was recorded on its way there"),
];

/// The ledger's fail points without those of some calls.
fn of_ledger(without: &[(&str, &str)]) -> Vec<&'static str> {
    let left_out =
        |point: &str| without.iter().any(|(call, _)| point.starts_with(&format!("ledger.{call}.")));
    mloop_ledger::FAILPOINTS.into_iter().filter(|point| !left_out(point)).collect()
}

/// The points of the steps of one way.
fn of_steps(steps: &[Step]) -> impl Iterator<Item = &'static str> {
    steps.iter().flat_map(|step| points::DEPLOYMENT_POINTS[*step as usize])
}

/// Points on the way to production, where a copy can be stopped without holding what others need.
pub(crate) fn forward_points() -> Vec<&'static str> {
    let others = [points::CALLING_ROLLBACK, points::CALLING_RESTORE];
    let calls = points::DEPLOYMENT_CALLS.into_iter().filter(|one| !others.contains(one));
    of_steps(&Step::FORWARD).chain(calls).chain([points::DEPLOYMENT_CONCLUDED]).collect()
}

fn deployment_points() -> Vec<&'static str> {
    let mut all = forward_points();
    all.push(points::DEPLOYMENT_RECORDED);
    all.extend(of_ledger(&NOT_OF_DEPLOYMENT));
    // The second is the verdict's, and that the call returned.
    all.extend(["ledger.save_deployment.before_commit@2", "ledger.save_deployment.after_commit@2"]);
    all.extend(["ledger.save_call.before_commit@2", "ledger.save_call.after_commit@2"]);
    all
}

/// Points on the way back.
pub(crate) fn rollback_points() -> Vec<&'static str> {
    let mut all = vec![points::DEPLOYMENT_TURNED];
    all.extend(of_steps(&Step::BACK));
    all.extend([points::CALLING_ROLLBACK, points::CALLING_ALIASES, points::CALLING_REMOVE]);
    all.extend([points::DEPLOYMENT_CONCLUDED, points::DEPLOYMENT_RECORDED]);
    all.extend(of_ledger(&NOT_OF_ROLLBACK));
    // The second is the verdict's, and that the call returned.
    all.extend(["ledger.save_deployment.before_commit@2", "ledger.save_deployment.after_commit@2"]);
    all.extend(["ledger.save_call.before_commit@2", "ledger.save_call.after_commit@2"]);
    all
}

/// Points at which production, changed by a call that came too late, is being restored.
pub(crate) fn restoring_points() -> Vec<&'static str> {
    of_steps(&[Step::ProductionRestored]).chain([points::CALLING_RESTORE]).collect()
}

fn training_points() -> Vec<&'static str> {
    let all = points::TRAINING_POINTS.into_iter().chain(mloop_local::REGISTRY_POINTS);
    all.chain(CHECKPOINTS).collect()
}

/// Runs a command until it holds at the point, and kills it there.
pub(crate) fn kill_at(world: &SmallWorld, command: Command, point: &str) {
    let command = [&[command.0], command.1].concat();
    let mut child = start(world, &command, Some(point));
    eventually(&format!("{} passes {point} (built with its fail points?)", command[0]), || {
        let ended = child.try_wait().expect("a child of this process");
        let log = || std::fs::read_to_string(world.folder().join("run.log")).unwrap_or_default();
        assert!(ended.is_none(), "{point} was never passed: {ended:?}\n{}", log());
        mark(world).exists()
    });
    let status = kill(&mut child);
    assert_eq!(status.signal(), Some(9), "{point}: it ended before the kill: {status}");
}

/// Those of retraining are found by the runs that pass them. Those of messages that missed somebody are the
/// ledger's own tests'.
#[test]
fn no_point_of_the_flows_is_left_out() {
    let tested =
        [deployment_points(), rollback_points(), restoring_points(), training_points()].concat();
    let all = points::all().chain(mloop_local::REGISTRY_POINTS).chain(mloop_ledger::FAILPOINTS);
    let elsewhere = [
        "retraining.",
        "ledger.save_episode.",
        "ledger.put.",
        "ledger.merge_days.",
        "ledger.enqueue.",
        "ledger.not_delivered.",
    ];
    for point in all.filter(|point| !elsewhere.iter().any(|prefix| point.starts_with(prefix))) {
        assert!(tested.contains(&point), "{point} is tested by no binary");
    }
}

#[test]
fn a_killed_deployment_is_finished_by_the_next() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    in_parallel(MANY, &deployment_points(), |point| {
        let world = ready.fork().expect("a copy");
        kill_at(&world, DEPLOY, point);
        let last = until_done(&world, &[&[DEPLOY.0], DEPLOY.1].concat(), &[0]);
        assert_eq!(last["outcome"], "switched", "{point}: {last}");
        Seen::of(&world).is_deployed_once(&base, point);
    });
}

/// Calls retraining until the episode is closed, if it is not.
pub(crate) fn finish(world: &SmallWorld, point: &str) {
    let closed = |seen: &Seen| seen.episodes.iter().all(|episode| !episode.is_open());
    let began = std::time::Instant::now();
    while !closed(&Seen::of(world)) {
        assert!(began.elapsed() < PATIENCE, "{point}: the episode is not closed");
        let finished = world.retrain().expect("runs");
        ended_with(&finished, &[0, 99, 30, 31]);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_killed_training_is_finished_by_the_next() {
    let Bases { empty, .. } = &*bases();
    in_parallel(MANY, &training_points(), |point| {
        let world = empty.fork().expect("a copy");
        kill_at(&world, TRAIN, point);
        let last = until_done(&world, &[&[TRAIN.0], TRAIN.1].concat(), &[0]);
        assert_eq!(last["outcome"], "blessed", "{point}: {last}");
        Seen::of(&world).has_one_version_more(&[], point);
    });
}

#[test]
fn a_killed_job_is_started_again_under_its_id() {
    // Orphans come to this process, so that it can see what they died of.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
    let Bases { alarmed, .. } = &*bases();
    let before = Seen::of(alarmed);
    in_parallel(MANY, &training_points(), |point| {
        let world = alarmed.fork().expect("a copy");
        // The job inherits the fail point; retraining itself does not pass it.
        let mut parent = start(&world, &[&[RETRAIN.0], RETRAIN.1].concat(), Some(point));
        assert!(parent.wait().expect("a child").success(), "{point}: it was submitted");
        eventually(&format!("the job passes {point}"), || mark(&world).exists());
        let jobs = world.jobs_at_work();
        let [job] = jobs.as_slice() else { panic!("{point}: {} jobs", jobs.len()) };
        assert_eq!(kill_orphan(*job), Some(9), "{point}: it ended before the kill");
        finish(&world, point);
        let seen = Seen::of(&world);
        seen.is_retrained_once(&before, true, point);
        assert_eq!(seen.episodes[0].job.submissions, 2, "{point}: started again once");
    });
}

/// Kills an orphan that was given to this process, and gives the signal that it died of.
pub(crate) fn kill_orphan(pid: i32) -> Option<i32> {
    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
    let pid = Pid::from_raw(pid).expect("an id");
    // It fails for one that has ended: then the status tells so.
    kill_process(pid, Signal::KILL).unwrap_or_default();
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).expect("an orphan of ours")?;
    status.terminating_signal()
}
