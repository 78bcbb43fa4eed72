//! What this crate says of real data, held against what established libraries say of it.
//!
//! `oracles.py` reads the data and asks the libraries, in the environment that
//! `cargo xtask services up oracles` installs. Samples come here as counts, with a bin for each distinct
//! value wherever an answer must be exact.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use mloop_services::{Service, Services};
use mloop_stats::classification::{
    ReliabilityBin, accuracy, balanced_accuracy, by_class, expected_calibration_error, f1_macro,
    precision_macro,
};
use mloop_stats::distance::{Method, chi_square, cramers_v};
use mloop_stats::embedding::{FeatureSums, RandomFeatures, discrepancy};
use mloop_stats::estimated::{Believed, Binary};
use mloop_stats::fairness::{
    Gap, GroupRate, difference, equalized_odds_difference, equalized_odds_ratio, ratio,
};
use mloop_stats::interval::{clopper_pearson, katz, koopman, newcombe, paired_mean, tango, wilson};
use mloop_stats::losses::Sums;
use mloop_stats::ordered::{
    kolmogorov_smirnov, kolmogorov_smirnov_distance, normed_wasserstein, wasserstein,
    wasserstein_distance,
};
use mloop_stats::ranking::{area, auc};
use mloop_stats::{Estimate, Interval, estimated, mcnemar};
use serde_json::Value;

const SCRIPT: &str = include_str!("oracles.py");

/// What the libraries say, asked once for all tests; each of them tells what is missing.
fn answers() -> &'static Value {
    static ANSWERS: OnceLock<Value> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let python = Services::running().python(Service::Oracles).to_owned();
        let output = Command::new(python)
            .args(["-c", SCRIPT])
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .output()
            .expect("python runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    })
}

/// The cases of one kind; there are some.
fn cases(kind: &str) -> &'static [Value] {
    let cases = answers()[kind].as_array().map_or(&[][..], Vec::as_slice);
    assert!(!cases.is_empty(), "{kind}");
    cases
}

