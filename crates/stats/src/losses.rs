//! Means of losses from sums that merge: mean absolute error, root mean squared error, Brier score, log
//! loss.

use crate::Estimate;
use crate::interval::{Interval, student};

/// Sums over rows of a number of each.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// Sum of the numbers.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
}

impl Sums {
    /// With one more row.
    pub fn observe(&mut self, number: f64) {
        self.merge(&Self { rows: 1, sum: number, squares: number * number });
    }

    /// With the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The mean with Student's interval: the mean absolute error when the numbers are absolute
    /// errors, the Brier score when they are [`squared_error`]s of probabilities, the log loss when
    /// they are [`log_loss`]es. `None` with fewer than two rows, or when a number was not finite.
    #[must_use]
    pub fn mean(&self, confidence: f64) -> Option<Estimate> {
        if self.rows < 2 {
            return None;
        }
        let n = self.rows as f64;
        let mean = self.sum / n;
        let variance = (self.squares - self.sum * mean).max(0.0) / (n - 1.0);
        student(n, mean, variance, confidence).filter(|found| found.value.is_finite())
    }

    /// The root of the mean, with that of its interval's ends: the root mean squared error when the
    /// numbers are squared errors. `None` also when the mean is below 0.
    #[must_use]
    pub fn root_mean(&self, confidence: f64) -> Option<Estimate> {
        let Estimate { value, interval } = self.mean(confidence)?;
        let interval =
            Interval { lower: interval.lower.max(0.0).sqrt(), upper: interval.upper.sqrt() };
        (value >= 0.0).then(|| Estimate { value: value.sqrt(), interval })
    }
}

/// The squared error of a probability of what was or was not so.
#[must_use]
pub fn squared_error(probability: f64, was: bool) -> f64 {
    (probability - f64::from(u8::from(was))).powi(2)
}

/// Smallest probability that a log loss takes for what happened: one row that was thought impossible
/// costs 13.8 and not infinitely much.
pub const SMALLEST_PROBABILITY: f64 = 1e-6;

/// The log loss, in nats, of a probability of what was or was not so.
#[must_use]
pub fn log_loss(probability: f64, was: bool) -> f64 {
    let likelihood = if was { probability } else { 1.0 - probability };
    -likelihood.clamp(SMALLEST_PROBABILITY, 1.0).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    fn of(numbers: &[f64]) -> Sums {
        let mut sums = Sums::default();
        numbers.iter().for_each(|number| sums.observe(*number));
        sums
    }

    #[test]
    fn few_rows_and_numbers_that_are_none_have_no_mean() {
        assert_eq!(of(&[]).mean(0.95), None);
        assert_eq!(of(&[1.0]).mean(0.95), None);
        assert_eq!(of(&[1.0, f64::NAN]).mean(0.95), None);
        assert_eq!(of(&[1.0, f64::INFINITY]).root_mean(0.95), None);
    }

    #[test]
    fn losses_of_a_row() {
        assert!((squared_error(0.8, true) - 0.04).abs() < 1e-12);
        assert!((squared_error(0.8, false) - 0.64).abs() < 1e-12);
        assert!((log_loss(0.5, false) - 2.0f64.ln()).abs() < 1e-12);
        assert!(log_loss(0.0, true) < 14.0 && log_loss(1.0, true) == 0.0);
    }

    #[test]
    fn the_interval_of_a_skewed_loss_covers() {
        // Log losses of calibrated scores, even on (0, 1): each costs 1/2 in the mean.
        let (mut random, mut covered) = (Random::new(3), 0);
        for _ in 0..1000 {
            let mut sums = Sums::default();
            for _ in 0..200 {
                let score = random.uniform();
                sums.observe(log_loss(score, random.is(score)));
            }
            covered += u32::from(sums.mean(0.95).expect("rows").interval.contains(0.5));
        }
        assert!((925..=975).contains(&covered), "{covered} of 1000");
    }

    proptest! {
        #[test]
        fn sums_merge(numbers in prop::collection::vec(0.0f64..1e3, 4..60), cut in 1usize..3) {
            let mut merged = of(&numbers[..cut]);
            merged.merge(&of(&numbers[cut..]));
            let (one, other) = (of(&numbers).mean(0.95), merged.mean(0.95));
            let (one, other) = (one.expect("rows"), other.expect("rows"));
            prop_assert!((one.value - other.value).abs() < 1e-9 * (1.0 + one.value));
            prop_assert!(one.interval.contains(one.value));
            let root = merged.root_mean(0.95).expect("rows");
            prop_assert!(root.interval.contains(root.value) && root.interval.lower >= 0.0);
        }
    }
}
