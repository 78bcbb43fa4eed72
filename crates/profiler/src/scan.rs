//! Files of lines as a streaming table: a partition for each group of files.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use mloop_core::capture::CaptureError;

use crate::files::SourceFile;
use crate::lines::{Line, Lines};
use crate::rows::Fill;

/// A file changed this short before (or after) the look may still be written to.
const STILL_WRITTEN: TimeDelta = TimeDelta::seconds(60);

/// Unreadable lines that are logged; all are counted.
const LOGGED: u64 = 5;

/// Batches that may wait between reading and counting.
const BATCHES_AHEAD: usize = 2;

/// How the lines of a kind of file become rows.
pub(crate) trait Decode: fmt::Debug + Send + Sync + 'static {
    /// Schema of the batches.
    fn schema(&self) -> &SchemaRef;

    /// An empty batch.
    fn batch(&self) -> Box<dyn Batch + '_>;
}

/// Rows on their way into a batch.
pub(crate) trait Batch {
    /// The lines that follow are of another file.
    fn begin_file(&mut self) {}

    /// Decodes a line; one that cannot be read leaves no trace.
    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable>;

    /// How full it is.
    fn fill(&self) -> Fill;

    /// The rows since the last batch.
    fn finish(&mut self) -> Result<RecordBatch, ArrowError>;
}

/// Why a line cannot be read, in words that repeat nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable(String);

impl Unreadable {
    /// A reason without data in it.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<CaptureError> for Unreadable {
    fn from(error: CaptureError) -> Self {
        // serde_json's own words would repeat values; the place is enough to find them.
        let place = match &error {
            CaptureError::Line { cause, .. } | CaptureError::Answer(cause) => {
                format!(" ({:?} error at column {})", cause.classify(), cause.column())
            }
            CaptureError::Base64 { .. } | CaptureError::NoAnswer => String::new(),
        };
        Self(format!("{error}{place}"))
    }
}

/// Lines that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(AtomicU64);

impl Quarantine {
    /// Counts a line, and logs the first few.
    fn add(&self, file: &SourceFile, line: u64, reason: &Unreadable) {
        if self.0.fetch_add(1, Ordering::Relaxed) < LOGGED {
            tracing::warn!("{}:{line} is left out: {reason}", file.origin);
        }
    }

    /// Lines so far; complete once the plan has run.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Says how many there were beyond those that were logged.
    pub(crate) fn summarise(&self) {
        let count = self.count();
        if count > LOGGED {
            tracing::warn!("{count} unreadable lines in all; the first {LOGGED} are named above");
        }
    }
}

/// How files are read, whatever stands in them.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Longest line, bytes.
    pub(crate) max_line_bytes: usize,
    /// The moment of the look.
    pub(crate) as_of: DateTime<Utc>,
    /// Where unreadable lines are counted.
    pub(crate) quarantine: Arc<Quarantine>,
}

/// A file with its place among all files of the scan.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    index: u32,
    file: SourceFile,
}

/// Which file of a list a row stands in, and on which line.
pub(crate) fn place(position: u64) -> (usize, u64) {
    ((position >> 32) as usize, position & u64::from(u32::MAX))
}

/// A file that could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("reading {place}")]
pub(crate) struct ReadError {
    /// Which file.
    pub(crate) place: String,
    /// Why.
    #[source]
    pub(crate) cause: io::Error,
}

/// Some files, read one after the other.
#[derive(Debug)]
struct FileGroup {
    files: Vec<Placed>,
    decode: Arc<dyn Decode>,
    reading: Reading,
}

/// The table of all lines of some files, in at most `partitions` partitions.
pub(crate) fn table(
    files: &[SourceFile],
    decode: &Arc<dyn Decode>,
    reading: &Reading,
    partitions: usize,
) -> Result<Arc<StreamingTable>, DataFusionError> {
    let groups = partitions.clamp(1, files.len().max(1));
    let mut streams: Vec<FileGroup> = (0..groups)
        .map(|_| FileGroup {
            files: Vec::new(),
            decode: Arc::clone(decode),
            reading: reading.clone(),
        })
        .collect();
    for (index, file) in (0u32..).zip(files) {
        streams[index as usize % groups].files.push(Placed { index, file: file.clone() });
    }
    let streams = streams.into_iter().map(|group| Arc::new(group) as Arc<dyn PartitionStream>);
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(decode.schema()), streams.collect())?))
}

