//! Data capture: what an endpoint was asked and answered, in SageMaker's layout and format.
//!
//! As at SageMaker, records are gathered and written to the `DestinationS3Uri` of the configuration later:
//! after a while, when there are many, and when the simulator is stopped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, Utc};
use mloop_core::Sha256Digest;
use mloop_core::capture::{
    CaptureData, CaptureRecord, Encoding, EventMetadata, Payload, hour_folder,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::storage::{Problem, Storage};

/// Bytes of a file at which it is written at once.
const FULL_BYTES: usize = 8 << 20;

/// Most bytes that are gathered while they cannot be written.
const MOST_BYTES: usize = 256 << 20;

/// What an endpoint configuration says of data capture.
pub(crate) struct Plan {
    /// Where to, without a slash at its end.
    destination: String,
    percentage: u64,
    input: bool,
    output: bool,
    json: Vec<String>,
    csv: Vec<String>,
    seen: AtomicU64,
}

/// A request that was answered.
pub(crate) struct Answered {
    pub(crate) at: DateTime<Utc>,
    pub(crate) inference_id: Option<String>,
    pub(crate) asked: (String, Bytes),
    pub(crate) answer: (String, Bytes),
}

impl Plan {
    /// The plan of a configuration; none captures nothing.
    pub(crate) fn of(config: &Value) -> Option<Self> {
        let capture = config.get("DataCaptureConfig").filter(|capture| !capture.is_null())?;
        if capture["EnableCapture"] == Value::Bool(false) {
            return None;
        }
        let options = capture["CaptureOptions"].as_array();
        let modes: Vec<&str> =
            options.into_iter().flatten().filter_map(|one| one["CaptureMode"].as_str()).collect();
        let types = |member: &str| {
            let listed = capture["CaptureContentTypeHeader"][member].as_array();
            let names = listed.into_iter().flatten().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        };
        let both = modes.contains(&"InputAndOutput");
        let destination = capture["DestinationS3Uri"].as_str().unwrap_or_default();
        Some(Self {
            destination: destination.trim_end_matches('/').to_owned(),
            percentage: capture["InitialSamplingPercentage"].as_u64().unwrap_or(100),
            input: both || modes.contains(&"Input"),
            output: both || modes.contains(&"Output"),
            json: types("JsonContentTypes"),
            csv: types("CsvContentTypes"),
            seen: AtomicU64::new(0),
        })
    }

    /// The record of a request, unless it is not of the sample. The sample is evenly spread rather
    /// than drawn, so that tests can count on it.
    pub(crate) fn record(&self, answered: Answered) -> Option<CaptureRecord> {
        let share = |seen: u64| seen * self.percentage / 100;
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if share(seen + 1) == share(seen) {
            return None;
        }
        let Answered { at, inference_id, asked, answer } = answered;
        let payload = |mode, (kind, body): &(String, Bytes)| self.payload(mode, kind, body);
        Some(CaptureRecord {
            capture_data: CaptureData {
                endpoint_input: self.input.then(|| payload("INPUT", &asked)),
                endpoint_output: self.output.then(|| payload("OUTPUT", &answer)),
            },
            event_metadata: EventMetadata {
                event_id: event_id(at),
                inference_id,
                inference_time: at.trunc_subsecs(0),
            },
            event_version: "0".to_owned(),
        })
    }

    /// Base64, but for the content types that the configuration lists as text.
    fn payload(&self, mode: &str, kind: &str, body: &[u8]) -> Payload {
        let listed = |types: &[String]| types.iter().any(|one| one == kind);
        let encoding = match (listed(&self.json), listed(&self.csv)) {
            (true, _) => Encoding::Json,
            (_, true) => Encoding::Csv,
            _ => Encoding::Base64,
        };
        let observed_content_type = (!kind.is_empty()).then(|| kind.to_owned());
        let bytes = Payload::new(mode, "application/octet-stream", body);
        match std::str::from_utf8(body).ok().filter(|_| encoding != Encoding::Base64) {
            Some(text) => {
                Payload { observed_content_type, data: text.to_owned(), encoding, ..bytes }
            }
            None => Payload { observed_content_type, ..bytes },
        }
    }
}

/// An id that no other event has: a UUID of version 8, the one for ids made in ways of one's own
/// (RFC 9562, section 5.8).
fn event_id(at: DateTime<Utc>) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = at.timestamp_nanos_opt().unwrap_or_default();
    let seed = format!("{}/{nanos}/{count}", std::process::id());
    let hex = Sha256Digest::of(seed.as_bytes()).short(32);
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    format!("{a}-{b}-8{c}-8{d}-{e}")
}

/// What was captured and is not written yet.
#[derive(Default)]
pub(crate) struct Gathered {
    files: Mutex<Files>,
    /// Told when a file is full.
    full: Notify,
    /// Held while files are written, so that whoever asks for all to be written hears of those under way.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Files {
    /// Those that are added to, by the folder of endpoint, variant and hour.
    open: BTreeMap<String, File>,
    /// Those that could not be written so far, by their addresses.
    waiting: Vec<(String, Bytes)>,
}

struct File {
    url: String,
    lines: Vec<u8>,
}

impl Files {
    fn bytes(&self) -> usize {
        let open = self.open.values().map(|file| file.lines.len());
        open.chain(self.waiting.iter().map(|(_, content)| content.len())).sum()
    }
}

