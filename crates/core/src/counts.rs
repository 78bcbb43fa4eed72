//! The counters of a profile: exact integers that add up in any order.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::NumericSchema;

/// Largest number of steps that a value counts as; squares of it still sum over 2^33 rows.
const MAX_STEPS: f64 = (1i64 << 46) as f64;

/// A sum in fixed point: exact, so that the order of addition cannot show. Serialised as text,
/// since JSON numbers end at 2^53 in most readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedSum(pub i128);

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

/// Counts of one numeric column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericCounts {
    /// Finite values in each bin of the schema.
    pub bins: Vec<u64>,
    /// Finite values below the first edge.
    pub below: u64,
    /// Finite values above the last edge.
    pub above: u64,
    /// Rows without a value.
    pub missing: u64,
    /// NaN and infinities.
    pub non_finite: u64,
    /// Sum of the finite values, in steps.
    pub sum: FixedSum,
    /// Sum of their squares, in steps².
    pub sum_squares: FixedSum,
    /// Smallest and largest finite value, in steps.
    pub range: Option<(i64, i64)>,
}

impl NumericCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(schema: &NumericSchema) -> Self {
        Self {
            bins: vec![0; schema.bins()],
            below: 0,
            above: 0,
            missing: 0,
            non_finite: 0,
            sum: FixedSum(0),
            sum_squares: FixedSum(0),
            range: None,
        }
    }

    /// Counts one row.
    pub fn observe(&mut self, schema: &NumericSchema, value: Option<f64>) {
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        if !value.is_finite() {
            self.non_finite += 1;
            return;
        }
        let edges = &schema.edges;
        // The number of edges at or below the value tells its bin.
        let at_or_below = edges.partition_point(|edge| *edge <= value);
        if at_or_below == 0 {
            self.below += 1;
        } else if at_or_below < edges.len() {
            self.bins[at_or_below - 1] += 1;
        } else if edges.last() == Some(&value) {
            self.bins[at_or_below - 2] += 1;
        } else {
            self.above += 1;
        }
        let steps = (value / schema.step).round().clamp(-MAX_STEPS, MAX_STEPS) as i64;
        self.sum.0 += i128::from(steps);
        self.sum_squares.0 += i128::from(steps) * i128::from(steps);
        let (low, high) = self.range.unwrap_or((steps, steps));
        self.range = Some((low.min(steps), high.max(steps)));
    }

    /// Adds the counts of other rows. The caller sees to it that both follow one schema.
    pub fn merge(&mut self, other: &Self) {
        add_all(&mut self.bins, &other.bins);
        self.below += other.below;
        self.above += other.above;
        self.missing += other.missing;
        self.non_finite += other.non_finite;
        self.sum.0 += other.sum.0;
        self.sum_squares.0 += other.sum_squares.0;
        self.range = match (self.range, other.range) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// Finite values.
    #[must_use]
    pub fn finite(&self) -> u64 {
        self.below + self.above + self.bins.iter().sum::<u64>()
    }

    /// All rows, with or without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.finite() + self.missing + self.non_finite
    }

    /// Mean of the finite values; none without any.
    #[must_use]
    pub fn mean(&self, schema: &NumericSchema) -> Option<f64> {
        let n = self.finite();
        (n > 0).then(|| self.sum.0 as f64 / n as f64 * schema.step)
    }

    /// Standard deviation of the finite values (divisor n); none without any.
    #[must_use]
    pub fn standard_deviation(&self, schema: &NumericSchema) -> Option<f64> {
        let n = self.finite();
        let mean = self.sum.0 as f64 / n as f64;
        let variance = self.sum_squares.0 as f64 / n as f64 - mean * mean;
        (n > 0).then(|| variance.max(0.0).sqrt() * schema.step)
    }
}

/// Counts of one categorical column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoricalCounts {
    /// Rows of each category of the schema.
    pub categories: Vec<u64>,
    /// Rows with a value that the schema does not know.
    pub unseen: u64,
    /// Rows without a value.
    pub missing: u64,
}

impl CategoricalCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(categories: usize) -> Self {
        Self { categories: vec![0; categories], unseen: 0, missing: 0 }
    }

    /// Counts one row, given by the index of its category: `None` for no value,
    /// `Some(None)` for one that the schema does not know.
    pub fn observe(&mut self, category: Option<Option<usize>>) {
        match category {
            None => self.missing += 1,
            Some(index) => match index.and_then(|index| self.categories.get_mut(index)) {
                Some(count) => *count += 1,
                None => self.unseen += 1,
            },
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        add_all(&mut self.categories, &other.categories);
        self.unseen += other.unseen;
        self.missing += other.missing;
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.categories.iter().sum::<u64>() + self.unseen + self.missing
    }
}

