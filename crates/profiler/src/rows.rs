//! Rows of captured traffic as record batches: only the columns that a schema counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float32Builder, Float64Builder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, UInt8Builder, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use mloop_core::ProfileSchema;
use mloop_core::schema::{
    CONFIDENCE_COLUMN, ColumnKind, EMBEDDING_COLUMN, PREDICTION_COLUMN, SCORE_COLUMN,
};

/// Columns of every row; features and attributes follow them by position.
pub(crate) const ID: &str = "id";
pub(crate) const TIME: &str = "time";
pub(crate) const POSITION: &str = "position";
pub(crate) const ORIGIN: &str = "origin";
pub(crate) const PREDICTION: &str = "prediction";
pub(crate) const SCORE: &str = "score";
pub(crate) const PROBABILITIES: &str = "probabilities";
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

/// Which features, attributes and vectors are read, by name; the columns that hold them are named by
/// position, since a feature may have any name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Layout {
    /// Numeric features.
    pub(crate) features: Vec<String>,
    /// Attributes that group rows, or are categorical columns themselves.
    pub(crate) attributes: Vec<String>,
    /// Vectors.
    pub(crate) vectors: Vec<String>,
    /// Whether the probabilities of all classes are read.
    pub(crate) probabilities: bool,
}

impl Layout {
    /// What a schema counts.
    pub(crate) fn of(schema: &ProfileSchema) -> Self {
        let mut layout = Self { probabilities: !schema.classes.is_empty(), ..Self::default() };
        for column in &schema.columns {
            match (&column.kind, column.name.as_str()) {
                (_, PREDICTION_COLUMN | CONFIDENCE_COLUMN | SCORE_COLUMN) => {}
                (ColumnKind::Numeric(_), _) => layout.features.push(column.name.clone()),
                (ColumnKind::Categorical(_), _) => layout.attributes.push(column.name.clone()),
                (ColumnKind::Vector(_), _) => layout.vectors.push(column.name.clone()),
            }
        }
        let groups = schema.groups.iter().flat_map(|group| group.attributes.iter().cloned());
        layout.attributes.extend(groups);
        layout.attributes.sort_unstable();
        layout.attributes.dedup();
        layout
    }

    /// The schema of the batches.
    pub(crate) fn arrow(&self) -> SchemaRef {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let mut fields = vec![
            Field::new(ID, DataType::Utf8, false),
            Field::new(TIME, DataType::Int64, false),
            Field::new(POSITION, DataType::UInt64, false),
            Field::new(ORIGIN, DataType::UInt8, false),
            Field::new(PREDICTION, DataType::Utf8, false),
            Field::new(SCORE, DataType::Float64, true),
            Field::new(PROBABILITIES, list(DataType::Float64), true),
            Field::new(LATENCY, DataType::UInt64, true),
            Field::new(SIZE, DataType::UInt64, false),
        ];
        let mut own = |prefix, count, kind: DataType| {
            fields
                .extend((0..count).map(|i| Field::new(format!("{prefix}{i}"), kind.clone(), true)));
        };
        own(FEATURE, self.features.len(), DataType::Float64);
        own(ATTRIBUTE, self.attributes.len(), DataType::Utf8);
        own(VECTOR, self.vectors.len(), list(DataType::Float32));
        Arc::new(Schema::new(fields))
    }
}

/// First letters of the names of columns that are named by position.
pub(crate) const FEATURE: &str = "f";
pub(crate) const ATTRIBUTE: &str = "a";
pub(crate) const VECTOR: &str = "v";

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
    /// Its probability; with a positive class, the probability of that.
    pub(crate) score: Option<f64>,
    /// Probabilities of all classes, in their order; none where they are not known.
    pub(crate) probabilities: &'a [f64],
    /// Time to answer, µs.
    pub(crate) latency: Option<u64>,
    /// Bytes of the request's body, where they matter; else 0.
    pub(crate) size: u64,
    /// Numeric features by name.
    pub(crate) features: &'a BTreeMap<String, f64>,
    /// Group attributes by name.
    pub(crate) attributes: &'a BTreeMap<String, String>,
    /// Activations of the layer before the last; none where they are not known.
    pub(crate) embedding: &'a [f32],
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
    score: Float64Builder,
    probabilities: ListBuilder<Float64Builder>,
    latency: UInt64Builder,
    size: UInt64Builder,
    features: Vec<Float64Builder>,
    attributes: Vec<StringBuilder>,
    vectors: Vec<ListBuilder<Float32Builder>>,
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
            score: Float64Builder::new(),
            probabilities: ListBuilder::new(Float64Builder::new()),
            latency: UInt64Builder::new(),
            size: UInt64Builder::new(),
            features: layout.features.iter().map(|_| Float64Builder::new()).collect(),
            attributes: layout.attributes.iter().map(|_| StringBuilder::new()).collect(),
            vectors: layout
                .vectors
                .iter()
                .map(|_| ListBuilder::new(Float32Builder::new()))
                .collect(),
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
        self.score.append_option(row.score);
        let probabilities = if self.layout.probabilities { row.probabilities } else { &[] };
        self.probabilities.values().append_slice(probabilities);
        self.probabilities.append(!probabilities.is_empty());
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
        for (column, name) in self.vectors.iter_mut().zip(&self.layout.vectors) {
            let vector = if name == EMBEDDING_COLUMN { row.embedding } else { &[] };
            text += size_of_val(vector);
            column.values().append_slice(vector);
            column.append(!vector.is_empty());
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
            Arc::new(self.score.finish()),
            Arc::new(self.probabilities.finish()),
            Arc::new(self.latency.finish()),
            Arc::new(self.size.finish()),
        ];
        columns
            .extend(self.features.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns
            .extend(self.attributes.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.extend(self.vectors.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
