//! Monitoring over the fakes: which window is judged, and against which version.

use std::sync::Arc;

use chrono::TimeDelta;
use mloop_core::counts::ScoreBin;
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::{MonitoringOutcome, MonitoringReport, Profile, Status};
use mloop_monitor::MockMonitor;
use mloop_orchestrators::{MonitoringDeps, MonitoringOrchestrator, MonitoringRequest};
use mloop_platform::{
    Journal as _, MockProfileSource, ProfileRequest, ProfileRow, ProfileStore as _,
};
use mloop_reporter::When;

use crate::monitoring::{
    config, deps, finds, flow, flow_with_label_delay, hour, reporter, run, runs,
    version_with_reference_of, world, world_with_reference_of,
};
use crate::world::{at, finding, subject};

#[tokio::test]
async fn labels_that_take_a_day_are_judged_a_day_later() {
    let (world, version) = world_with_reference_of(&subject().model).await;
    let row = |label: Option<&str>| ProfileRow {
        features: [("brightness".to_owned(), 0.5)].into(),
        prediction: "a".to_owned(),
        confidence: 0.9,
        probabilities: vec![],
        label: label.map(str::to_owned),
        attributes: [].into(),
        embedding: vec![],
    };
    let (today, yesterday) = (hour(25), hour(1).window);
    world.traffic.set_window(today.window, vec![row(None); 7]);
    world
        .traffic
        .set_window(yesterday, [vec![row(Some("a")); 3], vec![row(Some("b")); 2]].concat());
    let mut mock = MockMonitor::new();
    mock.expect_name().return_const("labels".to_owned());
    mock.expect_latency_spans().return_const(vec![]);
    mock.expect_check()
        .withf(|evidence| {
            let labelled = &evidence.labelled().overall;
            let scores = labelled.scores.bins.iter().flatten();
            let in_bins: u64 = scores.map(ScoreBin::labelled).sum();
            let right = labelled.confusion.labelled[0][0];
            (evidence.current.rows, right, labelled.labelled_rows(), in_bins) == (7, 3, 5, 5)
        })
        .once()
        .returning(|_| Ok(vec![finding("labels", Status::Ok)]));
    let flow = flow_with_label_delay(&world, vec![Box::new(mock)], vec![], TimeDelta::hours(24));
    let result = run(&flow, &today).await;
    assert_eq!((result.window.bounds, result.label_window), (today.window, Some(yesterday)));
    let key = ProfileKey { subject: subject(), version: version.version.digest };
    let record = world.ledger.run(&result.run_id).await.expect("a run").expect("recorded");
    let report: MonitoringReport = serde_json::from_value(record.body).expect("a report");
    assert_eq!(report.label_window, Some(yesterday));
    for (window, digest) in [(today.window, Some(report.profile)), (yesterday, None)] {
        let stored = world.ledger.newest(&key, &window).await.expect("a store");
        let stored = stored.expect("counted").1.profile.digest();
        assert!(
            digest.is_none_or(|digest| digest == stored),
            "the stored counts are the window's own"
        );
    }
}

#[tokio::test]
async fn a_window_is_judged_by_the_version_that_served_in_it() {
    let (world, first) = world_with_reference_of(&subject().model).await;
    let judged = async |end, version| {
        let request = MonitoringRequest { as_of: Some(at(4)), version, ..hour(end) };
        run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &request).await
    };
    let in_time = judged(1, None).await;
    world.hours_pass(2);
    let second = version_with_reference_of(&world, &subject().model, b"other files");
    world.serves(&second).await;
    for (end, expected) in [(1, &first), (2, &first), (3, &second)] {
        assert_eq!(judged(end, None).await.version, expected.version, "the hour before {end}");
    }
    // A retry after the switch is the run that it repeats.
    assert_eq!(judged(1, None).await.run_id, in_time.run_id);
    assert_eq!(runs(&world).await, 3);
    assert_eq!(judged(1, Some(2)).await.version, second.version, "the number that is named wins");
}

#[tokio::test]
async fn the_source_is_told_which_other_versions_may_have_answered() {
    let (world, first) = world_with_reference_of(&subject().model).await;
    world.hours_pass(2);
    let second = version_with_reference_of(&world, &subject().model, b"other files");
    world.serves(&second).await;
    let (one, two) = (first.version.digest, second.version.digest);
    for (end, judged, others) in [(1, one, vec![one]), (3, two, vec![two])] {
        let mut source = MockProfileSource::new();
        source
            .expect_profile()
            .withf(move |request| {
                let named: Vec<_> = request.others.iter().copied().collect();
                (request.key.version, &named) == (judged, &others)
            })
            .once()
            .returning(|request| {
                let ProfileRequest { schema, key, window, as_of, .. } = request;
                let mut profile = Profile::new(schema, key.clone(), *window);
                (profile.rows, profile.other_version, profile.mixed) = (7, 5, 3);
                Ok(StoredProfile { profile, as_of: *as_of, inputs: vec![] })
            });
        let deps = deps(&world, vec![finds("drift", Status::Ok)], vec![]);
        let deps = MonitoringDeps { source: Arc::new(source), ..deps };
        let flow = MonitoringOrchestrator::new(deps, config(&world, TimeDelta::zero()));
        let window = run(&flow, &hour(end)).await.window;
        assert_eq!((window.rows, window.other_version, window.mixed), (7, 5, 3));
    }
}

#[tokio::test]
async fn blind_windows_in_a_row_become_an_alert() {
    let world = world().await;
    let blind = || vec![finds("drift", Status::InsufficientData)];
    for (end, count, alerting) in [(1, 1, false), (2, 2, false), (3, 3, true), (4, 4, true)] {
        let reporters = vec![
            reporter("alert", When::Alert, usize::from(alerting)),
            reporter("prometheus", When::NoAlert, usize::from(!alerting)),
        ];
        let result = run(&flow(&world, blind(), reporters), &hour(end)).await;
        assert_eq!(result.outcome, MonitoringOutcome::InsufficientData);
        assert_eq!((result.blind_windows, result.alerting), (count, alerting), "hour {end}");
    }
    let seeing = run(&flow(&world, vec![finds("drift", Status::Ok)], vec![]), &hour(5)).await;
    assert_eq!(seeing.blind_windows, 0);
    let again = run(&flow(&world, blind(), vec![]), &hour(6)).await;
    assert_eq!((again.blind_windows, again.alerting), (1, false), "the row was broken");
}
