use mloop_core::Status;
use mloop_core::counts::{LossSums, OutcomeCounts, OutcomeLayout};
use mloop_core::schema::{ColumnKind, NumericSchema, PREDICTION_COLUMN};
use mloop_monitor::conformance::check_monitor;
use serde_json::json;

use super::*;
use crate::testing::evidence;

fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
    let settings: PerformanceConfig = serde_json::from_value(settings).expect("settings");
    settings.build("performance".to_owned(), &()).expect("a monitor")
}

fn count(profile: &mut Profile, rows: usize, right: usize) {
    let layout = OutcomeLayout { classes: 2, positive: None };
    profile.overall = OutcomeCounts::new(layout);
    for row in 0..rows {
        let (truth, correct) = (row % 2, row < right);
        let prediction = if correct { truth } else { 1 - truth };
        profile.overall.observe(layout, prediction, Some(truth), Some(0.9));
    }
}

/// 1,000 labelled rows on the reference, 90 % right; so many in the window.
fn window(rows: usize, right: usize) -> Evidence {
    let mut evidence = evidence();
    count(&mut evidence.reference, 1000, 900);
    count(&mut evidence.current, rows, right);
    evidence
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let settings = json!({"metrics": [
        {"metric": "accuracy", "max_drop": 0.05, "limit": 0.8},
        {"metric": "balanced_accuracy", "limit": 0.8},
        {"metric": "f1_macro", "limit": 0.8},
        {"metric": "ece", "limit": 0.5, "max_drop": 0.1},
    ]});
    check_monitor(monitor(settings.clone()).as_ref(), &window(1000, 900)).await;
    let mut strict = settings;
    strict["require_labels"] = json!(true);
    check_monitor(monitor(strict).as_ref(), &window(1000, 900)).await;
}

#[tokio::test]
async fn only_a_drop_beyond_chance_alerts() {
    for (right, expected) in
        [(950, Status::Ok), (850, Status::Ok), (840, Status::Ok), (800, Status::Drifted)]
    {
        let found = monitor(json!({})).check(&window(1000, right)).await.expect("findings");
        assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
    }
}

#[tokio::test]
async fn a_floor_is_crossed_by_the_whole_interval_only() {
    let settings = json!({"metrics": [{"metric": "accuracy", "limit": 0.85}]});
    for (right, expected) in [(850, Status::Ok), (835, Status::Ok), (820, Status::Drifted)] {
        let found = monitor(settings.clone()).check(&window(1000, right)).await.expect("findings");
        assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
    }
}

#[tokio::test]
async fn calibration_is_held_below_its_ceiling() {
    let settings = json!({"metrics": [{"metric": "ece", "limit": 0.1}]});
    for (right, expected) in [(900, Status::Ok), (500, Status::Drifted)] {
        let found = monitor(settings.clone()).check(&window(1000, right)).await.expect("findings");
        assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
    }
}

#[tokio::test]
async fn without_enough_labels_nothing_is_fine() {
    let found = monitor(json!({})).check(&window(99, 99)).await.expect("findings");
    assert_eq!(found[0].status, Status::InsufficientData);
}

#[tokio::test]
async fn without_any_label_there_is_nothing_to_say_unless_labels_are_required() {
    for (settings, expected) in
        [(json!({}), None), (json!({"require_labels": true}), Some(Status::InsufficientData))]
    {
        let found = monitor(settings).check(&window(0, 0)).await.expect("findings");
        assert_eq!(found.first().map(|finding| finding.status), expected);
    }
}

/// A window and a reference of a classifier with a positive class, `b`: scores of 0.05, 0.15, …,
/// so often right as they say, on 1,000 rows each; in the window those of `b` are shifted.
fn scored(labelled: bool, more_of_the_unsure: u64) -> Evidence {
    let mut evidence = evidence();
    evidence.schema.positive = Some("b".to_owned());
    let (layout, digest) = (evidence.schema.outcomes(), evidence.schema.digest());
    (evidence.current.schema, evidence.reference.schema) = (digest, digest);
    let count = |profile: &mut Profile, labelled: bool, more: u64| {
        profile.overall = OutcomeCounts::new(layout);
        profile.losses = LossSums::default();
        for decile in 0..10u64 {
            let score = decile as f64 / 10.0 + 0.05;
            for row in 0..100 * if (4..6).contains(&decile) { 1 + more } else { 1 } {
                let truth = usize::from(row % 100 < decile * 10 + 5);
                let (prediction, label) = (usize::from(score > 0.5), labelled.then_some(truth));
                profile.overall.observe(layout, prediction, label, Some(score));
                profile.losses.observe(layout, &[1.0 - score, score], truth);
            }
        }
    };
    count(&mut evidence.reference, true, 0);
    count(&mut evidence.current, labelled, more_of_the_unsure);
    evidence
}

