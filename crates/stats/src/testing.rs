//! What tests share: all distances, and random numbers for simulations, the same everywhere.

use crate::distance::Method;

/// All distances of unordered bins.
pub(crate) const METHODS: [Method; 5] = [
    Method::Psi,
    Method::JensenShannon,
    Method::Hellinger,
    Method::TotalVariation,
    Method::LInfinity,
];

/// Steele, Lea & Flood's generator (2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn is(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    pub(crate) fn binomial(&mut self, trials: u64, probability: f64) -> u64 {
        (0..trials).filter(|_| self.is(probability)).count() as u64
    }

    /// A standard normal number, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// So many rows, counted on bins of these shares.
    pub(crate) fn counts(&mut self, shares: &[f64], rows: u64) -> Vec<u64> {
        let total: f64 = shares.iter().sum();
        let mut sum = 0.0;
        let ends: Vec<f64> = shares
            .iter()
            .map(|share| {
                sum += share / total;
                sum
            })
            .collect();
        let mut counts = vec![0; shares.len()];
        for _ in 0..rows {
            let at = self.uniform();
            counts[ends.partition_point(|end| *end < at).min(shares.len() - 1)] += 1;
        }
        counts
    }
}
