use mloop_core::Status;
use mloop_core::schema::GroupSchema;
use mloop_monitor::conformance::check_monitor;
use serde_json::json;

use super::*;
use crate::testing::evidence;

fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
    let settings: FairnessConfig = serde_json::from_value(settings).expect("settings");
    settings.build("fairness".to_owned(), &()).expect("a monitor")
}

/// Two sites of 1,000 rows each, predicted right with these shares.
fn sites(north: f64, south: f64, labelled: bool) -> Evidence {
    let mut evidence = evidence();
    let layout = evidence.schema.outcomes();
    for (site, share) in [north, south].into_iter().enumerate() {
        let mut counts = OutcomeCounts::new(layout);
        for row in 0..1000 {
            let truth = row % 2;
            let right = (row as f64) < share * 1000.0;
            let prediction = if right { truth } else { 1 - truth };
            counts.observe(layout, prediction, labelled.then_some(truth), None);
        }
        evidence.current.groups[0].values.insert(site, counts);
    }
    evidence
}

/// Rows that were predicted wrong.
fn wrong(rows: usize) -> OutcomeCounts {
    let layout = evidence().schema.outcomes();
    let mut counts = OutcomeCounts::new(layout);
    (0..rows).for_each(|_| counts.observe(layout, 0, Some(1), None));
    counts
}

async fn find(settings: serde_json::Value, evidence: &Evidence, method: &str) -> Option<Finding> {
    let found = monitor(settings).check(evidence).await.expect("findings");
    found.into_iter().find(|finding| finding.method == method)
}

#[tokio::test]
async fn it_keeps_the_contract() {
    check_monitor(monitor(json!({})).as_ref(), &evidence()).await;
    let all = json!({"positive": ["a"], "min_ratio": 0.8, "require_labels": true});
    check_monitor(monitor(all).as_ref(), &evidence()).await;
}

#[tokio::test]
async fn only_a_gap_beyond_chance_alerts() {
    for (south, expected) in [(0.9, Status::Ok), (0.8, Status::Ok), (0.7, Status::Drifted)] {
        let found = find(json!({}), &sites(0.9, south, true), "accuracy_difference").await;
        let found = found.expect("a finding");
        assert_eq!(found.status, expected, "{south}: {found:?}");
    }
    let found = find(json!({}), &sites(0.9, 0.7, true), "accuracy_difference").await;
    assert_eq!(found.expect("a finding").group.as_deref(), Some("site: north / south"));
}

#[tokio::test]
async fn selection_needs_no_labels_and_the_rest_waits_for_them() {
    let blind = sites(0.9, 0.7, false);
    let settings = json!({"positive": ["a"]});
    let parity = find(settings.clone(), &blind, "demographic_parity_difference").await;
    assert_ne!(parity.expect("a finding").status, Status::InsufficientData);
    assert_eq!(find(settings, &blind, "equalized_odds_difference").await, None);
    assert_eq!(find(json!({}), &blind, "accuracy_difference").await, None);
    let strict = json!({"positive": ["a"], "require_labels": true});
    let odds = find(strict, &blind, "equalized_odds_difference").await.expect("a finding");
    assert_eq!((odds.status, odds.value), (Status::InsufficientData, None));
}

#[tokio::test]
async fn ratios_are_judged_when_asked_for() {
    let strict = json!({"positive": ["a"], "min_ratio": 0.8});
    // Of the false alarms: 0.1/0.1, 0.1/0.12 above the bound, 0.1/0.15 beyond it but not beyond
    // chance, 0.1/0.25 beyond both.
    for (south, expected) in
        [(0.9, Status::Ok), (0.88, Status::Ok), (0.85, Status::Ok), (0.75, Status::Drifted)]
    {
        let found = find(strict.clone(), &sites(0.9, south, true), "equalized_odds_ratio").await;
        let found = found.expect("a finding");
        assert_eq!(found.status, expected, "{south}: {found:?}");
    }
    let lenient = json!({"positive": ["a"]});
    let found = find(lenient, &sites(0.9, 0.2, true), "equalized_odds_ratio").await;
    assert_eq!(found, None);
    // Nobody is wrongly called positive in either group: 0/0 is left out, not unfair.
    let found = find(strict, &sites(1.0, 1.0, true), "equalized_odds_ratio").await;
    let found = found.expect("a finding");
    assert_eq!((found.status, found.value), (Status::Ok, Some(1.0)));
}

#[tokio::test]
async fn each_metric_is_that_of_its_definition() {
    // Of 1,000 rows of a site every other is positive; the first ones are predicted right.
    let window = sites(0.9, 0.7, true);
    for (method, expected) in [
        ("demographic_parity_difference", 0.0),
        ("equal_opportunity_difference", 0.2),
        ("false_positive_rate_difference", 0.2),
        ("false_negative_rate_difference", 0.2),
        ("predictive_parity_difference", 0.2),
    ] {
        let settings = json!({"positive": ["a"], "metrics": [method]});
        let found = find(settings, &window, method).await.expect(method).value;
        let near = found.is_some_and(|found| (found - expected).abs() < 1e-12);
        assert!(near, "{method}: {found:?}");
    }
}

