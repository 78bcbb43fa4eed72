//! Distances between two samples counted on the same bins.
//!
//! Plain estimates of a distance are biased upwards: two samples of one distribution never have
//! distance 0, and the fewer rows, the farther apart they look. So each [`Estimate`] subtracts what
//! chance alone is expected to add. Its interval is the set of distances that the samples do not
//! contradict: the lower end leaves 0 exactly when chance alone would exceed what was found with no
//! more than half of 1 − confidence, also where that is one in a million.
//!
//! With n and m rows and B bins that hold anything, and no change, PSI is distributed as
//! (1/n + 1/m) χ²(B−1), and the Jensen-Shannon divergence in nats as an eighth of that (second-order
//! expansion of the divergences around equality; Lin 1991, Yurdakul & Naranjo 2020 for PSI). That
//! asks for some rows in each bin, so estimates take all bins of which the smaller sample is
//! expected to hold fewer than five rows as one bin, and expand the divergences one order further.

pub(crate) mod chance;
mod homogeneity;
mod shares;
#[cfg(test)]
mod tests;

use chance::Chance;
pub use homogeneity::{Test, chi_square, cramers_v};
use shares::{Shares, rows};

use crate::Estimate;
use crate::interval::Interval;

/// A distance between two histograms on the same bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Population stability index, Σ (p−q) ln(p/q); from 0, no upper bound. No unit.
    Psi,
    /// Jensen-Shannon distance, the square root of the divergence in bits; 0 to 1.
    JensenShannon,
    /// Hellinger distance, √(Σ (√p−√q)²) / √2; 0 to 1.
    Hellinger,
    /// Total variation, half of Σ |p−q|; 0 to 1.
    TotalVariation,
    /// Largest change of one bin, max |p−q|; 0 to 1.
    LInfinity,
}

impl Method {
    /// The largest possible value, where there is one.
    #[must_use]
    pub fn upper_bound(self) -> f64 {
        if self == Self::Psi { f64::INFINITY } else { 1.0 }
    }

    /// The statistic as other tools print it, of all bins and with no regard to chance.
    ///
    /// `None` when either sample is empty or the bins differ in number, and of [`Method::Psi`] where
    /// one sample alone leaves a bin empty: there it is infinite.
    #[must_use]
    pub fn plain(self, reference: &[u64], current: &[u64]) -> Option<f64> {
        let sum: f64 = self.terms(reference, current)?.iter().sum();
        Some(if self.is_root() { sum.sqrt() } else { sum })
    }

    /// What each bin adds to the plain statistic, or to its square where it is a root (Jensen-Shannon
    /// and Hellinger); of L∞ the bin that changed most adds all. None is below 0. `None` as for
    /// [`Method::plain`].
    #[must_use]
    pub fn terms(self, reference: &[u64], current: &[u64]) -> Option<Vec<f64>> {
        let (n, m) = rows(reference, current)?;
        let shares = reference.iter().zip(current).map(|(a, b)| (*a as f64 / n, *b as f64 / m));
        let mut terms: Vec<f64> = shares.map(|(p, q)| self.term(p, q)).collect::<Option<_>>()?;
        if self == Self::LInfinity {
            let largest = terms.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            let largest = largest.map(|(index, _)| index);
            let others = |(index, _): &(usize, &mut f64)| Some(*index) != largest;
            terms.iter_mut().enumerate().filter(others).for_each(|(_, term)| *term = 0.0);
        }
        Some(terms)
    }

    fn term(self, p: f64, q: f64) -> Option<f64> {
        // 0 ln 0 is 0.
        let entropy = |share: f64, ratio: f64| if share > 0.0 { share * ratio.log2() } else { 0.0 };
        Some(match self {
            Self::Psi if p + q == 0.0 => 0.0,
            Self::Psi if p == 0.0 || q == 0.0 => return None,
            Self::Psi => (p - q) * (p / q).ln(),
            Self::JensenShannon => {
                let middle = f64::midpoint(p, q);
                (f64::midpoint(entropy(p, p / middle), entropy(q, q / middle))).max(0.0)
            }
            Self::Hellinger => (p.sqrt() - q.sqrt()).powi(2) / 2.0,
            Self::TotalVariation => (p - q).abs() / 2.0,
            Self::LInfinity => (p - q).abs(),
        })
    }

    fn is_root(self) -> bool {
        matches!(self, Self::JensenShannon | Self::Hellinger)
    }

    /// The distance with its interval; `None` when either sample is empty, the bins differ in number,
    /// or one sample is so small that none of several bins is expected to hold two of its rows.
    ///
    /// A bin that one sample alone leaves empty is taken for half a row there, so that a bin that was
    /// never seen before is a large but finite change.
    #[must_use]
    pub fn estimate(self, reference: &[u64], current: &[u64], confidence: f64) -> Option<Estimate> {
        let shares = Shares::new(reference, current)?;
        let (divergence, gradient) = self.divergence(&shares);
        let chance = self.chance(&shares.pooled(), shares.n, shares.m);
        let mut found = chance.interval(divergence, shares.variance(&gradient), confidence);
        if self == Self::TotalVariation {
            // Noise adds to each bin's change, not to its square. By the triangle inequality it moves
            // the whole by at most its own total variation.
            let noise = chance.isf((1.0 - confidence.clamp(0.0, 1.0)) / 2.0).sqrt();
            let plain = divergence.sqrt();
            let (lower, upper) = ((plain - noise).max(0.0).powi(2), (plain + noise).powi(2));
            found.interval = Interval { lower: lower.min(found.value), upper };
        }
        let Interval { lower, upper } = found.interval;
        let [value, lower, upper] = [found.value, lower, upper].map(|end| self.distance_of(end));
        Some(Estimate { value, interval: Interval { lower, upper } })
    }

