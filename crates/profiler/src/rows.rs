//! Rows of captured traffic as record batches: only the columns that a schema counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, RecordBatch, StringBuilder, UInt8Builder, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use mloop_core::ProfileSchema;
use mloop_core::schema::{CONFIDENCE_COLUMN, ColumnKind, PREDICTION_COLUMN};

/// Columns of every row; features and attributes follow them by position.
pub(crate) const ID: &str = "id";
pub(crate) const TIME: &str = "time";
pub(crate) const POSITION: &str = "position";
pub(crate) const ORIGIN: &str = "origin";
pub(crate) const PREDICTION: &str = "prediction";
pub(crate) const CONFIDENCE: &str = "confidence";
pub(crate) const LATENCY: &str = "latency";
pub(crate) const SIZE: &str = "size";

/// Rows of one batch: enough to amortise a batch, few enough to keep it small.
pub(crate) const BATCH_ROWS: usize = 4096;

/// Bytes of text in one batch, so that rows with huge ids or attributes do not pile up.
const BATCH_BYTES: usize = 4 << 20;

/// How full a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fill {
    rows: usize,
    bytes: usize,
}

impl Fill {
    /// Counts a row with so many bytes of text.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// Whether the batch is to be handed on.
    pub(crate) fn is_full(self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.rows == 0
    }
}

/// Which features and attributes are read, by name; the columns that hold them are named by
/// position, since a feature may have any name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Layout {
    /// Numeric features.
    pub(crate) features: Vec<String>,
    /// Attributes that group rows, or are categorical columns themselves.
    pub(crate) attributes: Vec<String>,
}

impl Layout {
    /// What a schema counts.
    pub(crate) fn of(schema: &ProfileSchema) -> Self {
        let mut layout = Self::default();
        for column in &schema.columns {
            match &column.kind {
                ColumnKind::Numeric(_) if column.name != CONFIDENCE_COLUMN => {
                    layout.features.push(column.name.clone());
                }
                ColumnKind::Categorical(_) if column.name != PREDICTION_COLUMN => {
                    layout.attributes.push(column.name.clone());
                }
                _ => {}
            }
        }
        layout.attributes.extend(schema.groups.iter().map(|group| group.attribute.clone()));
        layout.attributes.sort_unstable();
        layout.attributes.dedup();
        layout
    }

    /// Names of the columns of features and attributes, in order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (String, DataType)> + '_ {
        let features = (0..self.features.len()).map(|i| (format!("f{i}"), DataType::Float64));
        let attributes = (0..self.attributes.len()).map(|i| (format!("a{i}"), DataType::Utf8));
        features.chain(attributes)
    }

    /// The schema of the batches.
    pub(crate) fn arrow(&self) -> SchemaRef {
        let fixed = [
            (ID, DataType::Utf8),
            (TIME, DataType::Int64),
            (POSITION, DataType::UInt64),
            (ORIGIN, DataType::UInt8),
            (PREDICTION, DataType::Utf8),
            (CONFIDENCE, DataType::Float64),
            (LATENCY, DataType::UInt64),
            (SIZE, DataType::UInt64),
        ];
        let fixed = fixed.map(|(name, kind)| Field::new(name, kind, name == LATENCY));
        let own = self.columns().map(|(name, kind)| Field::new(name, kind, true));
        Arc::new(Schema::new(fixed.into_iter().chain(own).collect::<Vec<_>>()))
    }
}

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The version that is counted.
    Own,
    /// Another one that is known to have served in the window.
    Other,
    /// One that is not known to have.
    Unknown,
}

impl Origin {
    /// As it stands in batches.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Own => 0,
            Self::Other => 1,
            Self::Unknown => 2,
        }
    }

    /// Read from a batch; what no release wrote is nobody's.
    pub(crate) fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Own,
            1 => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// One prediction, borrowed from wherever it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    /// What labels refer to.
    pub(crate) id: &'a str,
    /// When it was answered, ns since 1970: the earliest of one id counts.
    pub(crate) time: i64,
    /// Where it stands in its source: decides between equal times.
    pub(crate) position: u64,
    /// Who answered.
    pub(crate) origin: Origin,
    /// Predicted class.
    pub(crate) prediction: &'a str,
    /// Its probability.
    pub(crate) confidence: f64,
    /// Time to answer, µs.
    pub(crate) latency: Option<u64>,
    /// Bytes of the request's body, where they matter; else 0.
    pub(crate) size: u64,
    /// Numeric features by name.
    pub(crate) features: &'a BTreeMap<String, f64>,
    /// Group attributes by name.
    pub(crate) attributes: &'a BTreeMap<String, String>,
}

/// Rows on their way into a batch.
pub(crate) struct RowBuilder {
    layout: Layout,
    schema: SchemaRef,
    fill: Fill,
    id: StringBuilder,
    time: Int64Builder,
    position: UInt64Builder,
    origin: UInt8Builder,
    prediction: StringBuilder,
    confidence: Float64Builder,
    latency: UInt64Builder,
    size: UInt64Builder,
    features: Vec<Float64Builder>,
    attributes: Vec<StringBuilder>,
}

impl RowBuilder {
    /// No rows yet.
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            schema: layout.arrow(),
            fill: Fill::default(),
            id: StringBuilder::new(),
            time: Int64Builder::new(),
            position: UInt64Builder::new(),
            origin: UInt8Builder::new(),
            prediction: StringBuilder::new(),
            confidence: Float64Builder::new(),
            latency: UInt64Builder::new(),
            size: UInt64Builder::new(),
            features: layout.features.iter().map(|_| Float64Builder::new()).collect(),
            attributes: layout.attributes.iter().map(|_| StringBuilder::new()).collect(),
            layout: layout.clone(),
        }
    }

    /// Adds one row; of features and attributes only those of the layout.
    pub(crate) fn push(&mut self, row: &Row<'_>) {
        let mut text = row.id.len() + row.prediction.len();
        self.id.append_value(row.id);
        self.time.append_value(row.time);
        self.position.append_value(row.position);
        self.origin.append_value(row.origin.code());
        self.prediction.append_value(row.prediction);
        self.confidence.append_value(row.confidence);
        self.latency.append_option(row.latency);
        self.size.append_value(row.size);
        for (column, name) in self.features.iter_mut().zip(&self.layout.features) {
            column.append_option(row.features.get(name).copied());
        }
        for (column, name) in self.attributes.iter_mut().zip(&self.layout.attributes) {
            let value = row.attributes.get(name);
            text += value.map_or(0, String::len);
            column.append_option(value);
        }
        self.fill.add(text);
    }

    /// How full the batch is.
    pub(crate) fn fill(&self) -> Fill {
        self.fill
    }

    /// The rows since the last batch.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.fill = Fill::default();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.position.finish()),
            Arc::new(self.origin.finish()),
            Arc::new(self.prediction.finish()),
            Arc::new(self.confidence.finish()),
            Arc::new(self.latency.finish()),
            Arc::new(self.size.finish()),
        ];
        columns
            .extend(self.features.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns
            .extend(self.attributes.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
