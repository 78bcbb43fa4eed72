//! What a run does once, and a repeat not again, over mocks: reading traffic, training, keeping a
//! profile, removing staging.

use std::sync::Arc;

use chrono::TimeDelta;
use mloop_core::evaluation::GateVerdict;
use mloop_core::version::files;
use mloop_core::{MonitoringOutcome, Status, Window};
use mloop_deployer::{Janitor as _, MockJanitor};
use mloop_orchestrators::{
    CVTrainingOrchestrator, Classified, DeploymentOutcome, DeploymentRequest, ExitClass,
    MonitoringDeps, MonitoringOrchestrator, TrainingDeps,
};
use mloop_platform::{
    Journal as _, MockProfileBuilder, MockProfileStore, MockTrafficSource, PlatformError,
    ProfileBuilder as _, ProfileRow, ProfileStore as _, TrafficSource as _,
};
use mloop_reporter::When;
use mloop_trainer::{
    Evaluator, FakeTrainer, MockEvaluator, MockTrainer, StopFlag, Trainer as _, Training,
};

use crate::monitoring::{self, finds, hour, reporter};
use crate::world::{World, at, first_allowed, golden_line, job, now, staging, subject};

/// How often a training must call what it works with.
#[derive(Clone, Copy, Default)]
struct Calls {
    readings: usize,
    keys: usize,
    trainings: usize,
    references: usize,
}

const ALL: Calls = Calls { readings: 1, keys: 1, trainings: 1, references: 1 };

fn day() -> Window {
    Window::new(at(0), at(24)).expect("a day")
}

fn fake() -> Arc<FakeTrainer> {
    let weights = "one".to_owned();
    Arc::new(FakeTrainer { frozen_rows: 1000, accuracies: vec![], weights })
}

/// A trainer that is called so often; it raises `stop` when it has trained.
fn trainer(calls: Calls, stop: Option<StopFlag>) -> MockTrainer {
    let (fake, mut mock) = (fake(), MockTrainer::new());
    let inner = fake.clone();
    mock.expect_key().times(calls.keys).returning(move |request| now(inner.key(request)));
    mock.expect_train().times(calls.trainings).returning(move |request| {
        let trained = now(fake.train(request));
        stop.iter().for_each(StopFlag::raise);
        trained
    });
    mock
}

/// A training over mocks that hand on to the fakes.
fn training(world: &World, calls: Calls, training: Training) -> CVTrainingOrchestrator {
    let mut traffic = MockTrafficSource::new();
    let (inner, limit) =
        (world.traffic.clone(), world.training_config(first_allowed()).traffic_limit);
    traffic
        .expect_labelled()
        .withf(move |window, as_of, asked| (*window, *as_of, *asked) == (day(), at(0), limit))
        .times(calls.readings)
        .returning(move |window, as_of, limit| now(inner.labelled(window, as_of, limit)));
    let mut builder = MockProfileBuilder::new();
    let inner = world.traffic.clone();
    builder
        .expect_reference()
        .withf(|request| request.inherit.is_none() && !request.rows.is_empty())
        .times(calls.references)
        .returning(move |request| now(inner.reference(request)));
    let deps = TrainingDeps {
        traffic: Some(Arc::new(traffic)),
        builder: Arc::new(builder),
        ..world.training_deps(world.registry.clone(), training)
    };
    CVTrainingOrchestrator::new(deps, world.training_config(first_allowed()))
}

/// An evaluator that nobody may ask.
fn unasked() -> Arc<MockEvaluator> {
    let mut mock = MockEvaluator::new();
    mock.expect_predict().never();
    mock.expect_golden().never();
    Arc::new(mock)
}

#[tokio::test]
async fn a_job_reads_and_trains_once_and_its_repeat_does_neither() {
    let world = World::new();
    world.add_labelled(1000, at(0));
    let from_same_inputs = Calls { trainings: 0, references: 0, ..ALL };
    let without_traffic = Calls { readings: 0, ..ALL };
    for (name, traffic, calls, versions) in [
        ("first", Some(day()), ALL, 1),
        ("first", Some(day()), Calls::default(), 1),
        ("another from the same inputs", Some(day()), from_same_inputs, 1),
        ("third", None, without_traffic, 2),
    ] {
        let trains = calls.trainings > 0;
        let evaluator: Arc<dyn Evaluator> = if trains { fake() } else { unasked() };
        let trainer = Arc::new(trainer(calls, None));
        let flow = training(&world, calls, Training { trainer, evaluator });
        let result = flow.run(&job(name, None, traffic), &StopFlag::default()).await;
        let result = result.expect("a version");
        assert_eq!((result.outcome, result.adopted), (GateVerdict::Blessed, !trains), "{name}");
        assert_eq!(world.versions().await.len(), versions, "{name}");
    }
}

