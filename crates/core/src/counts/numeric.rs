//! Counts of a numeric column.

use serde::{Deserialize, Serialize};

use super::{FixedSum, add_all};
use crate::schema::NumericSchema;

/// Largest number of steps that a value counts as; squares of it still sum over 2^33 rows.
pub(super) const MAX_STEPS: f64 = (1i64 << 46) as f64;

/// Values whose steps sum in an `i64`: 2^16 times 2^46.
const BLOCK: usize = 1 << 16;

/// Cells of the grid that leads to a value's bin.
const CELLS: usize = 2048;

/// Edges in one cell that are gone through one by one.
const FEW: usize = 8;

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

/// Where a finite value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Below the first edge.
    Below,
    /// In this bin.
    Bin(usize),
    /// Above the last edge.
    Above,
}

/// A numeric schema made ready for many values: an even grid over its range leads to the few edges
/// that a value may lie between, so that most take two comparisons.
#[derive(Debug, Clone, PartialEq)]
pub struct Binner {
    edges: Vec<f64>,
    /// 1 / step, exact for a power of two.
    per_step: f64,
    low: f64,
    cells_per_unit: f64,
    /// Of each cell, about how many edges are at or below its start: where the search begins.
    starts: Vec<u32>,
}

impl Binner {
    /// Makes a valid schema ready.
    #[must_use]
    pub fn new(schema: &NumericSchema) -> Self {
        let edges = schema.edges.clone();
        let low = edges.first().copied().unwrap_or_default();
        let high = edges.last().copied().unwrap_or_default();
        // A range beyond all numbers has one cell, and is searched by halves.
        let cells_per_unit = CELLS as f64 / (high - low);
        let cells_per_unit = if cells_per_unit.is_finite() { cells_per_unit } else { 0.0 };
        let start = |cell: usize| {
            let begin = low + cell as f64 / cells_per_unit;
            edges.partition_point(|edge| *edge <= begin) as u32
        };
        let starts = if cells_per_unit > 0.0 {
            (0..=CELLS).map(start).collect()
        } else {
            let mut starts = vec![edges.len() as u32; CELLS + 1];
            starts[0] = 0;
            starts
        };
        Self { edges, per_step: 1.0 / schema.step, low, cells_per_unit, starts }
    }

    /// Where a finite value counts: bin i holds `e[i] <= x < e[i+1]`, the last one its upper edge too.
    #[inline]
    #[must_use]
    pub fn place(&self, value: f64) -> Place {
        // Casts saturate: what lies outside the grid goes to its ends.
        let cell = (((value - self.low) * self.cells_per_unit) as usize).min(CELLS - 1);
        let (first, last) = (self.starts[cell] as usize, self.starts[cell + 1] as usize);
        let mut at_or_below = first;
        if last - first > FEW {
            at_or_below += self.edges[first..last].partition_point(|edge| *edge <= value);
        }
        // The grid may be off by a rounding; the edges decide.
        while at_or_below < self.edges.len() && self.edges[at_or_below] <= value {
            at_or_below += 1;
        }
        while at_or_below > 0 && self.edges[at_or_below - 1] > value {
            at_or_below -= 1;
        }
        if at_or_below == 0 {
            Place::Below
        } else if at_or_below < self.edges.len() {
            Place::Bin(at_or_below - 1)
        } else if self.edges.last() == Some(&value) {
            Place::Bin(at_or_below - 2)
        } else {
            Place::Above
        }
    }

    /// A finite value in whole steps, halves away from 0.
    #[inline]
    fn steps(&self, value: f64) -> i64 {
        let scaled = (value * self.per_step).clamp(-MAX_STEPS, MAX_STEPS);
        // `round` is a call on most processors; below 2^46 a half and a cut are the same.
        (scaled + 0.5f64.copysign(scaled)) as i64
    }
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

    /// Counts one row. For many rows, [`NumericCounts::observe_all`].
    pub fn observe(&mut self, schema: &NumericSchema, value: Option<f64>) {
        self.observe_all(&Binner::new(schema), std::iter::once(value));
    }

