use mloop_monitor::conformance::check_monitor;
use serde_json::json;

use super::*;
use crate::testing::evidence;

fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
    let settings: DriftConfig = serde_json::from_value(settings).expect("settings");
    settings.build("drift".to_owned(), &()).expect("a monitor")
}

/// The evidence with a share of the brightness rows moved from the darkest bin to the brightest.
fn moved(share: f64) -> Evidence {
    let mut evidence = evidence();
    let Some(ColumnCounts::Numeric(counts)) = evidence.current.columns.get_mut("brightness") else {
        panic!("a numeric column")
    };
    let rows: u64 = counts.bins.iter().sum();
    let wanted = (share * rows as f64) as u64;
    let mut left = wanted;
    for bin in &mut counts.bins[..30] {
        let taken = left.min(*bin);
        *bin -= taken;
        left -= taken;
    }
    counts.bins[59] += wanted - left;
    evidence
}

async fn status(settings: serde_json::Value, evidence: &Evidence) -> Status {
    monitor(settings).check(evidence).await.expect("findings")[0].status
}

#[tokio::test]
async fn it_keeps_the_contract() {
    for method in ["psi", "jensen_shannon", "hellinger", "total_variation", "l_infinity"] {
        check_monitor(monitor(json!({"method": method})).as_ref(), &evidence()).await;
    }
    for method in ["kolmogorov_smirnov", "normed_wasserstein"] {
        let settings = json!({"method": method, "categorical_method": "psi"});
        check_monitor(monitor(settings).as_ref(), &evidence()).await;
    }
}

#[tokio::test]
async fn ordered_distances_are_judged_below_at_and_above_their_tolerance() {
    // 60 even bins; a share of the rows moves from the lower half to the top, so the gap of the
    // cumulative shares is that share, and the column moves by it times 29 to 59 bins of 17.3 in
    // a standard deviation.
    for (method, tolerance, table) in [
        ("kolmogorov_smirnov", 0.1, [(0.0, Status::Ok), (0.1, Status::Ok), (0.2, Status::Drifted)]),
        (
            "normed_wasserstein",
            0.5,
            [(0.0, Status::Ok), (0.15, Status::Ok), (0.3, Status::Drifted)],
        ),
    ] {
        for (share, expected) in table {
            let settings = json!({
                "method": method, "categorical_method": "jensen_shannon", "tolerance": tolerance
            });
            let found = monitor(settings).check(&moved(share)).await.expect("findings");
            assert_eq!(found[0].status, expected, "{share}: {:?}", found[0]);
            assert_eq!(
                (found[0].method.as_str(), found[1].method.as_str()),
                (method, "jensen_shannon")
            );
        }
    }
}

#[tokio::test]
async fn what_left_the_range_upwards_is_drift_to_every_method() {
    for method in ["jensen_shannon", "kolmogorov_smirnov", "normed_wasserstein"] {
        let mut evidence = evidence();
        let Some(ColumnCounts::Numeric(counts)) = evidence.current.columns.get_mut("brightness")
        else {
            panic!("a numeric column")
        };
        counts.above = counts.bins[..30].iter().sum();
        counts.bins[..30].fill(0);
        let settings = json!({"method": method, "categorical_method": "psi"});
        assert_eq!(status(settings, &evidence).await, Status::Drifted, "{method}");
    }
}

#[tokio::test]
async fn only_a_change_beyond_the_tolerance_is_drift() {
    // Total variation is the share that moved, so the limit can be met from both sides.
    for (share, expected) in
        [(0.0, Status::Ok), (0.1, Status::Ok), (0.2, Status::Ok), (0.3, Status::Drifted)]
    {
        let settings = json!({"method": "total_variation", "tolerance": 0.2});
        assert_eq!(status(settings, &moved(share)).await, expected, "{share}");
    }
}

#[tokio::test]
async fn a_missing_burst_is_drift() {
    let mut evidence = evidence();
    if let Some(ColumnCounts::Numeric(counts)) = evidence.current.columns.get_mut("brightness") {
        counts.missing = 3000;
    }
    assert_eq!(status(json!({}), &evidence).await, Status::Drifted);
}

#[tokio::test]
async fn too_few_rows_are_not_fine() {
    let mut few = evidence();
    few.current.rows = 99;
    assert_eq!(status(json!({}), &few).await, Status::InsufficientData);
    few.current.rows = 100;
    if let Some(ColumnCounts::Numeric(counts)) = few.current.columns.get_mut("brightness") {
        counts
            .bins
            .iter_mut()
            .enumerate()
            .for_each(|(bin, count)| *count = u64::from(bin % 3 == 0));
    }
    // Twenty rows on a dozen bins cannot tell 0.02 from chance.
    assert_eq!(status(json!({"tolerance": 0.02}), &few).await, Status::InsufficientData);
}

#[tokio::test]
async fn an_absent_column_is_broken_and_a_stranger_an_error() {
    let mut evidence = evidence();
    evidence.current.columns.remove("brightness");
    assert_eq!(status(json!({}), &evidence).await, Status::Broken);
    let error = monitor(json!({"columns": ["brightnes"]})).check(&evidence).await;
    assert!(error.expect_err("a stranger").to_string().contains("no column `brightnes`"));
}

#[tokio::test]
async fn other_bins_are_not_compared() {
    let mut evidence = evidence();
    evidence.reference.schema = mloop_core::Sha256Digest::of(b"other");
    let error = monitor(json!({})).check(&evidence).await.expect_err("other bins");
    assert!(matches!(error, MonitorError::Incomparable { .. }), "{error}");
}

#[test]
fn coarse_bins_share_the_reference_evenly() {
    assert_eq!(coarse_borders(&[1; 60], 10), (1..=10).map(|k| k * 6).collect::<Vec<_>>());
    assert_eq!(merged(&[1; 60], &coarse_borders(&[1; 60], 10)), [6; 10]);
    // One heavy bin takes several shares, and no row is lost.
    let heavy = [1, 97, 1, 1];
    let borders = coarse_borders(&heavy, 10);
    assert_eq!(merged(&heavy, &borders).iter().sum::<u64>(), 100);
    assert_eq!(borders.last(), Some(&4));
    assert_eq!(merged(&[0; 4], &coarse_borders(&[0; 4], 3)).iter().sum::<u64>(), 0);
}

#[test]
fn settings_out_of_range_name_their_key() {
    for (settings, key) in [
        (json!({"confidence": 1.5}), "confidence"),
        (json!({"tolerance": 2.0}), "tolerance"),
        (json!({"bins": 1}), "bins"),
        (json!({"method": "kolmogorov_smirnov"}), "categorical_method"),
        (json!({"tolerances": {"x": -1.0}}), "tolerances.x"),
    ] {
        let settings: DriftConfig = serde_json::from_value(settings).expect("settings");
        let error = settings.build("drift".to_owned(), &()).err().expect(key);
        assert!(matches!(&error, BuildError::Settings { path, .. } if path == key), "{error:?}");
    }
}
