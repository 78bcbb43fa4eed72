//! Deployment over the fakes: production, the ledger and the registry afterwards.

use std::sync::Arc;
use std::time::Duration;

use mloop_core::deployment::DeploymentVerdict as Verdict;
use mloop_core::run::RunKind;
use mloop_core::version::{aliases, files};
use mloop_core::{EndpointName, Sha256Digest};
use mloop_deployer::{Answer, Fault, InMemoryEndpoints, Invocation};
use mloop_orchestrators::{
    Classified, DeploymentOrchestrator, DeploymentOutcome as Outcome, DeploymentRequest,
    DeploymentResult, ExitClass, Task,
};
use mloop_platform::{Journal, Leases, ModelRegistry, RunQuery};

use crate::platform::Changed;
use crate::world::{World, golden_line, production, staging, subject};

const NEWEST: DeploymentRequest = DeploymentRequest { version: None, again: false, as_of: None };

const TRUNCATED: &str = "bad input: truncated body";

async fn run(world: &World) -> DeploymentResult {
    world.deployment("host-1").run(&NEWEST).await.expect("a result")
}

fn serves(world: &World, endpoint: &EndpointName) -> Option<Sha256Digest> {
    world.endpoints.serving(endpoint)
}

/// Version 1 in production, version 2 a candidate.
async fn ready(endpoints: InMemoryEndpoints) -> World {
    let world = World::with(endpoints);
    world.add_version("one");
    assert_eq!(run(&world).await.outcome, Outcome::Switched);
    world.hours_pass(1);
    world.add_version("two");
    world
}

#[tokio::test]
async fn a_candidate_goes_all_the_way_and_is_told_of_once() {
    let world = ready(InMemoryEndpoints::new()).await;
    let result = run(&world).await;
    assert_eq!(result.outcome, Outcome::Switched, "{result:?}");
    let [newer, older] = &world.versions().await[..] else { panic!("two versions") };
    assert_eq!(serves(&world, &production()), Some(newer.version.digest));
    assert_eq!(serves(&world, &staging()), None, "the staging endpoint is gone");
    let model = subject().model;
    let alias = |name| world.registry.alias(&model, name);
    assert_eq!(alias(aliases::CHAMPION).await.expect("an alias"), Some(newer.version));
    assert_eq!(alias(aliases::PREVIOUS_CHAMPION).await.expect("an alias"), Some(older.version));
    let report = result.smoke.expect("a report");
    assert!(report.passed, "{}", report.failures());
    let checks: Vec<&str> = report.checks.iter().map(|check| check.name.as_str()).collect();
    let wanted = [
        "golden case-0",
        "bad input: empty body",
        "bad input: unknown content type",
        TRUNCATED,
        "errors",
        "latency p99",
    ];
    assert_eq!(checks, wanted, "everything is asked");
    let told: Vec<String> = world.people.messages().into_iter().map(|one| one.title).collect();
    assert_eq!(told.iter().filter(|title| title.contains("v2")).count(), 1, "{told:?}");
    let repeat = run(&world).await;
    assert_eq!((repeat.run_id, repeat.outcome), (result.run_id, Outcome::Switched));
    world.hours_pass(1);
    assert_eq!(run(&world).await.outcome, Outcome::NothingToDeploy);
    let wanted = [(1, 1, Some(Verdict::Switched)), (2, 1, Some(Verdict::Switched))];
    assert_eq!(world.verdicts().await, wanted);
}

#[tokio::test]
async fn each_subcommand_is_a_task_of_its_own_in_order() {
    let world = ready(InMemoryEndpoints::new()).await;
    let flow = world.deployment("host-1");
    let first = serves(&world, &production());
    // The newest deployment is that of version 1, whose verdict was told long ago.
    for early in [flow.switch_to_production(&NEWEST).await, flow.smoke_test(&NEWEST).await] {
        assert_eq!(early.expect("a result").outcome, Outcome::NothingToDeploy);
    }
    assert_eq!(serves(&world, &production()), first);

    assert_eq!(flow.deploy(&NEWEST).await.expect("staged").outcome, Outcome::Staged);
    let early = flow.switch_to_production(&NEWEST).await.expect_err("not tested yet");
    assert_eq!(early.exit_class(), ExitClass::Configuration);
    assert!(early.to_string().contains("smoke-test"), "{early}");
    assert_eq!(serves(&world, &production()), first);

    world.hours_pass(1);
    assert_eq!(flow.deploy(&NEWEST).await.expect("staged").outcome, Outcome::Staged);
    let tested = flow.smoke_test(&NEWEST).await.expect("tested");
    assert_eq!(tested.outcome, Outcome::SmokePassed);
    assert_eq!(serves(&world, &production()), first);
    let switched = flow.switch_to_production(&NEWEST).await.expect("switched");
    assert_eq!(switched.outcome, Outcome::Switched);
    assert_ne!(serves(&world, &production()), first);
    let status = flow.status().await.expect("a status");
    assert!(status.consistent);
    assert_eq!(status.serving.map(|version| version.number), Some(2));
}

