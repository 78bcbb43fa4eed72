//! Counting rows under a schema: the one function that references and windows go through.

use std::collections::HashMap;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, UInt8Array,
    UInt64Array,
};
use datafusion::arrow::datatypes::{Float32Type, Float64Type, UInt8Type, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use mloop_core::counts::{Binner, Category, Group, OutcomeCounts, OutcomeLayout};
use mloop_core::profile::{ColumnCounts, ProfileKey};
use mloop_core::schema::{
    CONFIDENCE_COLUMN, ColumnKind, GroupSchema, PREDICTION_COLUMN, SCORE_COLUMN, VectorSchema,
};
use mloop_core::{Profile, ProfileSchema, Window};
use mloop_stats::embedding::RandomFeatures;

use crate::engine::COPY;
use crate::labels::LABEL;
use crate::rows::{
    ATTRIBUTE, FEATURE, LATENCY, Layout, ORIGIN, Origin, PREDICTION, PROBABILITIES, SCORE, VECTOR,
};

/// What is counted, for whom: a schema made ready for batches of rows.
#[derive(Debug)]
pub(crate) struct Counter {
    outcomes: OutcomeLayout,
    predicts: Predicts,
    columns: Vec<(String, Source)>,
    /// Of each attribute of the layout, the values that any column or group knows.
    attributes: Vec<HashMap<String, usize>>,
    groups: Vec<Groups>,
    layout: Layout,
    empty: Profile,
}

/// What is predicted.
#[derive(Debug)]
enum Predicts {
    Classes(HashMap<String, usize>),
    /// Numbers, whose errors count in steps of this size.
    Numbers {
        step: f64,
    },
    Nothing,
}

/// Where a column of the schema finds its values.
#[derive(Debug)]
enum Source {
    Score(Binner),
    PredictedClass,
    PredictedNumber(Binner),
    Feature(usize, Binner),
    /// The attribute, and of each of its known values the category.
    Attribute(usize, Vec<Option<usize>>),
    Vector(usize, VectorSchema, RandomFeatures),
}

/// The groups of one or several attributes.
#[derive(Debug)]
struct Groups {
    /// Places of the attributes in the layout.
    attributes: Vec<usize>,
    /// Of known values, one of each attribute, the group.
    values: HashMap<Vec<usize>, usize>,
}

/// The columns of one batch.
struct Columns<'a> {
    copy: &'a UInt64Array,
    origin: &'a UInt8Array,
    prediction: &'a ArrayRef,
    score: &'a Float64Array,
    probabilities: &'a ListArray,
    latency: &'a UInt64Array,
    label: &'a ArrayRef,
    features: Vec<&'a Float64Array>,
    attributes: Vec<&'a StringArray>,
    vectors: Vec<&'a ListArray>,
}

/// A row of this version.
struct Outcome {
    row: usize,
    answer: Answer,
}

/// What was predicted, and what was true where that is known.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Class {
        prediction: usize,
        truth: Option<usize>,
    },
    /// By how many steps it was wrong.
    Number {
        error: Option<i64>,
    },
    Nothing,
}

/// What an attribute holds in a row.
#[derive(Debug, Clone, Copy)]
enum Value {
    Known(usize),
    Unknown,
    Missing,
}

impl Counter {
    /// Makes a valid schema ready.
    pub(crate) fn new(schema: &ProfileSchema, key: ProfileKey, window: Window) -> Self {
        let layout = Layout::of(schema);
        let mut attributes = vec![HashMap::new(); layout.attributes.len()];
        let columns = schema.columns.iter().filter_map(|column| {
            let source = source(&column.name, &column.kind, &layout, &mut attributes)?;
            Some((column.name.clone(), source))
        });
        let columns = columns.collect();
        let groups = schema.groups.iter();
        let groups = groups.map(|group| Groups::new(group, &layout, &mut attributes)).collect();
        Self {
            outcomes: schema.outcomes(),
            predicts: Predicts::of(schema),
            columns,
            attributes,
            groups,
            layout,
            empty: Profile::new(schema, key, window),
        }
    }

