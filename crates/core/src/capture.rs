//! Captured traffic: SageMaker's data-capture and ground-truth lines, and the answer that
//! mloop's server writes into them.
//!
//! The layout of a capture file's key is
//! `{endpoint}/{variant}/yyyy/mm/dd/hh/{MM-SS-mmm}-{uuid}.jsonl`, the hour being that of the
//! request; of a ground-truth file `yyyy/mm/dd/hh/*.jsonl`, the hour being that of the label's
//! arrival.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;

/// One captured request with its answer: one line of a capture file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureRecord {
    /// Request and answer.
    pub capture_data: CaptureData,
    /// Identity and time.
    pub event_metadata: EventMetadata,
    /// Version of the format, `0`.
    pub event_version: String,
}

/// Request and answer; either may not have been captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureData {
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_input: Option<Payload>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_output: Option<Payload>,
}

/// A captured body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// Its content type, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_content_type: Option<String>,
    /// `INPUT` or `OUTPUT`.
    pub mode: String,
    /// The body as text, or as Base64.
    pub data: String,
    /// How `data` is written.
    pub encoding: Encoding,
}

/// How a captured body is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Encoding {
    /// Text, comma-separated.
    Csv,
    /// Text, JSON.
    Json,
    /// Any bytes.
    Base64,
}

/// Identity and time of a captured request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventMetadata {
    /// The platform's id of the request.
    pub event_id: String,
    /// The caller's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_id: Option<String>,
    /// When it was answered; SageMaker writes whole seconds.
    pub inference_time: DateTime<Utc>,
}

/// A line that is no capture or ground-truth record.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It is not the JSON that was expected, a line cut in half for example.
    #[error("the line is not a {what} record")]
    Line {
        /// `capture` or `ground truth`.
        what: &'static str,
        /// Where in the line, and what was expected.
        #[source]
        cause: serde_json::Error,
    },
    /// A body is not the Base64 that its encoding promises.
    #[error("the captured {mode} body is not Base64")]
    Base64 {
        /// `INPUT` or `OUTPUT`.
        mode: String,
        /// Where.
        #[source]
        cause: base64::DecodeError,
    },
    /// The answer was not captured.
    #[error("the record holds no answer: is the capture mode of the endpoint InputAndOutput?")]
    NoAnswer,
    /// The answer is not one that mloop's server writes.
    #[error("the captured answer is not an inference answer")]
    Answer(#[source] serde_json::Error),
}

impl CaptureRecord {
    /// Reads one line.
    ///
    /// # Errors
    /// [`CaptureError::Line`].
    pub fn parse(line: &str) -> Result<Self, CaptureError> {
        serde_json::from_str(line).map_err(|cause| CaptureError::Line { what: "capture", cause })
    }

    /// Writes one line, without its line feed.
    ///
    /// # Panics
    /// Never: a record serialises to JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a capture record has only string keys")
    }

    /// The id that labels refer to: the caller's if it gave one, else the platform's.
    #[must_use]
    pub fn id(&self) -> &str {
        let metadata = &self.event_metadata;
        metadata.inference_id.as_deref().unwrap_or(&metadata.event_id)
    }

    /// The answer, as mloop's server writes it.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub fn answer(&self) -> Result<InferenceAnswer, CaptureError> {
        let output = self.capture_data.endpoint_output.as_ref().ok_or(CaptureError::NoAnswer)?;
        serde_json::from_slice(&output.bytes()?).map_err(CaptureError::Answer)
    }
}

impl Payload {
    /// Wraps a body: JSON and CSV as text, everything else as Base64.
    #[must_use]
    pub fn new(mode: &str, content_type: &str, body: &[u8]) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let text = std::str::from_utf8(body).ok();
        let (encoding, data) = match (essence, text) {
            ("application/json", Some(text)) => (Encoding::Json, text.to_owned()),
            ("text/csv", Some(text)) => (Encoding::Csv, text.to_owned()),
            _ => (Encoding::Base64, STANDARD.encode(body)),
        };
        let observed_content_type = Some(content_type.to_owned());
        Self { observed_content_type, mode: mode.to_owned(), data, encoding }
    }

    /// The body as it went over the wire.
    ///
    /// # Errors
    /// [`CaptureError::Base64`].
    pub fn bytes(&self) -> Result<Vec<u8>, CaptureError> {
        match self.encoding {
            Encoding::Csv | Encoding::Json => Ok(self.data.clone().into_bytes()),
            Encoding::Base64 => STANDARD
                .decode(&self.data)
                .map_err(|cause| CaptureError::Base64 { mode: self.mode.clone(), cause }),
        }
    }
}

