//! The schema that a table's rows are counted under from then on, and their reference profile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ident, lit};
use futures::TryStreamExt;
use mloop_core::profile::ProfileKey;
use mloop_core::schema::{
    CONFIDENCE_COLUMN, CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, PREDICTION_COLUMN,
    PROFILE_FORMAT, SCORE_COLUMN,
};
use mloop_core::{ProfileSchema, Window};
use mloop_platform::{PlatformError, Reference, SourceReference};

use super::plan::{WhoAnswered, Wish, bounds};
use super::sample::Sample;
use super::{Found, Tables};
use crate::bins;
use crate::count::Counter;
use crate::engine;
use crate::rows::{Layout, TIME};
use crate::scan::Reading;

/// Values of a categorical column that are counted apart; the rest counts as unseen.
const MAX_CATEGORIES: usize = 200;

/// Classes that a model may have.
const MAX_CLASSES: usize = 200;

/// Different numbers from which predictions are taken for numbers and not for classes.
const NUMBERS: usize = 20;

/// What a table cannot be made a reference of, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unfit(String);

fn unfit<T>(problem: impl Into<String>) -> Result<T> {
    Err(DataFusionError::External(Box::new(Unfit(problem.into()))))
}

/// What a caller can do about a reference that could not be made.
pub(super) fn failure(doing: &str, error: DataFusionError) -> PlatformError {
    match error.find_root() {
        DataFusionError::External(cause) if cause.is::<Unfit>() => {
            PlatformError::invalid(doing, cause.to_string())
        }
        DataFusionError::Plan(problem) => PlatformError::invalid(doing, problem.clone()),
        _ => engine::failure(doing, error),
    }
}

impl Tables {
    /// Settles what is counted on a sample of the rows, unless it is inherited; then counts them all.
    pub(super) async fn freeze(
        &self,
        request: &SourceReference,
        found: &Found,
        labels: Option<&Found>,
        reading: &Reading,
    ) -> Result<Reference> {
        let schema = match &request.inherit {
            Some(schema) => schema.clone(),
            None => self.schema(request, found, reading).await?,
        };
        if let Err(error) = schema.validate() {
            return unfit(error.to_string());
        }
        let layout = Layout::of(&schema);
        let wish = Wish::new(&self.settings, &found.columns, &layout, &schema, WhoAnswered::Own);
        let span = request.window.as_ref().map(bounds);
        let table = self.table(found, self.needed(&layout), span, reading)?;
        let rows = wish.rows(table, request.window.as_ref())?;
        let labels = self.labels(labels, wish.numbers, reading).await?;
        // Nobody trained this model here: its reference stands for it.
        let key = ProfileKey { subject: request.subject.clone(), version: schema.digest() };
        let counter = Counter::new(&schema, key, request.filed);
        let profile = self.count(counter, rows, labels, reading).await?;
        if profile.rows == 0 {
            return unfit(
                "no row of the table has a time in the window and a prediction of a known class",
            );
        }
        Ok(Reference { schema, profile })
    }

    async fn schema(
        &self,
        request: &SourceReference,
        found: &Found,
        reading: &Reading,
    ) -> Result<ProfileSchema> {
        let sample = self.sample(request.window.as_ref(), found, reading).await?;
        let columns = &self.settings.columns;
        let mut schemas = vec![];
        for name in self.features(&found.columns)? {
            let array = column(&sample, &name)?;
            let kind = kind(&name, array, columns.categorical.contains(&name))?;
            schemas.extend(kind.map(|kind| ColumnSchema { name, kind }));
        }
        let classes = self.classes(&sample)?;
        schemas.extend(self.predicted(&sample, &classes)?);
        if columns.score.is_some() {
            let name =
                if self.settings.positive.is_some() { SCORE_COLUMN } else { CONFIDENCE_COLUMN };
            let scores = numbers(column(&sample, columns.score.as_deref().unwrap_or_default())?)?;
            let kind = ColumnKind::Numeric(bins::numeric(scores.into_iter().flatten()));
            schemas.push(ColumnSchema { name: name.to_owned(), kind });
        }
        schemas.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(ProfileSchema {
            format: PROFILE_FORMAT,
            model: request.subject.model.clone(),
            classes,
            positive: self.settings.positive.clone(),
            columns: schemas,
            groups: self.groups(&sample)?,
            latency_objective_micros: self.settings.latency_objective_micros(),
        })
    }