#[tokio::test]
async fn failed_smoke_tests_never_switch() {
    let world = ready(InMemoryEndpoints::new()).await;
    let golden = golden_line("another class");
    let third = world.registry.add(
        &subject().model,
        &[(files::WEIGHTS, b"three".as_slice()), (files::GOLDEN, golden.as_bytes())],
    );
    let before = (serves(&world, &production()), world.endpoints.switches());
    let result = run(&world).await;
    assert_eq!(result.outcome, Outcome::SmokeFailed);
    assert_eq!(result.version, Some(third.version));
    assert!(result.reason.contains("`a` instead of `another class`"), "{}", result.reason);
    assert_eq!(serves(&world, &production()), before.0);
    assert_eq!(world.endpoints.switches(), before.1 + 1, "only staging changed");
    assert_eq!(serves(&world, &staging()), None);
    let again = world.deployment("host-1");
    let named = DeploymentRequest { version: Some(3), ..NEWEST };
    assert_eq!(again.run(&named).await.expect("a result").outcome, Outcome::SmokeFailed);
    assert_eq!(world.endpoints.switches(), before.1 + 1);
    let told = world.people.messages();
    assert_eq!(told.iter().filter(|one| one.title.contains("v3")).count(), 1);
}

type Change = fn(&Invocation, &mut Answer);

/// Endpoints whose answers are changed on their way.
fn answering(world: &World, change: Change) -> DeploymentOrchestrator {
    world.deployment_with("host-1", |deps, _| {
        let inner = deps.endpoints.client.clone();
        deps.endpoints.client = Arc::new(Changed { inner, change });
    })
}

fn takes_all(_asked: &Invocation, answer: &mut Answer) {
    answer.status = 200;
}

#[tokio::test]
async fn answers_that_no_sound_server_gives_never_reach_production() {
    let is_slow: Change = |_, answer| answer.latency = Duration::from_millis(501);
    let takes_halves: Change = |asked, answer| {
        if asked.body.len() == 2 {
            answer.status = 200;
        }
    };
    for (change, expected) in [
        (
            takes_all as Change,
            &["bad input: empty body", "bad input: unknown content type", TRUNCATED][..],
        ),
        (takes_halves, &[TRUNCATED]),
        (is_slow, &["latency p99"]),
    ] {
        let world = ready(InMemoryEndpoints::new()).await;
        let before = serves(&world, &production());
        let result = answering(&world, change).run(&NEWEST).await.expect("a verdict");
        assert_eq!(result.outcome, Outcome::SmokeFailed, "{expected:?}: {}", result.reason);
        let checks = result.smoke.expect("a report").checks;
        let failed = checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str());
        assert_eq!(failed.collect::<Vec<_>>(), expected);
        assert_eq!(serves(&world, &production()), before, "{expected:?}");
        assert_eq!(world.verdicts().await[1], (2, 1, Some(Verdict::SmokeFailed)));
    }
}

#[tokio::test]
async fn a_switch_that_is_silently_undone_is_a_rollback() {
    let world = World::with(InMemoryEndpoints::with_fault(Fault::SilentRollback));
    let older = world.add_version("one");
    world.serves(&older).await;
    world.endpoints_serve(&older).await;
    world.hours_pass(1);
    world.add_version("two");
    let result = run(&world).await;
    assert_eq!(result.outcome, Outcome::RolledBack, "{result:?}");
    assert_eq!(serves(&world, &production()), Some(older.version.digest));
    assert_eq!(serves(&world, &staging()), None);
    assert_eq!(world.verdicts().await[1], (2, 1, Some(Verdict::RolledBack)));
    assert_eq!(world.aliases().await, [Some(1), None, None], "what production answers with");
}

#[tokio::test]
async fn a_switch_whose_answer_is_lost_is_one_switch() {
    let world = World::with(InMemoryEndpoints::with_fault(Fault::AnswerLost));
    let version = world.add_version("one");
    let result = run(&world).await;
    assert_eq!(result.outcome, Outcome::Switched, "{result:?}");
    assert_eq!(serves(&world, &production()), Some(version.version.digest));
    assert_eq!(world.endpoints.switches(), 2, "one for staging, one for production");
}

