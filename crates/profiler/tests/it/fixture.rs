//! Capture and label files as a server and a labeller would write them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::{
    CaptureData, CaptureRecord, EventMetadata, GroundTruth, InferenceAnswer, Payload, hour_folder,
};
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::schema::{
    CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, NumericSchema, PROFILE_FORMAT,
    VectorSchema,
};
use mloop_core::{FixedClock, ModelName, ProfileSchema, Sha256Digest, Subject, TargetName, Window};
use mloop_platform::{PlatformDeps, PlatformError, ProfileRequest, SourceRegistry, Sources};
use serde_json::{Value, json};

/// A request of the tests, with what its answer and its label say.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) id: String,
    pub(crate) time: DateTime<Utc>,
    pub(crate) class: usize,
    pub(crate) confidence: f64,
    pub(crate) brightness: f64,
    pub(crate) site: Option<String>,
    pub(crate) latency: u64,
    pub(crate) version: Sha256Digest,
}

pub(crate) const CLASSES: [&str; 3] = ["bag", "boot", "shirt"];

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The hour that most tests are about.
pub(crate) fn noon() -> DateTime<Utc> {
    at("2026-03-01T12:00:00Z")
}

/// A moment well after it.
pub(crate) fn evening() -> DateTime<Utc> {
    at("2026-03-01T20:30:00Z")
}

pub(crate) fn window() -> Window {
    Window::new(noon(), noon() + TimeDelta::hours(1)).unwrap()
}

pub(crate) fn version() -> Sha256Digest {
    Sha256Digest::of(b"the version that serves")
}

pub(crate) fn key() -> ProfileKey {
    let subject = Subject {
        model: ModelName::new("fashion").unwrap(),
        target: TargetName::new("production").unwrap(),
    };
    ProfileKey { subject, version: version() }
}

pub(crate) fn schema() -> ProfileSchema {
    let numeric = |name: &str, edges| ColumnSchema {
        name: name.to_owned(),
        kind: ColumnKind::Numeric(NumericSchema { edges, step: 2f64.powi(-20) }),
    };
    ProfileSchema {
        format: PROFILE_FORMAT,
        model: ModelName::new("fashion").unwrap(),
        classes: CLASSES.map(str::to_owned).into(),
        positive: None,
        columns: vec![
            numeric("brightness", vec![0.0, 0.25, 0.5, 0.75, 1.0]),
            numeric("confidence", vec![0.0, 0.5, 0.9, 1.0]),
            ColumnSchema {
                name: "embedding".to_owned(),
                kind: ColumnKind::Vector(VectorSchema {
                    dimension: 3,
                    pairs: 4,
                    bandwidth: 1.5,
                    seed: 1,
                    components: vec![vec![0.5], vec![0.5, 1.5], vec![]],
                }),
            },
            ColumnSchema {
                name: "prediction".to_owned(),
                kind: ColumnKind::Categorical(CategoricalSchema {
                    categories: CLASSES.map(str::to_owned).into(),
                }),
            },
        ],
        groups: vec![GroupSchema::of("site", &["north", "south"])],
        latency_objective_micros: Some(5_000),
    }
}

/// The n-th request of the hour, a second after the one before; all different.
pub(crate) fn shot(n: u32) -> Shot {
    Shot {
        id: format!("request-{n}"),
        time: noon() + TimeDelta::seconds(i64::from(n)),
        class: n as usize % 3,
        confidence: f64::from(n % 11) / 10.0,
        brightness: f64::from(n % 13) / 10.0,
        site: [None, Some("north"), Some("south"), Some("west")][n as usize % 4].map(str::to_owned),
        latency: 1_000 + u64::from(n) * 97,
        version: version(),
    }
}

pub(crate) fn shots(count: u32) -> Vec<Shot> {
    (0..count).map(shot).collect()
}

