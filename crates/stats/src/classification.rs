//! Metrics of a classifier from its confusion counts, `[truth][prediction]`.

use crate::Estimate;
use crate::interval::{Interval, critical_value, wilson};

/// Right and wrong answers of one class against all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts {
    /// Of this class, predicted as it.
    pub true_positives: u64,
    /// Of another class, predicted as this one.
    pub false_positives: u64,
    /// Of this class, predicted as another.
    pub false_negatives: u64,
}

impl ClassCounts {
    /// Share of the rows predicted as this class that are of it.
    #[must_use]
    pub fn precision(self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the rows of this class that are predicted as it.
    #[must_use]
    pub fn recall(self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).
    #[must_use]
    pub fn f1(self) -> Option<f64> {
        let twice = 2 * self.true_positives;
        ratio(twice, twice + self.false_positives + self.false_negatives)
    }
}

/// Precision, recall and F1 of one class against all others, each with its interval; `None` where
/// nothing was predicted, nothing is of it, or neither.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMetrics {
    /// With Wilson's interval.
    pub precision: Option<Estimate>,
    /// With Wilson's interval.
    pub recall: Option<Estimate>,
    /// With Wilson's interval of TP / (TP + FP + FN), of which F1 is a growing function.
    pub f1: Option<Estimate>,
}

/// The metrics of each class.
#[must_use]
pub fn by_class(confusion: &[Vec<u64>], confidence: f64) -> Vec<ClassMetrics> {
    let share = |part: u64, whole: u64| {
        Some(Estimate { value: ratio(part, whole)?, interval: wilson(part, whole, confidence)? })
    };
    let one = |class: ClassCounts| {
        let (hits, predicted) =
            (class.true_positives, class.true_positives + class.false_positives);
        let overlap = share(hits, predicted + class.false_negatives);
        let f1 = |share: f64| 2.0 * share / (1.0 + share);
        let f1 = overlap.map(|Estimate { value, interval }| Estimate {
            value: f1(value),
            interval: Interval { lower: f1(interval.lower), upper: f1(interval.upper) },
        });
        let recall = share(hits, hits + class.false_negatives);
        ClassMetrics { precision: share(hits, predicted), recall, f1 }
    };
    classes(confusion).into_iter().map(one).collect()
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The counts of each class.
#[must_use]
pub fn classes(confusion: &[Vec<u64>]) -> Vec<ClassCounts> {
    let count = |class: usize| {
        let row: u64 = confusion[class].iter().sum();
        let column: u64 = confusion.iter().filter_map(|row| row.get(class)).sum();
        let hits = confusion[class].get(class).copied().unwrap_or_default();
        ClassCounts {
            true_positives: hits,
            false_positives: column - hits,
            false_negatives: row - hits,
        }
    };
    (0..confusion.len()).map(count).collect()
}

/// Share predicted right, with Wilson's interval; `None` without rows.
#[must_use]
pub fn accuracy(confusion: &[Vec<u64>], confidence: f64) -> Option<Estimate> {
    let rows: u64 = confusion.iter().flatten().sum();
    let hits: u64 = classes(confusion).iter().map(|class| class.true_positives).sum();
    Some(Estimate { value: ratio(hits, rows)?, interval: wilson(hits, rows, confidence)? })
}

/// Mean recall over the classes that have rows; the interval adds the variances of the recalls,
/// each estimated with one success and one failure more (Agresti & Coull 1998), so that a recall of
/// 1 is not taken for certain.
#[must_use]
pub fn balanced_accuracy(confusion: &[Vec<u64>], confidence: f64) -> Option<Estimate> {
    let recall = |class: ClassCounts| class.true_positives + class.false_negatives;
    mean_share(&classes(confusion), recall, confidence)
}

/// Mean precision over the classes that are predicted, with an interval as of
/// [`balanced_accuracy`].
#[must_use]
pub fn precision_macro(confusion: &[Vec<u64>], confidence: f64) -> Option<Estimate> {
    let predicted = |class: ClassCounts| class.true_positives + class.false_positives;
    mean_share(&classes(confusion), predicted, confidence)
}

/// Mean of hits per `rows`, over the classes that have any.
fn mean_share(
    classes: &[ClassCounts],
    rows: impl Fn(ClassCounts) -> u64,
    confidence: f64,
) -> Option<Estimate> {
    let parts = classes.iter().map(|class| (class.true_positives, rows(*class)));
    let present: Vec<(u64, u64)> = parts.filter(|(_, rows)| *rows > 0).collect();
    let k = present.len() as f64;
    if present.is_empty() {
        return None;
    }
    let value = present.iter().filter_map(|(hits, rows)| ratio(*hits, *rows)).sum::<f64>() / k;
    let variance = |(hits, rows): &(u64, u64)| {
        let n = *rows as f64 + 2.0;
        let p = (*hits as f64 + 1.0) / n;
        p * (1.0 - p) / n
    };
    let variance = present.iter().map(variance).sum::<f64>() / (k * k);
    Some(around(value, variance, confidence))
}

/// Mean F1 over the classes that occur, as truth or as prediction, with the delta method's interval
/// over the multinomial of all cells (Takahashi et al. 2022, for macro F1). `None` without rows.
#[must_use]
pub fn f1_macro(confusion: &[Vec<u64>], confidence: f64) -> Option<Estimate> {
    let rows: u64 = confusion.iter().flatten().sum();
    let counts = classes(confusion);
    let scores: Vec<Option<f64>> = counts.iter().map(|class| class.f1()).collect();
    let k = scores.iter().flatten().count() as f64;
    if rows == 0 || k < 1.0 {
        return None;
    }
    let value = scores.iter().flatten().sum::<f64>() / k;
    // F1 of class c is 2t/(r+s) with t its hits, r its rows, s its predictions, all as shares.
    let n = rows as f64;
    let slope = |truth: usize, prediction: usize| {
        let part = |class: usize| {
            let of = counts[class];
            let size = 2 * of.true_positives + of.false_positives + of.false_negatives;
            let Some(score) = scores[class] else { return 0.0 };
            let hit = f64::from(u8::from(truth == class && prediction == class));
            let touches = f64::from(u8::from(truth == class) + u8::from(prediction == class));
            (2.0 * hit - score * touches) / (size as f64 / n)
        };
        let mut sum = part(truth);
        if prediction != truth && prediction < counts.len() {
            sum += part(prediction);
        }
        sum / k
    };
    let (mut mean, mut square) = (0.0, 0.0);
    for (truth, row) in confusion.iter().enumerate() {
        for (prediction, count) in row.iter().enumerate() {
            let share = *count as f64 / n;
            let slope = slope(truth, prediction);
            mean += share * slope;
            square += share * slope * slope;
        }
    }
    // As for recalls: a perfect score, or none at all, is no certainty.
    let certain = if value > 0.0 && value < 1.0 { 0.0 } else { 1.0 };
    let adjusted = (value * n + 2.0) / (n + 4.0);
    let floor = certain * adjusted * (1.0 - adjusted) / (n + 4.0);
    let variance = ((square - mean * mean) / n).max(floor);
    Some(around(value, variance, confidence))
}

/// Labelled rows of one bin of confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// Rows.
    pub rows: u64,
    /// Rows predicted right.
    pub correct: u64,
    /// Sum of their confidences.
    pub confidence: f64,
}

