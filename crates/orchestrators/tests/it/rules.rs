//! The rules of the flows over mocks: what must be called how often, and what never.

use std::path::Path;
use std::sync::Arc;

use mloop_core::evaluation::{GateVerdict, Predictions};
use mloop_core::history::{Answer, Verdict};
use mloop_core::job::JobStatus;
use mloop_core::version::{aliases, files, tags};
use mloop_core::{ModelVersion, MonitoringOutcome, Sha256Digest, VersionRef};
use mloop_deployer::{Deployer, InMemoryEndpoints, MockDeployer};
use mloop_orchestrators::gate::GateConfig;
use mloop_orchestrators::{
    Classified, DeploymentOutcome, DeploymentRequest, EvaluationOrchestrator, EvaluationRequest,
    ExitClass, RetrainDeps, RetrainOrchestrator, RetrainOutcome, RetrainRequest, Rival,
};
use mloop_platform::{MockJobSubmitter, MockModelRegistry, MockNotifier, Registration, Submission};
use mloop_trainer::{EvaluationSet, MockEvaluator, SetPredictions, StopFlag};
use mloop_trigger::{Decision, MockPolicy, MockTrigger};

use crate::retraining;
use crate::world::{World, at, first_allowed, golden_line, job, now, production, subject};

/// The version that a registry makes of a registration.
fn registered(one: &Registration) -> ModelVersion {
    let mut version_tags = one.tags.clone();
    if one.staging_ready {
        version_tags.insert(tags::STAGING_READY.to_owned(), "true".to_owned());
    }
    ModelVersion {
        model: one.model.clone(),
        version: VersionRef { number: 1, digest: one.manifest.digest() },
        created_at: at(0),
        source: "a mock".to_owned(),
        tags: version_tags,
    }
}

#[tokio::test]
async fn training_registers_as_ready_only_what_the_gate_blessed() {
    for (gate, verdict, ready) in [
        (GateConfig::default(), GateVerdict::Rejected, 0),
        (GateConfig { min_rows: 1001, ..first_allowed() }, GateVerdict::Inconclusive, 0),
        (first_allowed(), GateVerdict::Blessed, 1),
    ] {
        let world = World::new();
        let mut registry = MockModelRegistry::new();
        registry.expect_versions().once().returning(|_| Ok(vec![]));
        registry.expect_alias().returning(|_, _| Ok(None));
        registry
            .expect_register()
            .withf(move |one| {
                let told = one.tags.get(tags::VERDICT).map(String::as_str);
                (one.staging_ready, told) == (ready == 1, Some(verdict.as_str()))
            })
            .once()
            .returning(|one| Ok(registered(one)));
        registry
            .expect_set_alias()
            .withf(|_, alias, _| alias == aliases::CHALLENGER)
            .times(ready)
            .returning(|_, _, _| Ok(()));
        registry.expect_remove_alias().never();
        let training = world.training_over(Arc::new(registry), "one", &[], gate);
        let result = training.run(&job("first", None, None), &StopFlag::default()).await;
        let result = result.expect("a version");
        assert_eq!((result.outcome, result.staging_ready), (verdict, ready == 1));
    }
}

/// What a model says of 500 images of the class `a`: so many of them right.
fn predicted(classes: [&str; 2], right: usize) -> SetPredictions {
    let predictions = Predictions {
        dataset: Sha256Digest::of(b"images"),
        truths: vec![0; 500],
        predictions: (0..500).map(|image| usize::from(image >= right)).collect(),
        confidences: vec![0.9; 500],
    };
    SetPredictions { classes: classes.map(str::to_owned).to_vec(), predictions, rows: vec![] }
}

fn comparison(fresh: Vec<mloop_platform::LabelledRow>) -> EvaluationRequest {
    let version = VersionRef { number: 1, digest: Sha256Digest::of(b"one") };
    let champion = Some(Rival { version, folder: "old".into() });
    EvaluationRequest { challenger: "new".into(), champion, fresh: fresh.into() }
}

#[tokio::test]
async fn evaluation_asks_both_versions_once_about_the_same_images() {
    let row = mloop_platform::LabelledRow {
        id: "request-1".to_owned(),
        time: at(0),
        content_type: "image/png".to_owned(),
        body: vec![1],
        label: "a".to_owned(),
        attributes: [].into(),
    };
    let fresh = EvaluationSet::Fresh([row.clone()].into());
    let mut evaluator = MockEvaluator::new();
    for (folder, set, right) in [
        ("new", EvaluationSet::Frozen, 450),
        ("old", EvaluationSet::Frozen, 450),
        ("new", fresh.clone(), 450),
        ("old", fresh, 300),
    ] {
        evaluator
            .expect_predict()
            .withf(move |asked, about| asked == Path::new(folder) && *about == set)
            .once()
            .returning(move |_, _| Ok(predicted(["a", "b"], right)));
    }
    evaluator.expect_golden().never();
    let evaluation = EvaluationOrchestrator::new(Arc::new(evaluator), GateConfig::default());
    let found = evaluation.evaluate(&comparison(vec![row])).await.expect("a verdict");
    assert_eq!(found.report.verdict, GateVerdict::Blessed, "{:?}", found.report.sets);
}

