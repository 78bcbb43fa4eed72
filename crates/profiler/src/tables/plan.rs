//! Columns of a table, as the columns that are counted.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::expr_fn::floor;
use datafusion::logical_expr::{Expr, cast, ident, lit, try_cast, when};
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use mloop_core::{ProfileSchema, Sha256Digest, Window};
use mloop_platform::ServedSpan;

use super::settings::TablesSettings;
use crate::labels::{LABEL, LABEL_ID, LABEL_POSITION};
use crate::rows::{
    ATTRIBUTE, FEATURE, ID, LATENCY, Layout, ORIGIN, Origin, POSITION, PREDICTION, PROBABILITIES,
    SCORE, TIME, VECTOR,
};

/// What is to be made of a table.
pub(crate) struct Wish<'a> {
    pub(crate) settings: &'a TablesSettings,
    /// Types of the table's columns.
    pub(crate) table: &'a Schema,
    pub(crate) layout: &'a Layout,
    /// Whether predictions and labels are numbers.
    pub(crate) numbers: bool,
    /// The two classes, where predictions follow from scores: the positive one and the other.
    pub(crate) classes: Option<[String; 2]>,
    pub(crate) origin: WhoAnswered<'a>,
}

/// How rows are told apart by who answered them.
pub(crate) enum WhoAnswered<'a> {
    /// All are this version's.
    Own,
    /// By the digest in a column, else by the times at which versions are known to have served.
    Asked { version: &'a Sha256Digest, others: &'a BTreeSet<Sha256Digest>, spans: &'a [ServedSpan] },
}

impl<'a> Wish<'a> {
    pub(crate) fn new(
        settings: &'a TablesSettings,
        table: &'a Schema,
        layout: &'a Layout,
        schema: &ProfileSchema,
        origin: WhoAnswered<'a>,
    ) -> Self {
        let classes = schema.positive.clone().zip(
            schema.classes.iter().find(|class| Some(*class) != schema.positive.as_ref()).cloned(),
        );
        let numbers = schema.predicted_numbers().is_some();
        let classes = classes.map(|(positive, other)| [positive, other]);
        Self { settings, table, layout, numbers, classes, origin }
    }

    /// The rows of a window (all rows, without one), as they are counted.
    pub(crate) fn rows(&self, table: DataFrame, window: Option<&Window>) -> Result<DataFrame> {
        let rows = table.select(self.columns()?)?;
        let Some(window) = window else { return Ok(rows) };
        let [start, end] = bounds(window);
        rows.filter(ident(TIME).gt_eq(lit(start)).and(ident(TIME).lt(lit(end))))
    }

    fn columns(&self) -> Result<Vec<Expr>> {
        let columns = &self.settings.columns;
        let null = |kind: &DataType| Ok(lit(ScalarValue::try_from(kind)?));
        let number = |name: &Option<String>| match name {
            Some(name) => self.number(name),
            None => null(&DataType::Float64),
        };
        let answer = |name: &Option<String>| match name {
            Some(name) if self.numbers => self.number(name),
            Some(name) => self.text(name),
            None if self.numbers => null(&DataType::Float64),
            None => null(&DataType::Utf8),
        };
        let score = number(&columns.score)?;
        let prediction = match (&columns.prediction, &self.classes) {
            (None, Some([positive, other])) => {
                let is_positive = score.clone().gt_eq(lit(self.settings.threshold));
                when(score.clone().is_null(), lit(ScalarValue::Utf8(None)))
                    .when(is_positive, lit(positive.as_str()))
                    .otherwise(lit(other.as_str()))?
            }
            (name, _) => answer(name)?,
        };
        let latency = number(&columns.latency_ms)? * lit(1000.0);
        let probabilities = DataType::List(Field::new("item", DataType::Float64, true).into());
        let mut all = vec![
            (
                ID.to_owned(),
                match &columns.id {
                    Some(id) => self.text(id)?,
                    None => lit(""),
                },
            ),
            (TIME.to_owned(), self.time()?),
            (POSITION.to_owned(), ident(POSITION)),
            (ORIGIN.to_owned(), self.origin()?),
            (PREDICTION.to_owned(), prediction),
            (SCORE.to_owned(), score),
            (PROBABILITIES.to_owned(), null(&probabilities)?),
            (LATENCY.to_owned(), try_cast(latency, DataType::UInt64)),
            (LABEL.to_owned(), answer(&columns.label)?),
        ];
        let named = |prefix: &str, names: &[String], of: &dyn Fn(&String) -> Result<Expr>| {
            let columns = names.iter().enumerate();
            columns
                .map(|(index, name)| Ok((format!("{prefix}{index}"), of(name)?)))
                .collect::<Result<Vec<_>>>()
        };
        all.extend(named(FEATURE, &self.layout.features, &|name| self.number(name))?);
        all.extend(named(ATTRIBUTE, &self.layout.attributes, &|name| self.text(name))?);
        let vector = DataType::List(Field::new("item", DataType::Float32, true).into());
        all.extend(named(VECTOR, &self.layout.vectors, &|name| {
            Ok(cast(ident(name), vector.clone()))
        })?);
        Ok(all.into_iter().map(|(name, column)| column.alias(name)).collect())
    }