#[tokio::test]
async fn calibrations_are_compared_where_scores_are_the_positive_class_probability() {
    let mut evidence = evidence();
    evidence.schema.positive = Some("b".to_owned());
    let (layout, digest) = (evidence.schema.outcomes(), evidence.schema.digest());
    (evidence.current.schema, evidence.reference.schema) = (digest, digest);
    for (site, share) in [50, 80].into_iter().enumerate() {
        let mut counts = OutcomeCounts::new(layout);
        for row in 0..1000 {
            let truth = usize::from(row % 100 < share);
            counts.observe(layout, 1, Some(truth), Some(0.5));
        }
        evidence.current.groups[0].values.insert(site, counts);
    }
    let settings = json!({"metrics": ["calibration_difference"]});
    let found = find(settings.clone(), &evidence, "calibration_difference").await;
    let found = found.expect("a finding");
    assert!((found.value.expect("scores") - 0.3).abs() < 1e-6, "{found:?}");
    assert_eq!(found.status, Status::Drifted);
    let error = monitor(settings).check(&crate::testing::evidence()).await;
    let error = error.expect_err("no positive class").to_string();
    assert!(error.contains("no class is the positive one"), "{error}");
}

#[tokio::test]
async fn intersections_are_compared_unless_left_out() {
    let mut evidence = sites(0.9, 0.9, true);
    let both = |site: &str, sex: &str| vec![sex.to_owned(), site.to_owned()];
    evidence.schema.groups.insert(
        0,
        GroupSchema {
            attributes: vec!["sex".to_owned(), "site".to_owned()],
            values: vec![both("north", "f"), both("north", "m")],
        },
    );
    let digest = evidence.schema.digest();
    (evidence.current.schema, evidence.reference.schema) = (digest, digest);
    let halves = sites(0.95, 0.6, true).current.groups.remove(0);
    evidence.current.groups.insert(0, halves);
    let all = monitor(json!({})).check(&evidence).await.expect("findings");
    let found: Vec<_> = all.iter().map(|one| (one.group.as_deref(), one.status)).collect();
    let site = Some("site: south / north");
    let pair = Some("sex & site: f & north / m & north");
    assert_eq!(found, [(pair, Status::Drifted), (site, Status::Ok)]);
    for settings in [json!({"intersections": false}), json!({"attributes": ["site"]})] {
        assert_eq!(monitor(settings).check(&evidence).await.expect("findings").len(), 1);
    }
    let named = json!({"attributes": ["sex & site"]});
    assert_eq!(monitor(named).check(&evidence).await.expect("findings").len(), 1);
}

#[tokio::test]
async fn labels_may_be_those_of_an_earlier_window() {
    let (now, earlier) = (sites(0.9, 0.9, false), sites(0.9, 0.5, true));
    let evidence = Evidence { earlier: Some(earlier.current), ..now };
    let settings = json!({"positive": ["a"]});
    for (method, expected) in
        [("demographic_parity_difference", Status::Ok), ("accuracy_difference", Status::Drifted)]
    {
        let found = find(settings.clone(), &evidence, method).await.expect(method);
        assert_eq!(found.status, expected, "{method}");
    }
}

#[tokio::test]
async fn small_groups_are_not_compared() {
    let (settings, window) = (json!({"min_group_rows": 1001}), sites(0.9, 0.1, true));
    let found = find(settings, &window, "accuracy_difference").await.expect("a finding");
    assert_eq!(found.status, Status::InsufficientData);
}

#[tokio::test]
async fn rows_without_a_value_are_no_group() {
    let mut evidence = sites(0.9, 0.9, true);
    let groups = &mut evidence.current.groups[0];
    (groups.missing, groups.other) = (Some(wrong(1000)), Some(wrong(1000)));
    let found = find(json!({}), &evidence, "accuracy_difference").await.expect("a finding");
    assert_eq!(found.status, Status::Ok, "{found:?}");
}

#[tokio::test]
async fn groups_that_nobody_sent_are_insufficient_data() {
    let mut evidence = sites(0.9, 0.9, true);
    let missing = Some(wrong(1000));
    evidence.current.groups[0] = GroupCounts { missing, ..GroupCounts::default() };
    let found = find(json!({}), &evidence, "accuracy_difference").await.expect("a finding");
    assert_eq!((found.status, found.value, found.n), (Status::InsufficientData, None, 0));
    evidence.current.groups.clear();
    assert_eq!(find(json!({}), &evidence, "accuracy_difference").await, None, "nor labels");
}

#[tokio::test]
async fn a_reference_without_groups_fails_unless_it_may_have_none() {
    let mut evidence = evidence();
    evidence.schema.groups.clear();
    evidence.current.groups.clear();
    evidence.reference.groups.clear();
    let digest = evidence.schema.digest();
    (evidence.current.schema, evidence.reference.schema) = (digest, digest);
    let strict = monitor(json!({})).check(&evidence).await.expect_err("no groups");
    assert!(strict.to_string().contains("no group attribute"), "{strict}");
    let lenient = json!({"require_groups": false});
    assert_eq!(monitor(lenient).check(&evidence).await.expect("findings"), []);
    let named = json!({"attributes": ["site"], "require_groups": false});
    let missing = monitor(named).check(&evidence).await.expect_err("a group that was named");
    assert!(missing.to_string().contains("no group attribute `site`"), "{missing}");
}

#[tokio::test]
async fn unknown_classes_and_attributes_are_named() {
    for (settings, expected) in [
        (json!({"positive": ["c"]}), "no class `c`; it has: a, b"),
        (json!({"attributes": ["age"]}), "no group attribute `age`; it has: site"),
    ] {
        let error = monitor(settings).check(&evidence()).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
