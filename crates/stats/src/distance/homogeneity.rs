//! Pearson's test of homogeneity.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::chance::Chance;
use crate::Estimate;
use crate::interval::Interval;
use crate::ordered::Measured;

/// Outcome of a test of the hypothesis that nothing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The statistic.
    pub statistic: f64,
    /// How likely at least so large a statistic is when nothing changed.
    pub p_value: f64,
}

/// Two-sample χ² test of homogeneity on the table of both samples; bins that are empty in both are
/// left out. `None` when either sample is empty or fewer than two bins are filled.
#[must_use]
pub fn chi_square(reference: &[u64], current: &[u64]) -> Option<Test> {
    let filled: Vec<(f64, f64)> = reference
        .iter()
        .zip(current)
        .filter(|(a, b)| **a + **b > 0)
        .map(|(a, b)| (*a as f64, *b as f64))
        .collect();
    let (n, m) = filled.iter().fold((0.0, 0.0), |(n, m), (a, b)| (n + a, m + b));
    if reference.len() != current.len() || n < 1.0 || m < 1.0 || filled.len() < 2 {
        return None;
    }
    let statistic: f64 = filled
        .iter()
        .map(|(a, b)| {
            let (expected_a, expected_b) = ((a + b) * n / (n + m), (a + b) * m / (n + m));
            (a - expected_a).powi(2) / expected_a + (b - expected_b).powi(2) / expected_b
        })
        .sum();
    let law = ChiSquared::new(filled.len() as f64 - 1.0).ok()?;
    Some(Test { statistic, p_value: law.sf(statistic) })
}

/// Cramér's V of the same table, the root of χ² per row: 0 for equal shares, 1 for samples that share no
/// bin. `None` as for [`chi_square`].
///
/// χ² is noncentral where something changed: its mean grows by what is true, and its variance by four
/// times that. The value is less what chance alone is expected to add.
#[must_use]
pub fn cramers_v(reference: &[u64], current: &[u64], confidence: f64) -> Option<Measured> {
    let statistic = chi_square(reference, current)?.statistic;
    let sum = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let rows = sum(reference) + sum(current);
    let bins = reference.iter().zip(current).filter(|(a, b)| **a + **b > 0).count();
    let (square, chance) = (statistic / rows, Chance::sum(bins, 1.0 / rows));
    let found = chance.interval(square, 4.0 * square / rows, confidence);
    let root = |square: f64| square.sqrt().min(1.0);
    let Interval { lower, upper } = found.interval;
    let interval = Interval { lower: root(lower), upper: root(upper) };
    let excess = chance.isf(1.0 - confidence.clamp(0.0, 1.0)) - chance.mean();
    let estimate = Estimate { value: root(found.value), interval };
    Some(Measured { estimate, resolution: root(excess.max(0.0)) })
}
