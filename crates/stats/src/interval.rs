//! Intervals of proportions, their differences and ratios.

use statrs::distribution::{Beta, ContinuousCDF, Normal, StudentsT};

use crate::Estimate;

/// A closed interval, `lower <= upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// Both ends, lower first.
    #[must_use]
    pub fn ends(self) -> [f64; 2] {
        [self.lower, self.upper]
    }

    /// Whether a number lies inside.
    #[must_use]
    pub fn contains(self, number: f64) -> bool {
        self.lower <= number && number <= self.upper
    }
}

/// Quantile of the standard normal distribution; `probability` is kept within 1e-12 of 0 and 1.
#[must_use]
pub fn normal_quantile(probability: f64) -> f64 {
    Normal::standard().inverse_cdf(probability.clamp(1e-12, 1.0 - 1e-12))
}

/// The two-sided critical value: 1.96 for a confidence of 0.95.
#[must_use]
pub fn critical_value(confidence: f64) -> f64 {
    normal_quantile(0.5 + confidence.clamp(0.0, 1.0) / 2.0)
}

/// Wilson's score interval of a proportion (Wilson 1927).
///
/// Its error is what it should be in the mean over shares, and much more where less than one event is
/// expected and the confidence is high: [`clopper_pearson`] never errs more than it says.
///
/// `None` without trials.
#[must_use]
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let z = critical_value(confidence);
    let n = trials as f64;
    let p = successes.min(trials) as f64 / n;
    let centre = p + z * z / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // The ends meet 0 and 1 exactly there where rounding would miss them by a hair.
    let lower = if successes == 0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let upper = if successes >= trials { 1.0 } else { ((centre + half) / scale).min(1.0) };
    Some(Interval { lower, upper })
}

/// Clopper and Pearson's exact interval of a proportion (1934): never too narrow.
///
/// `None` without trials.
#[must_use]
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let tail = (1.0 - confidence.clamp(0.0, 1.0)) / 2.0;
    let (k, n) = (successes as f64, trials as f64);
    let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(p));
    let lower = if successes == 0 { 0.0 } else { quantile(k, n - k + 1.0, tail)? };
    let upper = if successes == trials { 1.0 } else { quantile(k + 1.0, n - k, 1.0 - tail)? };
    Some(Interval { lower, upper })
}

/// Newcombe's hybrid score interval of the difference of two independent proportions, first minus
/// second (Newcombe 1998, method 10).
///
/// `None` when either has no trials.
#[must_use]
pub fn newcombe(first: (u64, u64), second: (u64, u64), confidence: f64) -> Option<Interval> {
    let (a, b) = (wilson(first.0, first.1, confidence)?, wilson(second.0, second.1, confidence)?);
    let (p, q) = (first.0 as f64 / first.1 as f64, second.0 as f64 / second.1 as f64);
    let difference = p - q;
    let down = ((p - a.lower).powi(2) + (b.upper - q).powi(2)).sqrt();
    let up = ((a.upper - p).powi(2) + (q - b.lower).powi(2)).sqrt();
    Some(Interval { lower: (difference - down).max(-1.0), upper: (difference + up).min(1.0) })
}

/// Katz' interval of the ratio of two independent proportions, first to second, on the log scale
/// (Katz et al. 1978), with half an event added where one has none.
///
/// `None` when either has no trials.
#[must_use]
pub fn katz(first: (u64, u64), second: (u64, u64), confidence: f64) -> Option<Interval> {
    if first.1 == 0 || second.1 == 0 {
        return None;
    }
    let add = if first.0 == 0 || second.0 == 0 { 0.5 } else { 0.0 };
    let [(x, n), (y, m)] =
        [first, second].map(|(events, trials)| (events as f64 + add, trials as f64 + add));
    let deviation = (1.0 / x - 1.0 / n + 1.0 / y - 1.0 / m).max(0.0).sqrt();
    let centre = ((x / n) / (y / m)).ln();
    let half = critical_value(confidence) * deviation;
    Some(Interval { lower: (centre - half).exp(), upper: (centre + half).exp() })
}

