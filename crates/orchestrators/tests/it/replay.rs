//! What monitoring does with stored windows: judge them anew, add up their latencies, merge them into
//! days.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::{ModelVersion, MonitoringOutcome, Profile, ProfileSchema, Status, Window};
use mloop_monitor::{MockMonitor, Monitor};
use mloop_orchestrators::{
    FalseAlarmBudget, MonitoringConfig, MonitoringDeps, MonitoringOrchestrator, Replayed, Skip,
};
use mloop_platform::conformance::samples;
use mloop_platform::{MockProfileStore, PlatformError, ProfileQuery, ProfileStore as _};
use mloop_reporter::When;

use crate::monitoring::{
    config, deps, flow, hour, reporter, run, runs, schema, version_with_reference_of,
    world_with_reference_of,
};
use crate::world::{World, at, finding, subject};

fn span(from: i64, until: i64) -> Window {
    Window::new(at(from), at(until)).expect("a span")
}

/// Counts of a version over a span, with so many rows, each of one millisecond.
fn counts(schema: &ProfileSchema, version: &ModelVersion, window: Window, rows: u64) -> Profile {
    let key = ProfileKey { subject: subject(), version: version.version.digest };
    let mut profile = Profile::new(schema, key, window);
    profile.rows = rows;
    (0..rows).for_each(|_| profile.latency.observe(1_000));
    profile
}

async fn put(world: &World, schema: &ProfileSchema, profile: Profile) {
    let stored = StoredProfile { as_of: profile.window.end(), profile, inputs: vec![] };
    world.ledger.put(schema, &stored).await.expect("stored");
}

/// A monitor that alerts above 100 rows, and cannot tell without any; of labels it says those of which
/// window it saw.
fn counting(seen: &Arc<Mutex<Vec<Window>>>) -> Box<dyn Monitor> {
    let (mut mock, seen) = (MockMonitor::new(), Arc::clone(seen));
    mock.expect_name().return_const("rows".to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    mock.expect_check().returning(move |evidence| {
        seen.lock().expect("no panic").push(evidence.labelled().window);
        let status = match evidence.current.rows {
            0 => Status::InsufficientData,
            1..=100 => Status::Ok,
            _ => Status::Drifted,
        };
        Ok(vec![finding("rows", status)])
    });
    Box::new(mock)
}

async fn everything(world: &World) -> Vec<StoredProfile> {
    let span = span(-10_000, 10_000);
    let query = ProfileQuery { subject: subject(), version: None, span, after: None, limit: 1000 };
    world.ledger.within(&query).await.expect("profiles")
}

#[tokio::test]
async fn the_past_is_judged_by_the_configuration_at_hand() {
    let (world, first) = world_with_reference_of(&subject().model).await;
    let second = version_with_reference_of(&world, &subject().model, b"other files");
    let schema = schema(&subject().model);
    let rows = [7, 200, 0, 0, 0, 50, 300];
    for (hour, rows) in (0..).zip(rows) {
        let version = if hour < 5 { &first } else { &second };
        put(&world, &schema, counts(&schema, version, span(hour, hour + 1), rows)).await;
    }
    // A version that is gone, and bins that were another's.
    let gone = samples::version(99);
    put(&world, &schema, counts(&schema, &gone, span(7, 8), 1)).await;
    let other = ProfileSchema { classes: vec!["b".to_owned(), "a".to_owned()], ..schema.clone() };
    put(&world, &other, counts(&other, &second, span(8, 9), 1)).await;
    let before = everything(&world).await;

    let deps = MonitoringDeps {
        reporters: vec![reporter("alert", When::Always, 0)],
        ..deps(&world, vec![counting(&Arc::default())], vec![])
    };
    let budget = FalseAlarmBudget { per_month: 36.0, windows_per_month: 720.0 };
    let config =
        MonitoringConfig { false_alarms: Some(budget), ..config(&world, TimeDelta::zero()) };
    let flow = MonitoringOrchestrator::new(deps, config);
    let mut told = vec![];
    let replay = flow.replay(span(0, 9), &mut |one: &Replayed| told.push(one.clone())).await;
    let result = replay.expect("replayed");

    let outcomes: Vec<(String, u64)> = result.outcomes.clone().into_iter().collect();
    let expected = [("alert", 2), ("insufficient_data", 3), ("ok", 2)];
    assert_eq!(outcomes, expected.map(|(outcome, n)| (outcome.to_owned(), n)));
    assert_eq!((result.windows, result.alerting), (7, 3), "the third blind window alerts too");
    let alerting: Vec<_> = result
        .would_have_alerted
        .iter()
        .map(|one| (one.window, one.version, one.outcome, one.alerts.len()))
        .collect();
    let (alert, blind) = (MonitoringOutcome::Alert, MonitoringOutcome::InsufficientData);
    assert_eq!(
        alerting,
        [
            (span(1, 2), first.version, alert, 1),
            (span(4, 5), first.version, blind, 0),
            (span(6, 7), second.version, alert, 1),
        ]
    );
    let checks: Vec<_> = result.alerts_by_check.iter().map(|one| one.windows).collect();
    assert_eq!((checks, result.checks_left_off), (vec![2], 0));
    let expected = result.expected_false_alarms.expect("with a budget");
    assert!((expected - 7.0 * 36.0 / 720.0).abs() < 1e-12, "{expected}");
    let skipped: Vec<_> = result.skipped.clone().into_iter().collect();
    assert_eq!(skipped, [(Skip::NoReference, 1), (Skip::OtherSchema, 1)]);
    assert_eq!(told.len(), 9, "each window is told of");
    let why = Skip::OtherSchema;
    assert_eq!(told.last(), Some(&Replayed::Skipped { window: span(8, 9), why }));

    let line = serde_json::to_value(&result).expect("JSON");
    assert_eq!(line["schema"], "mloop.monitoring/1");
    assert_eq!(
        (&line["outcome"], &line["skipped"]["no_reference"]),
        (&"replayed".into(), &1.into())
    );
    assert_eq!((runs(&world).await, everything(&world).await), (0, before), "nothing is recorded");
    let again = flow.replay(span(0, 9), &mut |_: &Replayed| {}).await.expect("replayed");
    assert_eq!(again, result, "a repeat gives the same");
}

#[tokio::test]
async fn a_replay_lists_no_more_than_it_says_and_takes_pages() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let schema = schema(&subject().model);
    for hour in 0..100 {
        put(&world, &schema, counts(&schema, &version, span(hour, hour + 1), 101)).await;
    }
    let flow = flow(&world, vec![counting(&Arc::default())], vec![]);
    let result = flow.replay(span(0, 90), &mut |_: &Replayed| {}).await.expect("replayed");
    assert_eq!((result.windows, result.alerting, result.would_have_alerted.len()), (90, 90, 20));
    assert_eq!(result.expected_false_alarms, None, "there is no budget");
}

