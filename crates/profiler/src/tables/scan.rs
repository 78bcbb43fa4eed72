//! Table files as a table of DataFusion: their columns as they are, and the place of each row.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;

use super::captured::{self, CapturedColumns};
use super::fields::{FieldsDecoder, Known};
use super::ground_truth::COLUMNS as GROUND_TRUTH;
use super::parquet::{self, Wanted};
use super::settings::Format;
use super::text::{Csv, TextDecoder};
use crate::files::{Origin, SourceFile};
use crate::lines::Lines;
use crate::rows::POSITION;
use crate::scan::{self, Decode, Reading};

/// Batches that may wait between reading and counting.
const BATCHES_AHEAD: usize = 2;

/// One of several parts that row groups are dealt out to, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) part: usize,
    pub(crate) of: usize,
}

impl Share {
    /// Whether a row group is one of the part's.
    pub(crate) fn has(self, group: usize) -> bool {
        group % self.of == self.part
    }
}

/// The columns of a table, by one of its files. Columns of CSV and JSON lines are all text.
pub(crate) fn columns(
    format: Format,
    named: &CapturedColumns,
    file: &SourceFile,
    reading: &Reading,
) -> Result<SchemaRef> {
    let texts = |names: Vec<String>| {
        let fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    match format {
        Format::Parquet => parquet::schema(file),
        Format::Csv => Ok(texts(names(file, reading, 1, |line| {
            let fields = Csv::new().fields(line).ok()?.into_iter().map(str::to_owned).collect();
            Some(fields)
        })?)),
        Format::Captured => {
            Ok(texts(names(file, reading, JSON_LINES, |line| captured::names(line, named))?))
        }
        Format::GroundTruth => Ok(texts(GROUND_TRUTH.map(str::to_owned).into())),
        Format::JsonLines => Ok(texts(names(file, reading, JSON_LINES, |line| {
            let object: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(object.as_object()?.keys().cloned().collect())
        })?)),
    }
}

/// Objects whose keys are looked at: one may lack some.
const JSON_LINES: usize = 1000;

/// The names in the first lines of a file, in the order in which they come.
fn names(
    file: &SourceFile,
    reading: &Reading,
    lines: usize,
    of: impl Fn(&str) -> Option<Vec<String>>,
) -> Result<Vec<String>> {
    let failed = |cause| {
        let error = scan::ReadError { place: file.origin.to_string(), cause };
        DataFusionError::External(Box::new(error))
    };
    let mut found: Vec<String> = vec![];
    let mut content = Lines::new(file.open().map_err(failed)?, reading.max_line_bytes);
    for _ in 0..lines {
        let Some((_, line)) = content.next().map_err(failed)? else { break };
        let text = line.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
        for name in text.and_then(&of).unwrap_or_default() {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// The table of some files: their `wanted` columns by the types of `schema`, and [`POSITION`].
pub(crate) fn table(
    format: Format,
    named: &CapturedColumns,
    files: &[SourceFile],
    schema: &Schema,
    wanted: &Wanted,
    reading: &Reading,
    partitions: usize,
) -> Result<Arc<StreamingTable>> {
    let decoder: Arc<dyn Decode> = match format {
        Format::Parquet => return parquet_table(files, schema, wanted, partitions),
        Format::Csv => Arc::new(TextDecoder::new(&wanted.columns, true)),
        Format::JsonLines => Arc::new(TextDecoder::new(&wanted.columns, false)),
        Format::Captured => {
            Arc::new(FieldsDecoder::new(&wanted.columns, Known::Captured(named.clone())))
        }
        Format::GroundTruth => Arc::new(FieldsDecoder::new(&wanted.columns, Known::GroundTruth)),
    };
    scan::table(files, &decoder, reading, partitions)
}

fn parquet_table(
    files: &[SourceFile],
    schema: &Schema,
    wanted: &Wanted,
    partitions: usize,
) -> Result<Arc<StreamingTable>> {
    let own = schema.fields().iter().filter(|field| wanted.columns.contains(field.name()));
    let own = own.map(|field| Field::new(field.name(), field.data_type().clone(), true));
    let position = Field::new(POSITION, DataType::UInt64, false);
    let schema = Arc::new(Schema::new(std::iter::once(position).chain(own).collect::<Vec<_>>()));
    let files: Arc<[SourceFile]> = files.into();
    let part = |part| {
        let share = Share { part, of: partitions };
        let (files, wanted, schema) = (Arc::clone(&files), wanted.clone(), Arc::clone(&schema));
        Arc::new(ParquetPart { files, wanted, schema, share }) as Arc<dyn PartitionStream>
    };
    let parts = (0..partitions).map(part).collect();
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(&schema), parts)?))
}

/// A part's row groups of all files, read one after the other.
#[derive(Debug)]
struct ParquetPart {
    files: Arc<[SourceFile]>,
    wanted: Wanted,
    schema: SchemaRef,
    share: Share,
}

impl PartitionStream for ParquetPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream =
            RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_AHEAD);
        let send = stream.tx();
        let (files, wanted) = (Arc::clone(&self.files), self.wanted.clone());
        let (schema, share) = (Arc::clone(&self.schema), self.share);
        stream.spawn_blocking(move || {
            for (index, file) in (0u64..).zip(files.iter()) {
                let of_file = match file.origin {
                    // So that many files of one group each are shared, too.
                    Origin::Path(_) => {
                        Share { part: (share.part + index as usize) % share.of, ..share }
                    }
                    // An object is fetched as a whole, by one part alone.
                    Origin::Object(..) if share.has(index as usize) => Share { part: 0, of: 1 },
                    Origin::Object(..) => continue,
                };
                for batch in parquet::batches(file, &wanted, of_file)? {
                    let (first, batch) = batch?;
                    let batch = placed(&schema, (index << 32) | first, &batch)?;
                    if send.blocking_send(Ok(batch)).is_err() {
                        // Nobody wants more: the query was given up.
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        stream.build()
    }
}

/// A batch under the table's schema: a file that lacks a column has no values in it, one that holds
/// another type is taken as the table's.
fn placed(schema: &SchemaRef, first: u64, batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        Ok(match batch.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), rows),
            Some(array) if array.data_type() == field.data_type() => Arc::clone(array),
            Some(array) => cast(array, field.data_type())?,
        })
    };
    let positions = Arc::new(UInt64Array::from_iter_values(first..first + rows as u64)) as ArrayRef;
    let own = schema.fields().iter().skip(1).map(column);
    let columns = std::iter::once(Ok(positions)).chain(own).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
