//! The world around mloop: pictures, people who label them, and the scheduler that calls binaries.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use mloop_core::{Clock as _, EndpointName, Sha256Digest, SystemClock};
use mloop_deployer::EndpointClient;
use mloop_testkit::camera::Camera;
use mloop_testkit::images::{self, Labelled};
use mloop_testkit::program::{Finished, Program};
use mloop_testkit::server::ModelServer;
use mloop_testkit::small::wait_for_second;
use mloop_testkit::traffic::{Counted, Sender, write_labels};
use serde_json::Value;

use crate::tell::Teller;

/// Names of Fashion-MNIST's labels, in their order, as in `configs/training_config.yaml`.
const CLASSES: [&str; 10] = [
    "t-shirt-top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
];

/// A window of traffic that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) counted: Counted,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
}

/// Everything around mloop.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) server: ModelServer,
    pub(crate) runtime: tokio::runtime::Runtime,
    client: Arc<dyn EndpointClient>,
    pool: Vec<Labelled>,
}

impl World {
    pub(crate) fn new(folder: &Path, pool: Vec<Labelled>) -> Result<Self, String> {
        let server = ModelServer::start(&folder.join("var")).map_err(|error| chain(&error))?;
        let client = server.endpoints().map_err(|error| chain(&error))?.client;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        std::fs::create_dir_all(folder.join("var/labels")).map_err(|error| error.to_string())?;
        Ok(Self { folder: folder.to_path_buf(), server, runtime, client, pool })
    }

    /// A sender to production through a camera.
    pub(crate) fn sender(&self, camera: Camera, name: &str) -> Result<Sender, String> {
        let endpoint = EndpointName::new("production").map_err(|error| error.to_string())?;
        Ok(Sender::new(self.client.clone(), endpoint, camera, name))
    }

    /// Images that play the traffic.
    pub(crate) fn pool_size(&self) -> usize {
        self.pool.len()
    }

    /// Images of the pool, from its start again after its end.
    pub(crate) fn images(&self, range: Range<usize>) -> Vec<Labelled> {
        range.map(|index| self.pool[index % self.pool.len()].clone()).collect()
    }

    /// Sends a window of traffic and has it labelled.
    pub(crate) fn traffic(
        &self,
        camera: Camera,
        name: &str,
        range: Range<usize>,
    ) -> Result<Sent, String> {
        let sender = self.sender(camera, name)?;
        let images = self.images(range);
        let start = wait_for_second();
        let counted = self.runtime.block_on(sender.send(&images));
        // Captured times are whole seconds, and the server writes what it captured within a tenth.
        let end = wait_for_second();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let labels = self.folder.join("var/labels");
        write_labels(&labels, name, SystemClock.now(), &counted.labels)
            .map_err(|error| chain(&error))?;
        Ok(Sent { counted, start, end })
    }

    /// Calls a binary as a DAG would, and demands one of these exit codes.
    pub(crate) fn call(
        &self,
        teller: &mut Teller,
        work: &str,
        name: &str,
        arguments: &[&str],
        codes: &[i32],
    ) -> Result<Finished, String> {
        let finished = self.try_call(name, arguments, |_| {})?;
        teller.cost(work, &finished);
        demand(name, finished, codes)
    }

    /// The same, showing the lines of its log.
    pub(crate) fn call_showing(
        &self,
        teller: &mut Teller,
        work: &str,
        name: &str,
        arguments: &[&str],
        show: impl Fn(&str) + Send + Sync,
    ) -> Result<Finished, String> {
        let finished = self.try_call(name, arguments, show)?;
        teller.cost(work, &finished);
        demand(name, finished, &[0])
    }

    fn try_call(
        &self,
        name: &str,
        arguments: &[&str],
        show: impl Fn(&str) + Send + Sync,
    ) -> Result<Finished, String> {
        let program = Program::new(name, arguments).map_err(|error| chain(&error))?;
        let program = program.within(&self.folder.join("configs"));
        program.run_showing(show).map_err(|error| chain(&error))
    }
}

fn demand(name: &str, finished: Finished, codes: &[i32]) -> Result<Finished, String> {
    if finished.code.is_some_and(|code| codes.contains(&code)) {
        return Ok(finished);
    }
    let log: Vec<&str> = finished.stderr.lines().rev().take(12).collect();
    let log: Vec<&str> = log.into_iter().rev().collect();
    Err(format!(
        "{name} ended with {:?}, not with {codes:?}; its last line: {}; its log:\n{}",
        finished.code,
        finished.last,
        log.join("\n")
    ))
}

/// The images that play the traffic: all of Fashion-MNIST that was not trained on, or the rest of
/// the slice. Gives what is left to train on, and the traffic.
pub(crate) fn pool(
    slice: Vec<Labelled>,
    full: Option<&Path>,
) -> Result<(Vec<Labelled>, Vec<Labelled>), String> {
    let Some(folder) = full else {
        // Every third image, so that both parts hold all classes alike.
        let (mut training, mut traffic) = (vec![], vec![]);
        for (index, image) in slice.into_iter().enumerate() {
            if index % 3 == 0 { traffic.push(image) } else { training.push(image) }
        }
        return Ok((training, traffic));
    };
    let file = |name: &str| folder.join(name);
    let classes = CLASSES.map(str::to_owned);
    let all = images::idx(
        &file("train-images-idx3-ubyte.gz"),
        &file("train-labels-idx1-ubyte.gz"),
        &classes,
    );
    let all = all.map_err(|error| chain(&error))?;
    let trained: std::collections::HashSet<Vec<u8>> =
        slice.iter().map(|image| image.pixels.data().to_vec()).collect();
    let mut traffic: Vec<Labelled> =
        all.into_iter().filter(|image| !trained.contains(image.pixels.data())).collect();
    // The slice holds the first images of each class, so the next ones would come class by class:
    // mixed by their digests, they come as they would in life, and the same in every run.
    traffic.sort_by_cached_key(|image| Sha256Digest::of(image.pixels.data()));
    Ok((slice, traffic))
}

/// A moment as the binaries take it.
pub(crate) fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An error with its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    mloop_core::error_chain(error)
}

/// A number out of a last line.
pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