    /// The profile of no rows.
    pub(crate) fn empty(&self) -> Profile {
        self.empty.clone()
    }

    /// Counts a batch of rows.
    ///
    /// # Errors
    /// When it lacks a column of the layout.
    pub(crate) fn observe(&self, profile: &mut Profile, batch: &RecordBatch) -> Result<()> {
        let columns = Columns::of(batch, &self.layout)?;
        let outcomes = self.outcomes(profile, &columns);
        let attributes: Vec<Vec<Value>> = (columns.attributes.iter().zip(&self.attributes))
            .map(|(texts, known)| outcomes.iter().map(|one| value(texts, known, one.row)).collect())
            .collect();
        for (name, source) in &self.columns {
            if let Some(counts) = profile.columns.get_mut(name) {
                source.observe(counts, &columns, &attributes, &outcomes);
            }
        }
        for outcome in &outcomes {
            self.answer(&mut profile.overall, &columns, outcome);
            let row = outcome.row;
            if let Answer::Class { truth: Some(truth), .. } = outcome.answer
                && columns.probabilities.is_valid(row)
            {
                let probabilities = columns.probabilities.value(row);
                let probabilities = probabilities.as_primitive::<Float64Type>().values();
                profile.losses.observe(self.outcomes, probabilities, truth);
            }
            if columns.latency.is_valid(row) {
                profile.latency.observe(columns.latency.value(row));
            }
        }
        for (groups, counts) in self.groups.iter().zip(&mut profile.groups) {
            for (place, outcome) in outcomes.iter().enumerate() {
                let counts = counts.of(groups.group(&attributes, place), self.outcomes);
                self.answer(counts, &columns, outcome);
            }
        }
        Ok(())
    }

    fn answer(&self, counts: &mut OutcomeCounts, columns: &Columns<'_>, outcome: &Outcome) {
        match outcome.answer {
            Answer::Class { prediction, truth } => {
                let score = columns.score(outcome.row);
                counts.observe(self.outcomes, prediction, truth, score);
            }
            Answer::Number { error } => counts.errors.observe(error),
            Answer::Nothing => {}
        }
    }

    /// Sorts out the rows of this version, and counts the others.
    fn outcomes(&self, profile: &mut Profile, columns: &Columns<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(columns.origin.len());
        for row in 0..columns.origin.len() {
            if columns.copy.value(row) > 1 {
                profile.duplicates += 1;
                continue;
            }
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
            let Some(answer) = self.predicts.answer(columns, row) else {
                profile.quarantined += 1;
                continue;
            };
            profile.rows += 1;
            // A label of no known class says nothing of the row, but is not silently lost.
            let is_lost = matches!(
                answer,
                Answer::Class { truth: None, .. } | Answer::Number { error: None }
            ) && columns.label.is_valid(row);
            profile.quarantined += u64::from(is_lost);
            outcomes.push(Outcome { row, answer });
        }
        outcomes
    }
}

impl Predicts {
    fn of(schema: &ProfileSchema) -> Self {
        match schema.predicted_numbers() {
            Some(numeric) => Self::Numbers { step: numeric.step },
            None if schema.classes.is_empty() => Self::Nothing,
            None => Self::Classes(indices(&schema.classes)),
        }
    }

    /// What a row holds; none when it lacks a prediction, or has one of no known class.
    fn answer(&self, columns: &Columns<'_>, row: usize) -> Option<Answer> {
        let is_labelled = columns.label.is_valid(row);
        match self {
            Self::Nothing => Some(Answer::Nothing),
            _ if columns.prediction.is_null(row) => None,
            Self::Classes(classes) => {
                let of = |texts: &StringArray| classes.get(texts.value(row)).copied();
                let prediction = of(columns.prediction.as_string())?;
                let truth = if is_labelled { of(columns.label.as_string()) } else { None };
                Some(Answer::Class { prediction, truth })
            }
            Self::Numbers { step } => {
                let of = |numbers: &ArrayRef| numbers.as_primitive::<Float64Type>().value(row);
                let error = is_labelled
                    .then(|| ((of(columns.prediction) - of(columns.label)) / step).round());
                // Casts saturate, and sums bound what they hold.
                let error = error.filter(|error| !error.is_nan()).map(|error| error as i64);
                Some(Answer::Number { error })
            }
        }
    }
}

