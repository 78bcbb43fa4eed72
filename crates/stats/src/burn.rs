//! How fast an error budget is used up (Site Reliability Workbook, chapter 5).

use crate::Estimate;
use crate::interval::{Interval, clopper_pearson};

/// Events of a time window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// Those that missed the objective.
    pub bad: u64,
    /// All.
    pub total: u64,
}

/// Burns that are told: a rate over a long window, and still over a short one, so that the alert
/// ends soon after its cause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Burn rate above which it is told; 1 uses up the budget of 30 days in 30 days.
    pub factor: f64,
    /// Minutes of the long window.
    pub long_minutes: u32,
    /// Minutes of the short one.
    pub short_minutes: u32,
}

/// The workbook's three: two percent of a month's budget in an hour, five in six hours, ten in three
/// days.
pub const RULES: [Rule; 3] = [
    Rule { factor: 14.4, long_minutes: 60, short_minutes: 5 },
    Rule { factor: 6.0, long_minutes: 6 * 60, short_minutes: 30 },
    Rule { factor: 1.0, long_minutes: 3 * 24 * 60, short_minutes: 6 * 60 },
];

/// How many times faster than allowed the budget of an objective (the share of events that must be
/// good) is used up, with the exact interval of the share of bad events. `None` without events, and
/// for an objective that leaves no budget.
#[must_use]
pub fn burn_rate(events: Events, objective: f64, confidence: f64) -> Option<Estimate> {
    let budget = 1.0 - objective;
    if budget <= 0.0 || budget > 1.0 {
        return None;
    }
    let interval = clopper_pearson(events.bad, events.total, confidence)?;
    let value = events.bad as f64 / events.total as f64 / budget;
    let interval = Interval { lower: interval.lower / budget, upper: interval.upper / budget };
    Some(Estimate { value, interval })
}

impl Rule {
    /// Whether the budget burns by this rule: with confidence over the long window, and by the
    /// figure itself over the short one, whose events are few. `None` when either has fewer than
    /// `min_events`, or the objective leaves no budget.
    #[must_use]
    pub fn burns(
        &self,
        long: Events,
        short: Events,
        objective: f64,
        min_events: u64,
        confidence: f64,
    ) -> Option<bool> {
        if long.total.min(short.total) < min_events.max(1) {
            return None;
        }
        let over_long = burn_rate(long, objective, confidence)?.interval.lower > self.factor;
        let over_short = burn_rate(short, objective, confidence)?.value > self.factor;
        Some(over_long && over_short)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    #[test]
    fn rules_use_up_what_they_say() {
        let month = 30.0 * 24.0 * 60.0;
        for (rule, share) in RULES.into_iter().zip([0.02, 0.05, 0.1]) {
            let used = rule.factor * f64::from(rule.long_minutes) / month;
            assert!((used - share).abs() < 1e-12, "{rule:?}: {used}");
            assert_eq!(rule.long_minutes / rule.short_minutes, 12);
        }
    }

    #[test]
    fn both_windows_must_burn_with_enough_events() {
        let events = |bad, total| Events { bad, total };
        for (long, short, expected) in [
            (events(200, 1000), events(20, 100), Some(true)),
            (events(200, 1000), events(0, 100), Some(false)), // over by now
            (events(150, 1000), events(50, 100), Some(false)), // 15 times, perhaps by chance
            (events(10, 1000), events(1, 100), Some(false)),
            (events(9, 10), events(9, 10), None),
            (events(200, 1000), events(0, 0), None),
        ] {
            let found = RULES[0].burns(long, short, 0.99, 50, 0.95);
            assert_eq!(found, expected, "{long:?} {short:?}");
        }
        assert_eq!(burn_rate(events(1, 10), 1.0, 0.95), None);
        assert_eq!(burn_rate(events(0, 0), 0.9, 0.95), None);
    }

    #[test]
    fn a_budget_used_up_as_allowed_seldom_looks_faster() {
        // Also where a window has a tenth of a bad event in the mean: exactness is for that.
        let mut random = Random::new(2);
        for (objective, total) in [(0.9, 300), (0.99, 300), (0.9995, 200)] {
            let above = (0..2000)
                .filter(|_| {
                    let bad = random.binomial(total, 1.0 - objective);
                    let found = burn_rate(Events { bad, total }, objective, 0.95);
                    found.expect("events").interval.lower > 1.0
                })
                .count();
            assert!(above <= 70, "{objective}: {above} of 2000");
        }
    }

    proptest! {
        #[test]
        fn rates_lie_in_their_intervals(bad in 0u64..200, more in 1u64..500, nines in 1i32..5) {
            let objective = 1.0 - 10f64.powi(-nines);
            let found = burn_rate(Events { bad, total: bad + more }, objective, 0.95);
            let found = found.expect("events");
            prop_assert!(found.interval.contains(found.value) && found.interval.lower >= 0.0);
        }
    }
}
