//! Calls that come too late: a run was stopped just before them, and went on when others had done
//! everything. What they change is noticed, told and undone; what they do not explain needs a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::deployment::{DeploymentVerdict as Verdict, EndpointDescription};
use mloop_core::{EndpointName, ModelVersion};
use mloop_deployer::Janitor as _;
use mloop_deployer::{
    Always, DeployError, DeployRequest, Deployer, InMemoryEndpoints, SwitchRequest,
};
use mloop_orchestrators::{
    Classified, DeploymentOutcome as Outcome, DeploymentRequest, DeploymentResult, ExitClass,
    OrchestratorError, Standing, Task,
};
use tokio::sync::Notify;

use crate::world::{World, production};

const NEWEST: DeploymentRequest = DeploymentRequest { version: None, again: false, as_of: None };

/// When a change of production waits.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    /// Before the permission is asked for.
    Preparing,
    /// Between the permission and the call.
    Calling,
}

/// A platform that compares nothing, and lets the first change of production wait.
struct Late {
    inner: Arc<InMemoryEndpoints>,
    wait: Wait,
    waits: AtomicBool,
    arrived: Notify,
    goes_on: Notify,
}

impl Late {
    fn new(world: &World, wait: Wait) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(&world.endpoints),
            wait,
            waits: AtomicBool::new(true),
            arrived: Notify::new(),
            goes_on: Notify::new(),
        })
    }

    async fn wait(&self, wait: Wait) {
        if self.wait == wait && self.waits.swap(false, Ordering::SeqCst) {
            self.arrived.notify_one();
            self.goes_on.notified().await;
        }
    }

    async fn change(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.wait(Wait::Preparing).await;
        if !request.permission.is_given().await {
            return Err(DeployError::Withdrawn { doing: "changing production".to_owned() });
        }
        self.wait(Wait::Calling).await;
        let SwitchRequest { endpoint, version, folder, .. } = request.clone();
        let permission = Arc::new(Always);
        self.inner.deploy_model(&DeployRequest { endpoint, version, folder, permission }).await
    }
}

#[async_trait]
impl Deployer for Late {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.inner.deploy_model(request).await
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        self.inner.describe(endpoint).await
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.change(request).await
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.change(request).await
    }
}

/// A platform that answers a change of production with nothing but an error.
struct Busy(Arc<InMemoryEndpoints>);

#[async_trait]
impl Deployer for Busy {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.0.deploy_model(request).await
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        self.0.describe(endpoint).await
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        assert!(request.permission.is_given().await, "nobody overtook it");
        Err(DeployError::Unavailable {
            system: "the platform in memory".to_owned(),
            doing: format!("switching {}", request.endpoint),
            hint: "ask again".to_owned(),
            cause: "too busy".into(),
        })
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.switch_to_production(request).await
    }
}

async fn tried(world: &World, task: Task) -> Result<DeploymentResult, OrchestratorError> {
    world.hours_pass(1);
    world.deployment("host-2").perform(task, &NEWEST).await
}

async fn does(world: &World, task: Task) -> DeploymentResult {
    tried(world, task).await.unwrap_or_else(|error| panic!("{task:?}: {error}"))
}

async fn deployed(world: &World, name: &str) -> ModelVersion {
    let version = world.add_version(name);
    assert_eq!(does(world, Task::Run).await.outcome, Outcome::Switched, "{name}");
    version
}

/// Stops a run of this task before its change of production, and lets it go on after `others`; gives
/// what it ended with.
async fn overtaken(world: &World, task: Task, others: impl AsyncFnOnce()) -> OrchestratorError {
    overtaken_while(Wait::Calling, world, task, others).await
}

async fn overtaken_while(
    wait: Wait,
    world: &World,
    task: Task,
    others: impl AsyncFnOnce(),
) -> OrchestratorError {
    let late = Late::new(world, wait);
    let platform = Arc::clone(&late);
    let flow = world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = platform);
    world.hours_pass(1);
    let (ended, ()) = tokio::join!(flow.perform(task, &NEWEST), async {
        late.arrived.notified().await;
        // Its lease expires.
        world.hours_pass(1);
        others().await;
        late.goes_on.notify_one();
    });
    ended.expect_err("it was overtaken")
}

fn serves(world: &World) -> Option<mloop_core::Sha256Digest> {
    world.endpoints.serving(&production())
}

fn told(world: &World) -> usize {
    let messages = world.people.messages();
    messages.iter().filter(|one| one.title.contains("a call came too late")).count()
}

