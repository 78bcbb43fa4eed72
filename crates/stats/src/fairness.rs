//! How differently groups are treated, from counts alone.
//!
//! Definitions follow Fairlearn: a difference is that of the largest and the smallest rate among the
//! groups, a ratio that of the smallest to the largest. The interval is that of the two groups which
//! are farthest apart, at a confidence raised by Bonferroni over all pairs, since they were picked
//! for being farthest apart.

use crate::Estimate;
use crate::interval::{Interval, koopman, newcombe};

/// A rate of one group: events of trials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRate {
    /// The group.
    pub group: String,
    /// Rows with the event.
    pub events: u64,
    /// Rows.
    pub trials: u64,
}

impl GroupRate {
    fn rate(&self) -> f64 {
        self.events as f64 / self.trials as f64
    }

    fn counts(&self) -> (u64, u64) {
        (self.events, self.trials)
    }
}

/// The two groups that are farthest apart, and how far.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The quantity.
    pub estimate: Estimate,
    /// The group with the highest rate.
    pub highest: String,
    /// The group with the lowest rate.
    pub lowest: String,
    /// Rows of the smaller of the two.
    pub n: u64,
}

/// Largest minus smallest rate; 0 is equal treatment. `None` with fewer than two groups of at least
/// `min_trials` rows (at least one).
#[must_use]
pub fn difference(rates: &[GroupRate], min_trials: u64, confidence: f64) -> Option<Gap> {
    let (highest, lowest, confidence) = extremes(rates, min_trials, confidence)?;
    let interval = newcombe(highest.counts(), lowest.counts(), confidence)?;
    gap(highest, lowest, Estimate { value: highest.rate() - lowest.rate(), interval })
}

/// Smallest to largest rate; 1 is equal treatment. `None` as for [`difference`], and when nobody has
/// the event: 0/0 is undefined.
#[must_use]
pub fn ratio(rates: &[GroupRate], min_trials: u64, confidence: f64) -> Option<Gap> {
    let (highest, lowest, confidence) = extremes(rates, min_trials, confidence)?;
    if highest.events == 0 {
        return None;
    }
    let found = koopman(lowest.counts(), highest.counts(), confidence)?;
    let value = lowest.rate() / highest.rate();
    let interval = Interval { lower: found.lower.min(value), upper: found.upper.max(value) };
    gap(highest, lowest, Estimate { value, interval })
}

/// The larger of the differences of the true and of the false positive rates: 0 when both kinds of
/// rows are predicted alike in all groups (Hardt, Price & Srebro 2016). `None` when either difference
/// is: what is not known of one may be worse.
#[must_use]
pub fn equalized_odds_difference(
    true_positives: &[GroupRate],
    false_positives: &[GroupRate],
    min_trials: u64,
    confidence: f64,
) -> Option<Gap> {
    let confidence = 1.0 - (1.0 - confidence) / 2.0;
    let first = difference(true_positives, min_trials, confidence)?;
    let second = difference(false_positives, min_trials, confidence)?;
    Some(if second.estimate.value > first.estimate.value { second } else { first })
}

/// The smaller of the ratios of the true and of the false positive rates. `None` when either is.
#[must_use]
pub fn equalized_odds_ratio(
    true_positives: &[GroupRate],
    false_positives: &[GroupRate],
    min_trials: u64,
    confidence: f64,
) -> Option<Gap> {
    let confidence = 1.0 - (1.0 - confidence) / 2.0;
    let first = ratio(true_positives, min_trials, confidence)?;
    let second = ratio(false_positives, min_trials, confidence)?;
    Some(if second.estimate.value < first.estimate.value { second } else { first })
}

