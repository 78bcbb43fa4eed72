//! What the simulator is told at its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Everything that the simulator is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Region in the names of resources.
    pub region: String,
    /// Account in the names of resources: twelve digits.
    pub account: String,
    /// The object store with models and the inputs and outputs of jobs.
    pub storage: Storage,
    /// How long data capture gathers records before it writes them to their `DestinationS3Uri`.
    pub capture_every: Duration,
    /// How long changes take.
    pub delays: Delays,
    /// Longest time that a model may take until it answers `/ping`.
    pub health_timeout: Duration,
    /// Whether training jobs run their command on this machine. Whoever can reach the simulator can
    /// then run commands here, so it is off unless asked for.
    pub run_jobs: bool,
    /// Time that a stopped job has to save its state, before it is killed.
    pub stop_grace: Duration,
}

/// An S3 or a server that speaks its protocol.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    /// Its address; none is Amazon's.
    pub endpoint_url: Option<String>,
    /// Key id and secret key; none are those of the standard credentials chain.
    pub credentials: Option<(String, String)>,
}

/// How long changes take, beside the time that loading a model or running a job really takes.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// `Creating`.
    pub creating: Duration,
    /// `Updating`.
    pub updating: Duration,
    /// `RollingBack`.
    pub rolling_back: Duration,
    /// `Deleting`.
    pub deleting: Duration,
    /// A training job, before its command runs.
    pub starting_job: Duration,
}

impl Delays {
    /// The same delay everywhere.
    #[must_use]
    pub fn all(delay: Duration) -> Self {
        Self {
            creating: delay,
            updating: delay,
            rolling_back: delay,
            deleting: delay,
            starting_job: delay,
        }
    }
}

impl Settings {
    /// A simulator on a free loopback port that keeps its objects in `storage`.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            storage,
            capture_every: Duration::from_secs(60),
            delays: Delays::all(Duration::from_secs(2)),
            health_timeout: Duration::from_secs(60),
            run_jobs: false,
            stop_grace: Duration::from_secs(120),
        }
    }
}