    /// An even sample of the rows, in the columns that a schema is made of.
    async fn sample(
        &self,
        window: Option<&Window>,
        found: &Found,
        reading: &Reading,
    ) -> Result<RecordBatch> {
        let columns = &self.settings.columns;
        let special = [&columns.prediction, &columns.score, &columns.label];
        let mut names = self.features(&found.columns)?;
        names.extend(columns.groups.iter().chain(special.into_iter().flatten()).cloned());
        names.sort_unstable();
        names.dedup();
        let lacking: Vec<&String> = names
            .iter()
            .chain([&columns.time])
            .filter(|name| found.columns.field_with_name(name).is_err())
            .collect();
        if let Some(first) = lacking.first() {
            let known: Vec<&str> =
                found.columns.fields().iter().map(|field| field.name().as_str()).collect();
            return unfit(format!(
                "the table has no column `{first}`; it has {}",
                known.join(", ")
            ));
        }
        let mut needed = names.clone();
        needed.push(columns.time.clone());
        let table = self.table_in(1, found, needed, window.map(bounds), reading)?;
        let layout = Layout::default();
        let empty = ProfileSchema {
            format: PROFILE_FORMAT,
            model: mloop_core::ModelName::new("m")
                .map_err(|error| DataFusionError::External(error.into()))?,
            classes: vec![],
            positive: None,
            columns: vec![],
            groups: vec![],
            latency_objective_micros: None,
        };
        let wish = Wish::new(&self.settings, &found.columns, &layout, &empty, WhoAnswered::Own);
        let mut wanted = vec![wish.time()?.alias(TIME)];
        wanted.extend(names.iter().map(ident));
        let mut rows = table.select(wanted)?;
        if let Some(window) = window {
            let [start, end] = bounds(window);
            rows = rows.filter(ident(TIME).gt_eq(lit(start)).and(ident(TIME).lt(lit(end))))?;
        }
        // In one part, so that the sample is the same each time.
        let mut batches = rows.execute_stream().await?;
        let mut sample: Option<Sample> = None;
        while let Some(batch) = batches.try_next().await? {
            sample.get_or_insert_with(|| Sample::new(batch.schema())).add(&batch)?;
        }
        let Some(sample) = sample else {
            return unfit("no row of the table has a time in the window");
        };
        let (seen, sample) = sample.finish()?;
        tracing::info!(rows = seen, of_them = sample.num_rows(), "looked at for what to count");
        Ok(sample)
    }

    /// Names of the features, sorted.
    fn features(&self, table: &Schema) -> Result<Vec<String>> {
        let columns = &self.settings.columns;
        let all = table.fields().iter().map(|field| field.name());
        let mut names: Vec<String> = match &columns.features {
            Some(names) => names.clone(),
            None => all.filter(|name| !self.settings.is_special(name)).cloned().collect(),
        };
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn classes(&self, sample: &RecordBatch) -> Result<Vec<String>> {
        let columns = &self.settings.columns;
        if !self.settings.classes.is_empty() {
            return Ok(self.settings.classes.clone());
        }
        let mut found = BTreeSet::new();
        for name in columns.prediction.iter().chain(&columns.label) {
            let array = column(sample, name)?;
            let values = texts(array)?;
            let distinct: BTreeSet<String> = values.into_iter().flatten().collect();
            let is_number = array.data_type().is_numeric()
                || distinct.iter().all(|text| text.parse::<f64>().is_ok());
            if is_number && distinct.len() > NUMBERS && self.settings.positive.is_none() {
                return Ok(vec![]);
            }
            found.extend(distinct);
        }
        found.extend(self.settings.positive.clone());
        if columns.prediction.is_none() && columns.score.is_none() {
            return Ok(vec![]);
        }
        match found.len() {
            0 | 1 => unfit(format!(
                "prediction and label have {} class in the sample; name all of them in `classes`",
                found.len()
            )),
            n if n > MAX_CLASSES => unfit(format!(
                "prediction and label have {n} classes; {MAX_CLASSES} can be counted"
            )),
            n if n != 2 && self.settings.positive.is_some() => unfit(format!(
                "`positive` needs two classes, prediction and label have {n}; name them in `classes`"
            )),
            _ => Ok(found.into_iter().collect()),
        }
    }

    /// The column of predictions.
    fn predicted(&self, sample: &RecordBatch, classes: &[String]) -> Result<Option<ColumnSchema>> {
        let kind = match &self.settings.columns.prediction {
            _ if !classes.is_empty() => {
                ColumnKind::Categorical(CategoricalSchema { categories: classes.to_vec() })
            }
            None => return Ok(None),
            Some(name) => {
                let values = numbers(column(sample, name)?)?;
                ColumnKind::Numeric(bins::numeric(values.into_iter().flatten()))
            }
        };
        Ok(Some(ColumnSchema { name: PREDICTION_COLUMN.to_owned(), kind }))
    }

    fn groups(&self, sample: &RecordBatch) -> Result<Vec<GroupSchema>> {
        let mut names = self.settings.columns.groups.clone();
        names.sort_unstable();
        names.dedup();
        let values: Vec<Vec<Option<String>>> =
            names.iter().map(|name| texts(column(sample, name)?)).collect::<Result<_>>()?;
        let most = self.settings.max_groups.get();
        let mut groups = vec![];
        for (place, name) in names.iter().enumerate() {
            let single = values[place].iter().map(|value| Some(vec![value.clone()?]));
            groups.push(bins::frequent(vec![name.clone()], single, most));
            for other in (place + 1..names.len()).filter(|_| self.settings.intersections) {
                let both = values[place].iter().zip(&values[other]);
                let both = both.map(|(one, other)| Some(vec![one.clone()?, other.clone()?]));
                groups.push(bins::frequent(vec![name.clone(), names[other].clone()], both, most));
            }
        }
        groups.sort_unstable();
        Ok(groups)
    }
}

fn column<'a>(sample: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    let lacks = || DataFusionError::Plan(format!("the table has no column `{name}`"));
    sample.column_by_name(name).ok_or_else(lacks)
}

