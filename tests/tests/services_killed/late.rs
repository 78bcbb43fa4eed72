//! SIGSTOP directly before SageMaker is asked to change production. The lease expires, other copies do
//! something else, and the first goes on: SageMaker compares nothing and does as it is asked.

use std::process::Child;

use rustix::process::Signal;
use serde_json::Value;

use crate::runs::signal;
use crate::stand::{Command, DEPLOY, Stand, TRAIN};
use crate::world::World;

const STATUS: Command<'static> =
    &["deployment_main", "status", "--config", "deployment_config.yaml"];
const ROLLBACK: Command<'static> =
    &["deployment_main", "rollback", "--config", "deployment_config.yaml"];

/// Before the last look of the second change of a run.
const PREPARED: &str = "sagemaker.configured@2";

/// Directly before the second change of a run, that of production; the first is that of staging.
const BEFORE_UPDATE: &str = "sagemaker.changing@2";

/// A run that is stopped at this point.
fn stopped(stand: &Stand<'_>, command: Command<'_>, point: &str) -> Child {
    let mut run = stand.start(command, Some(point));
    stand.waits(&mut run, &format!("{} passes {point}", command[1]), || stand.mark().exists());
    signal(run.id(), Signal::STOP);
    run
}

/// Lets a run go on, and gives its exit code.
fn goes_on(stand: &Stand<'_>, mut run: Child) -> Option<i32> {
    std::fs::remove_file(stand.mark()).expect("the mark");
    signal(run.id(), Signal::CONT);
    run.wait().expect("a child").code()
}

/// Deploys what waits, and gives its digest.
fn deployed(stand: &Stand<'_>) -> Value {
    let last = stand.done(DEPLOY, &[0]);
    assert_eq!(last["outcome"], "switched", "{last}");
    assert_eq!(stand.answering(), last["version"]["digest"]);
    last["version"]["digest"].clone()
}

#[test]
fn a_copy_that_was_stopped_and_overtaken_never_has_the_last_word() {
    let world = World::new("stopped");
    let stand = Stand::of(&world);
    let updates = || world.effects("UpdateEndpoint");
    stand.done(TRAIN, &[0]);
    deployed(&stand);

    // Stopped while it prepares the change, it finds its lease taken, or first another version than it
    // expects.
    stand.train_another(2);
    let run = stopped(&stand, DEPLOY, PREPARED);
    deployed(&stand);
    stand.train_another(3);
    let third = deployed(&stand);
    let code = goes_on(&stand, run);
    assert!([Some(31), Some(40)].contains(&code), "{code:?}: {}", stand.said());
    assert_eq!((updates(), stand.answering()), (2, third));

    // Stopped after it, it changes production, and is told and undone.
    stand.train_another(4);
    let run = stopped(&stand, DEPLOY, BEFORE_UPDATE);
    let fourth = deployed(&stand);
    stand.train_another(5);
    let fifth = deployed(&stand);
    assert_eq!(goes_on(&stand, run), Some(40), "{}", stand.said());
    is_told_and_undone(&stand, &fourth, &fifth);
    assert_eq!((updates(), world.told("a call came too late")), (6, 1));

    // The same where the second copy went back.
    stand.train_another(6);
    let run = stopped(&stand, DEPLOY, BEFORE_UPDATE);
    let back = stand.done(ROLLBACK, &[13]);
    assert_eq!(stand.answering(), fifth, "{back}");
    assert_eq!(goes_on(&stand, run), Some(40), "{}", stand.said());
    is_told_and_undone(&stand, &back["version"]["digest"], &fifth);
    assert_eq!((updates(), world.told("a call came too late")), (8, 2));
}

/// Production is what the late call asked for, `status` tells that, and the next run undoes it once.
fn is_told_and_undone(stand: &Stand<'_>, late: &Value, should: &Value) {
    let status = stand.done(STATUS, &[0]);
    assert_eq!(status["outcome"], "inconsistent", "{status}");
    assert!(status["reason"].to_string().contains("`run` puts it right"), "{status}");
    let production = &status["production"];
    let found = if production["pending"].is_null() {
        &production["configured"]
    } else {
        &production["pending"]
    };
    assert_eq!(found, late, "{status}");
    let last = stand.done(DEPLOY, &[99]);
    assert!(last["reason"].to_string().contains("again; a run that was overtaken"), "{last}");
    assert_eq!(stand.answering(), *should);
    let status = stand.done(STATUS, &[0]);
    assert_eq!(status["outcome"], "consistent", "{status}");
    stand.done(DEPLOY, &[99]);
    assert_eq!(stand.answering(), *should);
}
