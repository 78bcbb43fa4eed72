//! Monitoring with mocked monitors and reporters: who looks, and who is told.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::TimeDelta;
use mloop_core::latency::{LatencyHistogram, LatencySpan};
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::schema::{ColumnKind, ColumnSchema, NumericSchema, PROFILE_FORMAT};
use mloop_core::version::files;
use mloop_core::{
    Finding, ModelName, ModelVersion, MonitoringOutcome, MonitoringReport, Profile, ProfileSchema,
    Sha256Digest, Status, Subject, Window,
};
use mloop_monitor::{MockMonitor, Monitor, MonitorError};
use mloop_orchestrators::{
    Classified, ExitClass, FalseAlarmBudget, MonitoringConfig, MonitoringDeps,
    MonitoringOrchestrator, MonitoringRequest, MonitoringResult, Which,
};
use mloop_platform::conformance::samples;
use mloop_platform::fakes::CountedLatency;
use mloop_platform::{
    Journal, LatencySource, Message, MockLatencySource, Outbox as _, PlatformError, ProfileRow,
    ProfileStore, RunQuery,
};
use mloop_reporter::{Judged, MockReporter, RecordingReporter, Reporter, ReporterError, When};

use crate::world::{World, at, finding, subject};

mod reports;

pub(crate) fn schema(model: &ModelName) -> ProfileSchema {
    ProfileSchema {
        format: PROFILE_FORMAT,
        model: model.clone(),
        classes: vec!["a".to_owned(), "b".to_owned()],
        positive: None,
        columns: vec![ColumnSchema {
            name: "brightness".to_owned(),
            kind: ColumnKind::Numeric(NumericSchema { edges: vec![0.0, 1.0], step: 0.5 }),
        }],
        groups: vec![],
        latency_objective_micros: None,
    }
}

/// Version 1 serves, with a reference of `model`.
pub(crate) async fn world_with_reference_of(model: &ModelName) -> (World, ModelVersion) {
    let world = World::new();
    let version = version_with_reference_of(&world, model, b"model files");
    world.serves(&version).await;
    (world, version)
}

/// A version that nobody deployed, with a reference of `model`.
pub(crate) fn version_with_reference_of(
    world: &World,
    model: &ModelName,
    content: &[u8],
) -> ModelVersion {
    let schema = schema(model);
    let key = ProfileKey {
        subject: Subject { model: model.clone(), ..subject() },
        version: Sha256Digest::of(content),
    };
    let window = Window::new(at(-2), at(-1)).expect("an hour");
    let reference = Profile::new(&schema, key, window);
    let (schema, reference) =
        (serde_json::to_vec(&schema).expect("json"), serde_json::to_vec(&reference).expect("json"));
    let contents = [(files::SCHEMA, schema.as_slice()), (files::REFERENCE, reference.as_slice())];
    world.registry.add(&subject().model, &contents)
}

pub(crate) async fn world() -> World {
    world_with_reference_of(&subject().model).await.0
}

pub(crate) fn flow(
    world: &World,
    monitors: Vec<Box<dyn Monitor>>,
    reporters: Vec<Box<dyn Reporter>>,
) -> MonitoringOrchestrator {
    flow_with_label_delay(world, monitors, reporters, TimeDelta::zero())
}

