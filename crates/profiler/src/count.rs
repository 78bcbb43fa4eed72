//! Counting rows under a schema: the one function that references and windows go through.

use std::collections::{BTreeSet, HashMap};

use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, StringArray, UInt8Array, UInt64Array,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{
    as_float64_array, as_string_array, as_uint8_array, as_uint64_array,
};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ident};
use mloop_core::counts::{CalibrationBin, Confusion, GroupCounts};
use mloop_core::profile::{ColumnCounts, ProfileKey};
use mloop_core::schema::{
    CONFIDENCE_COLUMN, ColumnKind, MISSING_GROUP, NumericSchema, OTHER_GROUP, PREDICTION_COLUMN,
};
use mloop_core::{Profile, ProfileSchema, Window};

use crate::labels::LABEL;
use crate::rows::{CONFIDENCE, LATENCY, Layout, ORIGIN, Origin, PREDICTION};

/// What is counted, for whom: a schema made ready for batches of rows.
#[derive(Debug, PartialEq)]
pub(crate) struct Counter {
    layout: Layout,
    classes: HashMap<String, usize>,
    columns: Vec<(String, Source)>,
    groups: Vec<Group>,
    empty: Profile,
}

/// Where a column of the schema finds its values.
#[derive(Debug, PartialEq)]
enum Source {
    Confidence(NumericSchema),
    Feature(usize, NumericSchema),
    Prediction(HashMap<String, usize>),
    Attribute(usize, HashMap<String, usize>),
}

/// A group attribute, with its place among the attributes of the layout.
#[derive(Debug, PartialEq)]
struct Group {
    attribute: String,
    index: usize,
    values: BTreeSet<String>,
}

/// The columns of one batch, in the order of [`Counter::arguments`].
struct Columns<'a> {
    origin: &'a UInt8Array,
    prediction: &'a StringArray,
    confidence: &'a Float64Array,
    latency: &'a UInt64Array,
    label: &'a StringArray,
    features: Vec<&'a Float64Array>,
    attributes: Vec<&'a StringArray>,
}

/// A row of this version: what was predicted, and what was true where that is known.
struct Outcome {
    row: usize,
    prediction: usize,
    truth: Option<usize>,
}

impl Counter {
    /// Makes a schema ready.
    pub(crate) fn new(schema: &ProfileSchema, key: ProfileKey, window: Window) -> Self {
        let layout = Layout::of(schema);
        let attribute = |name: &str| position(&layout.attributes, name);
        let source = |name: &str, kind: &ColumnKind| match kind {
            ColumnKind::Numeric(numeric) if name == CONFIDENCE_COLUMN => {
                Source::Confidence(numeric.clone())
            }
            ColumnKind::Numeric(numeric) => {
                Source::Feature(position(&layout.features, name), numeric.clone())
            }
            ColumnKind::Categorical(known) if name == PREDICTION_COLUMN => {
                Source::Prediction(indices(&known.categories))
            }
            ColumnKind::Categorical(known) => {
                Source::Attribute(attribute(name), indices(&known.categories))
            }
        };
        let columns = schema.columns.iter();
        let columns = columns.map(|c| (c.name.clone(), source(&c.name, &c.kind))).collect();
        let groups = schema.groups.iter().map(|group| Group {
            attribute: group.attribute.clone(),
            index: attribute(&group.attribute),
            values: group.values.iter().cloned().collect(),
        });
        Self {
            classes: indices(&schema.classes),
            columns,
            groups: groups.collect(),
            empty: Profile::new(schema, key, window),
            layout,
        }
    }

    /// The profile of no rows.
    pub(crate) fn empty(&self) -> Profile {
        self.empty.clone()
    }

    /// The columns that batches must have, in order.
    pub(crate) fn arguments(&self) -> (Vec<Expr>, Vec<DataType>) {
        let fixed = [
            (ORIGIN, DataType::UInt8),
            (PREDICTION, DataType::Utf8),
            (CONFIDENCE, DataType::Float64),
            (LATENCY, DataType::UInt64),
            (LABEL, DataType::Utf8),
        ];
        let fixed = fixed.map(|(name, kind)| (name.to_owned(), kind));
        let all = fixed.into_iter().chain(self.layout.columns());
        all.map(|(name, kind)| (ident(name), kind)).unzip()
    }

