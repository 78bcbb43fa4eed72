//! Capture lines, decoded into rows.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use mloop_core::capture::{CaptureRecord, InferenceAnswer};
use mloop_core::{Sha256Digest, Window};
use mloop_platform::ProfileRequest;

use crate::rows::{Fill, Layout, Origin, Row, RowBuilder};
use crate::scan::{Batch, Decode, Unreadable};

/// How the capture lines of one window are read.
#[derive(Debug)]
pub(crate) struct CaptureDecoder {
    window: Window,
    layout: Layout,
    /// The positive class, whose probability is the score.
    positive: Option<usize>,
    schema: SchemaRef,
    wanted: Wanted,
}

/// What a record must have to be worth reading.
#[derive(Debug)]
enum Wanted {
    /// An answer of this version, of one of these classes; or one of another version.
    Answers { version: Sha256Digest, others: BTreeSet<Sha256Digest>, classes: HashSet<String> },
    /// A request that can be learnt from, whichever version answered it.
    Requests,
}

impl CaptureDecoder {
    /// For counting the answers of one version.
    pub(crate) fn answers(request: &ProfileRequest) -> Self {
        let ProfileRequest { key, schema, others, window, .. } = request;
        let classes = schema.classes.iter().cloned().collect();
        let wanted = Wanted::Answers { version: key.version, others: others.clone(), classes };
        let positive = schema.outcomes().positive;
        Self { positive, ..Self::new(*window, Layout::of(schema), wanted) }
    }

    /// For finding requests to learn from.
    pub(crate) fn requests(window: Window) -> Self {
        Self::new(window, Layout::default(), Wanted::Requests)
    }

    fn new(window: Window, layout: Layout, wanted: Wanted) -> Self {
        Self { window, schema: layout.arrow(), layout, positive: None, wanted }
    }

    /// Who answered, and the bytes of the request's body where it is wanted.
    fn check(
        &self,
        record: &CaptureRecord,
        answer: &InferenceAnswer,
    ) -> Result<(Origin, u64), Unreadable> {
        let Wanted::Answers { version, others, classes } = &self.wanted else {
            return request_body(record).map(|(_, body)| (Origin::Own, body.len() as u64));
        };
        if others.contains(&answer.model_digest) && answer.model_digest != *version {
            Ok((Origin::Other, 0))
        } else if answer.model_digest != *version {
            Ok((Origin::Unknown, 0))
        } else if classes.contains(&answer.prediction) {
            Ok((Origin::Own, 0))
        } else {
            Err(Unreadable::new("the answer's class is none of the model's"))
        }
    }
}

impl Decode for CaptureDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(CaptureBatch { decoder: self, rows: RowBuilder::new(&self.layout) })
    }
}

struct CaptureBatch<'a> {
    decoder: &'a CaptureDecoder,
    rows: RowBuilder,
}

impl Batch for CaptureBatch<'_> {
    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        let record = CaptureRecord::parse(line)?;
        let time = record.event_metadata.inference_time;
        if !self.decoder.window.contains(time) {
            return Ok(());
        }
        let answer = record.answer()?;
        let (origin, size) = self.decoder.check(&record, &answer)?;
        self.rows.push(&Row {
            id: record.id(),
            time: nanoseconds(time)?,
            position,
            origin,
            prediction: &answer.prediction,
            score: match self.decoder.positive {
                Some(positive) => answer.probabilities.get(positive).copied(),
                None => Some(answer.confidence),
            },
            probabilities: &answer.probabilities,
            latency: Some(answer.latency_micros),
            size,
            features: &answer.features,
            attributes: &answer.attributes,
            embedding: &answer.embedding,
        });
        Ok(())
    }

    fn fill(&self) -> Fill {
        self.rows.fill()
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows.finish()
    }
}

fn nanoseconds(time: DateTime<Utc>) -> Result<i64, Unreadable> {
    let nanoseconds = time.timestamp_nanos_opt();
    nanoseconds.ok_or_else(|| Unreadable::new("the inference time is not between 1678 and 2262"))
}

/// Content type and bytes of a request's body.
pub(crate) fn request_body(record: &CaptureRecord) -> Result<(String, Vec<u8>), Unreadable> {
    let input = record.capture_data.endpoint_input.as_ref();
    let input = input.ok_or_else(|| {
        Unreadable::new(
            "the record holds no request: is the capture mode of the endpoint InputAndOutput?",
        )
    })?;
    let content_type = input.observed_content_type.clone().unwrap_or_default();
    Ok((content_type, input.bytes()?))
}
