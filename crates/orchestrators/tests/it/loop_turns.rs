//! The whole loop, once around: drift → decision → job → candidate → promotion → rollback.

use std::sync::Arc;

use mloop_core::MonitoringOutcome;
use mloop_core::evaluation::GateVerdict;
use mloop_core::job::JobStatus;
use mloop_orchestrators::gate::GateConfig;
use mloop_orchestrators::{DeploymentOutcome, DeploymentRequest, RetrainOutcome, RetrainRequest};
use mloop_platform::fakes::ScriptedSubmitter;
use mloop_trainer::StopFlag;

use crate::retraining::orchestrator;
use crate::world::{World, at, first_allowed, job, production};

/// Labels come a day late, and monitoring was not told so: those of the hours that drifted are not
/// there when the job is decided, those of a day before are.
#[tokio::test]
async fn labels_that_come_a_day_late_still_lead_to_a_new_version() {
    let world = World::new();
    let first = world.training("one", &[], first_allowed());
    let first = first.run(&job("first", None, None), &StopFlag::default()).await.expect("v1");
    world.deployment("host-1").run(&DeploymentRequest::default()).await.expect("v1 switched");
    for hour in [2, 20, 29] {
        world.add_labelled_at(at(hour + 24), 1000, at(hour));
    }
    world.hours_pass(30);
    world.monitored(first.version, 30, MonitoringOutcome::Alert).await;
    let submitter = Arc::new(ScriptedSubmitter::new([]));
    let retraining = orchestrator(&world, &submitter);
    retraining.run(&RetrainRequest::default()).await.expect("a decision");
    let spec = submitter.specs().pop().expect("a job");
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let training = world.training("two", &accuracies, GateConfig::default());
    let second = training.run(&spec, &StopFlag::default()).await.expect("v2");
    assert_eq!(second.outcome, GateVerdict::Blessed, "{:?}", second.evaluation.sets);
    let used = second.traffic.expect("the traffic was read");
    assert_eq!((used.training + used.fresh, used.older, used.unlabelled), (1000, 0, 2000));
}

#[tokio::test]
async fn from_drift_to_production_and_back() {
    let world = World::new();
    let deployment = world.deployment("host-1");
    let newest = DeploymentRequest::default();

    let first = world.training("one", &[], first_allowed());
    let first = first.run(&job("first", None, None), &StopFlag::default()).await.expect("v1");
    let switched = deployment.run(&newest).await.expect("v1 switched");
    assert_eq!(switched.outcome, DeploymentOutcome::Switched, "{switched:?}");

    world.add_labelled(2000, at(0));
    world.hours_pass(1);
    world.monitored(first.version, 1, MonitoringOutcome::Alert).await;
    let submitter = Arc::new(ScriptedSubmitter::new([]));
    let retraining = orchestrator(&world, &submitter);
    let decided = retraining.run(&RetrainRequest::default()).await.expect("a decision");
    assert_eq!(decided.outcome, RetrainOutcome::Submitted);

    let spec = submitter.specs().pop().expect("a job");
    let accuracies = [("one", 0.8, 0.5), ("two", 0.8, 0.9)];
    let training = world.training("two", &accuracies, GateConfig::default());
    let second = training.run(&spec, &StopFlag::default()).await.expect("v2");
    assert_eq!(second.outcome, GateVerdict::Blessed);
    let result = serde_json::to_value(&second).expect("json");
    submitter.set_status(&spec.job_id, JobStatus::Finished { exit_code: 0, result });

    world.hours_pass(1);
    let waiting = retraining.run(&RetrainRequest::default()).await.expect("a decision");
    assert_eq!(waiting.outcome, RetrainOutcome::Held);
    assert_eq!(waiting.closed[0].version, Some(second.version));

    let switched = deployment.run(&newest).await.expect("v2 switched");
    assert_eq!(switched.outcome, DeploymentOutcome::Switched, "{switched:?}");
    assert_eq!(world.endpoints.serving(&production()), Some(second.version.digest));
    let recorded = world.ledger.versions();
    let (_, episode) =
        recorded.iter().find(|(one, _)| one.version == second.version).expect("recorded");
    assert_eq!(*episode, decided.episode, "from what serves back to the drift");

    world.hours_pass(1);
    let back = deployment.rollback(&newest).await.expect("rolled back");
    assert_eq!(back.outcome, DeploymentOutcome::RolledBack);
    assert_eq!(world.endpoints.serving(&production()), Some(first.version.digest));

    // The version did not stay: that counts as a failed attempt, and the cooldown holds.
    world.monitored(first.version, 3, MonitoringOutcome::Alert).await;
    let held = retraining.run(&RetrainRequest::default()).await.expect("a decision");
    assert_eq!(held.outcome, RetrainOutcome::Held);
    assert!(held.reason.contains("cooldown"), "{}", held.reason);
    world.hours_pass(6);
    world.monitored(first.version, 9, MonitoringOutcome::Alert).await;
    let next = retraining.run(&RetrainRequest::default()).await.expect("a decision");
    assert_eq!((next.outcome, submitter.starts()), (RetrainOutcome::Submitted, 2));
}
