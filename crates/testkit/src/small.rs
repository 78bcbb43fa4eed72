//! The whole loop in a folder of its own, on a problem so small that it turns in seconds.
//!
//! Three classes of pictures, 8 × 8 levels of grey: the left half is much brighter, or only a little,
//! or the upper half is. A network learns them in a second; through the cheap camera much looks to
//! it like little, until it has been trained on such pictures too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mloop_core::{Clock as _, EndpointName, SystemClock, error_chain};
use mloop_deployer::EndpointClient;
use mloop_vision::data::{Dataset, Sample, write_parquet};
use mloop_vision::{InputSpec, Pixels};
use serde_json::Value;
use tempfile::TempDir;

use crate::KitError;
use crate::camera::Camera;
use crate::configs::{self, Change};
use crate::images::Labelled;
use crate::jobs;
use crate::program::{Finished, Program};
use crate::server::ModelServer;
use crate::traffic::{Counted, SITES, Sender, write_labels};

/// The classes.
const CLASSES: [&str; 3] = ["faint", "left", "top"];
/// Width and height of a picture.
const SIDE: usize = 8;
/// Longest time that a job may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A window of traffic that was sent and labelled.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What became of the requests.
    pub counted: Counted,
    /// Begin of the window, a whole second.
    pub start: DateTime<Utc>,
    /// Its end, excluded.
    pub end: DateTime<Utc>,
}

/// The loop in a temporary folder: configurations, data, a model server. All of it ends with the
/// value, jobs that were started included.
pub struct SmallWorld {
    // Ends before the folder is removed.
    server: ModelServer,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    windows: usize,
}

impl SmallWorld {
    /// A world before its first version.
    ///
    /// # Errors
    /// When files cannot be written or the server does not start.
    pub fn new() -> Result<Self, KitError> {
        let folder = tempfile::tempdir().map_err(KitError::io("making a folder"))?;
        let data = folder.path().join("data");
        write_data_sets(&data)?;
        Self::around(folder, 0)
    }

    /// A second world that is in the state of this one: a copy of all files, and a server of its
    /// own that goes on with them. No program may be at work in this world meanwhile.
    ///
    /// # Errors
    /// When files cannot be copied or the server does not start.
    pub fn fork(&self) -> Result<Self, KitError> {
        let folder = tempfile::tempdir().map_err(KitError::io("making a folder"))?;
        copy_folder(self.folder(), folder.path())
            .map_err(KitError::io(format!("copying {}", self.folder().display())))?;
        Self::around(folder, self.windows)
    }

    fn around(folder: TempDir, windows: usize) -> Result<Self, KitError> {
        let var = folder.path().join("var");
        std::fs::create_dir_all(var.join("labels")).map_err(KitError::io("making a folder"))?;
        let server = ModelServer::start(&var)?;
        configs::write(&folder.path().join("configs"), &changes(&server))?;
        let runtime =
            tokio::runtime::Runtime::new().map_err(KitError::io("starting the runtime"))?;
        Ok(Self { server, folder, runtime, windows })
    }

    /// The folder of everything: `configs/`, `data/`, `var/`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The model server.
    #[must_use]
    pub fn server(&self) -> &ModelServer {
        &self.server
    }

    /// One of the binaries, in the folder of its configuration.
    ///
    /// # Errors
    /// [`KitError::NotBuilt`].
    pub fn program(&self, name: &str, arguments: &[&str]) -> Result<Program, KitError> {
        Ok(Program::new(name, arguments)?.within(&self.folder().join("configs")))
    }