/// A flow with one monitor, which must see these latencies; none: it must not be asked.
fn flow_with_latency(
    world: &World,
    source: Arc<dyn LatencySource>,
    seen: Option<LatencyHistogram>,
) -> MonitoringOrchestrator {
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const("latency".to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    let calls = usize::from(seen.is_some());
    mock.expect_check()
        .withf(move |evidence| Some(&evidence.latency) == seen.as_ref())
        .times(calls)
        .returning(|_| Ok(vec![finding("latency", Status::Ok)]));
    let deps = MonitoringDeps { latency: source, ..deps(world, vec![Box::new(mock)], vec![]) };
    MonitoringOrchestrator::new(deps, config(world, TimeDelta::zero()))
}

#[tokio::test]
async fn latencies_come_from_where_the_configuration_says() {
    let world = world().await;
    let measured = LatencyHistogram::of_cumulative(&[(1_000, 7)], 7, 7_000, None);
    let expected = hour(0).window;
    let answer = LatencySpan { window: expected, latency: measured.clone() };
    let mut source = MockLatencySource::new();
    source
        .expect_latency()
        .withf(move |request| request.subject == subject() && request.window == expected)
        .once()
        .returning(move |_| Ok(answer.clone()));
    let flow = flow_with_latency(&world, Arc::new(source), Some(measured));
    assert_eq!(flow.run(&hour(0)).await.expect("judged").outcome, MonitoringOutcome::Ok);
}

#[tokio::test]
async fn latencies_that_cannot_be_had_end_the_run_and_record_nothing() {
    let world = world().await;
    let mut source = MockLatencySource::new();
    let down = |_: &_| Err(PlatformError::unavailable("Prometheus", "asking", "down"));
    source.expect_latency().once().returning(down);
    let flow = flow_with_latency(&world, Arc::new(source), None);
    let error = flow.run(&hour(0)).await.expect_err("no evidence, no verdict");
    assert_eq!(error.exit_class(), ExitClass::Transient);
    let id = flow.run_id(&hour(0)).await.expect("an id");
    assert_eq!(world.ledger.ledger().journal.run(&id).await.expect("read"), None);
}

pub(crate) fn flow_with_label_delay(
    world: &World,
    monitors: Vec<Box<dyn Monitor>>,
    reporters: Vec<Box<dyn Reporter>>,
    label_delay: TimeDelta,
) -> MonitoringOrchestrator {
    let deps = deps(world, monitors, reporters);
    MonitoringOrchestrator::new(deps, config(world, label_delay))
}

pub(crate) fn deps(
    world: &World,
    monitors: Vec<Box<dyn Monitor>>,
    reporters: Vec<Box<dyn Reporter>>,
) -> MonitoringDeps {
    let ledger = world.ledger.ledger();
    MonitoringDeps {
        journal: ledger.journal,
        profiles: ledger.profiles,
        source: world.traffic.clone(),
        latency: Arc::new(CountedLatency),
        registry: world.registry.clone(),
        monitors,
        reporters,
        clock: world.clock.clone(),
    }
}

pub(crate) fn config(world: &World, label_delay: TimeDelta) -> MonitoringConfig {
    MonitoringConfig {
        subject: subject(),
        config_digest: Sha256Digest::of(b"monitoring"),
        stale_after: Some(TimeDelta::hours(48)),
        label_delay,
        max_blind_windows: 3,
        false_alarms: None,
        work: world.folder.path().join("monitoring"),
    }
}

pub(crate) fn hour(end: i64) -> MonitoringRequest {
    let window = Window::new(at(end - 1), at(end)).expect("an hour");
    MonitoringRequest { window, as_of: Some(at(end)), version: None }
}

/// A monitor that must look exactly once and finds this.
pub(crate) fn finds(name: &str, status: Status) -> Box<dyn Monitor> {
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const(name.to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    let found: Vec<Finding> = vec![finding(name, status)];
    mock.expect_check().once().returning(move |_| Ok(found.clone()));
    Box::new(mock)
}

fn fails(name: &str) -> Box<dyn Monitor> {
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const(name.to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    mock.expect_check().once().returning(|_| {
        Err(MonitorError::Unavailable { origin: "the source".to_owned(), cause: "down".into() })
    });
    Box::new(mock)
}

/// A reporter that must be called so often, and leaves a page called like itself.
pub(crate) fn reporter(name: &str, when: When, times: usize) -> Box<dyn Reporter> {
    let mut mock = MockReporter::new();
    mock.expect_name().return_const(name.to_owned());
    mock.expect_when().return_const(when);
    mock.expect_messages().times(times).returning(|_| vec![]);
    mock.expect_report().times(times).returning(|_| Ok(()));
    let page = PathBuf::from(name);
    mock.expect_page().times(0..=times).returning(move |_| Some(page.clone()));
    Box::new(mock)
}

pub(crate) async fn runs(world: &World) -> usize {
    let kind = mloop_core::run::RunKind::Monitoring;
    let query = RunQuery { kind, subject: subject(), since: None, limit: 100 };
    world.ledger.runs(&query).await.expect("runs").len()
}

pub(crate) async fn run(
    flow: &MonitoringOrchestrator,
    request: &MonitoringRequest,
) -> MonitoringResult {
    flow.run(request).await.expect("a result")
}

#[tokio::test]
async fn all_monitors_look_even_when_one_fails() {
    let world = world().await;
    let monitors = vec![finds("first", Status::Ok), fails("second"), finds("third", Status::Ok)];
    let result = run(&flow(&world, monitors, vec![]), &hour(1)).await;
    let looked: Vec<&str> = result.findings.iter().map(|one| one.monitor.as_str()).collect();
    assert_eq!(looked, ["first", "third"]);
    assert_eq!(result.failures.len(), 1);
    assert_eq!(result.failures[0].monitor, "second");
    assert!(result.failures[0].error.contains("down"), "{:?}", result.failures);
    assert_eq!((result.outcome, result.alerting), (MonitoringOutcome::Alert, true));
}

#[tokio::test]
async fn with_a_budget_of_false_alarms_all_look_once_more_and_are_surer() {
    let world = world().await;
    let mut order = mockall::Sequence::new();
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const("drift".to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    let month = FalseAlarmBudget { per_month: 1.0, windows_per_month: 720.0 };
    for (asked, status) in [(None, Status::Drifted), (Some(1.0 - 1.0 / 720.0), Status::Ok)] {
        let found: Vec<Finding> = ["a", "b"].map(|check| finding(check, status)).to_vec();
        mock.expect_check()
            .once()
            .in_sequence(&mut order)
            .withf(move |evidence| evidence.confidence == asked)
            .returning(move |_| Ok(found.clone()));
    }
    let deps = deps(&world, vec![Box::new(mock)], vec![]);
    let config =
        MonitoringConfig { false_alarms: Some(month), ..config(&world, TimeDelta::zero()) };
    let result = run(&MonitoringOrchestrator::new(deps, config), &hour(1)).await;
    assert_eq!((result.outcome, result.findings.len()), (MonitoringOutcome::Ok, 2));
}

#[tokio::test]
async fn an_alert_goes_to_the_alert_reporter_and_no_alert_to_the_other() {
    for (status, alert, no_alert) in
        [(Status::Drifted, 1, 0), (Status::Broken, 1, 0), (Status::Ok, 0, 1)]
    {
        let world = world().await;
        let reporters = vec![
            reporter("alert", When::Alert, alert),
            reporter("prometheus", When::NoAlert, no_alert),
            reporter("page", When::Always, 1),
        ];
        let result = run(&flow(&world, vec![finds("drift", status)], reporters), &hour(1)).await;
        assert_eq!(result.alerting, alert == 1, "{status:?}");
        assert_eq!(result.reporter_failures, []);
        let first = if alert == 1 { "alert" } else { "prometheus" };
        assert_eq!(result.report, Some(first.into()), "the page of the first that was called");
    }
}

#[tokio::test]
async fn a_failed_reporter_hides_neither_the_verdict_nor_the_others() {
    let world = world().await;
    let mut broken = MockReporter::new();
    broken.expect_name().return_const("broken".to_owned());
    broken.expect_when().return_const(When::Always);
    broken.expect_messages().once().returning(|_| vec![]);
    broken.expect_page().never();
    broken.expect_report().once().returning(|_| {
        Err(ReporterError::Refused { doing: "reporting".to_owned(), cause: "no".into() })
    });
    let reporters: Vec<Box<dyn Reporter>> =
        vec![Box::new(broken), reporter("next", When::Always, 1)];
    let monitors = vec![finds("drift", Status::Drifted)];
    let result = run(&flow(&world, monitors, reporters), &hour(1)).await;
    assert_eq!(result.outcome, MonitoringOutcome::Alert);
    assert_eq!(result.reporter_failures.len(), 1);
    assert_eq!(result.reporter_failures[0].reporter, "broken");
    assert_eq!(result.report, Some("next".into()), "the page of one that was left");
    assert_eq!(runs(&world).await, 1);
}

#[tokio::test]
async fn the_run_is_recorded_before_anybody_is_told() {
    let world = world().await;
    let ledger = world.ledger.clone();
    let mut mock = MockReporter::new();
    mock.expect_name().return_const("late".to_owned());
    mock.expect_when().return_const(When::Always);
    mock.expect_messages().once().returning(|_| vec![]);
    mock.expect_page().return_const(None);
    mock.expect_report().once().returning(move |judged| {
        let recorded = futures_now(ledger.run(&judged.report.run_id));
        assert!(recorded.is_some(), "told before it was recorded");
        Ok(())
    });
    let result =
        run(&flow(&world, vec![finds("drift", Status::Ok)], vec![Box::new(mock)]), &hour(1)).await;
    assert_eq!(result.reporter_failures, []);
}

/// A reporter with a message for `pager` that is killed before it tells anybody.
fn killed_reporter(when: When) -> Box<dyn Reporter> {
    let mut mock = MockReporter::new();
    mock.expect_name().return_const("alert".to_owned());
    mock.expect_when().return_const(when);
    mock.expect_messages().returning(|report| {
        let notification = samples::notification(report.run_id.as_str());
        vec![Message { notification, receivers: vec!["pager".to_owned()] }]
    });
    mock.expect_report().returning(|_| {
        Err(ReporterError::Unavailable { doing: "telling".to_owned(), cause: "killed".into() })
    });
    Box::new(mock)
}

#[tokio::test]
async fn what_people_are_to_be_told_is_queued_with_the_run() {
    for (status, when, stale, expected) in [
        (Status::Drifted, When::Alert, false, 1),
        (Status::Ok, When::Alert, false, 0),
        (Status::Ok, When::Always, false, 1),
        (Status::Drifted, When::Alert, true, 0),
    ] {
        let world = world().await;
        let flow = flow(&world, vec![finds("drift", status)], vec![killed_reporter(when)]);
        let mut request = hour(1);
        if stale {
            request.as_of = Some(at(1) + TimeDelta::hours(72));
        }
        let result = run(&flow, &request).await;
        let waiting = world.ledger.pending(&subject(), "pager", 10).await.expect("a list");
        let ids: Vec<&str> = waiting.iter().map(|one| one.notification.id.as_str()).collect();
        assert_eq!(ids, vec![result.run_id.as_str(); expected], "{status:?} {when:?} {stale}");
    }
}

/// The result of a future of the in-memory ledger, which never waits.
fn futures_now<T, E: std::fmt::Debug>(
    future: std::pin::Pin<Box<dyn Future<Output = Result<T, E>> + Send + '_>>,
) -> T {
    let mut future = future;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result.expect("the ledger answers"),
        std::task::Poll::Pending => panic!("the ledger in memory never waits"),
    }
}

#[tokio::test]
async fn a_repeat_leaves_one_record_under_the_same_id() {
    let world = world().await;
    let first = run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(1)).await;
    let again = run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(1)).await;
    assert_eq!(again, first);
    assert_eq!(runs(&world).await, 1);
    let other = run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(2)).await;
    assert_ne!(other.run_id, first.run_id);
    assert_eq!(runs(&world).await, 2);
}

