//! What distances are made of when nothing changed: the law of a divergence under chance alone.

use std::f64::consts::{FRAC_2_PI, PI};

use statrs::distribution::{ChiSquared, Continuous, ContinuousCDF};
use statrs::function::gamma::ln_gamma;

use crate::Estimate;
use crate::interval::{Interval, critical_value, normal_quantile, upper_quantile};

/// The law of a divergence under no change.
pub(crate) struct Chance {
    /// What one squared normal deviation weighs.
    unit: f64,
    law: Law,
    /// What is added to make the mean right.
    shift: f64,
}

/// In units.
#[derive(Debug, Clone, Copy)]
enum Law {
    /// χ² of so many degrees of freedom.
    Sum(f64),
    /// The largest of so many independent χ²(1).
    Largest(f64),
}

impl Chance {
    /// `unit` times χ² with a degree of freedom fewer than bins.
    pub(super) fn sum(bins: usize, unit: f64) -> Self {
        Self { unit, law: Law::Sum(bins.saturating_sub(1) as f64), shift: 0.0 }
    }

    /// `scale` times the divergence whose second-order term on each bin is Pearson's, where bins are
    /// filled by a few rows: a multiple of χ² with the mean and variance of an expansion one order
    /// further.
    ///
    /// With relative errors a and b of the shares of a bin, δ = a − b and σ = a + b, these divergences
    /// are δ² (1 − σ/2 + σ²/4 + `quartic` δ²), and a and b have the cumulants of a Poisson variable.
    pub(super) fn of_few_rows(shares: &[f64], n: f64, m: f64, scale: f64, quartic: f64) -> Self {
        let (size, freedom) = (1.0 / n + 1.0 / m, shares.len().saturating_sub(1) as f64);
        let (mut mean, mut variance) = (freedom * size, 2.0 * freedom * size * size);
        if shares.len() < 2 {
            return Self::sum(shares.len(), size * scale);
        }
        for share in shares {
            // Below a few rows the expansion is worth nothing.
            let s = 1.0 / (n * share).max(FEW);
            let t = 1.0 / (m * share).max(FEW);
            let (v, c) = (s + t, s - t);
            let more = (v * v + 2.0 * c * c) / 4.0 + 3.0 * quartic * v * v - (s * s + t * t) / 2.0;
            let square = 0.75 * (3.0 * v.powi(3) + 12.0 * v * c * c) + 30.0 * quartic * v.powi(3)
                - 9.0 * (s.powi(3) + t.powi(3))
                - 2.0 * s * t * v;
            mean += share * more;
            variance += share * share * (square - 2.0 * v * more);
        }
        let freedom = 2.0 * mean * mean / variance;
        Self { unit: scale * mean / freedom, law: Law::Sum(freedom), shift: 0.0 }
    }

    /// Σ wᵢ χ²(1), from the sums of the weights, of their squares and of their cubes: shifted χ² of
    /// the same mean, variance and skewness (Imhof 1961).
    pub(crate) fn weighted([first, second, third]: [f64; 3]) -> Self {
        if second <= 0.0 || third <= 0.0 {
            return Self { unit: 0.0, law: Law::Sum(0.0), shift: first };
        }
        let freedom = second.powi(3) / (third * third);
        let unit = (second / freedom).sqrt();
        Self { unit, law: Law::Sum(freedom), shift: first - unit * freedom }
    }

    /// What the true divergence is estimated as, and its interval: all that do not contradict what
    /// was found. `variance` is that of the divergence by the delta method.
    ///
    /// Near no change a divergence is a multiple of the noncentral χ², whose variance grows in
    /// proportion to what is true: the ends solve (found − true)² = z² k · true + e², k being the
    /// variance for each unit of divergence, and e what chance adds beyond its mean.
    pub(crate) fn interval(&self, divergence: f64, variance: f64, confidence: f64) -> Estimate {
        let (found, z) = (divergence - self.mean(), critical_value(confidence));
        let growth = if divergence > 0.0 { z * z * variance / divergence } else { 0.0 };
        let half = |excess: f64| {
            (growth * growth + 4.0 * (growth * found + excess * excess)).max(0.0).sqrt() / 2.0
        };
        let middle = found + growth / 2.0;
        let above = self.isf((1.0 - confidence.clamp(0.0, 1.0)) / 2.0) - self.mean();
        let lower = if found > above { middle - half(above) } else { 0.0 };
        let upper = (middle + half(z * self.deviation())).max(found).max(0.0);
        Estimate { value: found.max(0.0), interval: Interval { lower: lower.max(0.0), upper } }
    }

