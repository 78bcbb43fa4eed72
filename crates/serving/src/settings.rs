//! What the server is told at its start.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mloop_core::{EndpointName, Sha256Digest};

/// Where SageMaker puts a model's files into a container.
pub const SAGEMAKER_MODEL_FOLDER: &str = "/opt/ml/model";

/// Everything that the server is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the data plane; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Address of the admin plane, which must be a loopback address: who can reach it can change
    /// what serves.
    pub admin: SocketAddr,
    /// Folder of the version that the default endpoint serves, unless `state` remembers another.
    pub model: Option<PathBuf>,
    /// Digest that `model` must have; needed when its folder has no `manifest.json`.
    pub model_digest: Option<Sha256Digest>,
    /// The endpoint behind `/invocations`.
    pub default_endpoint: EndpointName,
    /// Folder that remembers what serves, for the next start.
    pub state: Option<PathBuf>,
    /// Data capture; none captures nothing.
    pub capture: Option<CaptureSettings>,
    /// File that is told the chosen addresses as JSON, once the server listens.
    pub address_file: Option<PathBuf>,
    /// Bounds on what callers can make the server do.
    pub limits: Limits,
}

impl Settings {
    /// The container contract's defaults, without a model.
    ///
    /// # Panics
    /// Never: the name of the default endpoint is valid.
    #[must_use]
    pub fn new() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            admin: (Ipv4Addr::LOCALHOST, 8081).into(),
            model: None,
            model_digest: None,
            default_endpoint: EndpointName::new("default").expect("letters are a valid name"),
            state: None,
            capture: None,
            address_file: None,
            limits: Limits::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// Bounds on what callers can make the server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of an invocation in bytes; SageMaker's own limit is 6 MiB.
    pub body_bytes: usize,
    /// Time for the head of a request to arrive, and for the next one on an idle connection.
    pub head_timeout: Duration,
    /// Time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Invocations that are read, waiting or computed at one time; one more is answered 503. Times
    /// `body_bytes` it bounds the memory that bodies take.
    pub queue: usize,
    /// Invocations that are computed at one time.
    pub workers: usize,
    /// Open connections of the data plane; more wait in the system's backlog.
    pub connections: usize,
    /// Named endpoints; each has its own metrics, so their number is bounded.
    pub endpoints: usize,
    /// Time that requests in flight have to finish once the server is told to stop. SageMaker and
    /// Kubernetes kill after 30 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 6 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            queue: 128,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            connections: 896,
            endpoints: 64,
            drain: Duration::from_secs(25),
        }
    }
}

/// Data capture. Captured inputs are personal data as often as not, so the two limits on keeping
/// them have no default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Root of the capture files.
    pub dir: PathBuf,
    /// Most bytes that all capture files may have, exceeded by a record at most; the oldest files
    /// go first.
    pub max_bytes: u64,
    /// Days after which a capture file is removed.
    pub max_age_days: u32,
    /// Longest time that a captured request stays in memory.
    pub flush_every: Duration,
    /// Time after which a file is closed and the next one begun; a new hour begins one too.
    pub rotate_after: Duration,
    /// Captured requests that may wait to be written; more are dropped and counted.
    pub queue: usize,
    /// Bytes of bodies that may wait to be written; more are dropped and counted.
    pub queue_bytes: usize,
}

impl CaptureSettings {
    /// Capture into `dir` within the two limits on keeping.
    #[must_use]
    pub fn new(dir: PathBuf, max_bytes: u64, max_age_days: u32) -> Self {
        Self {
            dir,
            max_bytes,
            max_age_days,
            flush_every: Duration::from_secs(1),
            rotate_after: Duration::from_secs(300),
            queue: 4096,
            queue_bytes: 64 << 20,
        }
    }

    /// Size in bytes at which a file is closed: small enough that removing the oldest one leaves
    /// most of what `max_bytes` allows.
    pub(crate) fn rotate_bytes(&self) -> u64 {
        (self.max_bytes / 8).clamp(1, 64 << 20)
    }
}
