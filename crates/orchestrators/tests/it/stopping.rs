//! A caller that wants a run to end: the next one starts at once, and goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::EndpointName;
use mloop_core::JobId;
use mloop_core::MonitoringOutcome;
use mloop_core::job::{JobSpec, JobStatus};
use mloop_deployer::{Answer, DeployError, EndpointClient, Invocation};
use mloop_orchestrators::{
    Classified, DeploymentOutcome as Outcome, DeploymentRequest, ExitClass, RetrainOutcome,
    RetrainRequest, Stopping,
};
use mloop_platform::fakes::ScriptedSubmitter;
use mloop_platform::{JobSubmitter, Leases, PlatformError, Submission};
use tokio::sync::{Notify, oneshot};

use crate::platform::Silent;
use crate::retraining;
use crate::world::{World, at, subject};

const NEWEST: DeploymentRequest = DeploymentRequest { version: None, again: false, as_of: None };
const LONG: Duration = Duration::from_secs(3600);

/// Whether somebody else gets a lease at once.
async fn is_free(world: &World, flow: &str) -> bool {
    let name = format!("{flow}/{}", subject());
    let lease = world.ledger.acquire(&name, "run-next/host-2", Duration::from_secs(600)).await;
    match lease {
        Ok(lease) => world.ledger.release(&lease).await.is_ok(),
        Err(_) => false,
    }
}

/// A client that is refused, tells of each try, and waits for nobody.
struct Refused(Arc<Notify>);

#[async_trait]
impl EndpointClient for Refused {
    async fn invoke(
        &self,
        _endpoint: &EndpointName,
        _invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        self.0.notify_one();
        Err(DeployError::Unavailable {
            system: "the platform in memory".to_owned(),
            doing: "asking".to_owned(),
            hint: "ask again".to_owned(),
            cause: "refused".into(),
        })
    }
}

#[tokio::test]
async fn a_deployment_that_waits_ends_between_two_looks() {
    let world = World::new();
    world.add_version("one");
    let tried = Arc::new(Notify::new());
    let signal = Arc::clone(&tried);
    // Between two looks it waits for an hour, and the platform has as long.
    let flow = world.deployment_with("host-1", |deps, config| {
        deps.endpoints.client = Arc::new(Refused(tried));
        (config.poll, config.patience) = (LONG, LONG);
    });
    let flow = flow.stopping_at(Stopping::when(async move { signal.notified().await }, LONG));
    let stopped = tokio::time::timeout(Duration::from_secs(30), flow.run(&NEWEST)).await;
    let error = stopped.expect("it ends at once").expect_err("stopped");
    assert_eq!(error.exit_class(), ExitClass::Stopped, "{error}");
    assert!(is_free(&world, "deployment").await, "the lease was given back");
    let next = world.deployment("host-2").run(&NEWEST).await.expect("goes on");
    assert_eq!(next.outcome, Outcome::Switched);
    assert_eq!(world.verdicts().await.len(), 1, "the same deployment");
}

#[tokio::test]
async fn a_deployment_whose_platform_never_answers_is_broken_off_after_the_grace() {
    let world = World::new();
    world.add_version("one");
    let flow = world.deployment_with("host-1", |deps, _| deps.endpoints.client = Arc::new(Silent));
    let (sender, receiver) = oneshot::channel::<()>();
    let signal = async move { drop(receiver.await) };
    let flow = flow.stopping_at(Stopping::when(signal, Duration::from_millis(10)));
    let work = tokio::spawn(async move { flow.run(&NEWEST).await });
    let serves = || world.endpoints.serving(&crate::world::staging()).is_some();
    while !serves() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!is_free(&world, "deployment").await, "it is at work");
    sender.send(()).expect("somebody waits");
    let error = work.await.expect("no panic").expect_err("broken off");
    assert_eq!(error.exit_class(), ExitClass::Stopped, "{error}");
    assert!(is_free(&world, "deployment").await, "the lease was given back");
    let next = world.deployment("host-2").run(&NEWEST).await.expect("goes on");
    assert_eq!(next.outcome, Outcome::Switched);
}

/// Accepts a job, and never says so.
struct NeverAnswers(Arc<ScriptedSubmitter>, Arc<Notify>);

#[async_trait]
impl JobSubmitter for NeverAnswers {
    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        self.0.submit_training_job(spec).await?;
        self.1.notify_one();
        std::future::pending().await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        self.0.status(job).await
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        self.0.cancel(job).await
    }
}

#[tokio::test]
async fn a_retraining_that_is_stopped_gives_its_lease_back_and_the_next_adopts_the_job() {
    let world = World::new();
    let version = world.add_version("one");
    world.serves(&version).await;
    world.monitored(version.version, 1, MonitoringOutcome::Alert).await;
    world.hours_pass(1);
    let submitter = Arc::new(ScriptedSubmitter::new([]));
    let called = Arc::new(Notify::new());
    let signal = Arc::clone(&called);
    let hanging = Arc::new(NeverAnswers(Arc::clone(&submitter), called));
    let stopping = Stopping::when(async move { signal.notified().await }, Duration::ZERO);
    let flow = retraining::over(&world, hanging).stopping_at(stopping.clone());
    let request = RetrainRequest { as_of: Some(at(1)) };
    let error = flow.run(&request).await.expect_err("stopped");
    assert_eq!(error.exit_class(), ExitClass::Stopped, "{error}");
    assert!(is_free(&world, "retraining").await, "the lease was given back");

    let early = retraining::orchestrator(&world, &submitter).stopping_at(stopping);
    let early = early.run(&request).await.expect_err("stopped before it began");
    assert_eq!(early.exit_class(), ExitClass::Stopped, "{early}");

    let next = retraining::orchestrator(&world, &submitter).run(&request).await;
    assert_eq!(next.expect("goes on").outcome, RetrainOutcome::Adopted);
    assert_eq!(submitter.starts(), 1, "one job for one cause");
}