fn counts(value: &Value) -> Vec<u64> {
    serde_json::from_value(value.clone()).expect("counts")
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("numbers")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn whole(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

/// Two counts.
fn pair(value: &Value) -> (u64, u64) {
    (whole(&value[0]), whole(&value[1]))
}

/// Equal to 1e-9, of the whole above 1.
#[track_caller]
fn same(found: f64, expected: &Value, what: &str) {
    let expected = number(expected);
    let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
    assert!(near, "{what}: {found} is not {expected}");
}

#[track_caller]
fn same_ends(found: Option<Interval>, expected: &Value, what: &str) {
    let [lower, upper] = found.unwrap_or_else(|| panic!("{what} is undefined")).ends();
    same(lower, &expected[0], what);
    same(upper, &expected[1], what);
}

fn name(case: &Value) -> &str {
    case["name"].as_str().expect("a name")
}

/// Counts of so many more rows that chance has nothing to say.
fn many(counts: &[u64]) -> Vec<u64> {
    counts.iter().map(|count| count << 34).collect()
}

#[test]
fn unordered_distances_agree_with_scipy() {
    for case in cases("distances") {
        let (reference, current) = (counts(&case["reference"]), counts(&case["current"]));
        for (method, key) in [
            (Method::Psi, "psi"),
            (Method::JensenShannon, "jensen_shannon"),
            (Method::Hellinger, "hellinger"),
            (Method::TotalVariation, "total_variation"),
            (Method::LInfinity, "l_infinity"),
        ] {
            let what = format!("{} {key}", name(case));
            match method.plain(&reference, &current) {
                Some(found) => same(found, &case[key], &what),
                None => assert!(case[key].is_null(), "{what} is undefined"),
            }
        }
        let found = chi_square(&reference, &current).expect("a table");
        same(found.statistic, &case["chi_square"][0], name(case));
        same(found.p_value, &case["chi_square"][1], name(case));
        let plain = number(&case["cramers_v"]);
        let found = cramers_v(&reference, &current, 0.95).expect("a table").estimate;
        assert!(found.interval.lower <= plain && found.value <= plain + 1e-12, "{}", name(case));
        // Chance has little to say of as many rows.
        let found = cramers_v(&many(&reference), &many(&current), 0.95);
        let found = found.expect("a table").estimate;
        assert!((found.value - plain).abs() < 2e-5, "{}: {found:?} {plain}", name(case));
    }
}

/// Production's estimates take chance off, so they are not the plain figures; these lie in their
/// intervals, and are met by as many rows as leave chance nothing.
#[test]
fn estimates_lie_about_the_plain_distances_and_go_to_them_with_more_rows() {
    for case in cases("distances") {
        let (reference, current) = (counts(&case["reference"]), counts(&case["current"]));
        for method in [Method::JensenShannon, Method::Hellinger, Method::TotalVariation] {
            let plain = method.plain(&reference, &current).expect("rows");
            let found = method.estimate(&reference, &current, 0.95).expect("rows");
            assert!(found.interval.lower <= plain, "{} {method:?} {found:?}", name(case));
            let found = method.estimate(&many(&reference), &many(&current), 0.95).expect("rows");
            assert!((found.value - plain).abs() < 2e-5, "{} {method:?} {found:?}", name(case));
        }
    }
}

/// Edges with a bin of no width at each value, and an empty one up to the next.
fn points(values: &[f64], counts: &[u64]) -> (Vec<f64>, Vec<u64>) {
    let edges = values.iter().flat_map(|value| [*value, *value]).collect();
    let mut bins: Vec<u64> = counts.iter().flat_map(|count| [*count, 0]).collect();
    bins.pop();
    (edges, bins)
}

#[test]
fn ordered_distances_agree_with_scipy_where_each_value_has_its_bin() {
    for case in cases("ordered") {
        let values = numbers(&case["values"]);
        let (edges, reference) = points(&values, &counts(&case["reference"]));
        let (_, current) = points(&values, &counts(&case["current"]));
        let found = kolmogorov_smirnov(&reference, &current).expect("rows");
        same(found.statistic, &case["kolmogorov_smirnov"][0], name(case));
        same(found.p_value, &case["kolmogorov_smirnov"][1], name(case));
        let distance = kolmogorov_smirnov_distance(&reference, &current, 0.95).expect("rows");
        same(distance.estimate.value, &case["kolmogorov_smirnov"][0], name(case));
        let found = wasserstein(&reference, &current, &edges).expect("rows");
        same(found, &case["wasserstein"], name(case));
        let found = wasserstein_distance(&reference, &current, &edges, 0.95).expect("rows");
        same(found.estimate.value, &case["wasserstein"], name(case));
        let found = normed_wasserstein(&reference, &current, &edges, 0.95).expect("rows");
        same(found.estimate.value, &case["normed"], name(case));
    }
}

#[test]
fn binned_answers_stay_within_their_bounds_of_the_exact_ones() {
    for case in cases("binned") {
        let (reference, current) = (counts(&case["reference"]), counts(&case["current"]));
        let shares = |counts: &[u64]| -> Vec<f64> {
            let rows: u64 = counts.iter().sum();
            counts.iter().map(|count| *count as f64 / rows as f64).collect()
        };
        let (p, q) = (shares(&reference), shares(&current));
        let exact = number(&case["kolmogorov_smirnov"][0]);
        let found = kolmogorov_smirnov(&reference, &current).expect("rows").statistic;
        let largest = p.iter().chain(&q).fold(0.0f64, |largest, share| largest.max(*share));
        assert!(found <= exact + 1e-12 && exact <= found + largest + 1e-12, "{}", name(case));
        let edges = numbers(&case["edges"]);
        let exact = number(&case["wasserstein"]);
        let found = wasserstein(&reference, &current, &edges).expect("rows");
        let normed = normed_wasserstein(&reference, &current, &edges, 0.95).expect("rows");
        let deviation = found / normed.estimate.value;
        let relative = deviation / number(&case["deviation"]);
        assert!((relative - 1.0).abs() < 1e-9, "{}: deviation {deviation}", name(case));
        let shares = p.iter().zip(&q).map(|(p, q)| p + q);
        let widths = edges.windows(2).map(|edge| edge[1] - edge[0]);
        let bound = shares.zip(widths).map(|(share, width)| share * width).sum::<f64>() / 2.0;
        assert!((found - exact).abs() <= bound * (1.0 + 1e-9), "{}: {found} {exact}", name(case));
    }
}

#[test]
fn intervals_of_proportions_agree_with_scipy_and_statsmodels() {
    for case in cases("proportions") {
        let (events, trials) = (whole(&case["events"]), whole(&case["trials"]));
        let confidence = number(&case["confidence"]);
        let what = format!("{events} of {trials} at {confidence}");
        same_ends(wilson(events, trials, confidence), &case["wilson"], &what);
        same_ends(clopper_pearson(events, trials, confidence), &case["exact"], &what);
    }
    for case in cases("two_proportions") {
        let (first, second) = (pair(&case["first"]), pair(&case["second"]));
        let confidence = number(&case["confidence"]);
        let what = format!("{first:?} and {second:?} at {confidence}");
        let found = newcombe(first, second, confidence);
        same_ends(found, &case["newcombe"], &format!("newcombe {what}"));
        if !case["katz"].is_null() {
            same_ends(katz(first, second, confidence), &case["katz"], &format!("katz {what}"));
        }
        if !case["koopman"].is_null() {
            let found = koopman(first, second, confidence);
            same_ends(found, &case["koopman"], &format!("koopman {what}"));
        }
    }
}

#[test]
fn paired_proportions_and_means_agree() {
    for case in cases("paired") {
        let (b, c) = (whole(&case["only_first"]), whole(&case["only_second"]));
        same(mcnemar::exact(b, c), &case["mcnemar"], "McNemar");
        let levels = case["tango"].as_object().expect("levels");
        assert!(!levels.is_empty());
        for (level, expected) in levels {
            let found = tango(b, c, whole(&case["pairs"]), level.parse().expect("a number"));
            same_ends(found, expected, &format!("{b} {c} at {level}"));
        }
    }
    let case = &answers()["paired_mean"];
    let found = paired_mean(&numbers(&case["differences"]), 0.95).expect("rows");
    same(found.value, &case["mean"], "mean");
    same_ends(Some(found.interval), &case["interval"], "mean");
}

/// A group of a case: its name and its true and false positives, false and true negatives.
fn rates(case: &Value, of: impl Fn([u64; 4]) -> (u64, u64)) -> Vec<GroupRate> {
    let rate = |row: &Value| {
        let (events, trials) = of([1, 2, 3, 4].map(|cell| whole(&row[cell])));
        GroupRate { group: row[0].as_str().expect("a name").to_owned(), events, trials }
    };
    case["groups"].as_array().expect("groups").iter().map(rate).collect()
}

#[track_caller]
fn same_gap(found: Option<Gap>, expected: &Value, what: &str) {
    let Estimate { value, interval } =
        found.unwrap_or_else(|| panic!("{what} is undefined")).estimate;
    same(value, expected, what);
    assert!(interval.contains(value), "{what}: {interval:?}");
}

#[test]
fn fairness_agrees_with_fairlearn() {
    for case in cases("groups") {
        let selected = rates(case, |[tp, fp, missed, tn]| (tp + fp, tp + fp + missed + tn));
        let true_positives = rates(case, |[tp, _, missed, _]| (tp, tp + missed));
        let false_positives = rates(case, |[_, fp, _, tn]| (fp, fp + tn));
        let precise = rates(case, |[tp, fp, _, _]| (tp, tp + fp));
        let right = rates(case, |[tp, fp, missed, tn]| (tp + tn, tp + fp + missed + tn));
        for (rates, key) in [
            (&selected, "selection_rate"),
            (&true_positives, "true_positive_rate"),
            (&false_positives, "false_positive_rate"),
            (&precise, "precision"),
            (&right, "accuracy"),
        ] {
            let what = format!("{} {key}", name(case));
            same_gap(difference(rates, 1, 0.95), &case["rates"][key][0], &what);
            same_gap(ratio(rates, 1, 0.95), &case["rates"][key][1], &what);
        }
        let what = name(case);
        same_gap(difference(&selected, 1, 0.95), &case["demographic_parity"][0], what);
        same_gap(ratio(&selected, 1, 0.95), &case["demographic_parity"][1], what);
        same_gap(difference(&true_positives, 1, 0.95), &case["equal_opportunity"], what);
        let found = equalized_odds_difference(&true_positives, &false_positives, 1, 0.95);
        same_gap(found, &case["equalized_odds"][0], what);
        let found = equalized_odds_ratio(&true_positives, &false_positives, 1, 0.95);
        same_gap(found, &case["equalized_odds"][1], what);
    }
}

#[test]
fn classification_agrees_with_scikit_learn() {
    for case in cases("classes") {
        let confusion: Vec<Vec<u64>> =
            case["confusion"].as_array().expect("rows").iter().map(counts).collect();
        type Metric = fn(&[Vec<u64>], f64) -> Option<Estimate>;
        for (metric, key) in [
            (accuracy as Metric, "accuracy"),
            (balanced_accuracy, "balanced_accuracy"),
            (balanced_accuracy, "recall_macro"),
            (f1_macro, "f1_macro"),
            (precision_macro, "precision_macro"),
        ] {
            let found = metric(&confusion, 0.95).expect("rows");
            same(found.value, &case[key], &format!("{} {key}", name(case)));
        }
        let found = by_class(&confusion, 0.95);
        let expected = case["by_class"].as_array().expect("classes");
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let parts = [found.precision, found.recall, found.f1];
            for (index, part) in parts.into_iter().enumerate() {
                same(part.expect("rows").value, &expected[index], name(case));
            }
        }
    }
}

#[test]
fn scores_agree_with_scikit_learn_and_scipy() {
    for case in cases("scores") {
        let (negatives, positives) = (counts(&case["negatives"]), counts(&case["positives"]));
        let found = area(&negatives, &positives).expect("both labels");
        same(found.value, &case["auc"], name(case));
        let deviation = found.variance.expect("rows").sqrt();
        same(deviation, &case["delong"], name(case));
        let estimate = auc(&negatives, &positives, 0.95).expect("both labels");
        // On the logit scale the interval is Wald's to the second order.
        let half = 1.959_964 * deviation;
        let ends = [found.value - half, found.value + half];
        for (end, wald) in estimate.interval.ends().into_iter().zip(ends) {
            assert!((end - wald).abs() < half * 0.25, "{}: {estimate:?} {wald}", name(case));
        }
        let even: Vec<Vec<u64>> =
            case["even_bins"].as_array().expect("labels").iter().map(counts).collect();
        let coarse = area(&even[0], &even[1]).expect("both labels");
        assert!(
            (coarse.value - found.value).abs() <= coarse.rounding,
            "{}: {coarse:?}",
            name(case)
        );
        let bins = case["bins"].as_array().expect("bins").iter();
        let bins: Vec<ReliabilityBin> = bins
            .map(|bin| {
                let (rows, correct) = pair(bin);
                ReliabilityBin { rows, correct, confidence: number(&bin[2]) }
            })
            .collect();
        let found = expected_calibration_error(&bins, 0.95).expect("rows");
        same(found.value, &case["calibration_error"], name(case));
        for (sums, interval) in [("log_losses", "log_loss_interval"), ("squares", "brier_interval")]
        {
            let found = of(&case[sums]).mean(0.95).expect("rows");
            same(found.value, &case[sums][3], name(case));
            same(found.value, &case[interval][0], name(case));
            same(found.interval.lower, &case[interval][1], name(case));
            same(found.interval.upper, &case[interval][2], name(case));
        }
    }
}

/// Scores that are off by some calibration error tell the accuracy no worse than that, since the
/// threshold parts the bins; and the other metrics nearly so.
#[test]
fn performance_is_estimated_as_well_as_scores_are_calibrated() {
    for case in cases("scores") {
        let believed = |side: &Value| Believed {
            rows: whole(&side[0]),
            sum: number(&side[1]),
            spread: number(&side[2]),
        };
        let sides = &case["believed"];
        let binary = Binary { positive: believed(&sides[0]), negative: believed(&sides[1]) };
        let off = number(&case["calibration_error"]);
        let metrics = [Binary::accuracy, Binary::precision, Binary::recall, Binary::f1];
        for (index, metric) in metrics.into_iter().enumerate() {
            let found = metric(&binary, 0.95).expect("rows");
            let [lower, upper] = found.interval.ends();
            let gap = (found.value - number(&case["performance"][index])).abs();
            let allowed = if index == 0 { off + 1e-12 } else { 2.0 * off + (upper - lower) / 2.0 };
            assert!(gap <= allowed, "{} {index}: {found:?} is off by {gap}", name(case));
        }
        let bins: Vec<Believed> =
            case["believed_by_bin"].as_array().expect("bins").iter().map(believed).collect();
        let found = estimated::auc(&bins, 0.95).expect("rows");
        let [lower, upper] = found.interval.ends();
        let rounding = 2.0 * off + (upper - lower) / 2.0 + 0.02; // Ties in ten bins.
        let gap = (found.value - number(&case["auc"])).abs();
        assert!(gap <= rounding, "{}: {found:?} is off by {gap}", name(case));
    }
}

fn of(sums: &Value) -> Sums {
    Sums { rows: whole(&sums[0]), sum: number(&sums[1]), squares: number(&sums[2]) }
}

#[test]
fn errors_agree_with_scikit_learn() {
    for case in cases("errors") {
        let found = of(&case["absolute"]).mean(0.95).expect("rows");
        same(found.value, &case["mae"], name(case));
        let found = of(&case["squared"]).root_mean(0.95).expect("rows");
        same(found.value, &case["rmse"], name(case));
    }
}

#[test]
fn embeddings_agree_with_the_kernel_over_all_pairs() {
    for case in cases("embeddings") {
        let features =
            RandomFeatures::new(3, 100, number(&case["bandwidth"]), 3).expect("features");
        let sums = |rows: &Value| {
            let mut sums = FeatureSums::new(features.count());
            for row in rows.as_array().expect("rows") {
                sums.observe(&features.of(&numbers(row)).expect("a vector"));
            }
            sums
        };
        let found = discrepancy(&sums(&case["reference"]), &sums(&case["current"]), 0.95);
        let found = found.expect("rows").estimate;
        let exact = number(&case["squared"]).max(0.0).sqrt();
        // A hundred frequencies leave an error of a tenth in the mean of their cosines.
        let near = (found.value - exact).abs() < 0.1 * (exact + 0.2);
        assert!(near && found.interval.contains(exact), "{}: {found:?} {exact}", name(case));
        let is_after = name(case).contains("after");
        assert_eq!(found.interval.lower > 0.0, is_after, "{}: {found:?}", name(case));
    }
}