/// Koopman's score interval of the ratio of two independent proportions, first to second (Koopman
/// 1984): 0 events of the first leave it a lower end of 0 and a finite upper one.
///
/// `None` when either has no trials, and when the second has no events.
#[must_use]
pub fn koopman(first: (u64, u64), second: (u64, u64), confidence: f64) -> Option<Interval> {
    if first.1 == 0 || second.1 == 0 || second.0 == 0 || first.0 > first.1 || second.0 > second.1 {
        return None;
    }
    let z = critical_value(confidence);
    let [first, second] = [first, second].map(|(events, trials)| (events as f64, trials as f64));
    let centre = (first.0 / first.1 / (second.0 / second.1)).ln().max(-LARGEST_LOG);
    let score = |log: f64| koopman_score(first, second, log.exp());
    let lower = bisect(-LARGEST_LOG, centre, |log| score(log) > z).exp();
    let upper = bisect(centre, LARGEST_LOG, |log| score(log) > -z).exp();
    Some(Interval { lower: if first.0 > 0.0 { lower } else { 0.0 }, upper })
}

/// Ratios beyond e^±40 do not occur among counts of 64 bits.
const LARGEST_LOG: f64 = 40.0;

/// Koopman's statistic for the hypothesis that the ratio is `ratio`, with the variance of the
/// restricted maximum likelihood, which solves a quadratic equation (Miettinen & Nurminen 1985).
fn koopman_score((x, n): (f64, f64), (y, m): (f64, f64), ratio: f64) -> f64 {
    let a = (n + m) * ratio;
    let b = n * ratio + x + m + y * ratio;
    let root = (b * b - 4.0 * a * (x + y)).max(0.0).sqrt();
    // The smaller root, written so that nothing cancels.
    let q = 2.0 * (x + y) / (b + root);
    let p = (q * ratio).min(1.0);
    let variance = p * (1.0 - p) / n + ratio * ratio * q * (1.0 - q).max(0.0) / m;
    standardised(x / n - ratio * y / m, variance)
}

/// Tango's score interval of the difference of two paired proportions (Tango 1998).
///
/// `only_first` pairs in which only the first was a success, `only_second` in which only the second
/// was, of `pairs` in all. The difference is first minus second. `None` without pairs.
#[must_use]
pub fn tango(only_first: u64, only_second: u64, pairs: u64, confidence: f64) -> Option<Interval> {
    if pairs == 0 || only_first + only_second > pairs {
        return None;
    }
    let (b, c, n) = (only_first as f64, only_second as f64, pairs as f64);
    let z = critical_value(confidence);
    let difference = (b - c) / n;
    // The score falls as the hypothesised difference rises; its roots at ±z are the ends.
    let score = |delta: f64| tango_score(b, c, n, delta);
    let lower = bisect(-1.0, difference, |delta| score(delta) > z);
    let upper = bisect(difference, 1.0, |delta| score(delta) > -z);
    Some(Interval { lower, upper })
}

/// Tango's statistic for the hypothesis that the difference is `delta`, equations (4) and (5):
/// the variance is that of the restricted maximum likelihood.
fn tango_score(b: f64, c: f64, n: f64, delta: f64) -> f64 {
    let qa = 2.0 * n;
    let qb = -b - c + (2.0 * n - b + c) * delta;
    let qc = -c * delta * (1.0 - delta);
    let root = (qb * qb - 4.0 * qa * qc).max(0.0).sqrt();
    let q21 = (root - qb) / (2.0 * qa);
    let variance = n * (2.0 * q21 + delta * (1.0 - delta));
    standardised(b - c - n * delta, variance)
}

/// A distance in standard deviations; without any, none at all or infinitely many.
fn standardised(distance: f64, variance: f64) -> f64 {
    if variance > 0.0 {
        distance / variance.sqrt()
    } else if distance == 0.0 {
        0.0
    } else {
        distance.signum() * f64::INFINITY
    }
}

/// Mean of paired differences with Student's interval.
///
/// `None` with fewer than two pairs, or when a difference is not finite.
#[must_use]
pub fn paired_mean(differences: &[f64], confidence: f64) -> Option<Estimate> {
    let n = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / n;
    if n < 2.0 || !mean.is_finite() {
        return None;
    }
    let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
    student(n, mean, squares / (n - 1.0), confidence)
}

/// Student's interval of a mean of `n` numbers of a variance; `None` when it is not finite.
pub(crate) fn student(n: f64, mean: f64, variance: f64, confidence: f64) -> Option<Estimate> {
    let law = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let tail = (1.0 - confidence.clamp(0.0, 1.0 - 1e-12)) / 2.0;
    let half = upper_quantile(0.0, tail, |number| law.sf(number)) * (variance / n).sqrt();
    let interval = Interval { lower: mean - half, upper: mean + half };
    half.is_finite().then_some(Estimate { value: mean, interval })
}