/// Where a column finds its values; none for one that rows do not have.
fn source(
    name: &str,
    kind: &ColumnKind,
    layout: &Layout,
    attributes: &mut [HashMap<String, usize>],
) -> Option<Source> {
    Some(match kind {
        ColumnKind::Numeric(numeric) if matches!(name, CONFIDENCE_COLUMN | SCORE_COLUMN) => {
            Source::Score(Binner::new(numeric))
        }
        ColumnKind::Categorical(_) if name == PREDICTION_COLUMN => Source::PredictedClass,
        ColumnKind::Numeric(numeric) if name == PREDICTION_COLUMN => {
            Source::PredictedNumber(Binner::new(numeric))
        }
        ColumnKind::Numeric(numeric) => {
            Source::Feature(position(&layout.features, name)?, Binner::new(numeric))
        }
        ColumnKind::Categorical(known) => {
            let place = position(&layout.attributes, name)?;
            let mut categories = vec![];
            for (category, value) in known.categories.iter().enumerate() {
                let code = code(&mut attributes[place], value);
                categories.resize(categories.len().max(code + 1), None);
                categories[code] = Some(category);
            }
            Source::Attribute(place, categories)
        }
        ColumnKind::Vector(vector) => {
            let VectorSchema { dimension, pairs, bandwidth, seed, .. } = *vector;
            let features = RandomFeatures::new(dimension, pairs, bandwidth, seed)?;
            Source::Vector(position(&layout.vectors, name)?, vector.clone(), features)
        }
    })
}

impl Source {
    fn observe(
        &self,
        counts: &mut ColumnCounts,
        columns: &Columns<'_>,
        attributes: &[Vec<Value>],
        outcomes: &[Outcome],
    ) {
        let rows = outcomes.iter().map(|outcome| outcome.row);
        match (self, counts) {
            (Self::Score(binner), ColumnCounts::Numeric(counts)) => {
                counts.observe_all(binner, rows.map(|row| columns.score(row)));
            }
            (Self::Feature(index, binner), ColumnCounts::Numeric(counts)) => {
                let values = columns.features[*index];
                counts.observe_all(
                    binner,
                    rows.map(|row| values.is_valid(row).then(|| values.value(row))),
                );
            }
            (Self::PredictedClass, ColumnCounts::Categorical(counts)) => {
                for outcome in outcomes {
                    if let Answer::Class { prediction, .. } = outcome.answer {
                        counts.observe(Category::Known(prediction));
                    }
                }
            }
            (Self::PredictedNumber(binner), ColumnCounts::Numeric(counts)) => {
                let values = columns.prediction.as_primitive::<Float64Type>();
                counts.observe_all(binner, rows.map(|row| Some(values.value(row))));
            }
            (Self::Attribute(index, categories), ColumnCounts::Categorical(counts)) => {
                let texts = columns.attributes[*index];
                for (value, row) in attributes[*index].iter().zip(rows) {
                    let known = |code: usize| categories.get(code).copied().flatten();
                    counts.observe(match value {
                        Value::Missing => Category::Missing,
                        Value::Known(code) if let Some(category) = known(*code) => {
                            Category::Known(category)
                        }
                        Value::Known(_) | Value::Unknown => Category::Unseen(texts.value(row)),
                    });
                }
            }
            (Self::Vector(index, schema, features), ColumnCounts::Vector(counts)) => {
                let vectors = columns.vectors[*index];
                for row in rows {
                    if vectors.is_null(row) {
                        counts.missing += 1;
                        continue;
                    }
                    let vector = vectors.value(row);
                    let vector = vector.as_primitive::<Float32Type>();
                    let vector: Vec<f64> = vector.values().iter().map(|n| f64::from(*n)).collect();
                    counts.observe(schema, &vector, features.of(&vector).as_deref());
                }
            }
            // The counts were made of the schema that the sources were made of.
            _ => unreachable!("a column's counts are of its schema's kind"),
        }
    }
}

