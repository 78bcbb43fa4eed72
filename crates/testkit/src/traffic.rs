//! Requests to an endpoint, counted; and the labels that arrive for them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::{CaptureRecord, GroundTruth, InferenceAnswer, hour_folder};
use mloop_core::{EndpointName, Sha256Digest};
use mloop_deployer::{EndpointClient, Invocation};
use tokio::task::JoinSet;

use crate::KitError;
use crate::camera::Camera;
use crate::images::Labelled;

/// Requests under way at one time.
const AT_ONCE: usize = 4;

/// Sites that the requests come from, in turn.
pub const SITES: [&str; 2] = ["north", "south"];

/// What became of some requests.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Sent.
    pub sent: usize,
    /// Not answered with status 200.
    pub failed: usize,
    /// Answered with the true class.
    pub right: usize,
    /// Answers by the version that gave them.
    pub by_version: BTreeMap<Sha256Digest, usize>,
    /// Id and true class of each answered request.
    pub labels: Vec<(String, String)>,
}

impl Counted {
    /// Share of the answers that were right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / (self.sent - self.failed).max(1) as f64
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.right += other.right;
        self.labels.extend(other.labels);
        for (version, count) in other.by_version {
            *self.by_version.entry(version).or_default() += count;
        }
    }
}

/// A sender of requests to one endpoint.
#[derive(Clone)]
pub struct Sender {
    client: Arc<dyn EndpointClient>,
    endpoint: EndpointName,
    camera: Camera,
    /// Begins every inference id, so that two streams never share one.
    name: String,
}

impl Sender {
    /// A sender whose pictures a camera takes.
    #[must_use]
    pub fn new(
        client: Arc<dyn EndpointClient>,
        endpoint: EndpointName,
        camera: Camera,
        name: &str,
    ) -> Self {
        Self { client, endpoint, camera, name: name.to_owned() }
    }

    /// Sends each image once.
    pub async fn send(&self, images: &[Labelled]) -> Counted {
        self.drive(images, |next| next < images.len()).await
    }

    /// Sends images, from the first again after the last, until told to stop.
    pub async fn send_until(&self, images: &[Labelled], stop: &AtomicBool) -> Counted {
        self.drive(images, |_| !stop.load(Ordering::SeqCst)).await
    }

    async fn drive(&self, images: &[Labelled], go_on: impl Fn(usize) -> bool) -> Counted {
        let (next, mut tasks, mut total) =
            (AtomicUsize::new(0), JoinSet::new(), Counted::default());
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if images.is_empty() || !go_on(number) {
                break;
            }
            if tasks.len() >= AT_ONCE
                && let Some(Ok(counted)) = tasks.join_next().await
            {
                total.add(counted);
            }
            let (sender, image) = (self.clone(), images[number % images.len()].clone());
            tasks.spawn(async move { sender.one(&image, number).await });
        }
        while let Some(done) = tasks.join_next().await {
            total.add(done.unwrap_or(Counted { sent: 1, failed: 1, ..Counted::default() }));
        }
        total.labels.sort();
        total
    }

    async fn one(&self, image: &Labelled, number: usize) -> Counted {
        let id = format!("{}-{number:06}", self.name);
        let invocation = Invocation {
            content_type: "image/png".to_owned(),
            body: self.camera.take(&image.pixels, number as u64 + 1).to_png(),
            inference_id: Some(id.clone()),
            custom_attributes: Some(format!("site={}", SITES[number % SITES.len()])),
            fresh_connection: false,
        };
        let mut counted = Counted { sent: 1, failed: 1, ..Counted::default() };
        let answer = self.client.invoke(&self.endpoint, &invocation).await;
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
            return counted;
        };
        let Ok(body) = serde_json::from_slice::<InferenceAnswer>(&answer.body) else {
            return counted;
        };
        counted.failed = 0;
        counted.right = usize::from(body.prediction == image.class);
        counted.by_version.insert(body.model_digest, 1);
        counted.labels.push((id, image.class.clone()));
        counted
    }
}

/// Writes labels as they would arrive: ground-truth lines in the folder of the hour.
///
/// # Errors
/// When the file cannot be written.
pub fn write_labels(
    root: &Path,
    name: &str,
    arrived: DateTime<Utc>,
    labels: &[(String, String)],
) -> Result<(), KitError> {
    let folder = root.join(hour_folder(arrived));
    std::fs::create_dir_all(&folder).map_err(KitError::io("making the folder of labels"))?;
    let write = || {
        let mut file = std::fs::File::create(folder.join(format!("{name}.jsonl")))?;
        file.write_all(label_lines(labels).as_bytes())?;
        file.sync_all()
    };
    write().map_err(KitError::io("writing labels"))
}

/// Labels as lines of a ground-truth file.
#[must_use]
pub fn label_lines(labels: &[(String, String)]) -> String {
    labels.iter().map(|(id, class)| GroundTruth::new(id, class).to_line() + "\n").collect()
}

/// The same answers, given in another hour, as lines of a capture file: a second apart, under ids of
/// their own.
#[must_use]
pub fn moved(records: &[CaptureRecord], hour: DateTime<Utc>) -> Vec<String> {
    let line = |(number, record): (usize, &CaptureRecord)| {
        let mut record = record.clone();
        record.event_metadata.event_id = format!("{}-{number}", hour.timestamp());
        record.event_metadata.inference_id = None;
        record.event_metadata.inference_time = hour + TimeDelta::seconds(number as i64);
        record.to_line()
    };
    records.iter().enumerate().map(line).collect()
}