impl Gathered {
    /// Adds a record to the file of its variant and hour.
    ///
    /// # Errors
    /// In words, when there is too much that could not be written.
    pub(crate) fn add(
        &self,
        plan: &Plan,
        endpoint: &str,
        variant: &str,
        record: &CaptureRecord,
    ) -> Result<(), Problem> {
        let at = record.event_metadata.inference_time;
        let folder = format!("{}/{endpoint}/{variant}/{}", plan.destination, hour_folder(at));
        let line = record.to_line() + "\n";
        let mut files = self.files();
        if files.bytes() + line.len() > MOST_BYTES {
            return Err(format!("more than {MOST_BYTES} bytes could not be written so far"));
        }
        let file = files.open.entry(folder).or_insert_with_key(|folder| {
            let name = format!("{}-{}", at.format("%M-%S-%3f"), record.event_metadata.event_id);
            File { url: format!("{folder}/{name}.jsonl"), lines: vec![] }
        });
        file.lines.extend(line.into_bytes());
        if file.lines.len() >= FULL_BYTES {
            self.full.notify_one();
        }
        Ok(())
    }

    /// Writes all that was gathered. What cannot be written is kept for the next time.
    ///
    /// # Errors
    /// In words, of the first file that could not be written.
    pub(crate) async fn write(&self, storage: &Storage) -> Result<(), Problem> {
        let _one_at_a_time = self.writing.lock().await;
        let taken = std::mem::take(&mut *self.files());
        let mut written = Ok(());
        let open = taken.open.into_values().map(|file| (file.url, file.lines.into()));
        for (url, content) in taken.waiting.into_iter().chain(open) {
            if let Err(problem) = storage.write(Bytes::clone(&content), &url).await {
                self.files().waiting.push((url, content));
                written = written.and(Err(problem));
            }
        }
        written
    }

    /// Writes all that was gathered every so often, and when a file is full; never ends.
    pub(crate) async fn write_every(self: Arc<Self>, pause: Duration, storage: Storage) {
        loop {
            drop(tokio::time::timeout(pause, self.full.notified()).await);
            if let Err(problem) = self.write(&storage).await {
                tracing::warn!("captured requests are not written yet: {problem}");
            }
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        // What it guards is whole after each assignment, so a panic elsewhere does not spoil it.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(capture: &Value) -> Option<Plan> {
        Plan::of(&json!({ "DataCaptureConfig": capture }))
    }

    fn answered() -> Answered {
        Answered {
            at: "2026-03-01T12:59:59.750Z".parse().expect("a moment"),
            inference_id: Some("one".to_owned()),
            asked: ("text/csv".to_owned(), Bytes::from_static(b"1,2")),
            answer: ("application/json".to_owned(), Bytes::from_static(b"{}")),
        }
    }

    #[test]
    fn a_configuration_says_what_is_captured_and_how() {
        let both = json!([{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]);
        let sampled = |percentage: u64| {
            let config = json!({"EnableCapture": true, "InitialSamplingPercentage": percentage,
                "CaptureOptions": both});
            let plan = plan(&config).expect("capture");
            (0..100).filter(|_| plan.record(answered()).is_some()).count()
        };
        assert_eq!([100, 25, 1, 0].map(sampled), [100, 25, 1, 0]);
        assert!(Plan::of(&json!({})).is_none());
        assert!(plan(&Value::Null).is_none());
        assert!(plan(&json!({"EnableCapture": false, "CaptureOptions": both})).is_none());

        let listed = json!({"InitialSamplingPercentage": 100, "CaptureOptions": both,
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]}});
        let record = plan(&listed).and_then(|plan| plan.record(answered())).expect("captured");
        let CaptureData { endpoint_input, endpoint_output } = record.capture_data;
        let input = endpoint_input.expect("the input");
        assert_eq!((input.encoding, input.mode.as_str()), (Encoding::Base64, "INPUT"));
        assert_eq!(input.bytes().expect("Base64"), b"1,2");
        let output = endpoint_output.expect("the output");
        assert_eq!((output.encoding, output.data.as_str()), (Encoding::Json, "{}"));
        assert_eq!(output.observed_content_type.as_deref(), Some("application/json"));

        let only = json!({"InitialSamplingPercentage": 100,
            "CaptureOptions": [{"CaptureMode": "Output"}]});
        let record = plan(&only).and_then(|plan| plan.record(answered())).expect("captured");
        assert!(record.capture_data.endpoint_input.is_none());
        assert_eq!(record.event_metadata.inference_time.to_rfc3339(), "2026-03-01T12:59:59+00:00");
    }

    #[test]
    fn each_hour_of_a_variant_has_its_file() {
        let gathered = Gathered::default();
        let config = json!({"InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://b/captured/",
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}]});
        let plan = plan(&config).expect("capture");
        for (variant, seconds) in [("a", 0), ("a", 0), ("b", 0), ("a", 1), ("a", 2)] {
            let mut answered = answered();
            answered.at += chrono::TimeDelta::seconds(seconds);
            let record = plan.record(answered).expect("captured");
            gathered.add(&plan, "production", variant, &record).expect("room");
        }
        let files = gathered.files();
        let found: Vec<_> = files
            .open
            .iter()
            .map(|(folder, file)| {
                let text = std::str::from_utf8(&file.lines).expect("text");
                let records = text.lines().map(|line| CaptureRecord::parse(line).expect("whole"));
                let name = file.url.strip_prefix(&format!("{folder}/")).expect("in its folder");
                assert!(name.len() == "MM-SS-mmm-.jsonl".len() + 36 && name.ends_with(".jsonl"));
                (folder.as_str(), &name[..10], records.count())
            })
            .collect();
        let expected = [
            ("s3://b/captured/production/a/2026/03/01/12", "59-59-000-", 2),
            ("s3://b/captured/production/a/2026/03/01/13", "00-00-000-", 2),
            ("s3://b/captured/production/b/2026/03/01/12", "59-59-000-", 1),
        ];
        assert_eq!(found, expected);
    }
}