    /// The largest of `bins` times `unit` χ²(1). Two bins always change alike: one deviation.
    pub(super) fn largest(bins: usize, unit: f64) -> Self {
        let law = if bins < 3 { return Self::sum(bins, unit) } else { Law::Largest(bins as f64) };
        Self { unit, law, shift: 0.0 }
    }

    /// The square of total variation between two samples of `shares`, `size` being 1/n + 1/m: half
    /// the sum of the absolute values of correlated normal deviations.
    ///
    /// Of skewed shares the tail is somewhat light: what it should exceed once in 200 it was seen to
    /// exceed once in 150.
    pub(super) fn total_variation(shares: &[f64], size: f64) -> Self {
        if shares.len() < 2 {
            return Self::sum(shares.len(), size);
        }
        let (mean, square) = absolute_moments(shares);
        Self::of_absolutes(mean * size.sqrt(), square * size)
    }

    /// The square of a weighted sum of absolute values of normal deviations, from the mean of the
    /// sum and of its square: that of the multiple of the χ law which has the same.
    pub(crate) fn of_absolutes(mean: f64, square: f64) -> Self {
        if square <= 0.0 {
            return Self::sum(0, 0.0);
        }
        let freedom = chi_freedom(mean * mean / square);
        Self { unit: square / freedom, law: Law::Sum(freedom), shift: 0.0 }
    }

    /// Its mean. Of the largest: that of Gumbel's law around the quantile which one in so many
    /// exceeds, of scale 2, the tail of χ² being exponential with that mean.
    pub(crate) fn mean(&self) -> f64 {
        self.shift
            + self.unit
                * match self.law {
                    Law::Sum(freedom) => freedom,
                    Law::Largest(bins) => chi_square_isf(1.0, 1.0 / bins) + 2.0 * EULER_GAMMA,
                }
    }

    /// Its standard deviation.
    pub(super) fn deviation(&self) -> f64 {
        self.unit
            * match self.law {
                Law::Sum(freedom) => (2.0 * freedom).sqrt(),
                Law::Largest(_) => 2.0 * PI / 6.0f64.sqrt(),
            }
    }

    /// What it exceeds with this probability.
    pub(crate) fn isf(&self, probability: f64) -> f64 {
        self.shift
            + self.unit
                * match self.law {
                    Law::Sum(freedom) => chi_square_isf(freedom, probability),
                    // All of them stay below with 1 − probability.
                    Law::Largest(bins) => {
                        chi_square_isf(1.0, -((-probability).ln_1p() / bins).exp_m1())
                    }
                }
    }
}

/// Rows of a bin from which on the expansion is trusted.
const FEW: f64 = 3.0;

/// Euler's constant, the mean of the standard Gumbel law.
const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

/// What χ² exceeds with a probability, by Newton's method on the logarithm of the upper tail, from
/// Wilson and Hilferty's approximation (1931).
fn chi_square_isf(freedom: f64, probability: f64) -> f64 {
    let Ok(law) = ChiSquared::new(freedom) else { return 0.0 };
    let probability = probability.clamp(1e-14, 1.0 - 1e-14);
    let spread = 2.0 / (9.0 * freedom);
    let root = 1.0 - spread + normal_quantile(1.0 - probability) * spread.sqrt();
    let mut number = freedom * root.max(0.1).powi(3);
    for _ in 0..30 {
        let (above, density) = (law.sf(number), law.pdf(number));
        let step = (above / probability).ln() * above / density;
        let next = (number + step).max(number / 8.0);
        if !next.is_finite() {
            break;
        }
        if (next - number).abs() <= 1e-13 * next {
            return next;
        }
        number = next;
    }
    upper_quantile(0.0, probability, |number| law.sf(number))
}

