//! Freezing a schema on reference rows: bins, steps and groups.

use std::collections::{BTreeMap, BTreeSet};

use mloop_core::ProfileSchema;
use mloop_core::schema::{
    CONFIDENCE_COLUMN, CategoricalSchema, ColumnKind, ColumnSchema, EMBEDDING_COLUMN, GroupSchema,
    MAX_DIMENSION, NumericSchema, PREDICTION_COLUMN, PROFILE_FORMAT, VectorSchema,
};
use mloop_platform::{ProfileRow, ReferenceRequest};

/// Bins of equal mass: fine enough that methods which need few of them can merge neighbours.
const BINS: usize = 120;

/// Distinct values up to which each has a bin of its own, with empty ones between them.
const OWN_BINS: usize = 100;

/// Bins of each component of a vector.
const COMPONENT_BINS: usize = 10;

/// Pairs of random features of a vector.
const PAIRS: usize = 16;

/// Vectors of which the width of the kernel is taken.
const KERNEL_ROWS: usize = 256;

/// What random features are drawn with.
const SEED: u64 = 0x6d6c_6f6f_7031;

/// Values of a group attribute, and of an intersection, that are counted apart; the rest counts as other.
const MAX_GROUPS: usize = 50;

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
    let embeddings = request.rows.iter().map(|row| row.embedding.as_slice());
    columns.extend(vector(embeddings).map(|schema| ColumnSchema {
        name: EMBEDDING_COLUMN.to_owned(),
        kind: ColumnKind::Vector(schema),
    }));
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
        positive: None,
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
pub(crate) fn numeric(values: impl Iterator<Item = f64>) -> NumericSchema {
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
    let mut edges: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
    edges.dedup();
    edges = if edges.len() > OWN_BINS {
        (0..=BINS).map(|i| values[i * last / BINS] + 0.0).collect()
    } else {
        // A value's bin ends at the next number there is: what lies between two values is seen as such,
        // and distances are those of the values themselves.
        edges.into_iter().flat_map(|value| [value, value.next_up()]).collect()
    };
    edges.retain(|edge| edge.is_finite());
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

/// How vectors are counted; none where there are none, or none of one dimension that can be.
///
/// The kernel is as wide as the median distance of two vectors (Gretton et al. 2012, section 8), of an
/// even choice of them.
pub(crate) fn vector<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Option<VectorSchema> {
    let sound = |vector: &&[f32]| !vector.is_empty() && vector.iter().all(|n| n.is_finite());
    let vectors: Vec<&[f32]> = vectors.filter(sound).collect();
    let dimension = vectors.first()?.len();
    if dimension > MAX_DIMENSION || vectors.iter().any(|vector| vector.len() != dimension) {
        return None;
    }
    let chosen: Vec<&&[f32]> =
        vectors.iter().step_by(vectors.len().div_ceil(KERNEL_ROWS)).collect();
    let distance = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mut distances: Vec<f64> = (chosen.iter().enumerate())
        .flat_map(|(index, one)| chosen[index + 1..].iter().map(move |other| (one, other)))
        .map(|(one, other)| one.iter().zip(other.iter()).map(distance).sum::<f64>().sqrt())
        .collect();
    distances.sort_unstable_by(f64::total_cmp);
    let median = distances.get(distances.len() / 2).copied().unwrap_or_default();
    // Vectors that are all alike: any other one is then far away.
    let bandwidth = if median > 0.0 { median } else { 1.0 };
    let component = |index: usize| {
        let mut values: Vec<f64> = vectors.iter().map(|vector| f64::from(vector[index])).collect();
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len() - 1;
        let inner = 1..COMPONENT_BINS;
        let mut edges: Vec<f64> = inner.map(|i| values[i * last / COMPONENT_BINS] + 0.0).collect();
        edges.dedup_by(|next, before| *next <= *before);
        edges
    };
    let components = (0..dimension).map(component).collect();
    Some(VectorSchema { dimension, pairs: PAIRS, bandwidth, seed: SEED, components })
}

/// The attributes seen and each pair of them, with their most frequent values.
fn groups(rows: &[ProfileRow]) -> Vec<GroupSchema> {
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.attributes.keys()).collect();
    let names: Vec<&String> = names.into_iter().collect();
    let pairs = names
        .iter()
        .enumerate()
        .flat_map(|(index, one)| names[index + 1..].iter().map(move |other| vec![*one, *other]));
    let mut groups: Vec<GroupSchema> = names
        .iter()
        .map(|name| vec![*name])
        .chain(pairs)
        .map(|attributes| {
            let value = |row: &ProfileRow| {
                attributes.iter().map(|name| row.attributes.get(*name).cloned()).collect()
            };
            let names = attributes.iter().map(|name| (*name).clone()).collect();
            frequent(names, rows.iter().map(value), MAX_GROUPS)
        })
        .collect();
    groups.sort_unstable();
    groups
}

