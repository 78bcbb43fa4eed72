//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mloop_cli::{CommonArgs, Program};
use mloop_core::{EndpointName, Sha256Digest};
use mloop_serving::{CaptureSettings, Settings};

const EXAMPLES: &str = "\
Examples:
  model_server serve
      in a SageMaker container: the model in /opt/ml/model, port 8080
  model_server serve --model models/fashion/3 --listen 127.0.0.1:8080
      one version on this machine; try: curl -fsS 127.0.0.1:8080/ping
  model_server serve --state /var/lib/mloop --capture /var/lib/mloop/capture \\
      --capture-max-bytes 10000000000 --capture-max-age-days 30
      a lasting server that deployments give endpoints to, and whose traffic is captured

SIGTERM: nothing new is accepted, what has begun is answered within 25 s, captured requests are
written, and the exit code is 0 (143 when requests had to be cut off).";

/// Serves model versions behind SageMaker's container contract and named endpoints
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
#[command(mut_arg("config", |arg| arg.hide(true)), mut_arg("print_schema", |arg| arg.hide(true)))]
#[command(mut_arg("dry_run", |arg| arg.hide(true)), mut_arg("as_of", |arg| arg.hide(true)))]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl Program for ServerArgs {
    const SCHEMA: &'static str = "mloop.serving/1";

    /// A little more than the server's own limit for draining.
    const STOP_GRACE: Duration = Duration::from_secs(28);

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    /// The server has arguments only.
    fn config_schema() -> serde_json::Value {
        serde_json::json!({"not": {}})
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Listen and answer until SIGTERM
    #[command(after_help = EXAMPLES)]
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the version that the default endpoint serves, unless the state folder remembers
    /// another [default: /opt/ml/model, when there is no --state]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Digest that the version must have; needed when its folder has no manifest.json
    #[arg(long, value_name = "HEX")]
    model_digest: Option<Sha256Digest>,

    /// Endpoint behind /invocations
    #[arg(long, value_name = "NAME", default_value = "default")]
    default_endpoint: EndpointName,

    /// Address of /ping, /invocations, /endpoints/NAME/invocations and /metrics; port 0 takes a
    /// free one
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Loopback address of /admin, where endpoints are changed; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    admin: SocketAddr,

    /// File that is told the two addresses as JSON once the server listens
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,

    /// Folder that remembers what serves, so that the next start serves it too
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Root of data capture; without, nothing is captured
    #[arg(long, value_name = "DIR", requires_all = ["capture_max_bytes", "capture_max_age_days"])]
    capture: Option<PathBuf>,

    /// Most bytes of all capture files, at least 1 MiB; the oldest files go first
    #[arg(long, value_name = "BYTES", requires = "capture")]
    capture_max_bytes: Option<u64>,

    /// Days after which a capture file is removed
    #[arg(long, value_name = "DAYS", requires = "capture")]
    capture_max_age_days: Option<u32>,

    /// Longest time in milliseconds that a captured request stays in memory
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    capture_flush_ms: u64,

    /// Seconds after which a capture file is closed and the next one begun
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    capture_rotate_secs: u64,

    /// Largest body of an invocation in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 6 << 20)]
    body_bytes: usize,

    /// Invocations at one time; one more is answered 503 with Retry-After
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    queue: usize,

    /// Invocations computed at one time [default: one for each processor]
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
}

impl From<ServeArgs> for Settings {
    fn from(args: ServeArgs) -> Self {
        let capture = args.capture();
        let mut settings = Self {
            listen: args.listen,
            admin: args.admin,
            model: args.model,
            model_digest: args.model_digest,
            default_endpoint: args.default_endpoint,
            state: args.state,
            capture,
            address_file: args.address_file,
            ..Self::new()
        };
        settings.limits.body_bytes = args.body_bytes;
        settings.limits.queue = args.queue;
        settings.limits.workers = args.workers.unwrap_or(settings.limits.workers);
        settings
    }
}

impl ServeArgs {
    fn capture(&self) -> Option<CaptureSettings> {
        // clap has seen to it that the three come together.
        let (dir, max_bytes) = (self.capture.clone()?, self.capture_max_bytes?);
        let capture = CaptureSettings::new(dir, max_bytes, self.capture_max_age_days?);
        Some(CaptureSettings {
            flush_every: Duration::from_millis(self.capture_flush_ms),
            rotate_after: Duration::from_secs(self.capture_rotate_secs),
            ..capture
        })
    }
}
