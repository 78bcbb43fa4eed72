//! Distances of two samples on ordered bins: how far rows moved, not only how many.
//!
//! Values are the plain statistics that other tools print. Chance is in the interval: its lower end
//! leaves 0 only when the samples are farther apart than two of one distribution would be.

use std::f64::consts::FRAC_2_PI;

use crate::Estimate;
use crate::distance::Test;
use crate::distance::chance::{Chance, absolute_product};
use crate::interval::{Interval, normal_quantile};

/// A distance, and how much of one chance alone can make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The distance.
    pub estimate: Estimate,
    /// How far apart two samples of these sizes may look without a change, at the confidence that
    /// was asked for: a smaller tolerance cannot be judged with so few rows.
    pub resolution: f64,
}

/// Kolmogorov and Smirnov's two-sample test: the largest gap between the cumulative shares, with its
/// asymptotic p-value (Smirnov 1948). On samples with a bin of its own for each distinct value it is
/// the exact statistic, else at most the exact one. `None` when either sample is empty.
#[must_use]
pub fn kolmogorov_smirnov(reference: &[u64], current: &[u64]) -> Option<Test> {
    let gaps = Gaps::new(reference, current)?;
    let statistic = gaps.largest();
    Some(Test { statistic, p_value: kolmogorov_sf(statistic / gaps.scale()) })
}

/// The same gap as a distance from 0 to 1: its interval reaches Kolmogorov's quantile times
/// √(1/n + 1/m) to both sides, with half of 1 − confidence left, which covers under no change and is
/// wider than needed under one, where the gap varies by its own place only.
///
/// Of samples on bins with several values each, the gap is at most the exact one, and lacks of it at
/// most the largest share of one sample in one bin.
#[must_use]
pub fn kolmogorov_smirnov_distance(
    reference: &[u64],
    current: &[u64],
    confidence: f64,
) -> Option<Measured> {
    let gaps = Gaps::new(reference, current)?;
    let value = gaps.largest();
    let reach = |confidence: f64| kolmogorov_quantile(confidence) * gaps.scale();
    let half = reach(f64::midpoint(1.0, confidence));
    let interval = Interval { lower: (value - half).max(0.0), upper: (value + half).min(1.0) };
    Some(Measured {
        estimate: Estimate { value, interval },
        resolution: reach(confidence).min(1.0),
    })
}

/// First Wasserstein distance of two samples on the same edges, in the unit of the column: the area
/// between the cumulative shares, rows taken as spread evenly over their bin. `None` when either
/// sample is empty or the edges do not fit the bins.
///
/// It differs from that of the rows themselves by at most half of Σ width · (share of the reference +
/// share of the current sample), half a bin's width for each row of either; with a bin of no width
/// for each distinct value, and empty ones between them, not at all.
#[must_use]
pub fn wasserstein(reference: &[u64], current: &[u64], edges: &[f64]) -> Option<f64> {
    let widths = widths(edges, reference.len())?;
    Some(Gaps::new(reference, current)?.area(&widths))
}

/// What each bin adds to [`wasserstein`]: the area over it. The terms sum to the distance. `None` as
/// there.
#[must_use]
pub fn wasserstein_terms(reference: &[u64], current: &[u64], edges: &[f64]) -> Option<Vec<f64>> {
    let widths = widths(edges, reference.len())?;
    Some(Gaps::new(reference, current)?.areas(&widths).collect())
}

/// [`wasserstein`] with its interval, in the unit of the column.
///
/// The area is a norm of the gap, and sampling adds noise to the gap: by the triangle inequality it
/// moves the area by at most the area of the noise. So the interval reaches what that exceeds with
/// half of 1 − confidence to both sides, and the lower end leaves 0 exactly when chance alone would
/// exceed what was found no more often.
#[must_use]
pub fn wasserstein_distance(
    reference: &[u64],
    current: &[u64],
    edges: &[f64],
    confidence: f64,
) -> Option<Measured> {
    let widths = widths(edges, reference.len())?;
    let gaps = Gaps::new(reference, current)?;
    let noise = Noise::new(&gaps, &widths);
    let value = gaps.area(&widths);
    let reach = noise.exceeded_with((1.0 - confidence.clamp(0.0, 1.0)) / 2.0);
    let interval = Interval { lower: (value - reach).max(0.0), upper: value + reach };
    let resolution = noise.exceeded_with(1.0 - confidence.clamp(0.0, 1.0));
    let estimate = Estimate { value, interval };
    interval.upper.is_finite().then_some(Measured { estimate, resolution })
}