    /// Trains the first version.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn train_first(&self) -> Result<Finished, KitError> {
        self.program("training_main", &["--config", "training_config.yaml"])?.run()
    }

    /// Deploys the newest candidate.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn deploy(&self) -> Result<Finished, KitError> {
        self.program("deployment_main", &["run", "--config", "deployment_config.yaml"])?.run()
    }

    /// Sends `n` pictures to production, waits until they are captured, and labels them.
    ///
    /// # Errors
    /// When the labels cannot be written; requests that fail are counted.
    pub fn traffic(&mut self, camera: Camera, n: usize) -> Result<Sent, KitError> {
        self.windows += 1;
        let name = format!("window-{}", self.windows);
        let endpoint =
            EndpointName::new("production").map_err(|error| KitError::Failed(error.to_string()))?;
        let sender = Sender::new(self.client()?, endpoint, camera, &name);
        let images = pictures(100 + self.windows as u64, n);
        let start = wait_for_second();
        let counted = self.runtime.block_on(sender.send(&images));
        // Captured times are whole seconds, and the server writes what it captured within a tenth.
        let end = wait_for_second();
        std::thread::sleep(Duration::from_millis(300));
        let labels = self.folder().join("var/labels");
        write_labels(&labels, &name, SystemClock.now(), &counted.labels)?;
        Ok(Sent { counted, start, end })
    }

    /// Monitors a window.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn monitor(&self, sent: &Sent) -> Result<Finished, KitError> {
        let text = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (start, end) = (text(sent.start), text(sent.end));
        let window = ["--window-start", &start, "--window-end", &end];
        let arguments = [&["--config", "monitoring_config.yaml"], window.as_slice()].concat();
        self.program("monitoring_main", &arguments)?.run()
    }

    /// Asks once whether to train anew.
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn retrain(&self) -> Result<Finished, KitError> {
        self.program("retraining_main", &["--config", "retrain_config.yaml"])?.run()
    }

    /// Asks for retraining until an episode is closed, as a schedule would; gives that episode.
    ///
    /// # Errors
    /// When the binary cannot be run, fails, or closes nothing in time.
    pub fn retrain_until_closed(&self) -> Result<Value, KitError> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let decision = self.retrain()?;
            if !matches!(decision.code, Some(0 | 99)) {
                return Err(KitError::Failed(format!(
                    "retraining_main ended with {:?}:\n{}",
                    decision.code, decision.stderr
                )));
            }
            if let Some(closed) = decision.last["closed"].get(0) {
                return Ok(closed.clone());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(KitError::Failed(format!("no job ended; see {}", self.folder().display())))
    }

    /// Process ids of the training jobs that run in this world.
    #[must_use]
    pub fn jobs_at_work(&self) -> Vec<i32> {
        jobs::at_work(&self.folder().join("var/jobs"))
    }

    fn client(&self) -> Result<Arc<dyn EndpointClient>, KitError> {
        Ok(self.server.endpoints()?.client)
    }
}

impl Drop for SmallWorld {
    fn drop(&mut self) {
        jobs::end(&self.folder().join("var/jobs"));
    }
}

/// Writes `train.parquet` and `test.parquet` of the small problem into a folder, which is made.
///
/// # Errors
/// When they cannot be written.
pub fn write_data_sets(folder: &Path) -> Result<(), KitError> {
    std::fs::create_dir_all(folder).map_err(KitError::io("making the folder of data"))?;
    write_data(&folder.join("train.parquet"), &pictures(1, 480))?;
    write_data(&folder.join("test.parquet"), &pictures(2, 240))
}

/// What the training of a small problem needs otherwise than the shipped configurations have it.
#[must_use]
pub fn training_changes() -> Vec<Change> {
    let to = str::to_owned;
    let training = "training_config.yaml";
    vec![
        (
            training,
            "classes: [t-shirt-top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle-boot]",
            format!("classes: [{}]", CLASSES.join(", ")),
        ),
        (training, "channels: [16, 32]", to("channels: [4]")),
        (training, "hidden_units: 64", to("hidden_units: 16")),
        (training, "dropout: 0.2", to("dropout: 0.0")),
        (training, "epochs: 8", to("epochs: 6")),
        (training, "batch_size: 64", to("batch_size: 16")),
        (training, "learning_rate: 0.002", to("learning_rate: 0.01")),
        (training, "fresh_share: 0.25", to("fresh_share: 0.5")),
        (training, "frozen_margin: 0.02", to("frozen_margin: 0.2")),
        (training, "min_rows: 200", to("min_rows: 30")),
        (training, "first_model: refuse", to("first_model: allow")),
    ]
}

