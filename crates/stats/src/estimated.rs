//! Performance without labels: what calibrated scores make one expect (confidence-based performance
//! estimation).
//!
//! If a row's score is the probability that its label is positive, then the number of hits among rows
//! is a sum of independent trials of known probabilities, whose mean and variance are sums over rows
//! that merge. The intervals hold for the rows of the window, and for as long as scores are
//! calibrated: a change of what the inputs mean for the label does not show here. Each result is an
//! estimate, and to be told as one.

use crate::Estimate;
use crate::interval::{Interval, critical_value};

/// Rows predicted alike, by the probabilities that their labels are positive.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Believed {
    /// Rows.
    pub rows: u64,
    /// Sum of the probabilities p.
    pub sum: f64,
    /// Sum of p (1 − p).
    pub spread: f64,
}

impl Believed {
    /// With one more row.
    pub fn observe(&mut self, probability: f64) {
        self.merge(&Self { rows: 1, sum: probability, spread: probability * (1.0 - probability) });
    }

    /// With the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.spread += other.spread;
    }

    /// The share of rows that are positive: of rows with the confidences of their predictions, the
    /// accuracy. `None` without rows.
    #[must_use]
    pub fn share(&self, confidence: f64) -> Option<Estimate> {
        let n = self.rows as f64;
        (self.rows > 0).then(|| around(self.sum / n, self.spread / (n * n), confidence))
    }
}

/// Rows of a binary classifier, by what it predicted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Binary {
    /// Predicted positive.
    pub positive: Believed,
    /// Predicted negative.
    pub negative: Believed,
}

impl Binary {
    /// Share predicted right.
    #[must_use]
    pub fn accuracy(&self, confidence: f64) -> Option<Estimate> {
        let n = (self.positive.rows + self.negative.rows) as f64;
        let right = self.positive.sum + self.negative.rows as f64 - self.negative.sum;
        let spread = self.positive.spread + self.negative.spread;
        (n > 0.0).then(|| around(right / n, spread / (n * n), confidence))
    }

    /// Share of the rows predicted positive that are. `None` without such rows.
    #[must_use]
    pub fn precision(&self, confidence: f64) -> Option<Estimate> {
        self.positive.share(confidence)
    }

    /// Share of the positive rows that are predicted so, by the delta method. `None` where no
    /// positive row is expected.
    #[must_use]
    pub fn recall(&self, confidence: f64) -> Option<Estimate> {
        let (hits, missed) = (self.positive.sum, self.negative.sum);
        let all = hits + missed;
        let by_hits = (missed / (all * all)).powi(2);
        let by_missed = (hits / (all * all)).powi(2);
        let variance = by_hits * self.positive.spread + by_missed * self.negative.spread;
        (all > 0.0).then(|| around(hits / all, variance, confidence))
    }

    /// Harmonic mean of precision and recall, by the delta method. `None` where no row is predicted
    /// positive and none expected to be.
    #[must_use]
    pub fn f1(&self, confidence: f64) -> Option<Estimate> {
        let (hits, missed) = (self.positive.sum, self.negative.sum);
        // 2 TP / (2 TP + FP + FN), where TP + FP is known.
        let size = self.positive.rows as f64 + hits + missed;
        let value = 2.0 * hits / size;
        let by_hits = ((2.0 - value) / size).powi(2);
        let by_missed = (value / size).powi(2);
        let variance = by_hits * self.positive.spread + by_missed * self.negative.spread;
        (size > 0.0).then(|| around(value, variance, confidence))
    }
}

/// The area under the ROC curve of rows in bins that ascend with the score, pairs in one bin counted
/// half, by the delta method. `None` where no positive or no negative row is expected.
#[must_use]
pub fn auc(bins: &[Believed], confidence: f64) -> Option<Estimate> {
    let positives: f64 = bins.iter().map(|bin| bin.sum).sum();
    let negatives: f64 = bins.iter().map(|bin| bin.rows as f64 - bin.sum).sum();
    if positives <= 0.0 || negatives <= 0.0 {
        return None;
    }
    let (mut below, mut above) = (0.0, positives);
    let mut won = 0.0;
    // What one more positive row in place of a negative one does to the pairs won.
    let mut gains = vec![];
    for bin in bins {
        let negative = bin.rows as f64 - bin.sum;
        above -= bin.sum;
        won += bin.sum * (below + negative / 2.0);
        gains.push(below + negative / 2.0 - above - bin.sum / 2.0);
        below += negative;
    }
    let value = won / positives / negatives;
    let slope = |gain: &f64| gain / positives / negatives - value / positives + value / negatives;
    let variance: f64 =
        bins.iter().zip(&gains).map(|(bin, gain)| bin.spread * slope(gain).powi(2)).sum();
    Some(around(value, variance, confidence))
}