impl Groups {
    fn new(
        group: &GroupSchema,
        layout: &Layout,
        attributes: &mut [HashMap<String, usize>],
    ) -> Self {
        let places = group.attributes.iter().filter_map(|name| position(&layout.attributes, name));
        let places: Vec<usize> = places.collect();
        let mut values = HashMap::new();
        for (index, value) in group.values.iter().enumerate() {
            let codes = places.iter().zip(value);
            let codes = codes.map(|(place, value)| code(&mut attributes[*place], value)).collect();
            values.insert(codes, index);
        }
        Self { attributes: places, values }
    }

    /// The group of the row at this place among the outcomes.
    fn group(&self, attributes: &[Vec<Value>], place: usize) -> Group {
        let mut codes = Vec::with_capacity(self.attributes.len());
        let mut is_other = false;
        for attribute in &self.attributes {
            match attributes[*attribute][place] {
                Value::Known(code) => codes.push(code),
                Value::Unknown => is_other = true,
                Value::Missing => return Group::Missing,
            }
        }
        let known = if is_other { None } else { self.values.get(&codes) };
        known.map_or(Group::Other, |index| Group::Known(*index))
    }
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, layout: &Layout) -> Result<Self> {
        let column = |name: &str| {
            let lacks = || DataFusionError::Internal(format!("the batch has no column {name}"));
            batch.column_by_name(name).ok_or_else(lacks)
        };
        let own = |prefix, count| (0..count).map(move |i| column(&format!("{prefix}{i}")));
        let features = own(FEATURE, layout.features.len());
        let attributes = own(ATTRIBUTE, layout.attributes.len());
        let vectors = own(VECTOR, layout.vectors.len());
        Ok(Self {
            copy: column(COPY)?.as_primitive::<UInt64Type>(),
            origin: column(ORIGIN)?.as_primitive::<UInt8Type>(),
            prediction: column(PREDICTION)?,
            score: column(SCORE)?.as_primitive::<Float64Type>(),
            probabilities: column(PROBABILITIES)?.as_list(),
            latency: column(LATENCY)?.as_primitive::<UInt64Type>(),
            label: column(LABEL)?,
            features: features
                .map(|array| Ok(array?.as_primitive::<Float64Type>()))
                .collect::<Result<_>>()?,
            attributes: attributes.map(|array| Ok(array?.as_string())).collect::<Result<_>>()?,
            vectors: vectors.map(|array| Ok(array?.as_list())).collect::<Result<_>>()?,
        })
    }

    fn score(&self, row: usize) -> Option<f64> {
        self.score.is_valid(row).then(|| self.score.value(row))
    }
}

fn value(texts: &StringArray, known: &HashMap<String, usize>, row: usize) -> Value {
    if texts.is_null(row) {
        return Value::Missing;
    }
    known.get(texts.value(row)).map_or(Value::Unknown, |code| Value::Known(*code))
}

/// The code of a known value, given one where it has none yet.
fn code(known: &mut HashMap<String, usize>, value: &str) -> usize {
    let next = known.len();
    *known.entry(value.to_owned()).or_insert(next)
}

fn indices(values: &[String]) -> HashMap<String, usize> {
    values.iter().cloned().enumerate().map(|(index, value)| (value, index)).collect()
}

fn position(names: &[String], name: &str) -> Option<usize> {
    names.iter().position(|known| known == name)
}
