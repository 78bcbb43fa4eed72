//! Two copies at once: a scheduler that lost sight of a run starts it a second time.

use std::time::Instant;

use mloop_orchestrators::points;
use mloop_testkit::small::SmallWorld;
use rustix::process::Signal;

use crate::end::Seen;
use crate::points::{finish, forward_points, rollback_points};
use crate::world::{
    Bases, Command, DEPLOY, FEW, LATER, PATIENCE, ROLLBACK, STATUS, TRAIN, bases, ended_with,
    eventually, in_parallel, mark, signal, start, until_done,
};

const RETRAIN: &[&str] = &["retraining_main", "--config", "retrain_config.yaml"];

#[test]
fn two_copies_of_a_deployment_end_alike_with_one_switch() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    let world = ready.fork().expect("a copy");
    let arguments = [DEPLOY.1, &["--wait-timeout", "30"]].concat();
    let run = || world.program(DEPLOY.0, &arguments).expect("built").run().expect("runs");
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join().expect("no panic"))
    });
    ended_with(&one, &[0]);
    ended_with(&two, &[0]);
    assert_eq!(one.last, two.last, "the second copy gives the result of the first");
    Seen::of(&world).is_deployed_once(&base, "two copies");
}

#[test]
fn two_retrainings_at_once_start_one_job() {
    let Bases { alarmed, .. } = &*bases();
    let before = Seen::of(alarmed);
    let world = alarmed.fork().expect("a copy");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| until_done(&world, RETRAIN, &[0]));
        }
    });
    finish(&world, "two at once");
    Seen::of(&world).is_retrained_once(&before, false, "two at once");
}

#[test]
fn of_two_trainings_of_one_job_the_second_touches_nothing_and_is_to_be_tried_again() {
    let Bases { empty, .. } = &*bases();
    let points = [points::TRAINING_PLANNED, points::TRAINING_TRAINED, points::TRAINING_ASSEMBLED];
    in_parallel(FEW, &points, |point| {
        let about = format!("the first holds at {point}");
        let world = empty.fork().expect("a copy");
        let command = [&[TRAIN.0], TRAIN.1].concat();
        let mut first = start(&world, &command, Some(point));
        eventually(&about, || mark(&world).exists());
        let second = world.program(TRAIN.0, TRAIN.1).expect("built").run().expect("runs");
        ended_with(&second, &[31]);
        let message = second.last["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("another run is at it in /"), "{about}: {message}");
        std::fs::remove_file(mark(&world)).expect("the mark");
        let status = first.wait().expect("a child");
        assert!(status.success(), "{about}: {status}");
        let last = until_done(&world, &command, &[0]);
        assert_eq!(last["adopted"], true, "{about}: {last}");
        Seen::of(&world).has_one_version_more(&[], &about);
        let left: Vec<_> = std::fs::read_dir(world.folder().join("var/training"))
            .expect("the work folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(left.is_empty(), "{about}: {left:?}");
    });
}

/// Stops a copy while it holds nothing that others need, lets another run do everything, lets the
/// first go on, and looks after each.
fn stopped_and_overtaken(
    from: &SmallWorld,
    (stale, other): (Command, Command),
    point: &str,
    done: impl Fn(&SmallWorld, &str),
) {
    let about = format!("stopped at {point}");
    let world = from.fork().expect("a copy");
    let mut copy = start(&world, &[&[stale.0], stale.1].concat(), Some(point));
    eventually(&about, || {
        assert!(copy.try_wait().expect("a child").is_none(), "{about}: it ended before");
        mark(&world).exists()
    });
    signal(copy.id(), Signal::STOP);
    // Its lease expires, another run takes over, and is done before the first goes on.
    until_done(&world, &[&[other.0], other.1].concat(), &[0, 13]);
    done(&world, &about);
    std::fs::remove_file(mark(&world)).expect("the mark");
    signal(copy.id(), Signal::CONT);
    let status = copy.wait().expect("a child");
    // Overtaken; or, if it did not learn of that in time, all that was left to it was to record what both had done.
    let recorded = point == points::DEPLOYMENT_CONCLUDED;
    let expected: &[i32] = if recorded { &[0, 13, 31] } else { &[31] };
    assert!(status.code().is_some_and(|code| expected.contains(&code)), "{about}: {status}");

    let told = until_done(&world, STATUS, &[0]);
    // It breaks its call off when it finds its lease taken: the effect may have been there before.
    let may_be_left = point == points::CALLING_DEPLOY && told["outcome"] == "staging_left";
    assert!(may_be_left || told["outcome"] == "consistent", "{about}: {told}");
    // The next scheduled run finds nothing to deploy, and tidies up.
    until_done(&world, LATER, &[99]);
    done(&world, &about);
}

#[test]
fn a_copy_that_was_stopped_and_goes_on_later_changes_nothing() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    in_parallel(FEW, &forward_points(), |point| {
        let other = (LATER[0], &LATER[1..]);
        stopped_and_overtaken(ready, (DEPLOY, other), point, |world, about| {
            Seen::of(world).is_switched_once(&base, about);
        });
    });
}

#[test]
fn a_copy_of_a_rollback_that_was_stopped_and_goes_on_later_changes_nothing() {
    let Bases { switched, .. } = &*bases();
    let base = Seen::of(switched);
    let points: Vec<&str> =
        rollback_points().into_iter().filter(|point| point.starts_with("deployment.")).collect();
    // The last one leaves nothing to overtake.
    let points: Vec<&str> =
        points.into_iter().filter(|point| *point != points::DEPLOYMENT_RECORDED).collect();
    in_parallel(FEW, &points, |point| {
        let other = (LATER[0], &LATER[1..]);
        stopped_and_overtaken(switched, (ROLLBACK, other), point, |world, about| {
            Seen::of(world).is_rolled_back(&base, about);
        });
    });
}

#[test]
fn a_file_that_a_stopped_copy_locked_makes_others_try_again_later() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    let world = ready.fork().expect("a copy");
    let path = world.folder().join("var/registry/fashion/lock");
    let held = std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("opened");
    held.lock().expect("free");
    let began = Instant::now();
    let waited = world.program(DEPLOY.0, DEPLOY.1).expect("built").run().expect("runs");
    ended_with(&waited, &[30]);
    let message = waited.last["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("another process has held the lock"), "{message}");
    assert!(began.elapsed() < PATIENCE, "in bounds");
    drop(held);
    // It gave its lease back, so that the repeat goes on at once.
    let done = world.program(DEPLOY.0, DEPLOY.1).expect("built").run().expect("runs");
    ended_with(&done, &[0]);
    Seen::of(&world).is_deployed_once(&base, "a locked registry");
}