/// [`wasserstein_distance`] in standard deviations of the reference: 0.1 is a column moved by a tenth
/// of its spread. `None` also when the reference has none.
#[must_use]
pub fn normed_wasserstein(
    reference: &[u64],
    current: &[u64],
    edges: &[f64],
    confidence: f64,
) -> Option<Measured> {
    let Measured { estimate, resolution } =
        wasserstein_distance(reference, current, edges, confidence)?;
    let widths = widths(edges, reference.len())?;
    let rows: u64 = reference.iter().sum();
    // The identity as a height: the plain mean and variance of the column.
    let unit = variance(reference, rows as f64, &vec![1.0; widths.len()], &widths).sqrt();
    let Interval { lower, upper } = estimate.interval;
    let interval = Interval { lower: lower / unit, upper: upper / unit };
    let estimate = Estimate { value: estimate.value / unit, interval };
    // A reference of one value on a bin of no width has no spread to measure in.
    let measured = Measured { estimate, resolution: resolution / unit };
    (unit > 0.0 && interval.upper.is_finite()).then_some(measured)
}

/// Gaps between two cumulative distributions at the bins' ends, the first and last being 0.
struct Gaps {
    ends: Vec<f64>,
    pooled: Vec<f64>,
    n: f64,
    m: f64,
}

impl Gaps {
    fn new(reference: &[u64], current: &[u64]) -> Option<Self> {
        let (n, m) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
        if reference.len() != current.len() || n == 0 || m == 0 {
            return None;
        }
        let (mut a, mut b) = (0, 0);
        let (mut ends, mut pooled) = (vec![0.0], vec![0.0]);
        for (left, right) in reference.iter().zip(current) {
            a += left;
            b += right;
            ends.push(a as f64 / n as f64 - b as f64 / m as f64);
            pooled.push((a + b) as f64 / (n + m) as f64);
        }
        Some(Self { ends, pooled, n: n as f64, m: m as f64 })
    }

    /// √(1/n + 1/m).
    fn scale(&self) -> f64 {
        (1.0 / self.n + 1.0 / self.m).sqrt()
    }

    fn largest(&self) -> f64 {
        self.ends.iter().fold(0.0, |largest, gap| largest.max(gap.abs()))
    }

    /// Area between the distributions.
    fn area(&self, widths: &[f64]) -> f64 {
        self.areas(widths).sum()
    }

    /// The same over each bin.
    fn areas(&self, widths: &[f64]) -> impl Iterator<Item = f64> {
        self.ends.windows(2).zip(widths).map(|(ends, width)| {
            let (before, after) = (ends[0].abs(), ends[1].abs());
            // The gap runs linearly; where it changes sign, two triangles.
            if ends[0] * ends[1] >= 0.0 {
                width * (before + after) / 2.0
            } else {
                width * (before * before + after * after) / (2.0 * (before + after))
            }
        })
    }
}

/// The area between two samples of one distribution: ∫ |B(F)| dx times √(1/n + 1/m), B being the
/// Brownian bridge.
struct Noise {
    /// Of the square, with the area's own first two moments.
    bulk: Chance,
    /// Deviation of the signed area, which is what the area is where it is large.
    signed: f64,
}

impl Noise {
    fn new(gaps: &Gaps, widths: &[f64]) -> Self {
        let nodes = nodes(&gaps.pooled, widths);
        let (mut mean, mut square, mut signed) = (0.0, 0.0, 0.0);
        for (index, (below, weight)) in nodes.iter().enumerate() {
            mean += weight;
            square += weight * weight;
            signed += weight * weight;
            for (above, other) in &nodes[index + 1..] {
                let squared_correlation = below * (1.0 - above) / (above * (1.0 - below));
                let product = 2.0 * weight * other;
                square += product * FRAC_2_PI * absolute_product(squared_correlation);
                signed += product * squared_correlation.sqrt();
            }
        }
        let scale = gaps.scale();
        let bulk = Chance::of_absolutes(FRAC_2_PI.sqrt() * mean * scale, square * scale * scale);
        Self { bulk, signed: signed.sqrt() * scale }
    }