#[tokio::test]
async fn ten_scheduled_runs_after_a_rollback_change_nothing() {
    let world = ready(InMemoryEndpoints::new()).await;
    assert_eq!(run(&world).await.outcome, Outcome::Switched);
    world.hours_pass(1);
    let older = world.versions().await.remove(1);
    let back = world.deployment("host-1").rollback(&NEWEST).await.expect("rolled back");
    assert_eq!(back.outcome, Outcome::RolledBack);
    let why = format!("rolled back on request; production answers with {}", older.version);
    assert_eq!(back.reason, why);
    let alert = world.people.messages().pop().expect("people are told");
    assert!(alert.title.ends_with("was rolled back"), "{}", alert.title);
    assert!(alert.text.starts_with(&why), "{}", alert.text);
    assert_eq!(serves(&world, &production()), Some(older.version.digest));
    assert_eq!(world.aliases().await, [Some(1), None, None]);
    let (switches, told) = (world.endpoints.switches(), world.people.calls());
    for _ in 0..10 {
        world.hours_pass(1);
        assert_eq!(run(&world).await.outcome, Outcome::NothingToDeploy);
        let flow = world.deployment("host-1");
        for task in [Task::Deploy, Task::SmokeTest, Task::Switch] {
            let scheduled = flow.perform(task, &NEWEST).await.expect("a result");
            assert_eq!(scheduled.outcome, Outcome::NothingToDeploy, "{task:?}");
        }
        let again = flow.rollback(&NEWEST).await.expect("a repeat");
        assert_eq!((again.outcome, again.version), (back.outcome, back.version));
    }
    assert_eq!((world.endpoints.switches(), world.people.calls()), (switches, told));
    let wanted = [(1, 1, Some(Verdict::Switched)), (2, 1, Some(Verdict::RolledBack))];
    assert_eq!(world.verdicts().await, wanted);

    let again = DeploymentRequest { version: Some(2), again: true, as_of: None };
    let result = world.deployment("host-1").run(&again).await.expect("again");
    assert_eq!(result.outcome, Outcome::Switched);
    assert_eq!(world.verdicts().await[2], (2, 2, Some(Verdict::Switched)));
}

#[tokio::test]
async fn a_verdict_is_told_once_however_many_idle_runs_follow() {
    for verdict in [Outcome::Switched, Outcome::SmokeFailed, Outcome::RolledBack] {
        let world = ready(InMemoryEndpoints::new()).await;
        let flow = world.deployment("host-1");
        let told = match verdict {
            Outcome::SmokeFailed => answering(&world, takes_all).run(&NEWEST).await,
            Outcome::RolledBack => {
                flow.run(&NEWEST).await.expect("switched");
                flow.rollback(&NEWEST).await
            }
            _ => flow.run(&NEWEST).await,
        };
        assert_eq!(told.expect("a result").outcome, verdict);
        // Half-hourly, these are three weeks.
        for _ in 0..1008 {
            world.hours_pass(1);
            assert_eq!(run(&world).await.outcome, Outcome::NothingToDeploy, "{verdict:?}");
        }
        let two = DeploymentRequest { version: Some(2), ..NEWEST };
        assert_eq!(flow.run(&two).await.expect("told to who asks").outcome, verdict);
        let (kind, subject) = (RunKind::Deployment, subject());
        let query = RunQuery { kind, subject, since: None, limit: 2000 };
        let runs = world.ledger.runs(&query).await.expect("runs");
        let records = runs.iter().filter(|one| one.outcome == verdict.as_str()).count();
        let of_first = usize::from(verdict == Outcome::Switched);
        assert_eq!(records, 1 + of_first, "{verdict:?}: records of it");
    }
}

#[tokio::test]
async fn a_rollback_takes_production_back_past_a_version_in_staging() {
    let world = ready(InMemoryEndpoints::new()).await;
    assert_eq!(run(&world).await.outcome, Outcome::Switched);
    let older = world.versions().await.remove(1);
    world.hours_pass(1);
    world.add_version("three");
    let flow = world.deployment("host-1");
    assert_eq!(flow.deploy(&NEWEST).await.expect("staged").outcome, Outcome::Staged);
    let back = flow.rollback(&NEWEST).await.expect("rolled back");
    assert_eq!(back.outcome, Outcome::RolledBack);
    assert_eq!(back.version.map(|version| version.number), Some(2));
    assert_eq!(serves(&world, &production()), Some(older.version.digest));
    assert_eq!(serves(&world, &staging()), None);
    let wanted = [
        (1, 1, Some(Verdict::Switched)),
        (2, 1, Some(Verdict::RolledBack)),
        (3, 1, Some(Verdict::Abandoned)),
    ];
    assert_eq!(world.verdicts().await, wanted);
}

