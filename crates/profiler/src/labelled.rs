//! The newest labelled requests: found by a plan without bodies, their bodies read afterwards.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::Array;
use datafusion::common::cast::{as_int64_array, as_string_array, as_uint64_array};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ident, lit};
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use mloop_core::capture::CaptureRecord;
use mloop_platform::{LabelledRow, PlatformError, TrafficLimit};

use crate::captured::request_body;
use crate::engine::COPY;
use crate::files::{SourceFile, failure};
use crate::labels::LABEL;
use crate::lines::{Line, Lines};
use crate::rows::{ID, POSITION, SIZE, TIME};
use crate::scan::{Unreadable, place};

/// Where the newest labelled requests stand, and what was left out.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// By time and id.
    found: BTreeMap<Key, Place>,
    /// Bytes of their bodies.
    bytes: u64,
    /// The newest that went because of the limit: whatever is older goes too, so that the order in
    /// which rows come cannot show.
    gone: Option<Key>,
    /// Requests without a label.
    pub(crate) unlabelled: u64,
    /// Labelled requests left out, the oldest.
    pub(crate) over_limit: u64,
}

/// Time and id of a request.
type Key = (i64, String);

/// Where a request stands, its label, and the bytes of its body.
#[derive(Debug)]
struct Place {
    position: u64,
    label: String,
    size: u64,
}

/// Goes through all rows, keeping the newest within the limit of those with a label.
pub(crate) async fn newest(
    rows: DataFrame,
    limit: TrafficLimit,
) -> Result<Newest, DataFusionError> {
    let columns = [TIME, ID, POSITION, LABEL, SIZE].map(ident);
    let rows = rows.filter(ident(COPY).eq(lit(1u64)))?;
    let mut batches = rows.select(columns)?.execute_stream().await?;
    let mut newest = Newest::default();
    while let Some(batch) = batches.try_next().await? {
        let times = as_int64_array(batch.column(0))?;
        let ids = as_string_array(batch.column(1))?;
        let positions = as_uint64_array(batch.column(2))?;
        let labels = as_string_array(batch.column(3))?;
        let sizes = as_uint64_array(batch.column(4))?;
        for row in 0..batch.num_rows() {
            if labels.is_null(row) {
                newest.unlabelled += 1;
                continue;
            }
            let key = (times.value(row), ids.value(row).to_owned());
            let (position, label) = (positions.value(row), labels.value(row).to_owned());
            newest.add(key, Place { position, label, size: sizes.value(row) }, limit);
        }
    }
    Ok(newest)
}

impl Newest {
    /// Adds a request; the oldest go where there is too much.
    fn add(&mut self, key: Key, place: Place, limit: TrafficLimit) {
        if self.gone.as_ref().is_some_and(|gone| key < *gone) {
            self.over_limit += 1;
            return;
        }
        self.bytes += place.size;
        self.found.insert(key, place);
        while self.found.len() > limit.rows || self.bytes > limit.bytes {
            let Some((key, place)) = self.found.pop_first() else { return };
            self.bytes -= place.size;
            self.over_limit += 1;
            self.gone = Some(key);
        }
    }

    /// Reads the requests, sorted by time, then id.
    pub(crate) fn read(
        self,
        files: &[SourceFile],
        max_line_bytes: usize,
    ) -> Result<Vec<LabelledRow>, PlatformError> {
        let mut wanted: BTreeMap<usize, BTreeMap<u64, String>> = BTreeMap::new();
        for Place { position, label, .. } in self.found.into_values() {
            let (file, line) = place(position);
            wanted.entry(file).or_default().insert(line, label);
        }
        let mut rows = Vec::new();
        for (file, lines) in wanted {
            read_lines(&files[file], lines, max_line_bytes, &mut rows)?;
        }
        rows.sort_unstable_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        Ok(rows)
    }
}

fn read_lines(
    file: &SourceFile,
    mut wanted: BTreeMap<u64, String>,
    max_line_bytes: usize,
    rows: &mut Vec<LabelledRow>,
) -> Result<(), PlatformError> {
    let doing = || "reading the bodies of labelled requests".to_owned();
    let failed = |error| failure(doing(), &file.origin, &error);
    let mut lines = Lines::new(file.open().map_err(failed)?, max_line_bytes);
    while !wanted.is_empty() {
        let Some((number, line)) = lines.next().map_err(failed)? else { break };
        let Some(label) = wanted.remove(&number) else { continue };
        rows.push(row(&line, label).map_err(|reason| changed(file, number, &reason.to_string()))?);
    }
    match wanted.keys().next() {
        Some(line) => Err(changed(file, *line, "it is no longer there")),
        None => Ok(()),
    }
}

/// Capture files only grow; one that does not is somebody else's doing.
fn changed(file: &SourceFile, line: u64, reason: &str) -> PlatformError {
    let doing = format!("reading line {line} of {} a second time", file.origin);
    let problem =
        format!("{reason}; capture files must not be changed while they are read, try again");
    PlatformError::conflict(doing, problem)
}

fn row(line: &Line<'_>, label: String) -> Result<LabelledRow, Unreadable> {
    let (Line::Whole(bytes) | Line::Unfinished(bytes)) = line else {
        return Err(Unreadable::new("it has become too long"));
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::new("it is not UTF-8"))?;
    let record = CaptureRecord::parse(text)?;
    let (content_type, body) = request_body(&record)?;
    let time: DateTime<Utc> = record.event_metadata.inference_time;
    let attributes = record.answer()?.attributes;
    Ok(LabelledRow { id: record.id().to_owned(), time, content_type, body, label, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_fit_are_kept_in_whatever_order_they_come() {
        // Bytes of the bodies of requests 0 to 4, the last the newest.
        let sizes = [5, 20, 30, 30, 30];
        let table = [
            (10, 1000, vec![0, 1, 2, 3, 4]),
            (3, 1000, vec![2, 3, 4]),
            (10, 90, vec![2, 3, 4]),
            // The small old one would fit, but a newer one between does not.
            (10, 100, vec![2, 3, 4]),
            (10, 110, vec![1, 2, 3, 4]),
            (10, 29, vec![]),
            (0, 1000, vec![]),
        ];
        let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 3, 4, 0, 1], [1, 4, 0, 3, 2]];
        for (rows, bytes, expected) in table {
            for order in orders {
                let mut newest = Newest::default();
                for number in order {
                    let size = sizes[number];
                    let place = Place { position: number as u64, label: String::new(), size };
                    let key = (i64::try_from(number).unwrap(), "id".to_owned());
                    newest.add(key, place, TrafficLimit { rows, bytes });
                }
                let kept: Vec<_> = newest.found.values().map(|place| place.position).collect();
                assert_eq!(kept, expected, "{rows} rows, {bytes} bytes, {order:?}");
                assert_eq!(newest.over_limit as usize, sizes.len() - expected.len());
            }
        }
    }
}