    /// How far apart two samples of these sizes may be estimated to be without a change, at a
    /// one-sided confidence, on `bins` filled bins: a tolerance below it cannot be judged with so
    /// few rows. Infinite when either sample is empty.
    #[must_use]
    pub fn resolution(self, bins: usize, n: u64, m: u64, confidence: f64) -> f64 {
        if n == 0 || m == 0 {
            return f64::INFINITY;
        }
        let (bins, n, m) = (bins.max(2), n as f64, m as f64);
        // Of bins of all kinds, even ones vary most together and halves most alone.
        let chance = match self {
            Self::LInfinity => Chance::largest(bins, (1.0 / n + 1.0 / m) / 4.0),
            _ => self.chance(&vec![1.0 / bins as f64; bins], n, m),
        };
        let excess = chance.isf(1.0 - confidence.clamp(0.0, 1.0)) - chance.mean();
        self.distance_of(excess.max(0.0)).min(self.upper_bound())
    }

    /// What the divergence is distributed as under no change.
    ///
    /// It is a multiple of χ²(B−1), or near one. The square of L∞ is the largest of B squared normal
    /// deviations, each of at most the variance of the bin that varies most.
    fn chance(self, shares: &[f64], n: f64, m: f64) -> Chance {
        let (scale, quartic) = match self {
            Self::Psi => (1.0, 1.0 / 12.0),
            Self::JensenShannon => (1.0 / (8.0 * std::f64::consts::LN_2), 1.0 / 24.0),
            Self::Hellinger => (1.0 / 8.0, 1.0 / 16.0),
            Self::TotalVariation => return Chance::total_variation(shares, 1.0 / n + 1.0 / m),
            Self::LInfinity => {
                let widest = shares.iter().map(|share| share * (1.0 - share)).fold(0.0, f64::max);
                return Chance::largest(shares.len(), (1.0 / n + 1.0 / m) * widest);
            }
        };
        Chance::of_few_rows(shares, n, m, scale, quartic)
    }

    /// What the estimate is made for: the divergence whose chance is a χ², with its gradient with
    /// respect to (p, q).
    fn divergence(self, shares: &Shares) -> (f64, Vec<(f64, f64)>) {
        let pairs = shares.p.iter().zip(&shares.q);
        match self {
            Self::Psi => sum(pairs.map(|(p, q)| {
                let log = (p / q).ln();
                ((p - q) * log, (log + 1.0 - q / p, 1.0 - p / q - log))
            })),
            Self::JensenShannon => sum(pairs.map(|(p, q)| {
                let m = f64::midpoint(*p, *q);
                let (left, right) = ((p / m).log2() / 2.0, (q / m).log2() / 2.0);
                (p * left + q * right, (left, right))
            })),
            Self::Hellinger => sum(pairs.map(|(p, q)| {
                let root = p.sqrt() - q.sqrt();
                (root * root / 2.0, (root / (2.0 * p.sqrt()), -root / (2.0 * q.sqrt())))
            })),
            Self::TotalVariation => squared(sum(pairs.map(|(p, q)| {
                let slope = (p - q).signum() / 2.0;
                ((p - q).abs() / 2.0, (slope, -slope))
            }))),
            Self::LInfinity => {
                let change = |index: &usize| (shares.p[*index] - shares.q[*index]).abs();
                let largest = (0..shares.p.len()).max_by(|a, b| change(a).total_cmp(&change(b)));
                // One bin, also where several changed alike, as both of two bins always do.
                squared(sum(pairs.enumerate().map(|(index, (p, q))| {
                    let slope = if Some(index) == largest { (p - q).signum() } else { 0.0 };
                    (slope * (p - q), (slope, -slope))
                })))
            }
        }
    }

    fn distance_of(self, divergence: f64) -> f64 {
        match self {
            Self::Psi => divergence,
            _ => divergence.sqrt().min(1.0),
        }
    }
}

type Divergence = (f64, Vec<(f64, f64)>);

fn sum(terms: impl Iterator<Item = (f64, (f64, f64))>) -> Divergence {
    let (mut total, mut gradient) = (0.0, vec![]);
    for (term, slopes) in terms {
        total += term;
        gradient.push(slopes);
    }
    (total, gradient)
}

/// The square of a distance, gradient by the chain rule.
fn squared((value, gradient): Divergence) -> Divergence {
    let chained = gradient.into_iter().map(|(a, b)| (2.0 * value * a, 2.0 * value * b));
    (value * value, chained.collect())
}