/// The late run says what it left, `status` too, the next run undoes it once, and nothing is left to do.
async fn is_told_and_undone(
    world: &World,
    ended: OrchestratorError,
    found: &ModelVersion,
    should: &ModelVersion,
) {
    assert_eq!(ended.exit_class(), ExitClass::NeedsPerson, "{ended}");
    let said = format!(
        "by the ledger {} serves, production has {}",
        should.version,
        found.version.digest.short(12)
    );
    assert!(ended.to_string().contains(&said), "{ended}");
    assert_eq!(serves(world), Some(found.version.digest), "the platform does as it is asked");
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!((status.outcome, status.consistent), (Standing::Inconsistent, false));
    assert!(status.reason.contains("`run` puts it right"), "{}", status.reason);

    let result = does(world, Task::Run).await;
    assert_eq!(result.outcome, Outcome::NothingToDeploy, "{result:?}");
    let said = format!("production serves {} again", should.version);
    assert!(result.reason.starts_with(&said), "{}", result.reason);
    assert_eq!(serves(world), Some(should.version.digest));
    assert_eq!(told(world), 1, "people are told");
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Consistent, "{}", status.reason);
    let switches = world.endpoints.switches();
    assert_eq!(does(world, Task::Run).await.outcome, Outcome::NothingToDeploy);
    assert_eq!((world.endpoints.switches(), told(world)), (switches, 1));

    // The call came once. Whoever does the same by hand wants it so.
    world.endpoints_serve(found).await;
    let refusal = tried(world, Task::Run).await.expect_err("no late call is left");
    assert_eq!(refusal.exit_class(), ExitClass::NeedsPerson, "{refusal}");
    assert_eq!(serves(world), Some(found.version.digest));
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Inconsistent);
    assert!(!status.reason.contains("`run`"), "{}", status.reason);
}

#[tokio::test]
async fn a_late_switch_gives_way_to_a_newer_version() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let mut newest = None;
    let ended = overtaken(&world, Task::Run, async || {
        assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
        newest = Some(deployed(&world, "three").await);
    });
    let ended = ended.await;
    is_told_and_undone(&world, ended, &second, &newest.expect("version 3")).await;
}

#[tokio::test]
async fn a_late_switch_gives_way_to_the_version_that_was_rolled_back_to() {
    let world = World::new();
    let first = deployed(&world, "one").await;
    let second = world.add_version("two");
    let ended = overtaken(&world, Task::Run, async || {
        assert_eq!(does(&world, Task::Rollback).await.outcome, Outcome::RolledBack);
    });
    is_told_and_undone(&world, ended.await, &second, &first).await;
}

#[tokio::test]
async fn a_late_rollback_gives_way_to_a_newer_version() {
    let world = World::new();
    let first = deployed(&world, "one").await;
    deployed(&world, "two").await;
    let mut newest = None;
    let ended = overtaken(&world, Task::Rollback, async || {
        assert_eq!(does(&world, Task::Run).await.outcome, Outcome::RolledBack);
        newest = Some(deployed(&world, "three").await);
    });
    let ended = ended.await;
    is_told_and_undone(&world, ended, &first, &newest.expect("version 3")).await;
}

#[tokio::test]
async fn a_late_call_that_changes_nothing_is_a_lost_lease() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let ended = overtaken(&world, Task::Run, async || {
        assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
    });
    let ended = ended.await;
    assert_eq!(ended.exit_class(), ExitClass::LeaseHeld, "{ended}");
    assert_eq!(serves(&world), Some(second.version.digest));
    assert_eq!(does(&world, Task::Run).await.outcome, Outcome::NothingToDeploy);
    assert_eq!(told(&world), 0);
}

#[tokio::test]
async fn a_run_that_was_overtaken_while_it_prepared_its_change_makes_none() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let mut newest = None;
    let ended = overtaken_while(Wait::Preparing, &world, Task::Run, async || {
        assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
        newest = Some(deployed(&world, "three").await);
    });
    let (ended, newest) = (ended.await, newest.expect("version 3"));
    assert_eq!(ended.exit_class(), ExitClass::LeaseHeld, "{ended}");
    assert_eq!((serves(&world), told(&world)), (Some(newest.version.digest), 0));
    // Without a permission nothing was announced: what a person does is a person's.
    world.endpoints_serve(&second).await;
    is_left_to_a_person(&world, &second).await;
}

#[tokio::test]
async fn a_call_is_broken_off_once_its_run_was_overtaken() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let late = Late::new(&world, Wait::Calling);
    let platform = Arc::clone(&late);
    let flow = world.deployment_with("host-1", |deps, config| {
        deps.endpoints.deployer = platform;
        config.lease.ttl = Duration::from_millis(60);
    });
    world.hours_pass(1);
    // Nobody lets the call go on.
    let (ended, ()) = tokio::join!(flow.perform(Task::Run, &NEWEST), async {
        late.arrived.notified().await;
        assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
    });
    let ended = ended.expect_err("it was overtaken");
    assert_eq!(ended.exit_class(), ExitClass::LeaseHeld, "{ended}");
    assert_eq!(serves(&world), Some(second.version.digest));
}

/// Production has this version, no call explains it, and every run leaves that to a person.
async fn is_left_to_a_person(world: &World, found: &ModelVersion) {
    for _ in 0..2 {
        let refusal = tried(world, Task::Run).await.expect_err("nothing explains it");
        assert_eq!(refusal.exit_class(), ExitClass::NeedsPerson, "{refusal}");
        assert!(refusal.to_string().contains("no call of mloop explains"), "{refusal}");
    }
    assert_eq!((serves(world), told(world)), (Some(found.version.digest), 0));
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Inconsistent);
    assert!(!status.reason.contains("`run`"), "{}", status.reason);
}

