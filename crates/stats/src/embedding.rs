//! How far apart two samples of vectors are: the maximum mean discrepancy (Gretton et al. 2012) by
//! random Fourier features (Rahimi & Recht 2007), from sums over rows that merge.
//!
//! Each vector becomes features whose inner products approximate a Gaussian kernel; the discrepancy is
//! then the distance of two mean features, with an error of the order of 1/√pairs in the kernel. With
//! the sums of the features' products its law is known, with a change and without.

use crate::Estimate;
use crate::distance::chance::Chance;
use crate::interval::{Interval, normal_quantile};
use crate::ordered::Measured;

/// Features of a Gaussian kernel: the cosine and sine of random projections.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomFeatures {
    frequencies: Vec<Vec<f64>>,
}

impl RandomFeatures {
    /// `pairs` of features of vectors of a dimension, for the kernel exp(−|x−y|² / 2 `bandwidth`²).
    /// The same seed gives the same features everywhere. `None` for a bandwidth that is not above 0,
    /// and for no pairs or no dimension.
    #[must_use]
    pub fn new(dimension: usize, pairs: usize, bandwidth: f64, seed: u64) -> Option<Self> {
        if !(bandwidth > 0.0 && bandwidth.is_finite()) || dimension == 0 || pairs == 0 {
            return None;
        }
        let mut state = seed;
        let mut frequency = || -> Vec<f64> {
            (0..dimension).map(|_| normal_quantile(uniform(&mut state)) / bandwidth).collect()
        };
        Some(Self { frequencies: (0..pairs).map(|_| frequency()).collect() })
    }

    /// How many features there are: two for each pair.
    #[must_use]
    pub fn count(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The features of a vector, a point on the unit sphere. `None` when its dimension is another one
    /// or a number is not finite.
    #[must_use]
    pub fn of(&self, vector: &[f64]) -> Option<Vec<f64>> {
        let fits = self.frequencies.first().is_some_and(|first| first.len() == vector.len());
        if !fits || vector.iter().any(|number| !number.is_finite()) {
            return None;
        }
        let scale = 1.0 / (self.frequencies.len() as f64).sqrt();
        let pair = |frequency: &Vec<f64>| {
            let angle: f64 = frequency.iter().zip(vector).map(|(a, b)| a * b).sum();
            [angle.cos() * scale, angle.sin() * scale]
        };
        Some(self.frequencies.iter().flat_map(pair).collect())
    }
}

/// A number in (0, 1) by Steele, Lea & Flood's generator (2014).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Sums over rows of their features.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSums {
    /// Rows.
    pub rows: u64,
    /// Sum of each feature.
    pub sums: Vec<f64>,
    /// Sums of the products of features `i ≤ j`, row by row: (0, 0), (0, 1), … (1, 1), …
    pub products: Vec<f64>,
}

impl FeatureSums {
    /// Sums over no rows.
    #[must_use]
    pub fn new(features: usize) -> Self {
        let products = vec![0.0; features * (features + 1) / 2];
        Self { rows: 0, sums: vec![0.0; features], products }
    }

    /// With one more row; features beyond those counted are left out.
    pub fn observe(&mut self, features: &[f64]) {
        self.rows += 1;
        self.sums.iter_mut().zip(features).for_each(|(sum, feature)| *sum += feature);
        let pairs = features
            .iter()
            .enumerate()
            .flat_map(|(index, one)| features[index..].iter().map(move |other| one * other));
        self.products.iter_mut().zip(pairs).for_each(|(sum, product)| *sum += product);
    }

    /// With the rows of another that has as many features.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        self.products.iter_mut().zip(&other.products).for_each(|(sum, more)| *sum += more);
    }

    fn mean(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.rows as f64).collect()
    }

    /// Adds the covariance of the mean to a symmetric matrix.
    fn add_covariance(&self, matrix: &mut [Vec<f64>]) {
        let (n, mean) = (self.rows as f64, self.mean());
        let mut products = self.products.iter();
        for one in 0..mean.len() {
            for other in one..mean.len() {
                let product = products.next().copied().unwrap_or_default();
                let part = (product - n * mean[one] * mean[other]) / (n - 1.0) / n;
                matrix[one][other] += part;
                if other > one {
                    matrix[other][one] += part;
                }
            }
        }
    }
}