/// What a variable that is above `low` at least half the time exceeds with a probability, by halving
/// on its upper tail: there 1 − p would lose its digits, and some inverses stop at six of them.
pub(crate) fn upper_quantile(low: f64, probability: f64, sf: impl Fn(f64) -> f64) -> f64 {
    let probability = probability.max(1e-14);
    let mut high = low + 8.0;
    while sf(high) > probability && high < 1e300 {
        high = low + 2.0 * (high - low);
    }
    bisect(low, high, |number| sf(number) > probability)
}

/// The border between where `above` holds (from `low` up) and where it no longer does.
fn bisect(mut low: f64, mut high: f64, above: impl Fn(f64) -> bool) -> f64 {
    if !above(low) {
        return low;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if above(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: Option<Interval>, lower: f64, upper: f64, tolerance: f64) {
        let found = found.expect("defined");
        let near =
            (found.lower - lower).abs() < tolerance && (found.upper - upper).abs() < tolerance;
        assert!(near, "{found:?} is not [{lower}, {upper}]");
    }

    #[test]
    fn published_intervals_are_met() {
        // Newcombe 1998, Statistics in Medicine 17, table I: 81/263, score method.
        close(wilson(81, 263, 0.95), 0.2553, 0.3662, 5e-5);
        // The same table, Clopper-Pearson.
        close(clopper_pearson(81, 263, 0.95), 0.2527, 0.3676, 5e-5);
        // Newcombe 1998, ibid. 873, table II, method 10: 56/70 against 48/80.
        close(newcombe((56, 70), (48, 80), 0.95), 0.0524, 0.3339, 5e-5);
        close(newcombe((9, 10), (3, 10), 0.95), 0.1705, 0.8090, 5e-5);
    }

    #[test]
    fn scipy_agrees() {
        // SciPy 1.17.1: stats.binomtest(k, n).proportion_ci(.95, 'wilson'), ... 'exact').
        close(wilson(3, 10, 0.95), 0.107_791_267_406_301_02, 0.603_221_852_538_854_6, 1e-9);
        close(wilson(0, 20, 0.95), 0.0, 0.161_125_158_052_819_35, 1e-9);
        close(clopper_pearson(3, 10, 0.95), 0.066_739_511_177_734_47, 0.652_452_850_060_008, 1e-9);
        close(clopper_pearson(0, 20, 0.95), 0.0, 0.168_433_470_983_085_48, 1e-9);
        close(clopper_pearson(20, 20, 0.95), 0.831_566_529_016_914_5, 1.0, 1e-9);
        // stats.contingency.relative_risk(15, 100, 30, 120).confidence_interval(.95).
        close(
            katz((15, 100), (30, 120), 0.95),
            0.342_688_987_202_012_5,
            1.050_515_229_390_148_7,
            1e-9,
        );
        // stats.ttest_1samp(d, 0).confidence_interval(.95).
        let found = paired_mean(&[0.3, -0.1, 0.5, 0.2, 0.0, 0.4, 0.1], 0.95).expect("defined");
        assert!((found.value - 0.2).abs() < 1e-12);
        close(Some(found.interval), 0.000_210_483_970_859, 0.399_789_516_029_141, 1e-9);
        assert_eq!(paired_mean(&[1.0], 0.95), None);
        assert_eq!(paired_mean(&[1.0, f64::NAN], 0.95), None);
    }

    #[test]
    fn without_trials_there_is_no_interval() {
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(clopper_pearson(0, 0, 0.95), None);
        assert_eq!(newcombe((1, 2), (0, 0), 0.95), None);
        assert_eq!(katz((0, 0), (1, 2), 0.95), None);
        assert_eq!(tango(0, 0, 0, 0.95), None);
        assert_eq!(koopman((0, 0), (1, 2), 0.95), None);
        assert_eq!(koopman((1, 2), (0, 2), 0.95), None);
        let found = koopman((0, 20), (10, 20), 0.95).expect("defined");
        assert!(found.lower == 0.0 && (0.1..0.5).contains(&found.upper), "{found:?}");
    }

    #[test]
    fn tango_solves_its_own_equation() {
        for (b, c, n) in [(12u64, 2u64, 44u64), (5, 9, 100), (1, 0, 10), (300, 20, 700)] {
            let found = tango(b, c, n, 0.95).expect("defined");
            let z = critical_value(0.95);
            let score = |delta| tango_score(b as f64, c as f64, n as f64, delta);
            assert!((score(found.lower) - z).abs() < 1e-6, "{b} {c} {n}: {found:?}");
            assert!((score(found.upper) + z).abs() < 1e-6, "{b} {c} {n}: {found:?}");
        }
    }

    /// How likely `interval` has its lower end above the true share, exactly: a sum over all counts.
    fn error_below(
        interval: fn(u64, u64, f64) -> Option<Interval>,
        share: f64,
        confidence: f64,
    ) -> f64 {
        use statrs::distribution::{Binomial, Discrete};
        let law = Binomial::new(share, 500).expect("a share");
        let errs = |events: &u64| interval(*events, 500, confidence).expect("rows").lower > share;
        (0..=500).filter(errs).map(|events| law.pmf(events)).sum()
    }

    #[test]
    fn rare_events_ask_for_the_exact_interval() {
        let confidence = 1.0 - 2e-4;
        let shares = (1..80).map(|step| 1e-5 * 1.1f64.powi(step));
        let worst = |interval| {
            shares.clone().map(|share| error_below(interval, share, confidence)).fold(0.0, f64::max)
        };
        assert!(worst(clopper_pearson) <= 1e-4 * (1.0 + 1e-6));
        // Wilson's errs a hundred times as often as it says where less than an event is expected.
        assert!(worst(wilson) > 1e-2);
        assert!(error_below(wilson, 0.1, confidence) < 3e-4);
    }

    #[test]
    fn tango_covers_as_often_as_it_says() {
        // Exact coverage over all tables of 40 pairs with discordant probabilities 0.15 and 0.05:
        // the sum of the multinomial probabilities of the tables whose interval holds the truth.
        let (n, p, q) = (40u64, 0.15f64, 0.05f64);
        let ln_factorial = |k: u64| (1..=k).map(|i| (i as f64).ln()).sum::<f64>();
        let mut covered = 0.0;
        for b in 0..=n {
            for c in 0..=(n - b) {
                let rest = n - b - c;
                let ln_probability =
                    ln_factorial(n) - ln_factorial(b) - ln_factorial(c) - ln_factorial(rest)
                        + b as f64 * p.ln()
                        + c as f64 * q.ln()
                        + rest as f64 * (1.0 - p - q).ln();
                if tango(b, c, n, 0.95).expect("defined").contains(p - q) {
                    covered += ln_probability.exp();
                }
            }
        }
        assert!((0.93..=0.98).contains(&covered), "{covered}");
    }

    proptest! {
        #[test]
        fn intervals_hold_their_estimate_and_shrink_with_confidence(
            x in 0u64..500, more in 1u64..500, y in 0u64..500, rest in 1u64..500,
        ) {
            let (n, m) = (x + more, y + rest);
            let p = x as f64 / n as f64;
            let d = p - y as f64 / m as f64;
            let wide = wilson(x, n, 0.99).expect("defined");
            let narrow = wilson(x, n, 0.9).expect("defined");
            prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            prop_assert!(narrow.contains(p) && wide.lower >= 0.0 && wide.upper <= 1.0);
            prop_assert!(newcombe((x, n), (y, m), 0.95).expect("defined").contains(d));
            let exact = clopper_pearson(x, n, 0.95).expect("defined");
            prop_assert!(exact.contains(p));
        }

        #[test]
        fn the_paired_difference_is_antisymmetric(b in 0u64..60, c in 0u64..60, rest in 1u64..500) {
            let n = b + c + rest;
            let one = tango(b, c, n, 0.95).expect("defined");
            let other = tango(c, b, n, 0.95).expect("defined");
            prop_assert!((one.lower + other.upper).abs() < 1e-9);
            prop_assert!(one.contains((b as f64 - c as f64) / n as f64));
        }

        #[test]
        fn ratios_are_reciprocal(x in 1u64..200, y in 1u64..200, more in 0u64..300) {
            let (n, m) = (x + more, y + more);
            for interval in [katz, koopman] {
                let one = interval((x, n), (y, m), 0.95).expect("defined");
                let other = interval((y, m), (x, n), 0.95).expect("defined");
                prop_assert!((one.lower * other.upper - 1.0).abs() < 1e-9);
                let ratio = (x as f64 / n as f64) / (y as f64 / m as f64);
                prop_assert!(one.lower <= ratio + 1e-12 && ratio <= one.upper + 1e-12);
            }
        }
    }
}