fn around(value: f64, variance: f64, confidence: f64) -> Estimate {
    let value = value.clamp(0.0, 1.0);
    let half = critical_value(confidence) * variance.max(0.0).sqrt();
    let interval = Interval { lower: (value - half).max(0.0), upper: (value + half).min(1.0) };
    Estimate { value, interval }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::classification::classes;
    use crate::ranking;
    use crate::testing::Random;

    #[test]
    fn what_is_undefined_is_none() {
        let nothing = Binary::default();
        assert_eq!(nothing.accuracy(0.95), None);
        assert_eq!(nothing.precision(0.95), None);
        assert_eq!(nothing.recall(0.95), None);
        assert_eq!(nothing.f1(0.95), None);
        let sure = Believed { rows: 3, sum: 3.0, spread: 0.0 };
        assert_eq!(auc(&[sure], 0.95), None);
    }

    #[test]
    fn intervals_cover_what_labels_show() {
        let (mut random, mut covered) = (Random::new(12), [0u32; 4]);
        for _ in 0..1000 {
            let mut believed = Binary::default();
            let mut confusion = vec![vec![0; 2]; 2];
            for _ in 0..300 {
                let score = random.uniform().powi(2);
                let predicted = usize::from(score >= 0.5);
                let side = [&mut believed.negative, &mut believed.positive];
                side.into_iter().nth(predicted).expect("a side").observe(score);
                confusion[usize::from(random.is(score))][predicted] += 1;
            }
            let positive = classes(&confusion)[1];
            let right = (confusion[0][0] + confusion[1][1]) as f64 / 300.0;
            let truths = [Some(right), positive.precision(), positive.recall(), positive.f1()];
            let found = [
                believed.accuracy(0.95),
                believed.precision(0.95),
                believed.recall(0.95),
                believed.f1(0.95),
            ];
            for ((truth, found), covered) in truths.into_iter().zip(found).zip(&mut covered) {
                let interval = found.expect("rows").interval;
                *covered += u32::from(interval.contains(truth.expect("rows")));
            }
        }
        assert!(covered.iter().all(|covered| (920..=980).contains(covered)), "{covered:?}");
    }

    #[test]
    fn the_interval_of_the_area_covers_what_labels_show() {
        let (mut random, mut covered) = (Random::new(15), 0);
        for _ in 0..1000 {
            let mut believed = [Believed::default(); 10];
            let mut labels = [[0u64; 10]; 2];
            for _ in 0..200 {
                let score = random.uniform().powi(2);
                let bin = (score * 10.0) as usize;
                believed[bin].observe(score);
                labels[usize::from(random.is(score))][bin] += 1;
            }
            let truth = ranking::area(&labels[0], &labels[1]).expect("both labels").value;
            let found = auc(&believed, 0.95).expect("rows");
            covered += u32::from(found.interval.contains(truth));
        }
        assert!((925..=975).contains(&covered), "{covered} of 1000");
    }

    proptest! {
        #[test]
        fn estimates_are_bounded_and_in_their_intervals(
            scores in prop::collection::vec(0.0f64..=1.0, 1..60), threshold in 0.0f64..1.0
        ) {
            let mut believed = Binary::default();
            for score in scores {
                let side = if score >= threshold { &mut believed.positive } else { &mut believed.negative };
                side.observe(score);
            }
            let metrics = [Binary::accuracy, Binary::precision, Binary::recall, Binary::f1];
            for found in metrics.into_iter().filter_map(|metric| metric(&believed, 0.95)) {
                prop_assert!(found.interval.contains(found.value), "{found:?}");
                prop_assert!(found.interval.lower >= 0.0 && found.interval.upper <= 1.0);
            }
        }
    }
}
