//! Freezing a schema on reference rows: bins, steps and groups.

use std::collections::{BTreeMap, BTreeSet};

use mloop_core::ProfileSchema;
use mloop_core::schema::{
    CONFIDENCE_COLUMN, CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, NumericSchema,
    PREDICTION_COLUMN, PROFILE_FORMAT,
};
use mloop_platform::{ProfileRow, ReferenceRequest};

/// Bins of equal mass: fine enough that methods which need few of them can merge neighbours.
const BINS: usize = 60;

/// Values of a group attribute that are counted apart; the rest counts as other.
const MAX_GROUP_VALUES: usize = 50;

/// Bits of the range that fixed-point sums resolve.
const RANGE_BITS: i32 = 20;

/// Bits of the largest value that they must hold: two less than counters clamp at.
const VALUE_BITS: i32 = 44;

/// The schema that describes the rows of a request.
pub(crate) fn schema(request: &ReferenceRequest) -> ProfileSchema {
    let mut columns: Vec<ColumnSchema> = features(&request.rows)
        .into_iter()
        .map(|name| {
            let values = request.rows.iter().filter_map(|row| row.features.get(name).copied());
            ColumnSchema { name: name.to_owned(), kind: ColumnKind::Numeric(numeric(values)) }
        })
        .collect();
    let confidences = request.rows.iter().map(|row| row.confidence);
    columns.push(ColumnSchema {
        name: CONFIDENCE_COLUMN.to_owned(),
        kind: ColumnKind::Numeric(numeric(confidences)),
    });
    let categories = request.classes.clone();
    columns.push(ColumnSchema {
        name: PREDICTION_COLUMN.to_owned(),
        kind: ColumnKind::Categorical(CategoricalSchema { categories }),
    });
    columns.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    ProfileSchema {
        format: PROFILE_FORMAT,
        model: request.key.subject.model.clone(),
        classes: request.classes.clone(),
        columns,
        groups: groups(&request.rows),
        latency_objective_micros: request.latency_objective_micros,
    }
}

/// Names of all features that any row has.
pub(crate) fn features(rows: &[ProfileRow]) -> BTreeSet<&str> {
    rows.iter().flat_map(|row| row.features.keys()).map(String::as_str).collect()
}

/// Edges at the quantiles of the finite values. A constant column gets one narrow bin around its
/// value, a column without any the bin from 0 to 1: all that comes later is then out of range.
fn numeric(values: impl Iterator<Item = f64>) -> NumericSchema {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else {
        return NumericSchema { edges: vec![0.0, 1.0], step: power_of_two(-RANGE_BITS) };
    };
    let largest = low.abs().max(high.abs());
    if low >= high {
        let magnitude = if largest > 0.0 { largest } else { 1.0 };
        let step = power_of_two(exponent(magnitude) - RANGE_BITS);
        return NumericSchema { edges: vec![low - step, high + step], step };
    }
    let last = values.len() - 1;
    // Adding 0 makes -0 a plain 0, which it equals.
    let mut edges: Vec<f64> = (0..=BINS).map(|i| values[i * last / BINS] + 0.0).collect();
    edges.dedup_by(|next, before| *next <= *before);
    let range = (high - low).min(f64::MAX);
    let fine = (exponent(range) - RANGE_BITS).max(exponent(largest) - VALUE_BITS);
    NumericSchema { edges, step: power_of_two(fine) }
}

/// The exponent of two just below or at a positive value, the same on every machine.
fn exponent(value: f64) -> i32 {
    i32::try_from((value.to_bits() >> 52) & 0x7ff).map_or(0, |bits| bits - 1023)
}

/// 2^exponent, kept within the normal numbers.
fn power_of_two(exponent: i32) -> f64 {
    let biased = exponent.clamp(-1022, 1023) + 1023;
    f64::from_bits(u64::try_from(biased).map_or(1, |biased| biased << 52))
}

/// The attributes seen, each with its most frequent values.
fn groups(rows: &[ProfileRow]) -> Vec<GroupSchema> {
    let mut seen: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (attribute, value) in rows.iter().flat_map(|row| &row.attributes) {
        *seen.entry(attribute).or_default().entry(value).or_default() += 1;
    }
    let frequent = |values: BTreeMap<&str, u64>| {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        values.truncate(MAX_GROUP_VALUES);
        let mut values: Vec<_> = values.into_iter().map(|(value, _)| value.to_owned()).collect();
        values.sort_unstable();
        values
    };
    seen.into_iter()
        .map(|(name, values)| GroupSchema { attribute: name.to_owned(), values: frequent(values) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_equal_masses_and_the_range_has_a_million_steps() {
        let schema = numeric((0..6000).rev().map(f64::from));
        assert_eq!((schema.bins(), schema.edges[0], schema.edges[60]), (60, 0.0, 5999.0));
        let mut counts = mloop_core::counts::NumericCounts::new(&schema);
        (0..6000).for_each(|value| counts.observe(&schema, Some(f64::from(value))));
        assert!(counts.bins.iter().all(|rows| (99..=101).contains(rows)), "{:?}", counts.bins);
        let steps = 5999.0 / schema.step;
        assert!((f64::from(1 << 20)..f64::from(1 << 21)).contains(&steps), "{steps}");
    }

    #[test]
    fn any_values_make_valid_edges_that_hold_all_of_them() {
        let columns: [&[f64]; 9] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[0.0, -0.0],
            &[7.5; 4],
            &[1.0, 2.0],
            &[0.0, 0.0, 0.0, 0.0, 1.0],
            &[1e15, 1e15 + 1.0],
            &[-f64::MAX, f64::MAX],
            &[f64::MIN_POSITIVE, f64::MIN_POSITIVE * 2.0],
        ];
        for values in columns {
            let numeric = numeric(values.iter().copied());
            let schema = ProfileSchema {
                format: PROFILE_FORMAT,
                model: mloop_core::ModelName::new("m").expect("a name"),
                classes: vec!["a".to_owned(), "b".to_owned()],
                columns: vec![ColumnSchema {
                    name: "x".to_owned(),
                    kind: ColumnKind::Numeric(numeric.clone()),
                }],
                groups: vec![],
                latency_objective_micros: None,
            };
            assert_eq!(schema.validate(), Ok(()), "{values:?} {numeric:?}");
            let mut counts = mloop_core::counts::NumericCounts::new(&numeric);
            values.iter().for_each(|value| counts.observe(&numeric, Some(*value)));
            assert_eq!((counts.below, counts.above), (0, 0), "{values:?} {numeric:?}");
        }
    }

    #[test]
    fn only_the_most_frequent_values_of_a_group_are_kept() {
        let row = |value: usize| ProfileRow {
            features: BTreeMap::new(),
            prediction: "a".to_owned(),
            confidence: 1.0,
            label: None,
            attributes: [("site".to_owned(), format!("{value:03}"))].into(),
        };
        // 000 to 059 once, the last ten of them twice.
        let rows: Vec<_> = (0..60).chain(50..60).map(row).collect();
        let groups = groups(&rows);
        let expected: Vec<_> = (0..40).chain(50..60).map(|value| format!("{value:03}")).collect();
        assert_eq!((groups.len(), &groups[0].values), (1, &expected));
    }
}