/// What a small world needs otherwise than the shipped configurations have it.
fn changes(server: &ModelServer) -> Vec<Change> {
    let to = str::to_owned;
    let monitoring = "monitoring_config.yaml";
    let mut changes = training_changes();
    changes.extend([
        (monitoring, "min_rows: 100", to("min_rows: 50")),
        // Windows of a few dozen rows cannot be that sure.
        (monitoring, "false_alarms_per_month: 1 ", to("false_alarms_per_month: 1000 ")),
        (monitoring, "tolerance: 0.15", to("tolerance: 0.3")),
        (monitoring, "max_p99_ms: 250.0", to("max_p99_ms: 5000.0")),
        ("training_config.yaml", "../tests/data/fashion-mnist/", to("../data/")),
        (
            "retrain_config.yaml",
            "windows: {at_least: 2, of_windows: 3}",
            to("windows: {at_least: 1, of_windows: 1}"),
        ),
        // Kill tests take a moment far ahead for now.
        (
            "retrain_config.yaml",
            "traffic_lookback_hours: 168",
            to("traffic_lookback_hours: 1000000"),
        ),
        ("retrain_config.yaml", "history_hours: 336", to("history_hours: 1000000")),
        // A killed run leaves its lease behind, for which the next one waits.
        ("retrain_config.yaml", "lease_secs: 60", to("lease_secs: 1")),
        ("deployment_config.yaml", "lease_secs: 60", to("lease_secs: 1")),
        ("deployment_config.yaml", " http://127.0.0.1:8080", format!(" {}", server.url())),
        ("deployment_config.yaml", " http://127.0.0.1:8081", format!(" {}", server.admin_url())),
        ("deployment_config.yaml", "latency_p99_millis: 500.0", to("latency_p99_millis: 5000.0")),
        ("deployment_config.yaml", "latency_requests: 100", to("latency_requests: 10")),
        ("deployment_config.yaml", "poll_ms: 200", to("poll_ms: 20")),
    ]);
    changes
}

/// Pictures of all classes in turn, the same for the same seed.
///
/// # Panics
/// Never: each has as many levels as pixels.
#[must_use]
pub fn pictures(seed: u64, n: usize) -> Vec<Labelled> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |bound: u64| {
        // Marsaglia's xorshift generator (2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % bound
    };
    let picture = |number: usize| {
        let class = CLASSES[number % CLASSES.len()];
        let (plain, added) = match class {
            "faint" => (40 + below(20), 15 + below(20)),
            // The cheap camera leaves 47 to 64 of these levels.
            _ => (40 + below(20), 110 + below(40)),
        };
        let levels = (0..SIDE * SIDE).map(|at| {
            let part = if class == "top" { at / SIDE } else { at % SIDE };
            let level = plain + below(11) + if part < SIDE / 2 { added } else { 0 };
            u8::try_from(level).unwrap_or(u8::MAX)
        });
        let spec = InputSpec { channels: 1, height: SIDE, width: SIDE };
        let pixels = Pixels::new(spec, levels.collect()).expect("as many levels as pixels");
        Labelled { id: format!("{seed}-{number}"), pixels, class: class.to_owned() }
    };
    (0..n).map(picture).collect()
}

fn write_data(path: &Path, images: &[Labelled]) -> Result<(), KitError> {
    let spec = InputSpec { channels: 1, height: SIDE, width: SIDE };
    let mut dataset = Dataset::new(spec, CLASSES.map(str::to_owned).to_vec());
    for (number, image) in images.iter().enumerate() {
        let label = CLASSES.iter().position(|class| *class == image.class).unwrap_or_default();
        let attributes = [("site".to_owned(), SITES[number % SITES.len()].to_owned())].into();
        dataset.push(Sample { id: image.id.clone(), label, attributes }, &image.pixels);
    }
    write_parquet(path, &dataset).map_err(|error| KitError::Failed(error_chain(&error)))
}

/// Waits until a second begins, and gives it.
pub fn wait_for_second() -> DateTime<Utc> {
    let now = SystemClock.now();
    let left = TimeDelta::nanoseconds(1_000_000_000 - i64::from(now.timestamp_subsec_nanos()));
    std::thread::sleep(left.to_std().unwrap_or_default());
    let second = now + left;
    second - TimeDelta::nanoseconds(i64::from(second.timestamp_subsec_nanos()))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // With its permissions, as `std::fs::copy` does, and with its age, which tells when labels
            // arrived.
            std::fs::copy(entry.path(), &target)?;
            let modified = entry.metadata()?.modified()?;
            std::fs::File::open(&target)?.set_modified(modified)?;
        }
    }
    Ok(())
}