/// What was predicted against what was true, for the rows of one group (or of all).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// `labelled[truth][prediction]`: rows whose label has arrived.
    pub labelled: Vec<Vec<u64>>,
    /// Rows without a label, by prediction.
    pub unlabelled: Vec<u64>,
}

impl Confusion {
    /// No rows yet.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { labelled: vec![vec![0; classes]; classes], unlabelled: vec![0; classes] }
    }

    /// Counts one row; indices of the classes. A class that is out of range is the caller's bug
    /// and counts nowhere.
    pub fn observe(&mut self, prediction: usize, truth: Option<usize>) {
        let row = match truth {
            Some(truth) => self.labelled.get_mut(truth),
            None => Some(&mut self.unlabelled),
        };
        if let Some(count) = row.and_then(|row| row.get_mut(prediction)) {
            *count += 1;
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        for (row, more) in self.labelled.iter_mut().zip(&other.labelled) {
            add_all(row, more);
        }
        add_all(&mut self.unlabelled, &other.unlabelled);
    }

    /// Rows whose label has arrived.
    #[must_use]
    pub fn labelled_rows(&self) -> u64 {
        self.labelled.iter().flatten().sum()
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.labelled_rows() + self.unlabelled.iter().sum::<u64>()
    }

    /// Rows predicted as each class, with or without a label.
    #[must_use]
    pub fn predicted(&self) -> Vec<u64> {
        let mut totals = self.unlabelled.clone();
        for row in &self.labelled {
            add_all(&mut totals, row);
        }
        totals
    }
}

/// Number of equal bins of confidence on which calibration is counted.
pub const CALIBRATION_BINS: usize = 15;

/// One millionth: resolution of summed confidences.
pub const CONFIDENCE_STEP: f64 = 1e-6;

/// Labelled rows of one bin of confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationBin {
    /// Rows.
    pub rows: u64,
    /// Rows predicted right.
    pub correct: u64,
    /// Sum of their confidences in [`CONFIDENCE_STEP`]s.
    pub confidence: FixedSum,
}

impl CalibrationBin {
    /// Counts one labelled row in the bin of its confidence; a confidence outside 0..=1 counts
    /// nowhere.
    pub fn observe(bins: &mut [Self], confidence: f64, correct: bool) {
        if !(0.0..=1.0).contains(&confidence) || bins.is_empty() {
            return;
        }
        let index = ((confidence * bins.len() as f64) as usize).min(bins.len() - 1);
        let bin = &mut bins[index];
        bin.rows += 1;
        bin.correct += u64::from(correct);
        bin.confidence.0 += (confidence / CONFIDENCE_STEP).round() as i128;
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.correct += other.correct;
        self.confidence.0 += other.confidence.0;
    }
}

/// Confusion by group value of one attribute.
pub type GroupCounts = BTreeMap<String, Confusion>;

fn add_all(into: &mut [u64], more: &[u64]) {
    for (count, extra) in into.iter_mut().zip(more) {
        *count += extra;
    }
}

impl fmt::Display for FixedSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_falls_into_one_bin() {
        let schema = NumericSchema { edges: vec![0.0, 1.0, 2.0], step: 0.5 };
        let cases = [
            (Some(-0.1), "below"),
            (Some(0.0), "0"),
            (Some(0.999), "0"),
            (Some(1.0), "1"),
            (Some(2.0), "1"),
            (Some(2.1), "above"),
            (Some(f64::NAN), "non_finite"),
            (Some(f64::INFINITY), "non_finite"),
            (None, "missing"),
        ];
        for (value, place) in cases {
            let mut counts = NumericCounts::new(&schema);
            counts.observe(&schema, value);
            let hit = match place {
                "below" => counts.below,
                "above" => counts.above,
                "missing" => counts.missing,
                "non_finite" => counts.non_finite,
                bin => counts.bins[bin.parse::<usize>().expect("a bin")],
            };
            assert_eq!((hit, counts.rows()), (1, 1), "{value:?}");
        }
    }

    #[test]
    fn moments_come_from_fixed_point_sums() {
        let schema = NumericSchema { edges: vec![0.0, 4.0], step: 0.25 };
        let mut counts = NumericCounts::new(&schema);
        for value in [1.0, 2.0, 3.0] {
            counts.observe(&schema, Some(value));
        }
        assert_eq!(counts.mean(&schema), Some(2.0));
        let deviation = counts.standard_deviation(&schema).expect("three rows");
        assert!((deviation - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(NumericCounts::new(&schema).mean(&schema), None);
    }

    #[test]
    fn confusion_counts_rows_once() {
        let mut confusion = Confusion::new(2);
        confusion.observe(1, Some(0));
        confusion.observe(1, None);
        assert_eq!((confusion.labelled_rows(), confusion.rows()), (1, 2));
        assert_eq!(confusion.predicted(), [0, 2]);
    }
}