    /// Counts a batch of rows.
    ///
    /// # Errors
    /// When the columns are not those of [`Counter::arguments`].
    pub(crate) fn observe(&self, profile: &mut Profile, columns: &[ArrayRef]) -> Result<()> {
        let columns = Columns::of(columns, &self.layout)?;
        let outcomes = self.outcomes(profile, &columns);
        for (name, source) in &self.columns {
            if let Some(counts) = profile.columns.get_mut(name) {
                source.observe(counts, &columns, &outcomes);
            }
        }
        for outcome in &outcomes {
            let Outcome { row, prediction, truth } = *outcome;
            profile.overall.observe(prediction, truth);
            if let Some(truth) = truth {
                let confidence = columns.confidence.value(row);
                CalibrationBin::observe(&mut profile.calibration, confidence, truth == prediction);
            }
            if columns.latency.is_valid(row) {
                profile.latency.observe(columns.latency.value(row));
            }
        }
        for group in &self.groups {
            let counts = profile.groups.entry(group.attribute.clone()).or_default();
            group.observe(counts, columns.attributes[group.index], &outcomes, self.classes.len());
        }
        Ok(())
    }

    /// Sorts out the rows of this version, and counts the others.
    fn outcomes(&self, profile: &mut Profile, columns: &Columns<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(columns.origin.len());
        for row in 0..columns.origin.len() {
            match Origin::of_code(columns.origin.value(row)) {
                Origin::Own => {}
                Origin::Other => {
                    profile.other_version += 1;
                    continue;
                }
                Origin::Unknown => {
                    profile.mixed += 1;
                    continue;
                }
            }
            let Some(prediction) = self.classes.get(columns.prediction.value(row)).copied() else {
                profile.quarantined += 1;
                continue;
            };
            let label = columns.label.is_valid(row).then(|| columns.label.value(row));
            let truth = label.and_then(|label| self.classes.get(label).copied());
            profile.rows += 1;
            // A label of no known class says nothing of the row, but is not silently lost.
            profile.quarantined += u64::from(label.is_some() && truth.is_none());
            outcomes.push(Outcome { row, prediction, truth });
        }
        outcomes
    }
}

impl Source {
    fn observe(&self, counts: &mut ColumnCounts, columns: &Columns<'_>, outcomes: &[Outcome]) {
        let rows = outcomes.iter().map(|outcome| outcome.row);
        match (self, counts) {
            (Self::Confidence(schema), ColumnCounts::Numeric(counts)) => {
                rows.for_each(|row| counts.observe(schema, Some(columns.confidence.value(row))));
            }
            (Self::Feature(index, schema), ColumnCounts::Numeric(counts)) => {
                let values = columns.features[*index];
                rows.for_each(|row| {
                    counts.observe(schema, values.is_valid(row).then(|| values.value(row)));
                });
            }
            (Self::Prediction(known), ColumnCounts::Categorical(counts)) => {
                let values = columns.prediction;
                rows.for_each(|row| counts.observe(Some(known.get(values.value(row)).copied())));
            }
            (Self::Attribute(index, known), ColumnCounts::Categorical(counts)) => {
                let values = columns.attributes[*index];
                rows.for_each(|row| {
                    let value = values.is_valid(row).then(|| values.value(row));
                    counts.observe(value.map(|value| known.get(value).copied()));
                });
            }
            // The counts were made of the schema that the sources were made of.
            _ => unreachable!("a column's counts are of its schema's kind"),
        }
    }
}

impl Group {
    fn observe(
        &self,
        counts: &mut GroupCounts,
        values: &StringArray,
        outcomes: &[Outcome],
        classes: usize,
    ) {
        for outcome in outcomes {
            let value = values.is_valid(outcome.row).then(|| values.value(outcome.row));
            let group = match value {
                None => MISSING_GROUP,
                Some(value) if self.values.contains(value) => value,
                Some(_) => OTHER_GROUP,
            };
            if !counts.contains_key(group) {
                counts.insert(group.to_owned(), Confusion::new(classes));
            }
            if let Some(confusion) = counts.get_mut(group) {
                confusion.observe(outcome.prediction, outcome.truth);
            }
        }
    }
}

impl<'a> Columns<'a> {
    fn of(columns: &'a [ArrayRef], layout: &Layout) -> Result<Self> {
        let (fixed, own) = columns.split_at(5);
        let (features, attributes) = own.split_at(layout.features.len());
        Ok(Self {
            origin: as_uint8_array(&fixed[0])?,
            prediction: as_string_array(&fixed[1])?,
            confidence: as_float64_array(&fixed[2])?,
            latency: as_uint64_array(&fixed[3])?,
            label: as_string_array(&fixed[4])?,
            features: features
                .iter()
                .map(|array| as_float64_array(array))
                .collect::<Result<_>>()?,
            attributes: attributes
                .iter()
                .map(|array| as_string_array(array))
                .collect::<Result<_>>()?,
        })
    }
}

fn indices(values: &[String]) -> HashMap<String, usize> {
    values.iter().cloned().enumerate().map(|(index, value)| (value, index)).collect()
}

fn position(names: &[String], name: &str) -> usize {
    let found = names.iter().position(|known| known == name);
    found.expect("the layout was made of the schema that names it")
}