/// The groups that these attributes make together: the most frequent ones, of equal ones the first.
pub(crate) fn frequent(
    attributes: Vec<String>,
    rows: impl Iterator<Item = Option<Vec<String>>>,
    most: usize,
) -> GroupSchema {
    let mut seen: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    rows.flatten().for_each(|value| *seen.entry(value).or_default() += 1);
    let mut values: Vec<_> = seen.into_iter().collect();
    values.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    values.truncate(most);
    let mut values: Vec<Vec<String>> = values.into_iter().map(|(value, _)| value).collect();
    values.sort_unstable();
    GroupSchema { attributes, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_equal_masses_and_the_range_has_a_million_steps() {
        let schema = numeric((0..6000).rev().map(f64::from));
        assert_eq!((schema.bins(), schema.edges[0], schema.edges[120]), (120, 0.0, 5999.0));
        let mut counts = mloop_core::counts::NumericCounts::new(&schema);
        (0..6000).for_each(|value| counts.observe(&schema, Some(f64::from(value))));
        assert!(counts.bins.iter().all(|rows| (49..=51).contains(rows)), "{:?}", counts.bins);
        let steps = 5999.0 / schema.step;
        assert!((f64::from(1 << 20)..f64::from(1 << 21)).contains(&steps), "{steps}");
    }

    #[test]
    fn few_values_have_a_bin_each() {
        let schema = numeric([1.0, 3.0, 2.0, 3.0, -0.0].into_iter());
        let mut counts = mloop_core::counts::NumericCounts::new(&schema);
        [0.0, 1.0, 2.0, 2.5, 3.0, 3.1]
            .iter()
            .for_each(|value| counts.observe(&schema, Some(*value)));
        assert_eq!((counts.bins, counts.below, counts.above), (vec![1, 0, 1, 0, 1, 1, 1], 0, 1));
    }

    #[test]
    fn vectors_are_counted_by_a_kernel_as_wide_as_they_are_apart() {
        let rows: Vec<Vec<f32>> = (0..100u8).map(|i| vec![f32::from(i), 0.0]).collect();
        let schema = vector(rows.iter().map(Vec::as_slice)).expect("vectors");
        assert_eq!((schema.dimension, schema.components.len()), (2, 2));
        assert!((25.0..35.0).contains(&schema.bandwidth), "{}", schema.bandwidth);
        assert_eq!((schema.components[0].len(), schema.components[1].len()), (9, 1));
        let uneven = [vec![1.0], vec![1.0, 2.0]];
        assert_eq!(vector(uneven.iter().map(Vec::as_slice)), None);
        assert_eq!(vector([].into_iter()), None);
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
                positive: None,
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

    fn row(attributes: &[(&str, String)]) -> ProfileRow {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        ProfileRow {
            features: BTreeMap::new(),
            prediction: "a".to_owned(),
            confidence: 1.0,
            probabilities: vec![],
            label: None,
            attributes: attributes.collect(),
            embedding: vec![],
        }
    }

    #[test]
    fn only_the_most_frequent_values_of_a_group_are_kept() {
        let site = |value: usize| row(&[("site", format!("{value:03}"))]);
        // 000 to 059 once, the last ten of them twice.
        let rows: Vec<_> = (0..60).chain(50..60).map(site).collect();
        let groups = groups(&rows);
        let expected: Vec<_> =
            (0..40).chain(50..60).map(|value| vec![format!("{value:03}")]).collect();
        assert_eq!((groups.len(), &groups[0].values), (1, &expected));
    }

    #[test]
    fn two_attributes_also_make_groups_together() {
        let both =
            |sex: &str, race: &str| row(&[("sex", sex.to_owned()), ("race", race.to_owned())]);
        let rows = [both("f", "x"), both("m", "y"), row(&[("sex", "m".to_owned())])];
        let groups = groups(&rows);
        let names: Vec<String> = groups.iter().map(GroupSchema::name).collect();
        assert_eq!(names, ["race", "race & sex", "sex"]);
        assert_eq!([groups[1].value(0), groups[1].value(1)], ["x & f", "y & m"]);
    }
}