/// The maximum mean discrepancy of two samples, 0 to √2, less what chance alone is expected to add.
///
/// Under no change its square is a weighted sum of χ², whose weights are the eigenvalues of the
/// covariance of the difference of the means; only their power sums are needed. `None` with fewer than
/// two rows on either side, and when the features differ in number.
#[must_use]
pub fn discrepancy(
    reference: &FeatureSums,
    current: &FeatureSums,
    confidence: f64,
) -> Option<Measured> {
    let size = reference.sums.len();
    let fits = [reference, current]
        .iter()
        .all(|side| side.sums.len() == size && side.products.len() == size * (size + 1) / 2);
    if !fits || size == 0 || reference.rows.min(current.rows) < 2 {
        return None;
    }
    let mut covariance = vec![vec![0.0; size]; size];
    reference.add_covariance(&mut covariance);
    current.add_covariance(&mut covariance);
    let (was, is) = (reference.mean(), current.mean());
    let gap: Vec<f64> = was.iter().zip(&is).map(|(a, b)| a - b).collect();
    let squared = dot(&gap, &gap);
    let along: Vec<f64> = covariance.iter().map(|row| dot(row, &gap)).collect();
    let chance = Chance::weighted(power_sums(&covariance));
    let found = chance.interval(squared, 4.0 * dot(&along, &gap), confidence);
    let root = |square: f64| square.sqrt().min(std::f64::consts::SQRT_2);
    let Interval { lower, upper } = found.interval;
    let interval = Interval { lower: root(lower), upper: root(upper) };
    let excess = chance.isf(1.0 - confidence.clamp(0.0, 1.0)) - chance.mean();
    let resolution = root(excess.max(0.0));
    let estimate = Estimate { value: root(found.value), interval };
    upper.is_finite().then_some(Measured { estimate, resolution })
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Traces of a symmetric matrix, of its square and of its cube.
fn power_sums(matrix: &[Vec<f64>]) -> [f64; 3] {
    let (mut first, mut second, mut third) = (0.0, 0.0, 0.0);
    for (index, row) in matrix.iter().enumerate() {
        first += row[index];
        second += dot(row, row);
        let of_square = |(other, part): (&Vec<f64>, &f64)| part * dot(row, other);
        third += matrix.iter().zip(row).map(of_square).sum::<f64>();
    }
    [first, second, third]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Random;

    fn features() -> RandomFeatures {
        RandomFeatures::new(3, 16, 1.5, 1).expect("features")
    }

    fn sums(features: &RandomFeatures, rows: &[Vec<f64>]) -> FeatureSums {
        let mut sums = FeatureSums::new(features.count());
        rows.iter().for_each(|row| sums.observe(&features.of(row).expect("a vector")));
        sums
    }

    fn rows(random: &mut Random, count: usize, moved: f64) -> Vec<Vec<f64>> {
        let row = |random: &mut Random| (0..3).map(|_| random.normal() + moved).collect();
        (0..count).map(|_| row(random)).collect()
    }

    #[test]
    fn inner_products_approximate_the_kernel() {
        let features = RandomFeatures::new(3, 4000, 2.0, 9).expect("features");
        let (x, y) = ([0.3, -1.0, 2.0], [1.0, 0.5, 1.0]);
        let product = dot(&features.of(&x).expect("fits"), &features.of(&y).expect("fits"));
        let square: f64 = x.iter().zip(&y).map(|(a, b)| (a - b) * (a - b)).sum();
        assert!((product - (-square / 8.0).exp()).abs() < 0.03, "{product}");
        assert_eq!(features.of(&[1.0]), None);
        assert_eq!(features.of(&[1.0, 2.0, f64::NAN]), None);
        assert!(RandomFeatures::new(3, 4, 0.0, 9).is_none());
    }

    #[test]
    fn too_few_rows_or_other_features_are_none() {
        let (mut random, features) = (Random::new(1), features());
        let some = sums(&features, &rows(&mut random, 5, 0.0));
        let one = sums(&features, &rows(&mut random, 1, 0.0));
        assert_eq!(discrepancy(&some, &one, 0.95), None);
        assert_eq!(discrepancy(&some, &FeatureSums::new(4), 0.95), None);
        let constant = sums(&features, &vec![vec![1.0; 3]; 9]);
        let found = discrepancy(&constant, &constant, 0.95).expect("rows").estimate;
        assert!(found.value < 1e-6 && found.interval.lower < 1e-6, "{found:?}");
    }

    #[test]
    fn chance_is_taken_off_and_a_change_is_covered() {
        let (mut random, features) = (Random::new(5), features());
        let far = |random: &mut Random, moved| sums(&features, &rows(random, 200_000, moved));
        let truth = discrepancy(&far(&mut random, 0.0), &far(&mut random, 0.3), 0.95);
        let truth = truth.expect("rows").estimate.value;
        let (mut above, mut covered) = (0, 0);
        for _ in 0..600 {
            let reference = sums(&features, &rows(&mut random, 150, 0.0));
            let same = sums(&features, &rows(&mut random, 60, 0.0));
            let found = discrepancy(&reference, &same, 0.95).expect("rows").estimate;
            above += u32::from(found.interval.lower > 0.0);
            let moved = sums(&features, &rows(&mut random, 60, 0.3));
            let found = discrepancy(&reference, &moved, 0.95).expect("rows").estimate;
            covered += u32::from(found.interval.contains(truth));
        }
        // 15 are expected above 0, and 570 to hold the truth.
        assert!((4..=32).contains(&above) && covered >= 550, "{above} and {covered} of 600");
    }

    proptest! {
        #[test]
        fn discrepancies_are_bounded_symmetric_and_merge(seed in 0u64..1000, moved in 0.0f64..3.0) {
            let (mut random, features) = (Random::new(seed), features());
            let (first, second) = (rows(&mut random, 30, 0.0), rows(&mut random, 20, moved));
            let (was, is) = (sums(&features, &first), sums(&features, &second));
            let found = discrepancy(&was, &is, 0.95).expect("rows").estimate;
            prop_assert!(0.0 <= found.interval.lower && found.interval.lower <= found.value);
            prop_assert!(found.value <= found.interval.upper && found.interval.upper < 1.4143);
            let mirrored = discrepancy(&is, &was, 0.95).expect("rows").estimate;
            prop_assert!((found.value - mirrored.value).abs() < 1e-9);
            let mut merged = sums(&features, &first[20..]);
            merged.merge(&sums(&features, &first[..20]));
            let merged = discrepancy(&merged, &is, 0.95).expect("rows").estimate;
            prop_assert!((found.value - merged.value).abs() < 1e-6);
        }
    }
}
