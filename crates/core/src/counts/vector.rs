//! Counts of a column of vectors, such as embeddings.

use serde::{Deserialize, Serialize};

use super::{FixedSum, add_all, to_fixed};
use crate::schema::VectorSchema;

/// Resolution of summed features and of their products, which lie between -1 and 1.
pub const FEATURE_STEP: f64 = 1.0 / (1u64 << 40) as f64;

/// Counts of one column of vectors: sums from which the distance of two windows follows, and a
/// histogram of each component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorCounts {
    /// Vectors.
    pub rows: u64,
    /// Rows without one.
    pub missing: u64,
    /// Rows with one of another dimension, or with a number that is not finite.
    pub unfit: u64,
    /// Sum of each random feature of the schema, in [`FEATURE_STEP`]s.
    pub sums: Vec<FixedSum>,
    /// Sums of the products of features `i <= j`, row by row: (0, 0), (0, 1), … (1, 1), …
    pub products: Vec<FixedSum>,
    /// Of each component, the rows in its bins, of which the outer two are open.
    pub components: Vec<Vec<u64>>,
}

impl VectorCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(schema: &VectorSchema) -> Self {
        let features = schema.features();
        Self {
            rows: 0,
            missing: 0,
            unfit: 0,
            sums: vec![FixedSum(0); features],
            products: vec![FixedSum(0); features * (features + 1) / 2],
            components: schema.components.iter().map(|edges| vec![0; edges.len() + 1]).collect(),
        }
    }

    /// Counts a row with its random features, or one whose vector has none because it does not fit.
    pub fn observe(&mut self, schema: &VectorSchema, vector: &[f64], features: Option<&[f64]>) {
        let Some(features) = features.filter(|features| features.len() == self.sums.len()) else {
            self.unfit += 1;
            return;
        };
        self.rows += 1;
        for (sum, feature) in self.sums.iter_mut().zip(features) {
            sum.0 += to_fixed(*feature, FEATURE_STEP);
        }
        let ahead = |index: usize| features[index..].iter();
        let pairs = features
            .iter()
            .enumerate()
            .flat_map(|(index, one)| ahead(index).map(move |other| one * other));
        for (sum, product) in self.products.iter_mut().zip(pairs) {
            sum.0 += to_fixed(product, FEATURE_STEP);
        }
        for ((bins, edges), value) in self.components.iter_mut().zip(&schema.components).zip(vector)
        {
            bins[edges.partition_point(|edge| edge <= value)] += 1;
        }
    }

    /// Adds the counts of other rows. The caller sees to it that both follow one schema.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.missing += other.missing;
        self.unfit += other.unfit;
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.0 += more.0;
        }
        for (sum, more) in self.products.iter_mut().zip(&other.products) {
            sum.0 += more.0;
        }
        for (bins, more) in self.components.iter_mut().zip(&other.components) {
            add_all(bins, more);
        }
    }
}