/// How far the groups' calibrations are apart: the largest minus the smallest excess of the share of
/// positives over the mean score. Each rate comes with the mean score of its rows.
///
/// The interval is that of the difference of the shares, moved by the difference of the scores,
/// which are taken as they are: wider than needed where scores tell the labels apart.
#[must_use]
pub fn calibration_difference(
    positives: &[(GroupRate, f64)],
    min_trials: u64,
    confidence: f64,
) -> Option<Gap> {
    let large: Vec<&(GroupRate, f64)> =
        positives.iter().filter(|(rate, _)| rate.trials >= min_trials.max(1)).collect();
    let excess = |(rate, score): &(GroupRate, f64)| rate.rate() - score;
    let (highest, lowest) = farthest(&large, excess)?;
    let confidence = for_pairs(large.len(), confidence);
    let interval = newcombe(highest.0.counts(), lowest.0.counts(), confidence)?;
    let scores = highest.1 - lowest.1;
    let value = excess(highest) - excess(lowest);
    let interval =
        Interval { lower: interval.lower - scores, upper: (interval.upper - scores).max(value) };
    gap(&highest.0, &lowest.0, Estimate { value, interval })
}

fn gap(highest: &GroupRate, lowest: &GroupRate, estimate: Estimate) -> Option<Gap> {
    Some(Gap {
        estimate,
        highest: highest.group.clone(),
        lowest: lowest.group.clone(),
        n: highest.trials.min(lowest.trials),
    })
}

fn extremes(
    rates: &[GroupRate],
    min_trials: u64,
    confidence: f64,
) -> Option<(&GroupRate, &GroupRate, f64)> {
    let large: Vec<&GroupRate> =
        rates.iter().filter(|rate| rate.trials >= min_trials.max(1)).collect();
    let (highest, lowest) = farthest(&large, GroupRate::rate)?;
    Some((highest, lowest, for_pairs(large.len(), confidence)))
}

/// The two that are farthest apart, highest first.
fn farthest<'a, T>(all: &[&'a T], of: impl Fn(&T) -> f64) -> Option<(&'a T, &'a T)> {
    let order = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
    let indexed = || all.iter().map(|one| of(one)).enumerate();
    let highest = indexed().max_by(order)?.0;
    let lowest = indexed().filter(|(index, _)| *index != highest).min_by(order)?.0;
    Some((all[highest], all[lowest]))
}

