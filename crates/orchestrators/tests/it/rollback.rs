//! The way back: begun, it is finished by whoever comes next; what it leaves names what serves.

use std::sync::Arc;
use std::time::Duration;

use mloop_core::deployment::{DeploymentVerdict as Verdict, Phase, Step};
use mloop_core::run::RunKind;
use mloop_core::version::files;
use mloop_deployer::{DeployError, DeployRequest, Deployer};
use mloop_orchestrators::{
    Classified, DeploymentOutcome as Outcome, DeploymentRequest, ExitClass, Standing, Task,
};
use mloop_platform::{Journal, Leases, RunQuery};

use crate::platform::{First, Interrupted, deaf};
use crate::world::{World, golden_line, now, production, staging, subject};

const NEWEST: DeploymentRequest = DeploymentRequest { version: None, again: false, as_of: None };

async fn does(world: &World, task: Task) -> Outcome {
    world.hours_pass(1);
    let done = world.deployment("host-1").perform(task, &NEWEST).await;
    done.unwrap_or_else(|error| panic!("{task:?}: {error}")).outcome
}

/// Version 2 in production, version 1 before it.
async fn second_serves() -> World {
    let world = World::new();
    for name in ["one", "two"] {
        let version = world.add_version(name);
        world.waits(&version).await;
        assert_eq!(does(&world, Task::Run).await, Outcome::Switched);
    }
    assert_eq!(world.aliases().await, [Some(2), Some(1), None]);
    world
}

async fn recorded(world: &World, outcome: &str) -> usize {
    let query =
        RunQuery { kind: RunKind::Deployment, subject: subject(), since: None, limit: 1000 };
    let runs = world.ledger.runs(&query).await.expect("runs");
    runs.iter().filter(|run| run.outcome == outcome).count()
}

/// Version 1 serves again, was asked for once, and everybody knows.
async fn is_back(world: &World, about: &str) {
    let versions = world.versions().await;
    let first = versions.last().expect("version 1").version;
    assert_eq!(world.endpoints.serving(&production()), Some(first.digest), "{about}");
    let wanted = [(1, 1, Some(Verdict::Switched)), (2, 1, Some(Verdict::RolledBack))];
    assert_eq!(world.verdicts().await[..2], wanted, "{about}");
    assert_eq!(world.aliases().await, [Some(1), None, None], "{about}");
    assert_eq!(recorded(world, "rolled_back").await, 1, "{about}: records");
    let told = world.people.messages();
    let told = told.iter().filter(|one| one.title.ends_with("was rolled back")).count();
    assert_eq!(told, 1, "{about}: messages");
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Consistent, "{about}: {}", status.reason);
    assert_eq!(status.serving.map(|version| version.number), Some(1), "{about}");
}

#[tokio::test]
async fn a_way_back_that_broke_off_is_finished_by_whatever_comes_next() {
    for first in [First::Lost, First::Blinds] {
        for task in [Task::Rollback, Task::Run, Task::Deploy, Task::SmokeTest, Task::Switch] {
            let about = format!("{first:?}, then {task:?}");
            let world = second_serves().await;
            let platform = Interrupted::new(&world.endpoints, first);
            let flow =
                world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = platform);
            world.hours_pass(1);
            let error = flow.rollback(&NEWEST).await.expect_err("it broke off");
            assert_eq!(error.exit_class(), ExitClass::Transient, "{about}: {error}");
            let status = world.deployment("host-1").status().await.expect("a status");
            assert_eq!(status.outcome, Standing::UnderWay, "{about}: {}", status.reason);
            assert_eq!(status.serving.map(|version| version.number), Some(1), "{about}");

            assert_eq!(does(&world, task).await, Outcome::RolledBack, "{about}");
            is_back(&world, &about).await;
            let switches = world.endpoints.switches();
            assert_eq!(does(&world, Task::Run).await, Outcome::NothingToDeploy, "{about}");
            assert_eq!(does(&world, Task::Rollback).await, Outcome::RolledBack, "{about}");
            assert_eq!(world.endpoints.switches(), switches, "{about}");
            is_back(&world, &about).await;
        }
    }
}