#[tokio::test]
async fn a_call_that_returned_explains_nothing_whichever_run_wrote_down_its_end() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let busy = Arc::new(Busy(Arc::clone(&world.endpoints)));
    let flow = world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = busy);
    world.hours_pass(1);
    let ended = flow.perform(Task::Run, &NEWEST).await.expect_err("it was too busy");
    assert_eq!(ended.exit_class(), ExitClass::Transient, "{ended}");
    assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
    deployed(&world, "three").await;
    world.endpoints_serve(&second).await;
    is_left_to_a_person(&world, &second).await;
}

#[tokio::test]
async fn a_call_that_would_come_days_late_explains_nothing() {
    let world = World::new();
    deployed(&world, "one").await;
    let second = world.add_version("two");
    let ended = overtaken(&world, Task::Run, async || {
        assert_eq!(does(&world, Task::Run).await.version, Some(second.version));
        deployed(&world, "three").await;
        world.hours_pass(24);
    });
    let ended = ended.await;
    assert_eq!(ended.exit_class(), ExitClass::NeedsPerson, "{ended}");
    is_left_to_a_person(&world, &second).await;
}

/// Production as a late rollback to version 1 left it, version 4 in it by the ledger.
async fn after_a_late_rollback() -> World {
    let world = World::new();
    deployed(&world, "one").await;
    deployed(&world, "two").await;
    overtaken(&world, Task::Rollback, async || {
        assert_eq!(does(&world, Task::Run).await.outcome, Outcome::RolledBack);
        for name in ["three", "four"] {
            deployed(&world, name).await;
        }
    })
    .await;
    world
}

#[tokio::test]
async fn whatever_comes_next_takes_a_late_call_into_account() {
    // The next version is deployed on top of what should serve.
    let world = after_a_late_rollback().await;
    let fifth = deployed(&world, "five").await;
    assert_eq!(serves(&world), Some(fifth.version.digest));
    assert_eq!(told(&world), 1);

    // A rollback goes to the version before, without a detour.
    let world = after_a_late_rollback().await;
    let third = world.versions().await.remove(1);
    let switches = world.endpoints.switches();
    assert_eq!(does(&world, Task::Rollback).await.outcome, Outcome::RolledBack);
    assert_eq!(serves(&world), Some(third.version.digest));
    assert_eq!(world.endpoints.switches(), switches + 1);
    assert_eq!(world.verdicts().await[3], (4, 1, Some(Verdict::RolledBack)));
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Consistent, "{}", status.reason);
}

#[tokio::test]
async fn what_no_call_explains_is_told_and_left_to_a_person() {
    let world = World::new();
    let first = deployed(&world, "one").await;
    let second = deployed(&world, "two").await;
    world.endpoints_serve(&first).await;
    for task in [Task::Run, Task::Deploy, Task::SmokeTest, Task::Switch] {
        let refusal = tried(&world, task).await.expect_err("production is not as it was left");
        assert_eq!(refusal.exit_class(), ExitClass::NeedsPerson, "{task:?}: {refusal}");
        for named in [second.version.to_string(), first.version.digest.short(12)] {
            assert!(refusal.to_string().contains(&named), "{task:?}: {refusal}");
        }
    }
    assert_eq!(serves(&world), Some(first.version.digest));
    // Whoever went back by hand can say so afterwards.
    let switches = world.endpoints.switches();
    assert_eq!(does(&world, Task::Rollback).await.outcome, Outcome::RolledBack);
    assert_eq!(world.endpoints.switches(), switches);
    let status = world.deployment("host-1").status().await.expect("a status");
    assert_eq!(status.outcome, Standing::Consistent, "{}", status.reason);
}

#[tokio::test]
async fn a_way_back_replaces_nothing_that_is_a_strangers() {
    let world = World::new();
    deployed(&world, "one").await;
    deployed(&world, "two").await;
    world.endpoints_serve(&world.add_version("not by mloop")).await;
    let refusal = tried(&world, Task::Rollback).await.expect_err("a stranger's");
    assert_eq!(refusal.exit_class(), ExitClass::NeedsPerson, "{refusal}");
    let wanted = Some(Verdict::Switched);
    assert_eq!(world.verdicts().await, [(1, 1, wanted), (2, 1, wanted)], "nothing was begun");
}

#[tokio::test]
async fn production_that_vanished_is_told_until_a_version_is_switched_to() {
    let world = World::new();
    deployed(&world, "one").await;
    world.endpoints.remove_endpoint(&production()).await.expect("removed");
    let refusal = tried(&world, Task::Run).await.expect_err("nothing serves");
    assert_eq!(refusal.exit_class(), ExitClass::NeedsPerson, "{refusal}");
    assert!(refusal.to_string().contains("has nothing"), "{refusal}");
    let second = deployed(&world, "two").await;
    assert_eq!(serves(&world), Some(second.version.digest));
}