#[tokio::test]
async fn labels_of_the_past_are_those_of_the_earlier_window() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let schema = schema(&subject().model);
    for hour in [0, 2, 3] {
        put(&world, &schema, counts(&schema, &version, span(hour, hour + 1), 7)).await;
    }
    let seen = Arc::default();
    let deps = deps(&world, vec![counting(&seen)], vec![]);
    let flow = MonitoringOrchestrator::new(deps, config(&world, TimeDelta::hours(2)));
    let result = flow.replay(span(0, 4), &mut |_: &Replayed| {}).await.expect("replayed");
    let expected = [span(-2, -1), span(0, 1), span(1, 2)];
    assert_eq!(*seen.lock().expect("no panic"), expected);
    assert_eq!((result.windows, result.without_labels), (3, 2));
}

#[tokio::test]
async fn a_monitor_gets_the_latencies_of_longer_spans() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let schema = schema(&subject().model);
    for (hour, rows) in [(-2, 1000), (0, 100), (1, 10)] {
        put(&world, &schema, counts(&schema, &version, span(hour, hour + 1), rows)).await;
    }
    let stranger = samples::version(99);
    put(&world, &schema, counts(&schema, &stranger, span(-1, 0), 5)).await;
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const("latency".to_owned());
    mock.expect_latency_spans().return_const(vec![120, 60, 5, 4320, 120]);
    mock.expect_check()
        .withf(|evidence| {
            let found: Vec<_> = [5, 60, 120, 4320, 7]
                .into_iter()
                .map(|minutes| evidence.latency_over(minutes))
                .map(|(window, latency)| (window, latency.count()))
                .collect();
            // No shorter one than the window is known, and none beyond the hour that is missing.
            found
                == [
                    (span(2, 3), 0),
                    (span(2, 3), 0),
                    (span(1, 3), 10),
                    (span(0, 3), 110),
                    (span(2, 3), 0),
                ]
        })
        .once()
        .returning(|_| Ok(vec![finding("latency", Status::Ok)]));
    let result = run(&flow(&world, vec![Box::new(mock)], vec![]), &hour(3)).await;
    assert_eq!(result.outcome, MonitoringOutcome::Ok);
}

#[tokio::test]
async fn days_that_are_long_over_are_merged_and_those_whose_labels_are_out_are_not() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let schema = schema(&subject().model);
    let days = |days: u64| 24 * days;
    for hour in 0..3 * 24 {
        put(&world, &schema, counts(&schema, &version, span(hour, hour + 1), 1)).await;
    }
    let merge = async |delay| {
        let deps = deps(&world, vec![], vec![]);
        MonitoringOrchestrator::new(deps, config(&world, delay)).merge_old_days().await;
        everything(&world).await.iter().map(|stored| stored.profile.rows).collect::<Vec<u64>>()
    };
    world.hours_pass(days(36) - 1);
    assert_eq!(
        merge(TimeDelta::zero()).await,
        [1; 72],
        "the first day ended less than 35 days ago"
    );
    world.hours_pass(1);
    let merged = merge(TimeDelta::zero()).await;
    assert_eq!((merged.len(), merged[0]), (49, 24), "its end lies 35 days back");
    world.hours_pass(days(10));
    assert_eq!(
        merge(TimeDelta::days(43)).await,
        merged,
        "labels of the second day are still to come"
    );
    assert_eq!(merge(TimeDelta::days(42)).await.len(), 26);
    assert_eq!(merge(TimeDelta::zero()).await, [24; 3]);
    let digest = everything(&world).await[0].profile.digest();
    let mut sum = counts(&schema, &version, span(23, 24), 1);
    for hour in 0..23 {
        sum.merge(&counts(&schema, &version, span(hour, hour + 1), 1)).expect("one schema");
    }
    assert_eq!(digest, sum.digest(), "a day is the sum of its hours");
}

#[tokio::test]
async fn days_that_cannot_be_merged_are_left_for_later() {
    let (world, _) = world_with_reference_of(&subject().model).await;
    let mut store = MockProfileStore::new();
    store
        .expect_merge_days()
        .withf(|of, until, days| {
            *of == subject() && *until == at(0) - TimeDelta::days(35) && *days > 0
        })
        .once()
        .returning(|_, _, _| Err(PlatformError::unavailable("the ledger", "merging", "full")));
    let deps = MonitoringDeps { profiles: Arc::new(store), ..deps(&world, vec![], vec![]) };
    MonitoringOrchestrator::new(deps, config(&world, TimeDelta::zero())).merge_old_days().await;
}