#[tokio::test]
async fn each_step_of_the_way_back_is_journaled_before_and_after() {
    let world = second_serves().await;
    assert_eq!(does(&world, Task::Rollback).await, Outcome::RolledBack);
    let deployments = world.ledger.deployments(&subject()).await.expect("deployments");
    let second = deployments.iter().find(|one| one.version.number == 2).expect("version 2");
    let entries = world.ledger.entries(&second.id).await.expect("entries");
    let found: Vec<_> = entries.iter().map(|entry| (entry.step, entry.phase)).collect();
    let steps = Step::FORWARD.into_iter().chain(Step::BACK);
    let wanted = steps.flat_map(|step| [(step, Phase::Intent), (step, Phase::Outcome)]);
    assert_eq!(found, wanted.collect::<Vec<_>>());
    let verified = entries.iter().find(|one| one.step == Step::RollbackVerified);
    assert_eq!(second.closed_at, verified.map(|entry| entry.at), "the verified switch back");
}

#[tokio::test]
async fn a_rollback_that_broke_off_past_a_version_in_staging_gives_that_one_up() {
    let world = second_serves().await;
    world.waits(&world.add_version("three")).await;
    assert_eq!(does(&world, Task::Deploy).await, Outcome::Staged);
    let platform = Interrupted::new(&world.endpoints, First::Lost);
    let flow = world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = platform);
    world.hours_pass(1);
    flow.rollback(&NEWEST).await.expect_err("it broke off");
    // The version in staging is newer, and yet it is not what goes on.
    assert_eq!(does(&world, Task::Run).await, Outcome::RolledBack);
    is_back(&world, "past staging").await;
    assert_eq!(world.verdicts().await[2], (3, 1, Some(Verdict::Abandoned)));
    assert_eq!(world.endpoints.serving(&staging()), None);
    for _ in 0..10 {
        assert_eq!(does(&world, Task::Run).await, Outcome::NothingToDeploy);
    }
}

#[tokio::test]
async fn a_switch_without_answers_goes_back_step_by_step() {
    let world = World::new();
    world.add_version("one");
    assert_eq!(does(&world, Task::Run).await, Outcome::Switched);
    world.waits(&world.add_version("two")).await;
    assert_eq!(does(&world, Task::Deploy).await, Outcome::Staged);
    assert_eq!(does(&world, Task::SmokeTest).await, Outcome::SmokePassed);
    let deafened =
        world.deployment_with("host-1", |deps, _| deps.endpoints.client = Arc::new(deaf()));
    world.hours_pass(1);
    // Nobody answers, so that the way back cannot be verified either.
    let error = deafened.switch_to_production(&NEWEST).await.expect_err("not verified");
    assert_eq!(error.exit_class(), ExitClass::Transient, "{error}");
    let back = world.versions().await[1].version.digest;
    assert_eq!(world.endpoints.serving(&production()), Some(back), "it was asked for");
    world.hours_pass(1);
    let result = world.deployment("host-1").run(&NEWEST).await.expect("verified");
    assert_eq!(result.outcome, Outcome::RolledBack);
    assert!(result.reason.contains("so production goes back to v1"), "{}", result.reason);
    is_back(&world, "without answers").await;
}

#[tokio::test]
async fn no_alias_names_a_version_that_is_out() {
    let world = second_serves().await;
    let golden = golden_line("another class");
    let third = world.registry.add(
        &subject().model,
        &[(files::WEIGHTS, b"three".as_slice()), (files::GOLDEN, golden.as_bytes())],
    );
    world.waits(&third).await;
    assert_eq!(does(&world, Task::Run).await, Outcome::SmokeFailed);
    assert_eq!(world.aliases().await, [Some(2), Some(1), None]);

    world.waits(&world.add_version("four")).await;
    assert_eq!(does(&world, Task::Deploy).await, Outcome::Staged);
    world.hours_pass(1);
    let four = DeploymentRequest { version: Some(4), ..NEWEST };
    let ended = world.deployment("host-1").rollback(&four).await.expect("ended");
    assert_eq!(ended.outcome, Outcome::Abandoned);
    assert_eq!(world.aliases().await, [Some(2), Some(1), None]);

    // One that waits stays, whatever becomes of the version before it.
    let five = world.add_version("five");
    world.waits(&five).await;
    assert_eq!(does(&world, Task::Rollback).await, Outcome::RolledBack);
    assert_eq!(world.aliases().await, [Some(1), None, Some(5)]);
}

