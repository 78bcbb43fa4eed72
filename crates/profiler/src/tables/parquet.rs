//! Parquet files, row group by row group.
//!
//! The synchronous reader takes pages from the disk as it needs them, so that memory does not grow with
//! the size of row groups.

use std::fs::File;
use std::io;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::errors::ParquetError;

use super::scan::Share;
use crate::files::{Origin, SourceFile};
use crate::rows::BATCH_ROWS;
use crate::scan::ReadError;

/// Which rows of a file are worth reading.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Names of the columns.
    pub(crate) columns: Arc<[String]>,
    /// The column of times, and the span that rows are wanted of, ns since 1970: groups of rows that
    /// lie wholly outside it are not read.
    pub(crate) span: Option<(String, [i64; 2])>,
}

/// The columns of a file.
pub(crate) fn schema(file: &SourceFile) -> Result<SchemaRef> {
    let content = open(file)?;
    let loaded = ArrowReaderMetadata::load(&content, ArrowReaderOptions::new());
    loaded.map(|loaded| Arc::clone(loaded.schema())).map_err(|error| damaged(file, error))
}

/// A share of a file's row groups as batches, each with the number of its first row in the file.
pub(crate) fn batches(
    file: &SourceFile,
    wanted: &Wanted,
    share: Share,
) -> Result<impl Iterator<Item = Result<(u64, RecordBatch)>>> {
    let content = open(file)?;
    let loaded = ArrowReaderMetadata::load(&content, ArrowReaderOptions::new());
    let loaded = loaded.map_err(|error| damaged(file, error))?;
    let groups = groups(&loaded, wanted, share).map_err(|error| damaged(file, error))?;
    let (file, wanted) = (file.clone(), wanted.clone());
    let reader = move |group: usize| {
        let content = content.try_clone().map_err(|cause| failed(&file, cause))?;
        let built = read_group(content, &loaded, &wanted, group);
        let mut reader = built.map_err(|error| damaged(&file, error))?;
        let mut first = first_row(&loaded, group);
        let file = file.clone();
        Ok(std::iter::from_fn(move || {
            let batch = reader.next()?;
            let batch = batch.map_err(|error| damaged(&file, error.into()));
            Some(batch.map(|batch| {
                let numbered = (first, batch);
                first += numbered.1.num_rows() as u64;
                numbered
            }))
        }))
    };
    Ok(groups.into_iter().flat_map(move |group| or_error(reader(group))))
}

/// The batches, or the one error in their place.
fn or_error<T>(
    batches: Result<impl Iterator<Item = Result<T>>>,
) -> impl Iterator<Item = Result<T>> {
    let (batches, error) = match batches {
        Ok(batches) => (Some(batches), None),
        Err(error) => (None, Some(Err(error))),
    };
    batches.into_iter().flatten().chain(error)
}

/// A file that can be read from any place: one in a bucket is fetched into one without a name.
fn open(file: &SourceFile) -> Result<File> {
    let opened = match &file.origin {
        Origin::Path(path) => File::open(path),
        Origin::Object(..) => fetch(file),
    };
    opened.map_err(|cause| failed(file, cause))
}

fn fetch(file: &SourceFile) -> io::Result<File> {
    let mut local = tempfile::tempfile()?;
    io::copy(&mut file.open()?, &mut local)?;
    Ok(local)
}

fn failed(file: &SourceFile, cause: io::Error) -> DataFusionError {
    DataFusionError::External(Box::new(ReadError { place: file.origin.to_string(), cause }))
}

/// What is wrong with a file, by its name.
fn damaged(file: &SourceFile, error: ParquetError) -> DataFusionError {
    let cause = match error {
        ParquetError::External(cause) => io::Error::other(cause),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    };
    failed(file, cause)
}

fn read_group(
    content: File,
    loaded: &ArrowReaderMetadata,
    wanted: &Wanted,
    group: usize,
) -> std::result::Result<ParquetRecordBatchReader, ParquetError> {
    let roots = loaded.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| wanted.columns.contains(field.name()));
    let roots: Vec<usize> = roots.map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(loaded.parquet_schema(), roots);
    ParquetRecordBatchReaderBuilder::new_with_metadata(content, loaded.clone())
        .with_projection(mask)
        .with_row_groups(vec![group])
        .with_batch_size(BATCH_ROWS)
        .build()
}

fn first_row(loaded: &ArrowReaderMetadata, group: usize) -> u64 {
    let before = loaded.metadata().row_groups().iter().take(group);
    before.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
}

/// Indices of the row groups of a share that may hold wanted rows.
fn groups(
    loaded: &ArrowReaderMetadata,
    wanted: &Wanted,
    share: Share,
) -> std::result::Result<Vec<usize>, ParquetError> {
    let count = loaded.metadata().num_row_groups();
    let mine = (0..count).filter(|group| share.has(*group));
    let Some((column, [start, end])) = &wanted.span else { return Ok(mine.collect()) };
    let Some((lows, highs)) = bounds(loaded, column)? else { return Ok(mine.collect()) };
    let (lows, highs) = (lows.as_primitive::<Int64Type>(), highs.as_primitive::<Int64Type>());
    // What is not known of a group may be in it.
    let outside = |group: usize| {
        (lows.is_valid(group) && lows.value(group) >= *end)
            || (highs.is_valid(group) && highs.value(group) < *start)
    };
    Ok(mine.filter(|group| !outside(*group)).collect())
}

/// Smallest and largest times of each row group, ns since 1970; none for times that are no timestamps.
fn bounds(
    loaded: &ArrowReaderMetadata,
    column: &str,
) -> std::result::Result<Option<(ArrayRef, ArrayRef)>, ParquetError> {
    let schema = loaded.schema();
    let is_time = schema
        .field_with_name(column)
        .is_ok_and(|field| matches!(field.data_type(), DataType::Timestamp(..)));
    if !is_time {
        return Ok(None);
    }
    let converter = StatisticsConverter::try_new(column, schema, loaded.parquet_schema())?;
    let groups = || loaded.metadata().row_groups().iter();
    let nanoseconds = |times: ArrayRef| {
        let zoned = match times.data_type() {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
            other => other.clone(),
        };
        Ok::<_, ParquetError>(cast(&cast(&times, &zoned)?, &DataType::Int64)?)
    };
    let lows = nanoseconds(converter.row_group_mins(groups())?)?;
    let highs = nanoseconds(converter.row_group_maxes(groups())?)?;
    Ok(Some((lows, highs)))
}
