//! SageMaker's ground-truth lines as columns of text.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use mloop_core::capture::GroundTruth;

use super::text::{TextBatch, TextDecoder};
use crate::rows::Fill;
use crate::scan::{Batch, Decode, Unreadable};

/// The request that a label is of, and the label.
pub(crate) const COLUMNS: [&str; 2] = ["event_id", "label"];

/// How ground-truth lines become columns of text.
#[derive(Debug)]
pub(crate) struct GroundTruthDecoder {
    text: TextDecoder,
    columns: Arc<[String]>,
}

impl GroundTruthDecoder {
    pub(crate) fn new(columns: &Arc<[String]>) -> Self {
        Self { text: TextDecoder::new(columns, false), columns: Arc::clone(columns) }
    }
}

impl Decode for GroundTruthDecoder {
    fn schema(&self) -> &SchemaRef {
        self.text.schema()
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(GroundTruthBatch { decoder: self, rows: TextBatch::new(&self.text) })
    }
}

struct GroundTruthBatch<'a> {
    decoder: &'a GroundTruthDecoder,
    rows: TextBatch<'a>,
}

impl Batch for GroundTruthBatch<'_> {
    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        let record = GroundTruth::parse(line)?;
        let class = record.class().filter(|class| !class.is_empty());
        let class = class.ok_or_else(|| {
            Unreadable::new("the label is neither bare (CSV) nor {\"label\": …} (JSON)")
        })?;
        let texts = self.decoder.columns.iter().map(|name| match name.as_str() {
            "event_id" => Some(record.event_metadata.event_id.as_str()),
            "label" => Some(class.as_str()),
            _ => None,
        });
        self.rows.add(position, texts);
        Ok(())
    }

    fn fill(&self) -> Fill {
        self.rows.fill()
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows.finish()
    }
}