#[tokio::test]
async fn a_stop_before_the_training_trains_nothing_and_one_after_it_evaluates_nothing() {
    for trainings in [0, 1] {
        let world = World::new();
        world.add_labelled(1000, at(0));
        let (calls, stop) = (Calls { trainings, references: 0, ..ALL }, StopFlag::default());
        if trainings == 0 {
            stop.raise();
        }
        let trainer = Arc::new(trainer(calls, Some(stop.clone())));
        let flow = training(&world, calls, Training { trainer, evaluator: unasked() });
        let error = flow.run(&job("first", None, Some(day())), &stop).await.expect_err("stopped");
        assert_eq!(error.exit_class(), ExitClass::Stopped, "{error}");
        assert_eq!(world.versions().await, []);
    }
}

#[tokio::test]
async fn staging_is_removed_once_unless_it_is_to_stay() {
    let expected = [("a", DeploymentOutcome::Switched), ("b", DeploymentOutcome::SmokeFailed)];
    for (keep, removals) in [(false, 1), (true, 0)] {
        for (prediction, outcome) in expected {
            let world = World::new();
            let golden = golden_line(prediction);
            let contents =
                [(files::WEIGHTS, b"one".as_slice()), (files::GOLDEN, golden.as_bytes())];
            world.registry.add(&subject().model, &contents);
            let (mut janitor, inner) = (MockJanitor::new(), world.endpoints.clone());
            janitor
                .expect_remove_endpoint()
                .withf(|endpoint| *endpoint == staging())
                .times(removals)
                .returning(move |endpoint| now(inner.remove_endpoint(endpoint)));
            janitor.expect_endpoints().never();
            let janitor = Arc::new(janitor);
            // The second run finds nothing to do, and looks for what was left in staging.
            for expected in [outcome, DeploymentOutcome::NothingToDeploy] {
                let flow = world.deployment_with("host-1", |deps, config| {
                    deps.endpoints.janitor = janitor.clone();
                    config.keep_staging = keep;
                });
                let result = flow.run(&DeploymentRequest::default()).await.expect("a verdict");
                assert_eq!(result.outcome, expected, "{}", result.reason);
                world.hours_pass(1);
            }
            assert_eq!(world.endpoints.serving(&staging()).is_some(), keep, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn the_counts_of_a_window_are_kept_once_for_each_run_and_a_repeat_adds_no_revision() {
    let world = monitoring::world().await;
    let row = ProfileRow {
        features: [("brightness".to_owned(), 0.5)].into(),
        prediction: "a".to_owned(),
        confidence: 0.9,
        probabilities: vec![],
        label: None,
        attributes: [].into(),
        embedding: vec![],
    };
    world.traffic.set_window(hour(1).window, vec![row; 7]);
    for _ in 0..2 {
        let (mut store, inner) = (MockProfileStore::new(), world.ledger.clone());
        store
            .expect_put()
            .withf(|schema, stored| {
                let profile = &stored.profile;
                (profile.schema, profile.window, profile.rows)
                    == (schema.digest(), hour(1).window, 7)
            })
            .once()
            .returning(move |schema, stored| {
                let revision = now(inner.put(schema, stored));
                assert_eq!(revision.as_ref().ok(), Some(&1), "the same counts are one revision");
                revision
            });
        store.expect_newest().never();
        let deps = monitoring::deps(&world, vec![finds("drift", Status::Ok)], vec![]);
        let deps = MonitoringDeps { profiles: Arc::new(store), ..deps };
        let config = monitoring::config(&world, TimeDelta::zero());
        let flow = MonitoringOrchestrator::new(deps, config);
        let result = monitoring::run(&flow, &hour(1)).await;
        assert_eq!(result.outcome, MonitoringOutcome::Ok);
    }
}

#[tokio::test]
async fn counts_that_cannot_be_kept_are_not_judged() {
    let world = monitoring::world().await;
    let mut store = MockProfileStore::new();
    store
        .expect_put()
        .once()
        .returning(|_, _| Err(PlatformError::unavailable("the ledger", "storing", "full")));
    let mut monitor = mloop_monitor::MockMonitor::new();
    monitor.expect_check().never();
    let reporters = vec![reporter("alert", When::Always, 0)];
    let deps = monitoring::deps(&world, vec![Box::new(monitor)], reporters);
    let deps = MonitoringDeps { profiles: Arc::new(store), ..deps };
    let flow = MonitoringOrchestrator::new(deps, monitoring::config(&world, TimeDelta::zero()));
    let error = flow.run(&hour(1)).await.expect_err("no evidence, no verdict");
    assert_eq!(error.exit_class(), ExitClass::Transient, "{error}");
    let id = flow.run_id(&hour(1)).await.expect("an id");
    assert_eq!(world.ledger.run(&id).await.expect("read"), None, "nothing is recorded");
}
