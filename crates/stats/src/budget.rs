//! How sure each check must be for alarms that nothing caused to stay rare.
//!
//! The rule is Bonferroni's, for the expected number of false alarms and over all that is looked at:
//! every check of every window may err with the same probability, so that the sum of these
//! probabilities over a month is the number of alarms that is allowed. An expectation adds up whatever
//! depends on whatever, and columns do depend on one another, as do windows; nothing is assumed of
//! either, and nothing is lost by it: with fewer alarms expected than allowed, the budget would not be
//! spent. (The chance of *any* alarm is smaller than their expected number, and can be much smaller
//! where checks go together; who is paged counts alarms.)
//!
//! A false discovery rate (Benjamini & Hochberg 1995) would not do: it bounds the share of alarms that
//! are false, and where nothing changed, that share is 1 with the first alarm. Nor would a limit for one
//! window: a month has 720 hours.
//!
//! Intervals in this crate put half of 1 − confidence on each side, and an alarm needs the lower end (or
//! the upper one) beyond the tolerance, so a check with a confidence of 1 − 2e errs with e at most.
//! That asks for intervals whose error is what they say far out, too: the distances of this crate are
//! built and tested for it, and of a share of rare events [`clopper_pearson`] is the one to take.
//!
//! [`clopper_pearson`]: crate::interval::clopper_pearson
//!
//! Where the true value lies below the tolerance, it errs more rarely: the budget is a bound.

/// The confidence for each check: `alarms_per_month` false ones are allowed of `checks` on each of
/// `windows_per_month` windows. `None` when one of the numbers is not above 0 or not finite, and when
/// so few alarms are allowed of so many checks (under 1e-12 each) that no interval can tell.
///
/// Where the budget allows half of all checks to alarm, the confidence is 0.
#[must_use]
pub fn confidence(alarms_per_month: f64, windows_per_month: f64, checks: u64) -> Option<f64> {
    let looks = windows_per_month * checks as f64;
    let valid = |number: f64| number > 0.0 && number.is_finite();
    if !valid(alarms_per_month) || !valid(looks) {
        return None;
    }
    let error = alarms_per_month / looks;
    (error >= SMALLEST_ERROR).then(|| 1.0 - 2.0 * error.min(0.5))
}

/// The false alarms that are expected in a month with this confidence, at most.
#[must_use]
pub fn expected_alarms(confidence: f64, windows_per_month: f64, checks: u64) -> f64 {
    (1.0 - confidence.clamp(0.0, 1.0)) / 2.0 * windows_per_month * checks as f64
}

/// Where 1 − confidence still has four digits.
const SMALLEST_ERROR: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Estimate;
    use crate::distance::Method;
    use crate::testing::Random;

    #[test]
    fn a_page_a_month_of_hourly_windows_asks_for_much() {
        let found = confidence(1.0, 720.0, 20).expect("valid");
        assert!((found - (1.0 - 2.0 / 14_400.0)).abs() < 1e-12, "{found}");
        assert_eq!(confidence(0.0, 720.0, 20), None);
        assert_eq!(confidence(1.0, f64::INFINITY, 20), None);
        assert_eq!(confidence(1.0, 720.0, 0), None);
        assert_eq!(confidence(1e-9, 1e6, 1_000_000), None);
        assert_eq!(confidence(100.0, 30.0, 1), Some(0.0));
    }

    /// Rows counted on the bins of four columns that depend on one another: each row has a mood,
    /// which half of its columns follow.
    fn table(random: &mut Random, rows: usize) -> Vec<Vec<u64>> {
        let shares = [0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.015, 0.005];
        let mut counts = vec![vec![0u64; shares.len()]; 4];
        for _ in 0..rows {
            let mood = random.counts(&shares, 1);
            for column in &mut counts {
                let own = random.counts(&shares, 1);
                let seen = if random.is(0.5) { &mood } else { &own };
                column.iter_mut().zip(seen).for_each(|(count, more)| *count += more);
            }
        }
        counts
    }

    #[test]
    fn months_without_a_change_stay_within_the_budget() {
        // A hundred months of 96 windows, 300 rows each, against a reference of 3,000 rows; two false
        // alarms a month are allowed, and no tolerance helps.
        let (months, windows, allowed) = (100, 96, 2.0);
        let confidence = confidence(allowed, f64::from(windows), 4).expect("valid");
        let methods = [Method::JensenShannon, Method::Hellinger, Method::Psi];
        let (mut random, mut alarms) = (Random::new(17), [0u32; 3]);
        for _ in 0..months {
            let reference = table(&mut random, 3000);
            for _ in 0..windows {
                let current = table(&mut random, 300);
                for (method, alarms) in methods.iter().zip(&mut alarms) {
                    let columns = reference.iter().zip(&current);
                    let found = columns.map(|(was, is)| method.estimate(was, is, confidence));
                    let alarm = |found: &Option<Estimate>| {
                        found.is_some_and(|found| found.interval.lower > 0.0)
                    };
                    *alarms += found.filter(alarm).count() as u32;
                }
            }
        }
        // Three standard deviations of a Poisson number, of which months of one reference have more.
        let most = allowed * f64::from(months) + 3.0 * (allowed * f64::from(months)).sqrt();
        assert!(alarms.iter().all(|alarms| f64::from(*alarms) <= most), "{alarms:?} of {most}");
        assert!(alarms.iter().all(|alarms| f64::from(*alarms) >= most / 4.0), "{alarms:?}");
    }

    proptest! {
        #[test]
        fn the_budget_is_what_is_expected(
            alarms in 0.01f64..10.0, windows in 30.0f64..10_000.0, checks in 1u64..10_000
        ) {
            let found = confidence(alarms, windows, checks).expect("valid");
            prop_assert!((0.0..1.0).contains(&found));
            let expected = expected_alarms(found, windows, checks);
            prop_assert!(expected <= alarms * (1.0 + 1e-6));
            // More to look at, or fewer alarms allowed, asks for more.
            prop_assert!(confidence(alarms, windows * 2.0, checks).expect("valid") >= found);
            prop_assert!(confidence(alarms / 2.0, windows, checks).expect("valid") >= found);
        }
    }
}