#[tokio::test]
async fn a_deployment_under_way_is_ended_by_its_number() {
    let world = ready(InMemoryEndpoints::new()).await;
    let before = serves(&world, &production());
    let flow = world.deployment("host-1");
    assert_eq!(flow.deploy(&NEWEST).await.expect("staged").outcome, Outcome::Staged);
    let two = DeploymentRequest { version: Some(2), ..NEWEST };
    let ended = flow.rollback(&two).await.expect("ended");
    assert_eq!(ended.outcome, Outcome::Abandoned);
    assert!(ended.reason.starts_with("ended on request"), "{}", ended.reason);
    assert_eq!(serves(&world, &production()), before);
    assert_eq!(serves(&world, &staging()), None);
    world.hours_pass(1);
    assert_eq!(flow.rollback(&two).await.expect("a repeat").outcome, Outcome::Abandoned);
    assert_eq!(run(&world).await.outcome, Outcome::NothingToDeploy);
}

#[tokio::test]
async fn the_first_version_has_no_way_back() {
    let world = World::new();
    world.add_version("one");
    run(&world).await;
    let error = world.deployment("host-1").rollback(&NEWEST).await.expect_err("no way back");
    assert_eq!(error.exit_class(), ExitClass::Configuration);
    assert_eq!(world.verdicts().await, [(1, 1, Some(Verdict::Switched))]);
}

#[tokio::test]
async fn a_version_that_somebody_else_put_there_needs_a_person() {
    let world = ready(InMemoryEndpoints::new()).await;
    let stranger = world.add_version("not by mloop");
    world.endpoints_serve(&stranger).await;
    let two = DeploymentRequest { version: Some(2), ..NEWEST };
    let error = world.deployment("host-1").run(&two).await.expect_err("a stranger");
    assert_eq!(error.exit_class(), ExitClass::NeedsPerson);
    assert_eq!(serves(&world, &production()), Some(stranger.version.digest));
}

#[tokio::test]
async fn another_run_holds_the_lease_and_a_copy_is_followed() {
    let world = ready(InMemoryEndpoints::new()).await;
    let ttl = Duration::from_secs(600);
    let name = format!("deployment/{}", subject());
    let lease = world.ledger.acquire(&name, "run-other/host-2", ttl).await.expect("a lease");
    let error = world.deployment("host-1").run(&NEWEST).await.expect_err("held");
    assert_eq!(error.exit_class(), ExitClass::LeaseHeld);
    assert_eq!(world.verdicts().await.len(), 1);
    world.ledger.release(&lease).await.expect("released");

    // Two copies of one run: one works, the other waits and gives the same result.
    let request = DeploymentRequest { as_of: Some(crate::world::at(5)), ..NEWEST };
    let (one, two) = (world.deployment("host-1"), world.deployment("host-2"));
    let (left, right) = tokio::join!(one.run(&request), two.run(&request));
    assert_eq!(left.expect("a result"), right.expect("a result"));
    assert_eq!(world.verdicts().await.len(), 2);
    assert_eq!(world.endpoints.switches(), 4, "staging and production, for each version");
}

#[tokio::test]
async fn a_run_that_lost_its_lease_writes_nothing_more() {
    let world = ready(InMemoryEndpoints::new()).await;
    let name = format!("deployment/{}", subject());
    let old = world.ledger.acquire(&name, "run-a/host", Duration::from_secs(1)).await;
    let old = old.expect("a lease");
    world.hours_pass(1);
    assert_eq!(run(&world).await.outcome, Outcome::Switched);
    let newest = world.ledger.deployments(&subject()).await.expect("deployments").remove(0);
    let error = world.ledger.save_deployment(&old, &newest).await.expect_err("overtaken");
    assert!(error.to_string().contains("overtaken"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_answers_with_errors_never_reaches_production() {
    let world = World::with(InMemoryEndpoints::with_fault(Fault::Broken));
    let older = world.add_version("one");
    world.serves(&older).await;
    world.endpoints_serve(&older).await;
    world.hours_pass(1);
    world.add_version("two");
    let result = run(&world).await;
    assert_eq!(result.outcome, Outcome::SmokeFailed);
    assert!(result.reason.contains("status 500"), "{}", result.reason);
    assert_eq!(serves(&world, &production()), Some(older.version.digest));
}
