//! The exact test of two paired proportions, over the pairs in which they differ (Psychometrika 12:153,
//! 1947).

use statrs::distribution::{Binomial, DiscreteCDF};

/// Two-sided exact p-value: how likely discordant pairs split at least as unevenly as `b` against
/// `c` when both are equally likely. 1 without discordant pairs.
///
/// Information beside an interval of the difference, never the decision: it says nothing about
/// how large the difference is.
#[must_use]
pub fn exact(b: u64, c: u64) -> f64 {
    let discordant = b + c;
    if discordant == 0 {
        return 1.0;
    }
    // A probability of one half is always valid.
    Binomial::new(0.5, discordant).map_or(1.0, |fair| (2.0 * fair.cdf(b.min(c))).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_sums_of_binomial_coefficients() {
        // 2 · (1 + 14 + 91) / 2^14.
        assert!((exact(12, 2) - 212.0 / 16384.0).abs() < 1e-12);
        assert!((exact(2, 12) - exact(12, 2)).abs() < 1e-15);
        // SciPy 1.17.1: stats.binomtest(7, 25, .5).pvalue and stats.binomtest(60, 100, .5).pvalue.
        assert!((exact(7, 18) - 0.043_285_250_663_757_324).abs() < 1e-12);
        assert!((exact(60, 40) - 0.056_887_933_640_980_89).abs() < 1e-12);
        assert!((exact(0, 5) - 2.0 / 32.0).abs() < 1e-12);
        assert!((exact(3, 3) - 1.0).abs() < 1e-12);
        assert!((exact(0, 0) - 1.0).abs() < 1e-12);
    }
}
