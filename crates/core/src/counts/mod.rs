//! The counters of a profile: exact integers that add up in any order.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod categorical;
mod numeric;
mod outcomes;
mod vector;

pub use categorical::{CategoricalCounts, Category, NamedCounts};
pub use numeric::{Binner, NumericCounts, Place};
pub use outcomes::{
    Confusion, ErrorSums, Group, GroupCounts, LOSS_STEP, LossSums, OutcomeCounts, OutcomeLayout,
    SCORE_BINS, SCORE_STEP, ScoreBin, ScoreCounts,
};
pub use vector::{FEATURE_STEP, VectorCounts};

/// A sum in fixed point: exact, so that the order of addition cannot show. Serialised as text,
/// since JSON numbers end at 2^53 in most readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedSum(pub i128);

impl FixedSum {
    /// The sum, where one step is this much.
    #[must_use]
    pub fn times(self, step: f64) -> f64 {
        self.0 as f64 * step
    }
}

impl Serialize for FixedSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FixedSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for FixedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of moderate size in whole steps.
fn to_fixed(number: f64, step: f64) -> i128 {
    i128::from((number / step).round() as i64)
}

fn add_all(into: &mut [u64], more: &[u64]) {
    for (count, extra) in into.iter_mut().zip(more) {
        *count += extra;
    }
}