impl PartitionStream for FileGroup {
    fn schema(&self) -> &SchemaRef {
        self.decode.schema()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(self.decode.schema());
        let mut stream = RecordBatchReceiverStreamBuilder::new(schema, BATCHES_AHEAD);
        let send = stream.tx();
        let (files, decode) = (self.files.clone(), Arc::clone(&self.decode));
        let reading = self.reading.clone();
        stream.spawn_blocking(move || {
            let mut batch = decode.batch();
            for file in &files {
                let on_full = |batch: RecordBatch| send.blocking_send(Ok(batch)).is_ok();
                if !read_file(file, &reading, batch.as_mut(), on_full)? {
                    // Nobody wants more: the query was given up.
                    return Ok(());
                }
            }
            if !batch.fill().is_empty() {
                // Failing to send means that the query was given up, which is no error here.
                drop(send.blocking_send(Ok(batch.finish()?)));
            }
            Ok(())
        });
        stream.build()
    }
}

/// Reads one file into batches; false when no more are wanted.
fn read_file(
    placed: &Placed,
    reading: &Reading,
    batch: &mut dyn Batch,
    on_full: impl Fn(RecordBatch) -> bool,
) -> Result<bool, DataFusionError> {
    let file = &placed.file;
    let failed = |cause| {
        DataFusionError::External(Box::new(ReadError { place: file.origin.to_string(), cause }))
    };
    let mut lines = Lines::new(file.open().map_err(failed)?, reading.max_line_bytes);
    batch.begin_file();
    while let Some((number, line)) = lines.next().map_err(failed)? {
        let position = (u64::from(placed.index) << 32) | number;
        if let Err(reason) = push(batch, position, &line, file, reading) {
            reading.quarantine.add(file, number, &reason);
        }
        if batch.fill().is_full() && !on_full(batch.finish()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn push(
    batch: &mut dyn Batch,
    position: u64,
    line: &Line<'_>,
    file: &SourceFile,
    reading: &Reading,
) -> Result<(), Unreadable> {
    let decode = |batch: &mut dyn Batch, bytes| {
        let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::new("it is not UTF-8"))?;
        batch.push(position, text)
    };
    match line {
        Line::Whole(bytes) => decode(batch, bytes),
        Line::Unfinished(bytes) => match decode(batch, bytes) {
            Err(_) if (reading.as_of - file.modified).abs() < STILL_WRITTEN => {
                tracing::debug!("{}: its last line is still being written", file.origin);
                Ok(())
            }
            decoded => decoded,
        },
        Line::TooLong => Err(Unreadable::new(format!(
            "it is longer than `max_line_bytes` ({})",
            reading.max_line_bytes
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Origin;
    use mloop_core::capture::{CaptureRecord, GroundTruth};

    #[test]
    fn reasons_repeat_nothing_of_the_line() {
        let record = |data: &str| {
            let line = serde_json::json!({
                "captureData": {"endpointOutput": {"mode": "OUTPUT", "data": data, "encoding": "JSON"}},
                "eventMetadata": {"eventId": "e", "inferenceTime": "2026-03-01T12:00:00Z"},
                "eventVersion": "0"
            });
            CaptureRecord::parse(&line.to_string()).expect("a record")
        };
        let errors = [
            record(r#"{"prediction": {"secret": 1}}"#).answer().expect_err("no answer"),
            record(r#""secret""#).answer().expect_err("no answer"),
            CaptureRecord::parse(r#"{"captureData": "secret"}"#).expect_err("no record"),
            GroundTruth::parse(r#"{"eventVersion": {"secret": 1}}"#).expect_err("no label"),
        ];
        for error in errors {
            let reason = Unreadable::from(error).to_string();
            assert!(!reason.contains("secret") && reason.contains("at column"), "{reason}");
        }
    }

    #[test]
    fn what_is_written_after_the_listing_is_left_for_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "one\ntwo\nthr").expect("a file");
        let modified = "2026-03-01T12:00:00Z".parse().expect("a moment");
        let (origin, name) = (Origin::Path(path), "a.jsonl".to_owned());
        let file = SourceFile { origin, name, size: 5, modified };
        let mut lines = Lines::new(file.open().expect("it is there"), 100);
        assert_eq!(lines.next().expect("read"), Some((1, Line::Whole(b"one"))));
        assert_eq!(lines.next().expect("read"), Some((2, Line::Unfinished(b"t"))));
        assert_eq!(lines.next().expect("read"), None);
    }

    #[test]
    fn positions_order_by_file_then_line_and_lead_back() {
        assert_eq!(place((7 << 32) | 42), (7, 42));
    }
}
