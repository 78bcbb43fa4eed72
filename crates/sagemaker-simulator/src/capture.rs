//! Data capture: what an endpoint was asked and answered, in SageMaker's layout and format.
//!
//! SageMaker writes below the `DestinationS3Uri` of a configuration, minutes later. The simulator
//! writes below a folder, as a synchronised copy of that place would be, and before the caller has
//! the answer, so that whoever got one finds the record.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, Utc};
use mloop_core::Sha256Digest;
use mloop_core::capture::{
    CaptureData, CaptureRecord, Encoding, EventMetadata, Payload, hour_folder,
};
use serde_json::Value;

/// Size at which a file is closed and the next one begun.
const FULL_BYTES: u64 = 8 << 20;

/// What an endpoint configuration says of data capture.
pub(crate) struct Plan {
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
        Some(Self {
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

/// The capture files. Nothing is ever removed: how long they are kept is the operator's choice.
pub(crate) struct Files {
    root: PathBuf,
    /// The file that is written to, by the folder of endpoint, variant and hour.
    open: Mutex<BTreeMap<PathBuf, Open>>,
}

struct Open {
    path: PathBuf,
    bytes: u64,
}

impl Files {
    /// Capture below a folder, which is made.
    pub(crate) fn below(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, open: Mutex::default() })
    }

    /// Appends a record to the files of its variant and hour. Blocks.
    pub(crate) fn write(
        &self,
        endpoint: &str,
        variant: &str,
        record: &CaptureRecord,
    ) -> io::Result<()> {
        let at = record.event_metadata.inference_time;
        let folder = self.root.join(endpoint).join(variant).join(hour_folder(at));
        let line = record.to_line() + "\n";
        // Held while it writes: a line is never within another.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let variant = self.root.join(endpoint).join(variant);
        open.retain(|known, file| {
            !known.starts_with(&variant) || (*known == folder && file.bytes < FULL_BYTES)
        });
        let file = match open.entry(folder) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let path = begin(new.key(), at, &record.event_metadata.event_id)?;
                new.insert(Open { path, bytes: 0 })
            }
        };
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file.path)?
            .write_all(line.as_bytes())?;
        file.bytes += line.len() as u64;
        Ok(())
    }
}

/// A file's place: `{MM-SS-mmm}-{uuid}.jsonl` in the folder of the hour.
fn begin(folder: &Path, at: DateTime<Utc>, id: &str) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    Ok(folder.join(format!("{}-{id}.jsonl", at.format("%M-%S-%3f"))))
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
    fn each_hour_of_a_variant_has_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::below(folder.path().join("capture")).expect("made");
        let config = json!({"InitialSamplingPercentage": 100,
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}]});
        let plan = plan(&config).expect("capture");
        for (variant, seconds) in [("a", 0), ("a", 0), ("b", 0), ("a", 1), ("a", 2)] {
            let mut answered = answered();
            answered.at += chrono::TimeDelta::seconds(seconds);
            let record = plan.record(answered).expect("captured");
            files.write("production", variant, &record).expect("written");
        }
        let lines = |place: &str| {
            let place = folder.path().join("capture/production").join(place);
            let entries: Vec<_> = std::fs::read_dir(place).expect("a folder").collect();
            let [Ok(file)] = entries.as_slice() else { panic!("one file: {entries:?}") };
            let name = file.file_name().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(file.path()).expect("text");
            let all: Vec<_> =
                text.lines().map(|line| CaptureRecord::parse(line).expect("whole")).collect();
            (name[..10].to_owned(), all.len())
        };
        assert_eq!(lines("a/2026/03/01/12"), ("59-59-000-".to_owned(), 2));
        assert_eq!(lines("b/2026/03/01/12"), ("59-59-000-".to_owned(), 1));
        assert_eq!(lines("a/2026/03/01/13"), ("00-00-000-".to_owned(), 2));
    }
}