/// How a feature is counted; none for one that cannot be, or that tells rows apart.
fn kind(name: &str, array: &ArrayRef, has_no_order: bool) -> Result<Option<ColumnKind>> {
    let kind = array.data_type();
    if let DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) = kind {
        let found = vectors(array)?;
        let vector = bins::vector(found.iter().map(Vec::as_slice));
        if vector.is_none() {
            tracing::warn!(column = name, "is left out: its lists are no vectors of one length");
        }
        return Ok(vector.map(ColumnKind::Vector));
    }
    let is_number = kind.is_numeric() && !has_no_order;
    if is_number {
        return Ok(Some(ColumnKind::Numeric(bins::numeric(numbers(array)?.into_iter().flatten()))));
    }
    if kind.is_temporal() || kind.is_nested() || kind.is_binary() {
        tracing::warn!(column = name, kind = %kind, "is left out: it is neither number nor text");
        return Ok(None);
    }
    let texts = texts(array)?;
    let present = || texts.iter().flatten();
    let parsed: Option<Vec<f64>> = present().map(|text| text.parse().ok()).collect();
    match parsed {
        Some(values) if !has_no_order && !values.is_empty() && *kind != DataType::Boolean => {
            Ok(Some(ColumnKind::Numeric(bins::numeric(values.into_iter()))))
        }
        _ => {
            let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
            present().for_each(|text| *counts.entry(text).or_default() += 1);
            let rows = present().count();
            if counts.len() > MAX_CATEGORIES && counts.len() * 2 > rows {
                tracing::warn!(
                    column = name,
                    "is left out: nearly each row has a value of its own"
                );
                return Ok(None);
            }
            let mut values: Vec<(&String, u64)> = counts.into_iter().collect();
            values.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
            values.truncate(MAX_CATEGORIES);
            let mut categories: Vec<String> =
                values.into_iter().map(|(value, _)| value.clone()).collect();
            categories.sort_unstable();
            Ok(Some(ColumnKind::Categorical(CategoricalSchema { categories })))
        }
    }
}

fn numbers(array: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let array = cast(array, &DataType::Float64)?;
    Ok(array.as_primitive::<Float64Type>().iter().collect())
}

/// As rows are read when they are counted.
fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    if array.data_type().is_floating() {
        let whole = |number: f64| number.fract() == 0.0 && number.abs() <= 1e15;
        let text =
            |number: f64| if whole(number) { (number as i64).to_string() } else { String::new() };
        let others = cast(array, &DataType::Utf8)?;
        let others = others.as_string::<i32>();
        let both = numbers(array)?.into_iter().zip(others.iter());
        return Ok(both
            .map(|(number, other)| {
                let text = text(number?);
                if text.is_empty() { other.map(str::to_owned) } else { Some(text) }
            })
            .collect());
    }
    let array = cast(array, &DataType::Utf8)?;
    Ok(array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn vectors(array: &ArrayRef) -> Result<Vec<Vec<f32>>> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Float32, true)));
    let array = cast(array, &list)?;
    let found = array.as_list::<i32>().iter().flatten();
    Ok(found.map(|vector| vector.as_primitive::<Float32Type>().values().to_vec()).collect())
}
