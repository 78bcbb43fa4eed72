//! Lines of a platform's own formats, whose rows are known by the names of their fields, as columns of text.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

use super::captured::{self, CapturedColumns};
use super::ground_truth;
use super::text::{TextBatch, TextDecoder};
use crate::rows::Fill;
use crate::scan::{Batch, Decode, Unreadable};

/// A row: what is known of it, by name.
pub(super) type Fields = BTreeMap<String, String>;

/// What the lines are.
#[derive(Debug)]
pub(super) enum Known {
    /// Captured requests with their answers: a row for each row of a request.
    Captured(CapturedColumns),
    /// Labels: a row each.
    GroundTruth,
}

/// How such lines become columns of text.
#[derive(Debug)]
pub(super) struct FieldsDecoder {
    text: TextDecoder,
    columns: Arc<[String]>,
    lines: Known,
}

impl FieldsDecoder {
    pub(super) fn new(columns: &Arc<[String]>, lines: Known) -> Self {
        Self { text: TextDecoder::new(columns, false), columns: Arc::clone(columns), lines }
    }
}

impl Decode for FieldsDecoder {
    fn schema(&self) -> &SchemaRef {
        self.text.schema()
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(FieldsBatch { decoder: self, rows: TextBatch::new(&self.text) })
    }
}

struct FieldsBatch<'a> {
    decoder: &'a FieldsDecoder,
    rows: TextBatch<'a>,
}

impl Batch for FieldsBatch<'_> {
    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        let rows = match &self.decoder.lines {
            Known::Captured(names) => captured::rows(line, names)?,
            Known::GroundTruth => vec![ground_truth::row(line)?],
        };
        for row in rows {
            let texts = self.decoder.columns.iter().map(|name| row.get(name).map(String::as_str));
            self.rows.add(position, texts);
        }
        Ok(())
    }

    fn fill(&self) -> Fill {
        self.rows.fill()
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows.finish()
    }
}