/// The confidence that leaves its error to all pairs of groups together.
fn for_pairs(groups: usize, confidence: f64) -> f64 {
    1.0 - (1.0 - confidence) / (groups * (groups - 1) / 2) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    fn rate(group: &str, events: u64, trials: u64) -> GroupRate {
        GroupRate { group: group.to_owned(), events, trials }
    }

    #[test]
    fn the_extreme_groups_decide() {
        let rates = [rate("a", 50, 100), rate("b", 30, 100), rate("c", 45, 100)];
        let found = difference(&rates, 1, 0.95).expect("defined");
        assert_eq!((found.highest.as_str(), found.lowest.as_str(), found.n), ("a", "b", 100));
        assert!((found.estimate.value - 0.2).abs() < 1e-12);
        let quotient = ratio(&rates, 1, 0.95).expect("defined");
        assert!((quotient.estimate.value - 0.6).abs() < 1e-12);
    }

    #[test]
    fn more_pairs_ask_for_more() {
        let two = [rate("a", 50, 100), rate("b", 30, 100)];
        let three = [rate("a", 50, 100), rate("b", 30, 100), rate("c", 40, 100)];
        let width = |rates: &[GroupRate]| {
            let [lower, upper] =
                difference(rates, 1, 0.95).expect("defined").estimate.interval.ends();
            upper - lower
        };
        assert!(width(&three) > width(&two));
    }

    #[test]
    fn small_groups_and_undefined_ratios_are_none() {
        let rates = [rate("a", 5, 10), rate("b", 0, 3)];
        assert_eq!(difference(&rates, 5, 0.95), None);
        assert_eq!(difference(&[rate("a", 1, 2)], 1, 0.95), None);
        assert_eq!(difference(&[rate("a", 0, 0), rate("b", 1, 2)], 0, 0.95), None);
        assert_eq!(ratio(&[rate("a", 0, 10), rate("b", 0, 10)], 1, 0.95), None);
    }

    #[test]
    fn odds_are_those_of_the_worse_rate() {
        let hits = [rate("a", 80, 100), rate("b", 70, 100)];
        let alarms = [rate("a", 10, 100), rate("b", 30, 100)];
        let found = equalized_odds_difference(&hits, &alarms, 1, 0.95).expect("defined");
        assert!((found.estimate.value - 0.2).abs() < 1e-12 && found.highest == "b", "{found:?}");
        let quotient = equalized_odds_ratio(&hits, &alarms, 1, 0.95).expect("defined");
        assert!((quotient.estimate.value - 1.0 / 3.0).abs() < 1e-12, "{quotient:?}");
        // Nobody in b is negative: the false positive rates cannot be compared.
        let alarms = [rate("a", 10, 100), rate("b", 0, 0)];
        assert_eq!(equalized_odds_difference(&hits, &alarms, 1, 0.95), None);
    }

    #[test]
    fn calibration_takes_scores_off() {
        let groups = [(rate("a", 30, 100), 0.3), (rate("b", 50, 100), 0.4), (rate("c", 1, 2), 0.0)];
        let found = calibration_difference(&groups, 10, 0.95).expect("defined");
        assert!((found.estimate.value - 0.1).abs() < 1e-12 && found.highest == "b", "{found:?}");
        assert!(found.estimate.interval.contains(0.1) && found.estimate.interval.contains(0.0));
        assert_eq!(calibration_difference(&groups[..1], 10, 0.95), None);
    }

    #[test]
    fn chance_alone_seldom_looks_unfair() {
        // Five groups treated alike, the smallest of 30 rows: half of 5 % of 1,000 is 25.
        let (mut random, mut unfair) = (Random::new(8), [0u32; 3]);
        for share in [0.02, 0.3, 0.9] {
            for _ in 0..1000 {
                let groups = [30, 40, 100, 400, 1000].map(|trials| {
                    rate(&trials.to_string(), random.binomial(trials, share), trials)
                });
                let gap = difference(&groups, 1, 0.95).expect("defined").estimate.interval;
                let quotient = ratio(&groups, 1, 0.95).map(|found| found.estimate.interval);
                let scored = groups.map(|group| (group, share));
                let off = calibration_difference(&scored, 1, 0.95).expect("defined");
                unfair[0] += u32::from(gap.lower > 0.0);
                unfair[1] += u32::from(quotient.is_some_and(|quotient| quotient.upper < 1.0));
                unfair[2] += u32::from(off.estimate.interval.lower > 0.0);
            }
        }
        assert!(unfair.iter().all(|unfair| *unfair <= 100), "{unfair:?} of 3000");
    }

    #[test]
    fn intervals_cover_how_unfair_it_is() {
        // One group in two is selected, and of the other three in ten.
        let (mut random, mut covered) = (Random::new(19), [0u32; 2]);
        for _ in 0..1000 {
            let groups = [("a", 60, 0.5), ("b", 90, 0.3)]
                .map(|(name, trials, share)| rate(name, random.binomial(trials, share), trials));
            let gap = difference(&groups, 1, 0.95).expect("defined").estimate.interval;
            let quotient = ratio(&groups, 1, 0.95).expect("defined").estimate.interval;
            covered[0] += u32::from(gap.contains(0.2));
            covered[1] += u32::from(quotient.contains(0.6));
        }
        assert!(covered.iter().all(|covered| *covered >= 930), "{covered:?} of 1000");
    }

    proptest! {
        #[test]
        fn differences_and_ratios_are_bounded(
            counts in prop::collection::vec((0u64..100, 1u64..100), 2..8)
        ) {
            let rates: Vec<GroupRate> = counts
                .iter()
                .enumerate()
                .map(|(index, (events, more))| rate(&index.to_string(), *events, events + more))
                .collect();
            let found = difference(&rates, 1, 0.95).expect("defined");
            prop_assert!((0.0..=1.0).contains(&found.estimate.value));
            prop_assert!(found.estimate.interval.contains(found.estimate.value));
            if let Some(quotient) = ratio(&rates, 1, 0.95) {
                prop_assert!((0.0..=1.0).contains(&quotient.estimate.value));
                prop_assert!(quotient.estimate.interval.contains(quotient.estimate.value));
            }
        }
    }
}