#[tokio::test]
async fn the_window_is_counted_stored_and_shown_to_the_monitors() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let request = hour(1);
    let row = ProfileRow {
        features: [("brightness".to_owned(), 0.5)].into(),
        prediction: "a".to_owned(),
        confidence: 0.9,
        probabilities: vec![],
        label: None,
        attributes: [].into(),
        embedding: vec![],
    };
    world.traffic.set_window(request.window, vec![row; 7]);
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const("rows".to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    mock.expect_check()
        .withf(|evidence| evidence.current.rows == 7 && evidence.reference.rows == 0)
        .once()
        .returning(|_| Ok(vec![finding("rows", Status::Ok)]));
    let result = run(&flow(&world, vec![Box::new(mock)], vec![]), &request).await;
    assert_eq!((result.window.rows, result.version), (7, version.version));
    let key = ProfileKey { subject: subject(), version: version.version.digest };
    let stored = world.ledger.newest(&key, &request.window).await.expect("a store");
    assert_eq!(stored.map(|(revision, stored)| (revision, stored.profile.rows)), Some((1, 7)));
}

#[tokio::test]
async fn nothing_that_checks_is_not_fine() {
    let world = world().await;
    let result = run(&flow(&world, vec![], vec![]), &hour(1)).await;
    assert_eq!(result.outcome, MonitoringOutcome::InsufficientData);
}