    /// What the area exceeds with a probability. Far out its tail is that of the absolute value of
    /// the signed area, a tenth heavier (Johnson & Killeen 1983, table for an even distribution).
    fn exceeded_with(&self, probability: f64) -> f64 {
        let tail = self.signed * normal_quantile(1.0 - probability / 2.0 / TAIL);
        self.bulk.isf(probability).sqrt().max(tail)
    }
}

/// How much heavier the tail of the area is than that of its signed value.
const TAIL: f64 = 1.15;

/// Points that the noise is integrated over at most: pairs of them are taken.
const MOST_NODES: usize = 128;

/// Shares below the bins' inner ends, and the deviation of the gap there times the width around.
/// Where there are many, neighbours go together, as if they varied as one.
fn nodes(pooled: &[f64], widths: &[f64]) -> Vec<(f64, f64)> {
    let inner = pooled.get(1..widths.len()).unwrap_or_default();
    let all: Vec<(f64, f64)> = inner
        .iter()
        .zip(widths.windows(2))
        .map(|(share, around)| {
            let deviation = (share * (1.0 - share)).max(0.0).sqrt();
            (*share, deviation * f64::midpoint(around[0], around[1]))
        })
        .filter(|(_, weight)| *weight > 0.0)
        .collect();
    let joined = |part: &[(f64, f64)]| {
        let weight: f64 = part.iter().map(|(_, weight)| weight).sum();
        (part[part.len() / 2].0, weight)
    };
    all.chunks(all.len().div_ceil(MOST_NODES).max(1)).map(joined).collect()
}

fn widths(edges: &[f64], bins: usize) -> Option<Vec<f64>> {
    let widths: Vec<f64> = edges.windows(2).map(|edge| edge[1] - edge[0]).collect();
    let fits = bins > 0 && widths.len() == bins;
    (fits && widths.iter().all(|width| *width >= 0.0 && width.is_finite())).then_some(widths)
}

/// Variance over one sample of a continuous function that rises by `slopes` on each bin.
fn variance(counts: &[u64], rows: f64, slopes: &[f64], widths: &[f64]) -> f64 {
    let (mut height, mut mean, mut square) = (0.0, 0.0, 0.0);
    for ((count, slope), width) in counts.iter().zip(slopes).zip(widths) {
        let (share, rise) = (*count as f64 / rows, slope * width);
        let middle = height + rise / 2.0;
        mean += share * middle;
        // Within the bin the function is uniform, whose variance is rise²/12.
        square += share * (middle * middle + rise * rise / 12.0);
        height += rise;
    }
    (square - mean * mean).max(0.0)
}