impl Shot {
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        self.site.iter().map(|site| ("site".to_owned(), site.clone())).collect()
    }

    pub(crate) fn probabilities(&self) -> Vec<f64> {
        let other = (1.0 - self.confidence) / 2.0;
        (0..3).map(|class| if class == self.class { self.confidence } else { other }).collect()
    }

    pub(crate) fn embedding(&self) -> Vec<f32> {
        vec![self.brightness as f32, self.class as f32, 0.5]
    }

    pub(crate) fn record(&self) -> CaptureRecord {
        let answer = InferenceAnswer {
            prediction: CLASSES[self.class].to_owned(),
            confidence: self.confidence,
            probabilities: self.probabilities(),
            features: [("brightness".to_owned(), self.brightness)].into(),
            attributes: self.attributes(),
            embedding: self.embedding(),
            model_digest: self.version,
            latency_micros: self.latency,
        };
        let body = serde_json::to_vec(&answer).unwrap();
        CaptureRecord {
            capture_data: CaptureData {
                endpoint_input: Some(Payload::new("INPUT", "image/png", self.id.as_bytes())),
                endpoint_output: Some(Payload::new("OUTPUT", "application/json", &body)),
            },
            event_metadata: EventMetadata {
                event_id: format!("event of {}", self.id),
                inference_id: Some(self.id.clone()),
                inference_time: self.time,
            },
            event_version: "0".to_owned(),
        }
    }

    pub(crate) fn line(&self) -> String {
        self.record().to_line() + "\n"
    }
}

pub(crate) fn lines<'a>(shots: impl IntoIterator<Item = &'a Shot>) -> String {
    shots.into_iter().map(Shot::line).collect()
}

/// A folder with captured traffic and labels.
pub(crate) struct Disk {
    pub(crate) root: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("capture")).unwrap();
        fs::create_dir_all(root.path().join("truth")).unwrap();
        Self { root }
    }

    /// Writes a capture file of the hour, last changed long ago.
    pub(crate) fn capture(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let folder = format!("capture/shop/AllTraffic/{}", hour_folder(noon()));
        self.write(&folder, name, content.as_ref())
    }

    /// Writes labels that arrived at a moment.
    pub(crate) fn labels(&self, arrived: DateTime<Utc>, name: &str, labels: &[(&str, &str)]) {
        let lines = labels.iter().map(|(id, class)| GroundTruth::new(id, class).to_line() + "\n");
        self.truth(arrived, name, &lines.collect::<String>());
    }

    pub(crate) fn truth(&self, arrived: DateTime<Utc>, name: &str, content: &str) {
        let folder = format!("truth/{}", hour_folder(arrived));
        self.write(&folder, name, content.as_bytes());
    }

    fn write(&self, folder: &str, name: &str, content: &[u8]) -> PathBuf {
        let folder = self.root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The source over it, relative to the folder as a configuration would name it.
    pub(crate) fn source_with(&self, more: Value) -> Sources {
        let mut settings = json!({"path": "capture", "endpoint": "shop", "labels": "truth"});
        let Value::Object(more) = more else { panic!("settings are a map") };
        settings.as_object_mut().unwrap().extend(more);
        let mut registry = SourceRegistry::new("source");
        mloop_profiler::register_builtin(&mut registry);
        registry.build("capture_files", "s", &settings, &self.deps()).unwrap()
    }

    pub(crate) fn deps(&self) -> PlatformDeps {
        PlatformDeps::new(self.root.path().to_owned(), Arc::new(FixedClock(evening())))
    }

    pub(crate) fn source(&self) -> Sources {
        self.source_with(json!({}))
    }

    /// The profile of the hour, as seen in the evening.
    pub(crate) async fn profile(&self) -> StoredProfile {
        self.source().profiles.profile(&request()).await.unwrap()
    }

    pub(crate) async fn failure(&self, request: &ProfileRequest) -> PlatformError {
        self.source().profiles.profile(request).await.unwrap_err()
    }
}

pub(crate) fn request() -> ProfileRequest {
    ProfileRequest {
        key: key(),
        schema: schema(),
        others: BTreeSet::new(),
        spans: vec![],
        window: window(),
        as_of: evening(),
    }
}