/// Brings up a version in staging as a copy does that was stopped before that call, and went on when
/// another copy had done everything.
async fn staged_too_late(world: &World, number: u64) {
    let versions = world.versions().await;
    let version = versions.iter().find(|one| one.version.number == number).expect("a version");
    let folder = world.folder.path().to_owned();
    let permission = Arc::new(mloop_deployer::Always);
    let version = version.clone();
    let request = DeployRequest { endpoint: staging(), version, folder, permission };
    world.endpoints.deploy_model(&request).await.expect("staged");
}

#[tokio::test]
async fn staging_that_a_late_copy_brought_up_is_told_and_removed() {
    let world = second_serves().await;
    for task in [Task::Run, Task::Deploy, Task::SmokeTest, Task::Switch] {
        staged_too_late(&world, 2).await;
        let status = world.deployment("host-1").status().await.expect("a status");
        assert_eq!(status.outcome, Standing::StagingLeft, "{}", status.reason);
        assert!(status.consistent, "production serves what it should");
        assert_eq!(does(&world, task).await, Outcome::NothingToDeploy);
        assert_eq!(world.endpoints.serving(&staging()), None, "{task:?}");
    }
    assert_eq!(does(&world, Task::Rollback).await, Outcome::RolledBack);
    staged_too_late(&world, 2).await;
    assert_eq!(does(&world, Task::Rollback).await, Outcome::RolledBack);
    assert_eq!(world.endpoints.serving(&staging()), None, "a repeated rollback");

    // What no deployment put there, and what is to stay, stays.
    let stranger = world.add_version("not by mloop");
    assert_eq!(stranger.version.number, 3);
    let keeping = world.deployment_with("host-1", |_, config| config.keep_staging = true);
    staged_too_late(&world, 2).await;
    let status = keeping.status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Consistent, "{}", status.reason);
    world.registry.set_tag(&stranger, "staging_ready", "false");
    world.hours_pass(1);
    let nothing = keeping.run(&NEWEST).await.expect("nothing").outcome;
    assert_eq!(nothing, Outcome::NothingToDeploy);
    assert!(world.endpoints.serving(&staging()).is_some(), "keep_staging");
    staged_too_late(&world, 3).await;
    assert_eq!(does(&world, Task::Run).await, Outcome::NothingToDeploy);
    let left = world.endpoints.serving(&staging());
    assert_eq!(left, Some(stranger.version.digest), "a stranger's");
}

#[tokio::test]
async fn an_overtaken_copy_makes_no_change_any_more() {
    let world = World::new();
    world.add_version("one");
    // The look at staging takes so long that the lease expires and another run takes it.
    let (clock, ledger) = (Arc::clone(&world.clock), Arc::clone(&world.ledger));
    let mut deployer = mloop_deployer::MockDeployer::new();
    deployer.expect_describe().once().returning(move |_| {
        clock.advance(Duration::from_secs(601));
        let other = ledger.clone();
        let name = format!("deployment/{}", subject());
        let taken = futures_of(async move {
            other.acquire(&name, "run-other/host-2", Duration::from_secs(600)).await
        });
        taken.expect("expired");
        Ok(None)
    });
    // It looks what it leaves behind.
    deployer.expect_describe().returning(|_| Ok(None));
    deployer.expect_deploy_model().once().returning(|request| {
        assert!(!now(request.permission.is_given()), "it was overtaken");
        Err(DeployError::Withdrawn { doing: "deploying".to_owned() })
    });
    let flow =
        world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = Arc::new(deployer));
    let error = flow.run(&NEWEST).await.expect_err("overtaken");
    assert_eq!(error.exit_class(), ExitClass::LeaseHeld, "{error}");
}

/// Waits for something that never really waits.
fn futures_of<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        scope.spawn(move || runtime.block_on(work)).join().expect("no panic")
    })
}