/// Survival function of Kolmogorov's distribution: 2 Σ (−1)^(k−1) exp(−2 k² x²).
fn kolmogorov_sf(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0; // To 11 digits; the series converges slowly here.
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * x * x).exp()
    };
    (2.0 * (1..=40).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// Where Kolmogorov's distribution reaches `confidence`: 1.358 for 0.95.
fn kolmogorov_quantile(confidence: f64) -> f64 {
    let (mut low, mut high) = (0.2, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if kolmogorov_sf(middle) > 1.0 - confidence {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    const EDGES: [f64; 6] = [0.0, 1.0, 3.0, 4.0, 8.0, 10.0];
    const A: [u64; 5] = [120, 340, 260, 180, 100];
    const B: [u64; 5] = [90, 150, 140, 80, 40];

    #[test]
    fn scipy_agrees() {
        // SciPy 1.17.1, x the rows: stats.ks_2samp(xa, xb).statistic, and its asymptotic p-value
        // without the small-sample factor, stats.kstwobign.sf(D * np.sqrt(n * m / (n + m))).
        let found = kolmogorov_smirnov(&A, &B).expect("defined");
        assert!((found.statistic - 0.06).abs() < 1e-12, "{found:?}");
        assert!((found.p_value - 0.181_300_449_938_122_83).abs() < 1e-9, "{found:?}");
        // stats.kstwobign.isf(0.05).
        assert!((kolmogorov_quantile(0.95) - 1.358_098_639_322_550_7).abs() < 1e-9);
        let reach = kolmogorov_smirnov_distance(&A, &B, 0.9).expect("defined").estimate.interval;
        let half = 1.358_098_639_322_550_7 * (1.0f64 / 1000.0 + 1.0 / 500.0).sqrt();
        assert!((reach.upper - 0.06 - half).abs() < 1e-9, "{reach:?}");
        // NumPy: np.trapezoid(abs(F - G), x) on 4,000,001 points of the interpolated distributions.
        let found = wasserstein(&A, &B, &EDGES).expect("defined");
        assert!((found - 0.28).abs() < 1e-9, "{found}");
        // Deviation of the reference, rows spread over their bins: 2.529117105500126.
        let normed = normed_wasserstein(&A, &B, &EDGES, 0.95).expect("defined").estimate.value;
        assert!((normed - 0.28 / 2.529_117_105_500_126).abs() < 1e-9, "{normed}");
    }

    #[test]
    fn moving_everything_by_a_bin_costs_a_bin() {
        let edges = [0.0, 2.0, 4.0, 6.0];
        let moved = wasserstein(&[10, 0, 0], &[0, 10, 0], &edges).expect("defined");
        assert!((moved - 2.0).abs() < 1e-12, "{moved}");
        let terms = wasserstein_terms(&[10, 0, 0], &[0, 10, 0], &edges).expect("defined");
        assert_eq!(terms, [1.0, 1.0, 0.0]);
        // Uniform on [2, 4) against halves on [0, 2) and [4, 6): the gap rises to 1/2 and back.
        let split = wasserstein(&[0, 10, 0], &[5, 0, 5], &edges).expect("defined");
        assert!((split - 1.5).abs() < 1e-12, "{split}");
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(wasserstein(&[1], &[1], &[0.0]), None);
        assert_eq!(wasserstein(&[1], &[1], &[1.0, 0.0]), None);
        assert_eq!(kolmogorov_smirnov(&[1, 1], &[1]), None);
        assert_eq!(kolmogorov_smirnov(&[1, 1], &[0, 0]), None);
        assert_eq!(normed_wasserstein(&[1], &[1], &[3.0, 3.0], 0.95), None);
    }

    /// Rows of a triangular distribution on 20 bins, moved up with some probability.
    fn draw(random: &mut Random, rows: usize, moved: f64) -> Vec<u64> {
        let mut counts = vec![0; 20];
        for _ in 0..rows {
            let bin = ((random.uniform() + random.uniform()) * 9.0) as usize;
            counts[bin + usize::from(random.is(moved))] += 1;
        }
        counts
    }

    type Distance = fn(&[u64], &[u64], f64) -> Option<Measured>;

    fn on_unit_edges(reference: &[u64], current: &[u64], confidence: f64) -> Option<Measured> {
        let edges: Vec<f64> = (0..=reference.len()).map(|edge| edge as f64).collect();
        normed_wasserstein(reference, current, &edges, confidence)
    }

    const BOTH: [Distance; 2] = [kolmogorov_smirnov_distance, on_unit_edges];

    #[test]
    fn without_a_change_the_lower_end_rarely_leaves_zero_and_the_resolution_holds() {
        let mut random = Random::new(5);
        for (which, distance) in BOTH.into_iter().enumerate() {
            let (mut above, mut beyond) = (0, 0);
            for _ in 0..1000 {
                let (a, b) = (draw(&mut random, 1000, 0.0), draw(&mut random, 500, 0.0));
                let found = distance(&a, &b, 0.95).expect("defined");
                above += u32::from(found.estimate.interval.lower > 0.0);
                beyond += u32::from(found.estimate.value > found.resolution);
            }
            assert!(above < 60 && beyond < 80, "{which}: {above} and {beyond} of 1000");
        }
    }

    #[test]
    fn with_a_change_the_interval_covers_it() {
        // Six rows of ten moved by one bin; the truth is taken from two million rows.
        let mut random = Random::new(9);
        let (far, near) = (draw(&mut random, 1_000_000, 0.6), draw(&mut random, 1_000_000, 0.0));
        for (which, distance) in BOTH.into_iter().enumerate() {
            let truth = distance(&near, &far, 0.95).expect("defined").estimate.value;
            let mut covered = 0;
            for _ in 0..500 {
                let (a, b) = (draw(&mut random, 1000, 0.0), draw(&mut random, 800, 0.6));
                let found = distance(&a, &b, 0.95).expect("defined");
                covered += u32::from(found.estimate.interval.contains(truth));
            }
            assert!(covered >= 465, "{which}: {covered} of 500 hold {truth}");
        }
    }

    #[test]
    fn the_lower_end_leaves_zero_as_seldom_as_it_says() {
        let even = |bins: usize| (0..=bins).map(|edge| edge as f64).collect::<Vec<f64>>();
        // Bins of one mass whose widths grow without bound: a heavy tail.
        let inner = (0..20).map(|bin| 1.0 / (1.0 - f64::from(bin) / 20.0));
        let heavy: Vec<f64> = inner.chain([200.0]).collect();
        for (name, shares, edges) in [
            ("two", vec![0.5, 0.5], even(2)),
            ("even", vec![0.05; 20], even(20)),
            ("heavy", vec![0.05; 20], heavy),
        ] {
            for (n, m) in [(5000, 50), (100, 100)] {
                let (mut random, mut above) = (Random::new(4), [[0u32; 2]; 2]);
                for _ in 0..2000 {
                    let (a, b) = (random.counts(&shares, n), random.counts(&shares, m));
                    for (index, confidence) in [0.95, 0.99].into_iter().enumerate() {
                        let gap = kolmogorov_smirnov_distance(&a, &b, confidence).expect("rows");
                        let area = wasserstein_distance(&a, &b, &edges, confidence).expect("rows");
                        for (above, found) in above.iter_mut().zip([gap, area]) {
                            above[index] += u32::from(found.estimate.interval.lower > 0.0);
                        }
                    }
                }
                let seldom = above.iter().all(|[at_95, at_99]| *at_95 <= 70 && *at_99 <= 20);
                // The area's is no smaller than it says, either: what moved is to be seen.
                assert!(seldom && above[1][0] >= 30, "{name} {n} {m}: {above:?} of 2000");
            }
        }
    }

    #[test]
    fn many_bins_are_judged_as_few_are() {
        // A thousand bins, of which the noise is taken at 128 points, against the same in fifty.
        let mut random = Random::new(3);
        let (a, b) = (random.counts(&[0.001; 1000], 5000), random.counts(&[0.001; 1000], 700));
        let edges = |bins: usize| (0..=bins).map(|edge| edge as f64).collect::<Vec<f64>>();
        let few =
            |counts: &[u64]| counts.chunks(20).map(|part| part.iter().sum()).collect::<Vec<_>>();
        let fine = wasserstein_distance(&a, &b, &edges(1000), 0.99).expect("rows");
        let coarse = wasserstein_distance(&few(&a), &few(&b), &edges(50), 0.99).expect("rows");
        assert!((fine.resolution / coarse.resolution / 20.0 - 1.0).abs() < 0.02);
    }

    proptest! {
        #[test]
        fn they_are_symmetric_bounded_and_zero_on_equal_samples(
            counts in prop::collection::vec((0u64..300, 0u64..300), 2..20)
        ) {
            let (p, q): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
            for distance in BOTH {
                let Some(found) = distance(&p, &q, 0.95) else { continue };
                let Interval { lower, upper } = found.estimate.interval;
                prop_assert!(0.0 <= lower && lower <= found.estimate.value);
                prop_assert!(found.estimate.value <= upper && upper.is_finite());
                prop_assert!(found.resolution > 0.0 || p.iter().filter(|c| **c > 0).count() == 1);
                let same = distance(&p, &p, 0.95).expect("filled").estimate;
                prop_assert!(same.value == 0.0 && same.interval.lower == 0.0);
            }
            if let Some(ks) = kolmogorov_smirnov(&p, &q) {
                let mirrored = kolmogorov_smirnov(&q, &p).expect("filled");
                prop_assert!((ks.statistic - mirrored.statistic).abs() < 1e-12);
                prop_assert!((0.0..=1.0).contains(&ks.statistic) && (0.0..=1.0).contains(&ks.p_value));
            }
        }

        #[test]
        fn the_unit_of_the_column_does_not_matter(
            counts in prop::collection::vec((1u64..300, 1u64..300), 2..20), factor in 0.001f64..1000.0
        ) {
            let (p, q): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
            let edges: Vec<f64> = (0..=p.len()).map(|edge| edge as f64).collect();
            let scaled: Vec<f64> = edges.iter().map(|edge| edge * factor).collect();
            let one = normed_wasserstein(&p, &q, &edges, 0.95).expect("filled").estimate.value;
            let other = normed_wasserstein(&p, &q, &scaled, 0.95).expect("filled").estimate.value;
            prop_assert!((one - other).abs() <= 1e-9 * (1.0 + one));
        }
    }
}