#[tokio::test]
async fn evaluation_compares_nothing_with_a_version_of_other_classes() {
    let mut evaluator = MockEvaluator::new();
    for (folder, classes) in [("new", ["a", "b"]), ("old", ["a", "c"])] {
        evaluator
            .expect_predict()
            .withf(move |asked, set| asked == Path::new(folder) && *set == EvaluationSet::Frozen)
            .once()
            .returning(move |_, _| Ok(predicted(classes, 450)));
    }
    let evaluation = EvaluationOrchestrator::new(Arc::new(evaluator), GateConfig::default());
    let error = evaluation.evaluate(&comparison(vec![])).await.expect_err("other classes");
    assert_eq!(error.exit_class(), ExitClass::Configuration);
}

/// Hands all on to the endpoints, and counts the switches of production.
fn watched(endpoints: Arc<InMemoryEndpoints>, switches: usize) -> MockDeployer {
    let mut mock = MockDeployer::new();
    let inner = endpoints.clone();
    mock.expect_deploy_model().once().returning(move |request| now(inner.deploy_model(request)));
    let inner = endpoints.clone();
    mock.expect_describe().returning(move |endpoint| now(inner.describe(endpoint)));
    mock.expect_switch_to_production()
        .withf(|request| request.endpoint == production() && request.version.version.number == 2)
        .times(switches)
        .returning(move |request| now(endpoints.switch_to_production(request)));
    mock.expect_rollback().never();
    mock
}

#[tokio::test]
async fn deployment_switches_once_and_never_after_failed_smoke_tests() {
    for (expected, outcome, switches) in [
        ("another class", DeploymentOutcome::SmokeFailed, 0),
        ("a", DeploymentOutcome::Switched, 1),
    ] {
        let world = World::new();
        world.add_version("one");
        let newest = DeploymentRequest::default();
        world.deployment("host-1").run(&newest).await.expect("version 1 serves");
        world.hours_pass(1);
        let golden = golden_line(expected);
        world.registry.add(
            &subject().model,
            &[(files::WEIGHTS, b"two".as_slice()), (files::GOLDEN, golden.as_bytes())],
        );
        let deployer = watched(world.endpoints.clone(), switches);
        let deployment =
            world.deployment_with("host-1", |deps, _| deps.endpoints.deployer = Arc::new(deployer));
        let result = deployment.run(&newest).await.expect("a verdict");
        assert_eq!(result.outcome, outcome, "{}", result.reason);
    }
}

#[tokio::test]
async fn retraining_submits_for_nothing_but_a_decision_to_retrain() {
    let verdict = |answer| Verdict { answer, reason: "so it is".to_owned(), evidence: vec![] };
    let yes = Decision::Retrain(vec![("drift".to_owned(), verdict(Answer::Yes))]);
    for (answer, decision, outcome, jobs) in [
        (Answer::No, Decision::No, RetrainOutcome::No, 0),
        (Answer::CannotTell, Decision::CannotTell, RetrainOutcome::CannotTell, 0),
        (Answer::Yes, Decision::Held { reason: "broken".to_owned() }, RetrainOutcome::Held, 0),
        (Answer::Yes, yes, RetrainOutcome::Submitted, 1),
    ] {
        let world = World::new();
        let version = world.add_version("one");
        world.serves(&version).await;
        world.monitored(version.version, 1, MonitoringOutcome::Alert).await;
        world.hours_pass(1);
        let mut policy = MockPolicy::new();
        policy
            .expect_decide()
            .withf(move |_, verdicts| verdicts.len() == 1 && verdicts[0].1.answer == answer)
            .once()
            .return_const(decision);
        let mut submitter = MockJobSubmitter::new();
        submitter.expect_status().never();
        submitter.expect_cancel().never();
        submitter
            .expect_submit_training_job()
            .times(jobs)
            .returning(|_| Ok(Submission { handle: "job".to_owned(), adopted: false }));
        let mut notifier = MockNotifier::new();
        notifier.expect_name().return_const("slack".to_owned());
        notifier.expect_parts().returning(Vec::new);
        notifier.expect_notify().times(jobs).returning(|_| Ok(()));
        let deps = RetrainDeps {
            journal: world.ledger.clone(),
            leases: world.ledger.clone(),
            registry: world.registry.clone(),
            submitter: Arc::new(submitter),
            outbox: world.ledger.clone(),
            notifiers: vec![Arc::new(notifier)],
            triggers: vec![Box::new(MockTrigger::answering("drift", verdict(answer)))],
            policy: Box::new(policy),
            clock: world.clock.clone(),
        };
        let flow = RetrainOrchestrator::new(deps, retraining::config());
        let result = flow.run(&RetrainRequest::default()).await.expect("a decision");
        assert_eq!(result.outcome, outcome);
    }
}

#[tokio::test]
async fn retraining_cancels_a_job_once_its_cause_is_gone_and_submits_no_other() {
    let world = World::new();
    let version = world.add_version("one");
    world.serves(&version).await;
    world.monitored(version.version, 1, MonitoringOutcome::Alert).await;
    world.hours_pass(1);
    let mut submitter = MockJobSubmitter::new();
    submitter
        .expect_submit_training_job()
        .once()
        .returning(|_| Ok(Submission { handle: "job".to_owned(), adopted: false }));
    submitter.expect_status().once().returning(|_| Ok(JobStatus::Running));
    submitter.expect_cancel().once().returning(|_| Ok(()));
    let submitter = Arc::new(submitter);
    let request = RetrainRequest::default();
    retraining::over(&world, submitter.clone()).run(&request).await.expect("submitted");
    world.hours_pass(1);
    let second = world.add_version("two");
    world.serves(&second).await;
    let result = retraining::over(&world, submitter).run(&request).await.expect("closed");
    assert_eq!((result.closed.len(), result.outcome), (1, RetrainOutcome::CannotTell));
}