async fn value(metric: serde_json::Value, evidence: &Evidence) -> f64 {
    let found = monitor(json!({"metrics": [metric.clone()]})).check(evidence).await;
    let found = found.expect("findings").remove(0);
    assert!(found.n > 0 && found.interval.is_some(), "{metric}: {found:?}");
    found.value.expect("a value")
}

#[tokio::test]
async fn each_metric_is_that_of_its_definition() {
    let window = scored(true, 0);
    // 75 of 100 right on each side, evenly calibrated.
    for (metric, expected) in [
        ("accuracy", 0.75),
        ("balanced_accuracy", 0.75),
        ("precision", 0.75),
        ("recall", 0.75),
        ("f1", 0.75),
        ("precision_macro", 0.75),
        // Over all pairs of deciles; the mean entropy of the deciles.
        ("auc", 0.83),
        ("brier", 0.1675),
        ("log_loss", 0.503_83),
        ("ece", 0.0),
    ] {
        let found = value(json!({"metric": metric, "limit": 0.5}), &window).await;
        assert!((found - expected).abs() < 1e-4, "{metric}: {found} is not {expected}");
    }
    let of_a = json!({"metric": "recall", "class": "a", "limit": 0.5});
    assert!((value(of_a, &window).await - 0.75).abs() < 1e-9);
}

#[tokio::test]
async fn without_labels_the_scores_tell_what_is_to_be_expected() {
    let blind = scored(false, 0);
    for (metric, expected) in
        [("accuracy", 0.75), ("precision", 0.75), ("recall", 0.75), ("f1", 0.75), ("auc", 0.83)]
    {
        let asked = json!({"metric": metric, "estimated": true, "limit": 0.5});
        let found = value(asked, &blind).await;
        // Laplace's rule moves each decile by less than a hundredth.
        assert!((found - expected).abs() < 0.01, "{metric}: {found} is not {expected}");
    }
    // Many more rows of which the model is unsure: it will be right less often.
    let asked = json!({"metrics": [{"metric": "accuracy", "estimated": true, "max_drop": 0.02}]});
    for (more, expected) in [(0, Status::Ok), (20, Status::Drifted)] {
        let found = monitor(asked.clone()).check(&scored(false, more)).await.expect("findings");
        assert_eq!(found[0].status, expected, "{more}: {:?}", found[0]);
        assert_eq!(found[0].check, "estimated_performance_drop");
    }
}

#[tokio::test]
async fn errors_of_numbers_are_in_the_unit_of_the_column() {
    let mut evidence = evidence();
    let numeric = NumericSchema { edges: vec![0.0, 10.0], step: 0.25 };
    evidence.schema.classes.clear();
    for column in &mut evidence.schema.columns {
        if column.name == PREDICTION_COLUMN {
            column.kind = ColumnKind::Numeric(numeric.clone());
        }
    }
    let digest = evidence.schema.digest();
    (evidence.current.schema, evidence.reference.schema) = (digest, digest);
    for row in 0..100 {
        // Errors of 3 and −1, by turns, are 12 and −4 steps.
        evidence.current.overall.errors.observe(Some(if row % 2 == 0 { 12 } else { -4 }));
    }
    let near = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
    let mae = value(json!({"metric": "mae", "limit": 5.0}), &evidence).await;
    let rmse = value(json!({"metric": "rmse", "limit": 5.0}), &evidence).await;
    assert!(near(mae, 2.0) && near(rmse, 5f64.sqrt()), "{mae} {rmse}");
}

#[tokio::test]
async fn what_the_model_cannot_be_asked_is_an_error_that_says_why() {
    for (metric, expected) in [
        (json!({"metric": "auc", "limit": 0.5}), "no positive class"),
        (json!({"metric": "precision", "limit": 0.5}), "no positive class"),
        (json!({"metric": "rmse", "limit": 0.5}), "predicts no numbers"),
        (json!({"metric": "recall", "class": "c", "limit": 0.5}), "no class `c`; it has: a, b"),
        (json!({"metric": "precision", "estimated": true, "limit": 0.5}), "no positive class"),
    ] {
        let asked = monitor(json!({"metrics": [metric]})).check(&window(1000, 900)).await;
        let error = asked.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_metric_that_means_nothing_is_refused() {
    for (metric, expected) in [
        (json!({"metric": "accuracy", "class": "a", "limit": 0.5}), "is not of one class"),
        (json!({"metric": "ece", "estimated": true, "limit": 0.5}), "cannot be estimated"),
        (json!({"metric": "accuracy", "limit": 1.5}), "must lie between"),
    ] {
        let settings = json!({"metrics": [metric]});
        let settings: PerformanceConfig = serde_json::from_value(settings).expect("settings");
        let error = settings.build("p".to_owned(), &()).err().expect(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_metric_without_a_bound_is_refused() {
    let settings = json!({"metrics": [{"metric": "accuracy"}]});
    let settings: PerformanceConfig = serde_json::from_value(settings).expect("settings");
    let error = settings.build("p".to_owned(), &()).err().expect("no bound");
    assert!(error.to_string().contains("give `max_drop`"), "{error}");
}