/// The body of an answer for one image: the prediction and everything that monitoring needs, so
/// that it is captured wherever the platform captures bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InferenceAnswer {
    /// Predicted class.
    pub prediction: String,
    /// Probability of it.
    pub confidence: f64,
    /// Probability of each class, in the order of the model's classes.
    pub probabilities: Vec<f64>,
    /// Image statistics by name.
    pub features: BTreeMap<String, f64>,
    /// Group attributes that the request carried, such as the site of the camera.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Activations of the layer before the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedding: Vec<f32>,
    /// Digest of the version that answered.
    pub model_digest: Sha256Digest,
    /// Time from the request's last byte to the answer, µs.
    pub latency_micros: u64,
}

/// A label that arrived: one line of a ground-truth file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroundTruth {
    /// The label.
    pub ground_truth_data: GroundTruthData,
    /// Which request.
    pub event_metadata: GroundTruthEvent,
    /// Version of the format, `0`.
    pub event_version: String,
}

/// The label itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroundTruthData {
    /// The class as text.
    pub data: String,
    /// `CSV` for a bare class.
    pub encoding: Encoding,
}

/// Which request a label belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroundTruthEvent {
    /// [`CaptureRecord::id`] of the request.
    pub event_id: String,
}

impl GroundTruth {
    /// A label for a request.
    #[must_use]
    pub fn new(event_id: &str, class: &str) -> Self {
        Self {
            ground_truth_data: GroundTruthData { data: class.to_owned(), encoding: Encoding::Csv },
            event_metadata: GroundTruthEvent { event_id: event_id.to_owned() },
            event_version: "0".to_owned(),
        }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`CaptureError::Line`].
    pub fn parse(line: &str) -> Result<Self, CaptureError> {
        serde_json::from_str(line)
            .map_err(|cause| CaptureError::Line { what: "ground truth", cause })
    }

    /// Writes one line, without its line feed.
    ///
    /// # Panics
    /// Never: a label serialises to JSON.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a label has only string keys")
    }

    /// The class; `{"label": …}` when it is written as JSON.
    #[must_use]
    pub fn class(&self) -> Option<String> {
        let data = &self.ground_truth_data;
        match data.encoding {
            Encoding::Csv => Some(data.data.trim().to_owned()),
            Encoding::Json => {
                let value: serde_json::Value = serde_json::from_str(&data.data).ok()?;
                match value.get("label").unwrap_or(&value) {
                    serde_json::Value::String(text) => Some(text.clone()),
                    serde_json::Value::Number(number) => Some(number.to_string()),
                    _ => None,
                }
            }
            Encoding::Base64 => None,
        }
    }
}

/// The folder of an hour, `yyyy/mm/dd/hh`, below an endpoint's variant or a ground-truth root.
#[must_use]
pub fn hour_folder(hour: DateTime<Utc>) -> String {
    hour.format("%Y/%m/%d/%H").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The shape of a line in AWS' documentation of data capture.
    const LINE: &str = r#"{"captureData":{"endpointInput":{"observedContentType":"text/csv","mode":"INPUT","data":"132,10","encoding":"CSV"},"endpointOutput":{"observedContentType":"text/csv; charset=utf-8","mode":"OUTPUT","data":"MC4wMzYz","encoding":"BASE64"}},"eventMetadata":{"eventId":"f04a","inferenceTime":"2022-04-18T00:21:48Z"},"eventVersion":"0"}"#;

    #[test]
    fn a_line_of_the_platform_is_read_and_written_back() {
        let record = CaptureRecord::parse(LINE).expect("a record");
        assert_eq!(record.id(), "f04a");
        let output = record.capture_data.endpoint_output.clone().expect("captured");
        assert_eq!(output.bytes().expect("Base64"), b"0.0363");
        assert_eq!(CaptureRecord::parse(&record.to_line()).expect("a record"), record);
    }

    #[test]
    fn half_a_line_is_an_error_and_not_a_record() {
        let error = CaptureRecord::parse(&LINE[..LINE.len() / 2]).expect_err("half");
        assert!(matches!(error, CaptureError::Line { what: "capture", .. }));
    }

    #[test]
    fn bodies_are_text_only_where_that_is_lossless() {
        assert_eq!(Payload::new("INPUT", "application/json", b"{}").encoding, Encoding::Json);
        let image = Payload::new("INPUT", "image/png", &[0x89, 0xff]);
        assert_eq!(image.encoding, Encoding::Base64);
        assert_eq!(image.bytes().expect("Base64"), [0x89, 0xff]);
    }

    #[test]
    fn labels_come_bare_or_as_json() {
        let mut label = GroundTruth::new("id", "bag");
        assert_eq!(label.class().as_deref(), Some("bag"));
        label.ground_truth_data =
            GroundTruthData { data: r#"{"label":1}"#.to_owned(), encoding: Encoding::Json };
        assert_eq!(label.class().as_deref(), Some("1"));
    }
}
