//! Shares of two samples, made fit for asymptotics.

/// Shares of two samples on the bins that either fills.
pub(super) struct Shares {
    pub(super) p: Vec<f64>,
    pub(super) q: Vec<f64>,
    pub(super) n: f64,
    pub(super) m: f64,
}

/// Rows of the smaller sample that a bin is expected to hold at least; rarer bins are taken as one.
/// Cochran's rule of five (1954); where no bin has as many, two must do.
const EXPECTED: [f64; 2] = [5.0, 2.0];

/// The rows of both samples; none when either is empty or the bins differ in number.
pub(super) fn rows(reference: &[u64], current: &[u64]) -> Option<(f64, f64)> {
    let rows = |counts: &[u64]| counts.iter().map(|count| *count as f64).sum::<f64>();
    let (n, m) = (rows(reference), rows(current));
    (reference.len() == current.len() && n > 0.0 && m > 0.0).then_some((n, m))
}

impl Shares {
    pub(super) fn new(reference: &[u64], current: &[u64]) -> Option<Self> {
        let (n, m) = rows(reference, current)?;
        let expected = |(a, b): &(f64, f64)| (a + b) * n.min(m) / (n + m);
        let counts = reference.iter().zip(current).map(|(a, b)| (*a as f64, *b as f64));
        let filled: Vec<(f64, f64)> = counts.filter(|(a, b)| a + b > 0.0).collect();
        let most = filled.iter().map(expected).fold(0.0, f64::max);
        // Several bins, all of them rarer than that: nothing can be compared.
        let least = EXPECTED.into_iter().find(|least| most >= *least);
        let least = if filled.len() > 1 { least? } else { 0.0 };
        let (mut bins, rare): (Vec<_>, Vec<_>) =
            filled.into_iter().partition(|bin| expected(bin) >= least);
        if !rare.is_empty() {
            bins.push(rare.iter().fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b)));
        }
        let (mut p, mut q): (Vec<f64>, Vec<f64>) = bins.into_iter().unzip();
        for counts in [&mut p, &mut q] {
            // Half a row where only the other sample has any.
            counts.iter_mut().for_each(|count| *count = count.max(0.5));
            let total: f64 = counts.iter().sum();
            counts.iter_mut().for_each(|count| *count /= total);
        }
        Some(Self { p, q, n, m })
    }

    /// Shares of both samples together.
    pub(super) fn pooled(&self) -> Vec<f64> {
        let pooled = |(p, q): (&f64, &f64)| (p * self.n + q * self.m) / (self.n + self.m);
        self.p.iter().zip(&self.q).map(pooled).collect()
    }

    /// Variance of a smooth function of both samples by the delta method.
    pub(super) fn variance(&self, gradient: &[(f64, f64)]) -> f64 {
        let spread = |shares: &[f64], slopes: &mut dyn Iterator<Item = f64>| {
            let (mut mean, mut square) = (0.0, 0.0);
            for (share, slope) in shares.iter().zip(slopes) {
                mean += share * slope;
                square += share * slope * slope;
            }
            (square - mean * mean).max(0.0)
        };
        spread(&self.p, &mut gradient.iter().map(|slopes| slopes.0)) / self.n
            + spread(&self.q, &mut gradient.iter().map(|slopes| slopes.1)) / self.m
    }
}
