//! SIGTERM, as a scheduler sends it: the run ends soon, and the next one starts at once.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use mloop_core::deployment::{Phase, Step};
use mloop_ledger::SqliteLedger;
use mloop_testkit::program;
use mloop_testkit::small::SmallWorld;
use rustix::process::Signal;
use serde_json::Value;

use crate::end::{Seen, subject};
use crate::world::{Bases, LATER, bases, edit, ended_with, eventually, mark, signal, start};

const DEPLOYMENT: &str = "deployment_config.yaml";
const RETRAINING: &str = "retrain_config.yaml";

/// Ends a run as a scheduler does; gives its exit code, its last line, and how long it took.
fn terminate(world: &SmallWorld, run: &mut Child) -> (Option<i32>, Value, Duration) {
    signal(run.id(), Signal::TERM);
    let began = Instant::now();
    let status = run.wait().expect("a child");
    let log = std::fs::read_to_string(world.folder().join("run.log")).expect("a log");
    let last = log.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (status.code(), last.unwrap_or_default(), began.elapsed())
}

/// Calls the next run once: a lease that was left would be exit code 31.
fn starts_at_once(world: &SmallWorld, command: &[&str]) -> Value {
    let next = world.program(command[0], &command[1..]).expect("built").run().expect("runs");
    ended_with(&next, &[0]);
    next.last
}

fn is_stopped((code, last, _): &(Option<i32>, Value, Duration)) {
    assert_eq!(*code, Some(143), "{last}");
    assert_eq!(last["error"]["exit_code"], 143, "{last}");
    assert!(last["run_id"].as_str().is_some_and(|id| id.starts_with("run-")), "{last}");
}

#[test]
fn a_deployment_that_is_ended_gives_its_lease_back() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    let world = ready.fork().expect("a copy");
    edit(&world, DEPLOYMENT, "lease_secs: 1", "lease_secs: 600");
    edit(&world, DEPLOYMENT, "latency_requests: 10", "latency_requests: 100000");
    let mut run = start(&world, LATER, None);
    eventually("it asks staging", || has_entry(&world, Step::SmokePassed, Phase::Intent));
    let stopped = terminate(&world, &mut run);
    is_stopped(&stopped);
    assert!(stopped.2 < Duration::from_secs(10), "between two requests: {:?}", stopped.2);
    edit(&world, DEPLOYMENT, "latency_requests: 100000", "latency_requests: 10");
    assert_eq!(starts_at_once(&world, LATER)["outcome"], "switched");
    Seen::of(&world).is_switched_once(&base, "ended");
}

#[test]
fn a_deployment_whose_server_hangs_is_ended_within_its_grace() {
    let Bases { ready, .. } = &*bases();
    let base = Seen::of(ready);
    let world = ready.fork().expect("a copy");
    edit(&world, DEPLOYMENT, "lease_secs: 1", "lease_secs: 600");
    let mut run = start(&world, LATER, Some("deployment.staging_verified.intent"));
    eventually("it is about to ask the server", || mark(&world).exists());
    signal(world.server().pid(), Signal::STOP);
    std::fs::remove_file(mark(&world)).expect("the mark");
    let stopped = terminate(&world, &mut run);
    signal(world.server().pid(), Signal::CONT);
    is_stopped(&stopped);
    assert!(stopped.2 < Duration::from_secs(30), "before Kubernetes kills it: {:?}", stopped.2);
    assert_eq!(starts_at_once(&world, LATER)["outcome"], "switched");
    Seen::of(&world).is_switched_once(&base, "ended while the server hung");
}

#[test]
fn a_retraining_that_is_ended_gives_its_lease_back() {
    let Bases { alarmed, .. } = &*bases();
    let world = alarmed.fork().expect("a copy");
    edit(&world, RETRAINING, "lease_secs: 1", "lease_secs: 600");
    // The job takes two seconds before it detaches itself, for which the submitter waits.
    let job = world.folder().join("configs/slow");
    let trains = program::path("training_main").expect("built");
    let text = format!("#!/bin/sh\nsleep 2\nexec '{}' \"$@\"\n", trains.display());
    std::fs::write(&job, text).expect("written");
    std::fs::set_permissions(&job, std::fs::Permissions::from_mode(0o700)).expect("allowed");
    edit(&world, RETRAINING, "command: [training_main,", "command: [./slow,");
    let command = ["retraining_main", "--config", RETRAINING];
    let mut run = start(&world, &command, None);
    let jobs = world.folder().join("var/jobs");
    let asked = || std::fs::read_dir(&jobs).is_ok_and(|mut jobs| jobs.next().is_some());
    eventually("it submits", asked);
    let (code, last, took) = terminate(&world, &mut run);
    // What was begun is finished within the grace.
    assert_eq!(code, Some(0), "{last}");
    assert_eq!(last["outcome"], "submitted", "{last}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(starts_at_once(&world, &command)["outcome"], "adopted");
    assert_eq!(Seen::of(&world).episodes.len(), 1, "one cause");
}

/// Whether the journal of version 2's deployment has an entry.
fn has_entry(world: &SmallWorld, step: Step, phase: Phase) -> bool {
    let ledger = SqliteLedger::new(world.folder().join("var/ledger.sqlite")).ledger();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let deployments = ledger.journal.deployments(&subject()).await.expect("readable");
        let Some(new) = deployments.iter().find(|one| one.version.number == 2) else {
            return false;
        };
        let entries = ledger.journal.entries(&new.id).await.expect("readable");
        entries.iter().any(|entry| entry.step == step && entry.phase == phase)
    })
}