    fn kind(&self, name: &str) -> Result<&DataType> {
        let lacks = |_| DataFusionError::Plan(format!("the table has no column `{name}`"));
        self.table.field_with_name(name).map(Field::data_type).map_err(lacks)
    }

    /// A column as numbers. What is there and is none is not missing, but not a number.
    fn number(&self, name: &str) -> Result<Expr> {
        let column = ident(name);
        Ok(match self.kind(name)? {
            DataType::Float64 => column,
            kind if kind.is_numeric() || *kind == DataType::Boolean => {
                cast(column, DataType::Float64)
            }
            _ => {
                let found = try_cast(column.clone(), DataType::Float64);
                let absent = lit(ScalarValue::Float64(None));
                coalesce(vec![found, when(column.is_null(), absent).otherwise(lit(f64::NAN))?])
            }
        })
    }

    /// A column as text; whole numbers without a point, however they are held.
    fn text(&self, name: &str) -> Result<Expr> {
        text(ident(name), self.kind(name)?)
    }

    /// The time in ns since 1970; rows without one are in no window.
    pub(super) fn time(&self) -> Result<Expr> {
        let name = &self.settings.columns.time;
        let (column, utc) = (ident(name), Some("UTC".into()));
        Ok(match self.kind(name)? {
            DataType::Timestamp(_, zone) => {
                let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
                cast(cast(column, nanoseconds), DataType::Int64)
            }
            DataType::Date32 | DataType::Date64 => {
                let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
                cast(cast(column, nanoseconds), DataType::Int64)
            }
            kind if kind.is_numeric() => {
                try_cast(cast(column, DataType::Float64) * lit(1e9), DataType::Int64)
            }
            _ => {
                let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, utc);
                let named = cast(try_cast(column.clone(), nanoseconds), DataType::Int64);
                let seconds = try_cast(column, DataType::Float64) * lit(1e9);
                coalesce(vec![named, try_cast(seconds, DataType::Int64)])
            }
        })
    }

    fn origin(&self) -> Result<Expr> {
        let code = |origin: Origin| lit(origin.code());
        let WhoAnswered::Asked { version, others, spans } = &self.origin else {
            return Ok(code(Origin::Own));
        };
        if let Some(column) = &self.settings.columns.version {
            let column = self.text(column)?;
            let others = others.iter().filter(|other| other != version);
            let others = others.map(|other| lit(other.to_string())).collect();
            return when(column.clone().eq(lit(version.to_string())), code(Origin::Own))
                .when(column.in_list(others, false), code(Origin::Other))
                .otherwise(code(Origin::Unknown));
        }
        // With nothing known of switches, there was none.
        let Some((first, rest)) = spans.split_first() else { return Ok(code(Origin::Own)) };
        let time = self.time()?;
        let within = |span: &ServedSpan| {
            let from = time.clone().gt_eq(lit(nanoseconds(span.from)));
            let until = span.until.map(|until| time.clone().lt(lit(nanoseconds(until))));
            until.map_or(from.clone(), |until| from.and(until))
        };
        let who = |span: &ServedSpan| {
            code(if span.version == **version { Origin::Own } else { Origin::Other })
        };
        let mut case = when(within(first), who(first));
        for span in rest {
            case = case.when(within(span), who(span));
        }
        case.otherwise(code(Origin::Unknown))
    }
}

/// Labels of a table of their own.
pub(crate) fn labels(
    table: DataFrame,
    schema: &Schema,
    id: &str,
    label: &str,
    numbers: bool,
) -> Result<DataFrame> {
    let kind = |name: &str| {
        let lacks =
            |_| DataFusionError::Plan(format!("the table of labels has no column `{name}`"));
        schema.field_with_name(name).map(Field::data_type).map_err(lacks)
    };
    let found = match numbers {
        true => try_cast(ident(label), DataType::Float64),
        false => text(ident(label), kind(label)?)?,
    };
    let columns = vec![
        text(ident(id), kind(id)?)?.alias(LABEL_ID),
        found.alias(LABEL),
        ident(POSITION).alias(LABEL_POSITION),
    ];
    // A label that is not known yet may stand in the table as nothing.
    table.select(columns)?.filter(ident(LABEL).is_not_null())
}

fn text(column: Expr, kind: &DataType) -> Result<Expr> {
    let as_text = cast(column.clone(), DataType::Utf8);
    if !kind.is_floating() {
        return Ok(as_text);
    }
    let whole = cast(cast(column.clone(), DataType::Int64), DataType::Utf8);
    let is_whole =
        floor(column.clone()).eq(column.clone()).and(column.between(lit(-1e15), lit(1e15)));
    when(is_whole, whole).otherwise(as_text)
}

/// The ends of a window in ns since 1970.
pub(crate) fn bounds(window: &Window) -> [i64; 2] {
    [nanoseconds(window.start()), nanoseconds(window.end())]
}

/// Times beyond those that nanoseconds count are at their ends.
fn nanoseconds(time: DateTime<Utc>) -> i64 {
    let end = if time.timestamp() < 0 { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(end)
}