#[tokio::test]
async fn a_stale_window_is_recorded_and_nobody_is_told() {
    let world = world().await;
    let reporters =
        vec![reporter("alert", When::Alert, 0), reporter("prometheus", When::Always, 0)];
    let request = MonitoringRequest { as_of: Some(at(50)), ..hour(1) };
    let flow = flow(&world, vec![finds("drift", Status::Drifted)], reporters);
    let result = run(&flow, &request).await;
    assert_eq!((result.outcome, result.stale), (MonitoringOutcome::Alert, true));
    assert!(!result.alerting);
    assert_eq!(runs(&world).await, 1);
}

#[tokio::test]
async fn a_window_that_has_not_ended_is_refused() {
    let world = world().await;
    let early = MonitoringRequest { as_of: Some(at(1) - TimeDelta::seconds(1)), ..hour(1) };
    let error = flow(&world, vec![], vec![]).run(&early).await.expect_err("half a window");
    assert_eq!(error.exit_class(), ExitClass::Configuration);
    let text = error.to_string();
    for moment in [at(1), at(1) - TimeDelta::seconds(1)] {
        let moment = moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        assert!(text.contains(&moment), "{moment} is not in {text}");
    }
    assert_eq!(runs(&world).await, 0);
    run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(1)).await;
    assert_eq!(runs(&world).await, 1, "at its very end it is judged");
}

#[tokio::test]
async fn a_reference_of_another_model_is_refused() {
    let other = ModelName::new("shoes").expect("a name");
    let (world, _) = world_with_reference_of(&other).await;
    let error = flow(&world, vec![], vec![]).run(&hour(1)).await.expect_err("another model");
    assert_eq!(error.exit_class(), ExitClass::Configuration);
    let text = error.to_string();
    assert!(text.contains("`shoes`") && text.contains("`fashion`"), "{text}");
    assert_eq!(runs(&world).await, 0);
}

#[tokio::test]
async fn without_a_serving_version_one_must_be_named() {
    let world = World::new();
    let error = flow(&world, vec![], vec![]).run(&hour(1)).await.expect_err("nothing serves");
    assert_eq!(error.exit_class(), ExitClass::Configuration);

    let (world, version) = world_with_reference_of(&subject().model).await;
    let named = MonitoringRequest { version: Some(1), ..hour(1) };
    let result = run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &named).await;
    assert_eq!(result.version, version.version);
    let unknown = MonitoringRequest { version: Some(9), ..hour(1) };
    let error = flow(&world, vec![], vec![]).run(&unknown).await.expect_err("no version 9");
    assert!(error.to_string().contains("no version 9"), "{error}");
}