    /// Counts rows; `binner` was made of the schema that the counts were.
    pub fn observe_all(&mut self, binner: &Binner, values: impl IntoIterator<Item = Option<f64>>) {
        let mut values = values.into_iter();
        loop {
            let (mut rows, mut sum, mut squares) = (0, 0i64, 0i128);
            let (mut low, mut high) = self.range.unwrap_or((i64::MAX, i64::MIN));
            for value in values.by_ref().take(BLOCK) {
                rows += 1;
                let Some(value) = value else {
                    self.missing += 1;
                    continue;
                };
                if !value.is_finite() {
                    self.non_finite += 1;
                    continue;
                }
                match binner.place(value) {
                    Place::Bin(bin) => self.bins[bin] += 1,
                    Place::Below => self.below += 1,
                    Place::Above => self.above += 1,
                }
                let steps = binner.steps(value);
                sum += steps;
                squares += i128::from(steps) * i128::from(steps);
                low = low.min(steps);
                high = high.max(steps);
            }
            self.sum.0 += i128::from(sum);
            self.sum_squares.0 += squares;
            self.range = (low <= high).then_some((low, high));
            if rows < BLOCK {
                return;
            }
        }
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

    /// Whether all finite values are one, as far as steps tell them apart; there are two or more.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.finite() > 1 && self.range.is_some_and(|(low, high)| low == high)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_falls_into_one_bin() {
        let schema = NumericSchema { edges: vec![0.0, 1.0, 2.0], step: 0.5 };
        let cases = [
            (Some(-0.1), "below"),
            (Some(0.0), "0"),
            (Some(-0.0), "0"),
            (Some(0.999), "0"),
            (Some(1.0), "1"),
            (Some(2.0), "1"),
            (Some(2.1), "above"),
            (Some(f64::MAX), "above"),
            (Some(f64::MIN), "below"),
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

    /// A pseudo-random number of any size and sign, by a multiplicative generator.
    fn next(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let unit = (*state >> 11) as f64 / (1u64 << 53) as f64;
        (unit - 0.4) * 10f64.powi((*state >> 3) as i32 % 8)
    }

    #[test]
    fn the_grid_leads_to_the_bin_that_the_edges_say() {
        let mut state = 7;
        let mut schemas = vec![
            vec![-f64::MAX, f64::MAX],
            vec![-f64::MAX, 0.0, f64::MAX],
            vec![1e15, 1e15 + 1.0],
            vec![f64::MIN_POSITIVE, f64::MIN_POSITIVE * 2.0],
            (0..120).map(f64::from).collect(),
            // Nearly all edges in one cell.
            (0..120).map(|i| f64::from(i) * 1e-6).chain([1e6]).collect(),
        ];
        for size in [2usize, 3, 20, 121, 241] {
            let mut edges: Vec<f64> = (0..size).map(|_| next(&mut state)).collect();
            edges.sort_unstable_by(f64::total_cmp);
            edges.dedup();
            schemas.push(edges);
        }
        for edges in schemas {
            let binner = Binner::new(&NumericSchema { edges: edges.clone(), step: 1.0 });
            let mut values: Vec<f64> = (0..2000).map(|_| next(&mut state)).collect();
            for edge in &edges {
                values.extend([*edge, edge.next_up(), edge.next_down()]);
            }
            for value in values.into_iter().filter(|value| value.is_finite()) {
                let expected = match edges.partition_point(|edge| *edge <= value) {
                    0 => Place::Below,
                    n if n < edges.len() => Place::Bin(n - 1),
                    n if edges[n - 1] >= value => Place::Bin(n - 2),
                    _ => Place::Above,
                };
                assert_eq!(binner.place(value), expected, "{value:?} in {edges:?}");
            }
        }
    }

    #[test]
    fn values_in_blocks_count_as_those_one_by_one() {
        let schema = NumericSchema { edges: vec![-1.0, 0.0, 1e3], step: 0.125 };
        let mut state = 3;
        let values: Vec<Option<f64>> =
            (0..BLOCK + 99).map(|i| (i % 11 > 0).then(|| next(&mut state))).collect();
        let (mut one_by_one, mut at_once) =
            (NumericCounts::new(&schema), NumericCounts::new(&schema));
        let binner = Binner::new(&schema);
        values.iter().for_each(|value| one_by_one.observe_all(&binner, [*value]));
        at_once.observe_all(&binner, values);
        assert_eq!(one_by_one, at_once);
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
    fn a_column_is_constant_by_what_it_holds() {
        let schema = NumericSchema { edges: vec![0.0, 4.0], step: 0.25 };
        let constant = |values: &[Option<f64>]| {
            let mut counts = NumericCounts::new(&schema);
            counts.observe_all(&Binner::new(&schema), values.iter().copied());
            counts.is_constant()
        };
        assert!(constant(&[Some(1.0), Some(1.0), None]));
        assert!(!constant(&[Some(1.0), Some(1.5)]));
        assert!(!constant(&[Some(1.0)]), "one value is no constant");
        assert!(!constant(&[None, None]));
    }
}