/// Expected calibration error: the mean gap between confidence and accuracy over the bins, weighted
/// by rows (Naeini et al. 2015). The interval adds the binomial deviation of each bin's gap, and its
/// lower end also takes off the mean size √(2/π) σ of the gaps that chance alone leaves in a
/// calibrated model: with few rows a bin these add up. `None` without rows.
#[must_use]
pub fn expected_calibration_error(bins: &[ReliabilityBin], confidence: f64) -> Option<Estimate> {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    if rows == 0 {
        return None;
    }
    let n = rows as f64;
    let filled = bins.iter().filter(|bin| bin.rows > 0);
    let (mut value, mut variance, mut chance) = (0.0, 0.0, 0.0);
    for bin in filled {
        let size = bin.rows as f64;
        let p = (bin.correct as f64 + 1.0) / (size + 2.0);
        value += (bin.correct as f64 - bin.confidence).abs() / n;
        let share = (size / n).powi(2) * p * (1.0 - p) / size;
        variance += share;
        chance += (share * std::f64::consts::FRAC_2_PI).sqrt();
    }
    let mut found = around(value.min(1.0), variance, confidence);
    found.interval.lower = (found.interval.lower - chance).max(0.0);
    Some(found)
}

fn around(value: f64, variance: f64, confidence: f64) -> Estimate {
    let half = critical_value(confidence) * variance.max(0.0).sqrt();
    let interval =
        Interval { lower: (value - half).max(0.0), upper: (value + half).min(1.0).max(value) };
    Estimate { value, interval }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    #[test]
    fn metrics_of_a_small_table() {
        // Two of class 0 right and one wrong; one of class 1 wrong and four right.
        let confusion = vec![vec![2, 1], vec![1, 4]];
        let near = |found: Option<Estimate>, expected: f64| {
            let found = found.expect("defined");
            assert!((found.value - expected).abs() < 1e-12, "{found:?} is not {expected}");
            assert!(found.interval.contains(found.value), "{found:?}");
        };
        near(accuracy(&confusion, 0.95), 6.0 / 8.0);
        near(balanced_accuracy(&confusion, 0.95), f64::midpoint(2.0 / 3.0, 4.0 / 5.0));
        near(f1_macro(&confusion, 0.95), f64::midpoint(4.0 / 6.0, 8.0 / 10.0));
        near(precision_macro(&confusion, 0.95), f64::midpoint(2.0 / 3.0, 4.0 / 5.0));
        let second = by_class(&confusion, 0.95)[1];
        near(second.precision, 4.0 / 5.0);
        near(second.recall, 4.0 / 5.0);
        near(second.f1, 4.0 / 5.0);
    }

    #[test]
    fn what_is_undefined_is_none() {
        let empty = vec![vec![0, 0], vec![0, 0]];
        assert_eq!(accuracy(&empty, 0.95), None);
        assert_eq!(balanced_accuracy(&empty, 0.95), None);
        assert_eq!(f1_macro(&empty, 0.95), None);
        let nobody = ClassCounts::default();
        assert_eq!((nobody.precision(), nobody.recall(), nobody.f1()), (None, None, None));
        assert_eq!(expected_calibration_error(&[], 0.95), None);
    }

    #[test]
    fn calibration_error_is_the_weighted_gap() {
        let bins = [
            ReliabilityBin { rows: 10, correct: 5, confidence: 8.0 },
            ReliabilityBin { rows: 30, correct: 30, confidence: 27.0 },
        ];
        let found = expected_calibration_error(&bins, 0.95).expect("defined");
        assert!((found.value - 6.0 / 40.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn few_rows_of_a_calibrated_model_are_no_error() {
        // Ten bins of ten rows, each off by one row: chance, though the error reads 0.1.
        let bins = [ReliabilityBin { rows: 10, correct: 7, confidence: 8.0 }; 10];
        let found = expected_calibration_error(&bins, 0.95).expect("defined");
        assert!((found.value - 0.1).abs() < 1e-12, "{found:?}");
        assert!(found.interval.lower < 1e-12 && found.interval.contains(0.1), "{found:?}");
        let bins = [ReliabilityBin { rows: 1000, correct: 500, confidence: 800.0 }; 10];
        let found = expected_calibration_error(&bins, 0.95).expect("defined");
        assert!(found.interval.lower > 0.27, "{found:?}");
    }

    #[test]
    fn all_right_and_all_wrong_are_no_certainty() {
        for confusion in [vec![vec![50, 0], vec![0, 50]], vec![vec![0, 50], vec![50, 0]]] {
            let found = f1_macro(&confusion, 0.95).expect("defined");
            let [lower, upper] = found.interval.ends();
            assert!(upper - lower > 0.02, "{found:?}");
        }
    }

    #[test]
    fn intervals_cover() {
        // Exact truth: balanced classes, 80 % right, so all metrics are 0.8. 1,000 samples of 300.
        let (mut random, mut covered) = (Random::new(11), [0u32; 6]);
        for _ in 0..1000 {
            let mut confusion = vec![vec![0; 2]; 2];
            for _ in 0..300 {
                let truth = usize::from(random.is(0.5));
                let prediction = if random.is(0.8) { truth } else { 1 - truth };
                confusion[truth][prediction] += 1;
            }
            let all = [f1_macro, balanced_accuracy, precision_macro];
            let overall = all.into_iter().map(|metric| metric(&confusion, 0.95));
            let single = by_class(&confusion, 0.95)[0];
            let found = overall.chain([single.precision, single.recall, single.f1]);
            for (found, covered) in found.zip(&mut covered) {
                *covered += u32::from(found.expect("rows").interval.contains(0.8));
            }
        }
        let holds = covered.iter().all(|covered| (920..=980).contains(covered));
        assert!(holds, "{covered:?} of 1000");
    }

    proptest! {
        #[test]
        fn metrics_lie_in_their_intervals_and_between_0_and_1(
            cells in prop::collection::vec(0u64..200, 9)
        ) {
            let confusion: Vec<Vec<u64>> = cells.chunks(3).map(<[u64]>::to_vec).collect();
            let all = [accuracy, balanced_accuracy, f1_macro, precision_macro];
            let overall = all.into_iter().map(|metric| metric(&confusion, 0.95));
            let single = by_class(&confusion, 0.95);
            let single = single.iter().flat_map(|class| [class.precision, class.recall, class.f1]);
            for found in overall.chain(single).flatten() {
                prop_assert!((0.0..=1.0).contains(&found.value));
                prop_assert!(found.interval.contains(found.value), "{found:?}");
                prop_assert!(found.interval.lower >= 0.0 && found.interval.upper <= 1.0);
            }
        }
    }
}
