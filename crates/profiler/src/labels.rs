//! Ground-truth lines, decoded into labels.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Builder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use mloop_core::capture::GroundTruth;

use crate::rows::Fill;
use crate::scan::{Batch, Decode, Unreadable};

/// The id of the request that a label belongs to.
pub(crate) const LABEL_ID: &str = "label_id";
/// The class.
pub(crate) const LABEL: &str = "label";
/// Where it stands: of labels with one id the first that arrived counts.
pub(crate) const LABEL_POSITION: &str = "label_position";

/// How label lines are read.
#[derive(Debug)]
pub(crate) struct LabelDecoder(SchemaRef);

impl LabelDecoder {
    /// For labels of any class: which classes there are is the counter's business.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Schema::new(vec![
            Field::new(LABEL_ID, DataType::Utf8, false),
            Field::new(LABEL, DataType::Utf8, false),
            Field::new(LABEL_POSITION, DataType::UInt64, false),
        ])))
    }
}

impl Decode for LabelDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(LabelBatch::new(Arc::clone(&self.0)))
    }
}

/// Labels on their way into a batch.
pub(crate) struct LabelBatch {
    schema: SchemaRef,
    fill: Fill,
    id: StringBuilder,
    label: StringBuilder,
    position: UInt64Builder,
}

impl LabelBatch {
    fn new(schema: SchemaRef) -> Self {
        let (id, label) = (StringBuilder::new(), StringBuilder::new());
        Self { schema, fill: Fill::default(), id, label, position: UInt64Builder::new() }
    }

    /// Adds a label.
    fn add(&mut self, id: &str, label: &str, position: u64) {
        self.fill.add(id.len() + label.len());
        self.id.append_value(id);
        self.label.append_value(label);
        self.position.append_value(position);
    }

    /// One batch of labels that are known already.
    pub(crate) fn of<'a>(
        labels: impl Iterator<Item = (u64, String, &'a str)>,
    ) -> Result<RecordBatch, ArrowError> {
        let mut batch = Self::new(LabelDecoder::new().0);
        labels.for_each(|(position, id, label)| batch.add(&id, label, position));
        batch.finish()
    }
}

impl Batch for LabelBatch {
    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        let record = GroundTruth::parse(line)?;
        let class = record.class().filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            Unreadable::new("the label is neither a bare class (CSV) nor {\"label\": class} (JSON)")
        })?;
        self.add(&record.event_metadata.event_id, &class, position);
        Ok(())
    }

    fn fill(&self) -> Fill {
        self.fill
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.fill = Fill::default();
        let columns: [ArrayRef; 3] = [
            Arc::new(self.id.finish()),
            Arc::new(self.label.finish()),
            Arc::new(self.position.finish()),
        ];
        RecordBatch::try_new(Arc::clone(&self.schema), columns.into())
    }
}
