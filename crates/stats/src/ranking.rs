//! How well scores rank positives above negatives, from a histogram of scores for each label.

use crate::Estimate;
use crate::interval::{Interval, critical_value, wilson};

/// An area under the ROC curve and its variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// The share of pairs of a positive and a negative row in which the positive one has the higher
    /// score, pairs in one bin counted half.
    pub value: f64,
    /// Its variance (Biometrics 44:837, 1988); `None` with one row of either label.
    pub variance: Option<f64>,
    /// How far the value may be from that of the scores themselves: half the share of the pairs that
    /// lie in one bin. Such pairs are counted half in earnest where a bin holds one score only.
    pub rounding: f64,
}

/// The area under the ROC curve. Bins ascend with the score. `None` without rows of both labels, or
/// when the bins differ in number.
#[must_use]
pub fn area(negatives: &[u64], positives: &[u64]) -> Option<Area> {
    let rows = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (n, m) = (rows(negatives), rows(positives));
    if negatives.len() != positives.len() || n < 1.0 || m < 1.0 {
        return None;
    }
    // A row's placement is the share of the other label that it outranks.
    let (mut below, mut above) = (0.0, m);
    let (mut of_positives, mut of_negatives) = (Spread::default(), Spread::default());
    let mut ties = 0.0;
    for (negative, positive) in negatives.iter().zip(positives) {
        let (negative, positive) = (*negative as f64, *positive as f64);
        above -= positive;
        of_positives.add(positive, (below + negative / 2.0) / n);
        of_negatives.add(negative, (above + positive / 2.0) / m);
        below += negative;
        ties += negative * positive;
    }
    let variances = of_positives.variance().zip(of_negatives.variance());
    Some(Area {
        value: of_positives.mean(),
        variance: variances.map(|(one, other)| one / m + other / n),
        rounding: ties / n / m / 2.0,
    })
}

/// The area under the ROC curve with its interval on the logit scale (Pepe 2003), which stays between
/// 0 and 1. Where all pairs are ranked alike, no variance is seen: then the interval is Wilson's for as
/// many trials as the rarer label has rows.
#[must_use]
pub fn auc(negatives: &[u64], positives: &[u64], confidence: f64) -> Option<Estimate> {
    let Area { value, variance, .. } = area(negatives, positives)?;
    let variance = variance.unwrap_or_default();
    let inside = value * (1.0 - value);
    if variance <= 0.0 || inside <= 0.0 {
        let rarer = negatives.iter().sum::<u64>().min(positives.iter().sum());
        let hits = (value * rarer as f64).round() as u64;
        let found = wilson(hits, rarer, confidence)?;
        let interval = Interval { lower: found.lower.min(value), upper: found.upper.max(value) };
        return Some(Estimate { value, interval });
    }
    let centre = (value / (1.0 - value)).ln();
    let half = critical_value(confidence) * variance.sqrt() / inside;
    let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    let interval = Interval { lower: back(centre - half), upper: back(centre + half) };
    Some(Estimate { value, interval })
}

/// Mean and variance of weighted numbers, in one pass (West 1979).
#[derive(Default)]
struct Spread {
    rows: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, rows: f64, number: f64) {
        if rows > 0.0 {
            self.rows += rows;
            let step = number - self.mean;
            self.mean += step * rows / self.rows;
            self.squares += rows * step * (number - self.mean);
        }
    }

    fn mean(&self) -> f64 {
        self.mean
    }

    fn variance(&self) -> Option<f64> {
        (self.rows > 1.0).then(|| self.squares / (self.rows - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    #[test]
    fn pairs_are_counted() {
        // Positives in bins 1 and 2, negatives in 0 and 1: three pairs won, one tied.
        let found = area(&[1, 1, 0], &[0, 1, 1]).expect("defined");
        assert!((found.value - 3.5 / 4.0).abs() < 1e-12, "{found:?}");
        assert!((found.rounding - 1.0 / 8.0).abs() < 1e-12, "{found:?}");
        assert_eq!(area(&[0, 0], &[1, 1]), None);
        assert_eq!(area(&[1], &[1, 1]), None);
    }

    #[test]
    fn a_perfect_ranking_is_no_certainty() {
        for (negatives, positives, value) in [([9, 0], [0, 30], 1.0), ([0, 30], [9, 0], 0.0)] {
            let found = auc(&negatives, &positives, 0.95).expect("defined");
            let [lower, upper] = found.interval.ends();
            assert!((found.value - value).abs() < 1e-12 && upper - lower > 0.2, "{found:?}");
        }
        assert!(auc(&[1], &[1], 0.95).expect("defined").interval.contains(0.5));
    }

    #[test]
    fn the_interval_covers() {
        // Two normal scores a deviation apart: the area is Φ(1/√2). 1,000 samples of 60 and 40.
        let truth = 0.760_249_938_906_523_3;
        let (mut random, mut covered) = (Random::new(6), 0);
        for _ in 0..1000 {
            let mut counts = [vec![0; 400], vec![0; 400]];
            for row in 0..100 {
                let label = usize::from(row >= 60);
                let score = random.normal() + label as f64;
                counts[label][((score + 8.0) * 25.0) as usize] += 1;
            }
            let found = auc(&counts[0], &counts[1], 0.95).expect("defined");
            covered += u32::from(found.interval.contains(truth));
        }
        assert!((930..=970).contains(&covered), "{covered} of 1000");
    }

    proptest! {
        #[test]
        fn the_area_is_bounded_mirrored_and_merges_within_its_rounding(
            counts in prop::collection::vec((0u64..50, 0u64..50), 4..20)
        ) {
            let (negatives, positives): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
            let Some(found) = area(&negatives, &positives) else { return Ok(()) };
            prop_assert!((0.0..=1.0).contains(&found.value));
            let mirrored = area(&positives, &negatives).expect("defined");
            prop_assert!((found.value + mirrored.value - 1.0).abs() < 1e-9);
            let merged = |counts: &[u64]| -> Vec<u64> {
                counts.chunks(2).map(|pair| pair.iter().sum()).collect()
            };
            let coarse = area(&merged(&negatives), &merged(&positives)).expect("defined");
            prop_assert!((coarse.value - found.value).abs() <= coarse.rounding + 1e-12);
            let estimate = auc(&negatives, &positives, 0.95).expect("defined");
            let Interval { lower, upper } = estimate.interval;
            prop_assert!(0.0 <= lower && lower <= estimate.value + 1e-12);
            prop_assert!(estimate.value <= upper + 1e-12 && upper <= 1.0);
        }
    }
}
