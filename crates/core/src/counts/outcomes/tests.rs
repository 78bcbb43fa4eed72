use super::*;

const BINARY: OutcomeLayout = OutcomeLayout { classes: 2, positive: Some(1) };
const THREE: OutcomeLayout = OutcomeLayout { classes: 3, positive: None };

#[test]
fn confusion_counts_rows_once() {
    let mut confusion = Confusion::new(2);
    confusion.observe(1, Some(0));
    confusion.observe(1, None);
    assert_eq!((confusion.labelled_rows(), confusion.rows()), (1, 2));
    assert_eq!(confusion.predicted(), [0, 2]);
}

#[test]
fn scores_count_by_prediction_bin_and_label() {
    let mut counts = OutcomeCounts::new(BINARY);
    counts.observe(BINARY, 1, Some(1), Some(0.75));
    counts.observe(BINARY, 1, Some(0), Some(0.75));
    counts.observe(BINARY, 0, None, Some(0.25));
    counts.observe(BINARY, 0, Some(0), Some(f64::NAN));
    counts.observe(BINARY, 1, Some(1), Some(1.0));
    let bin = counts.scores.bins[1][45];
    assert_eq!((bin.positive, bin.negative, bin.unlabelled), (1, 1, 0));
    assert!((bin.labelled_sum.0 as f64 * SCORE_STEP - 1.5).abs() < 1e-8);
    assert!((bin.spread.0 as f64 * SCORE_STEP - 2.0 * 0.1875).abs() < 1e-8);
    assert_eq!(counts.scores.bins[0][15].unlabelled, 1);
    assert_eq!(counts.scores.bins[1][59].positive, 1, "the last bin holds 1 too");
    assert_eq!(counts.confusion.rows(), 5, "a score that is none hides no row");
    let text = serde_json::to_string(&counts).expect("JSON");
    assert!(text.len() < 700, "bins without rows are left out: {text}");
    assert_eq!(serde_json::from_str::<OutcomeCounts>(&text).expect("read"), counts);
    let scores = serde_json::to_string(&counts.scores).expect("JSON");
    assert_eq!(serde_json::from_str::<ScoreCounts>(&scores).expect("read"), counts.scores);
    let beyond = scores.replace("\"45\"", "\"60\"");
    assert!(serde_json::from_str::<ScoreCounts>(&beyond).is_err(), "{beyond}");
}

#[test]
fn without_a_positive_class_a_hit_is_a_right_prediction() {
    let mut counts = OutcomeCounts::new(THREE);
    counts.observe(THREE, 2, Some(2), Some(0.9));
    counts.observe(THREE, 1, Some(2), Some(0.9));
    assert_eq!(counts.scores.bins.len(), 1);
    assert_eq!((counts.scores.bins[0][54].positive, counts.scores.bins[0][54].negative), (1, 1));
}

#[test]
fn losses_are_those_of_their_definitions() {
    let (mut binary, mut three) = (LossSums::default(), LossSums::default());
    binary.observe(BINARY, &[0.2, 0.8], 0);
    three.observe(THREE, &[0.1, 0.2, 0.7], 1);
    three.observe(THREE, &[f64::NAN, 0.2, 0.7], 1);
    three.observe(THREE, &[0.5], 1);
    let of = |sum: FixedSum| sum.0 as f64 * LOSS_STEP;
    assert!((of(binary.log_loss) + 0.2f64.ln()).abs() < 1e-8);
    assert!((of(binary.brier) - 0.64).abs() < 1e-8);
    assert!((of(three.brier) - (0.01 + 0.64 + 0.49)).abs() < 1e-8);
    assert_eq!(three.rows, 1, "rows without sound probabilities have no loss");
    let mut sure = LossSums::default();
    sure.observe(BINARY, &[1.0, 0.0], 1);
    assert!((of(sure.log_loss) - 36.043_653).abs() < 1e-6);
}

#[test]
fn errors_sum_exactly_and_any_size_is_bounded() {
    let mut sums = ErrorSums::default();
    for error in [Some(3), Some(-4), None, Some(i64::MAX), Some(i64::MIN)] {
        sums.observe(error);
    }
    assert_eq!((sums.rows, sums.unlabelled), (4, 1));
    assert_eq!(sums.errors.0, -1);
    assert_eq!(sums.absolute.0, 7 + 2 * i128::from(MAX_ERROR));
    assert_eq!(sums.squares.0, 25 + 2 * i128::from(MAX_ERROR).pow(2));
    assert_eq!(sums.fourth_powers.0, 2 * i128::from(MAX_COARSE_ERROR).pow(4));
}

#[test]
fn groups_merge_by_index() {
    let mut one = GroupCounts::default();
    one.of(Group::Known(3), THREE).observe(THREE, 0, Some(0), None);
    one.of(Group::Missing, THREE).observe(THREE, 0, None, None);
    let mut other = GroupCounts::default();
    other.of(Group::Known(3), THREE).observe(THREE, 0, Some(1), None);
    other.of(Group::Other, THREE).observe(THREE, 0, Some(1), None);
    let (mut left, mut right) = (one.clone(), other.clone());
    left.merge(&other);
    right.merge(&one);
    assert_eq!(left, right);
    assert_eq!(left.values[&3].labelled_rows(), 2);
    let text = serde_json::to_string(&left).expect("JSON");
    assert_eq!(serde_json::from_str::<GroupCounts>(&text).expect("read"), left);
}