/// First and second moment of ½ Σ |dᵢ|, dᵢ normal with the covariances of one multinomial row.
fn absolute_moments(shares: &[f64]) -> (f64, f64) {
    let deviations: Vec<f64> = shares.iter().map(|share| (share * (1.0 - share)).sqrt()).collect();
    let odds: Vec<f64> = shares.iter().map(|share| share / (1.0 - share)).collect();
    let total: f64 = deviations.iter().sum();
    let squares: f64 = deviations.iter().map(|deviation| deviation * deviation).sum();
    let tilted = || deviations.iter().zip(&odds).map(|(deviation, odds)| deviation * odds);
    let (tilt, tilt_squares) =
        (tilted().sum::<f64>(), tilted().map(|part| part * part).sum::<f64>());
    // The product of the odds is ρ². For small bins the factor is 1 + ρ²/2: their pairs need no loop.
    let mut products = total * total - squares + (tilt * tilt - tilt_squares) / 2.0;
    for (one, odds_one) in odds.iter().enumerate().filter(|(_, odds)| **odds > LARGE) {
        for (other, odds_other) in odds.iter().enumerate().filter(|(other, _)| *other != one) {
            let square = (odds_one * odds_other).min(1.0);
            let more = absolute_product(square) - 1.0 - square / 2.0;
            let orders = if *odds_other > LARGE { 1.0 } else { 2.0 };
            products += orders * more * deviations[one] * deviations[other];
        }
    }
    (FRAC_2_PI.sqrt() * total / 2.0, (squares + FRAC_2_PI * products) / 4.0)
}

/// √(1−ρ²) + ρ asin ρ, from ρ²: times 2/π σσ' this is E|X||Y| of a normal pair (Nabeya 1951).
pub(crate) fn absolute_product(squared_correlation: f64) -> f64 {
    let root = squared_correlation.clamp(0.0, 1.0).sqrt();
    (1.0 - root * root).max(0.0).sqrt() + root * root.asin()
}

/// Odds above which a bin is taken one by one.
const LARGE: f64 = 0.05;

/// The degrees of freedom at which the squared mean of the χ law is so much of its mean square.
fn chi_freedom(ratio: f64) -> f64 {
    let of = |freedom: f64| {
        let log = ln_gamma((freedom + 1.0) / 2.0) - ln_gamma(freedom / 2.0);
        2.0 / freedom * (2.0 * log).exp()
    };
    let (mut low, mut high) = (0.5f64, 1e5f64);
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if of(middle) < ratio {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn two_bins_are_one_deviation() {
        let chance = Chance::total_variation(&[0.3, 0.7], 0.01);
        assert!((chance.mean() - 0.01 * 0.21).abs() < 1e-9, "{}", chance.mean());
        assert!((chance.deviation() / chance.mean() - 2.0f64.sqrt()).abs() < 1e-6);
        assert!((chi_square_isf(1.0, 0.05) - 3.841_458_820_694_124).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_met_far_out() {
        for freedom in [0.5, 1.0, 2.0, 2.8, 9.0, 47.3, 500.0, 1e5] {
            let law = ChiSquared::new(freedom).expect("a law");
            for probability in [0.9, 0.5, 0.05, 1e-3, 1e-6, 1e-10] {
                let found = law.sf(chi_square_isf(freedom, probability));
                let near = (found / probability - 1.0).abs() < 1e-7;
                assert!(near, "{freedom}: {found} is not {probability}");
            }
        }
    }

    #[test]
    fn the_moments_of_total_variation_are_those_of_samples() {
        for shares in [vec![0.1; 10], vec![0.6, 0.2, 0.1, 0.05, 0.03, 0.02], vec![0.01; 100]] {
            let mut random = Random::new(8);
            let size = 1.0f64 / 20_000.0 + 1.0 / 20_000.0;
            let (mut mean, mut square) = (0.0, 0.0);
            for _ in 0..300 {
                let (a, b) = (random.counts(&shares, 20_000), random.counts(&shares, 20_000));
                let gap = |(a, b): (&u64, &u64)| a.abs_diff(*b) as f64 / 20_000.0;
                let distance: f64 = a.iter().zip(&b).map(gap).sum::<f64>() / 2.0;
                mean += distance / 300.0;
                square += distance * distance / 300.0;
            }
            let (first, second) = absolute_moments(&shares);
            assert!((mean / (first * size.sqrt()) - 1.0).abs() < 0.05, "{shares:?}");
            assert!((square / (second * size) - 1.0).abs() < 0.1, "{shares:?}");
        }
    }
}
