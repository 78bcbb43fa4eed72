//! A stand-in for SageMaker as a program: `sagemaker_simulator --help`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use mloop_cli::{CommonArgs, Exit, Failure, Outcome, Program, Stop};
use mloop_sagemaker_simulator::{Delays, Fault, Settings, Simulator, Storage};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  sagemaker_simulator --listen 127.0.0.1:9000 --s3-url http://127.0.0.1:5555
      endpoints that load their models from that object store
  sagemaker_simulator --s3-url http://127.0.0.1:5555 --faults faults.json --delay-ms 500
      with a script of faults, such as [{\"fault\": \"silent_rollback\", \"endpoint\": \"production\"}]
  curl -X POST 127.0.0.1:9000/simulator/faults -d '{\"fault\": \"throttle\", \"times\": 5}'
      one more fault while it runs

Set `endpoint_url` (and `allow_http: true`) of a deployer or submitter of kind `sagemaker` to the
address. Credentials for the object store come from the standard chain (AWS_ACCESS_KEY_ID, ...).";

/// A stateful stand-in for SageMaker: endpoints really serve, faults are scripted
#[derive(Debug, Parser)]
#[command(name = "sagemaker_simulator", version, after_help = EXAMPLES)]
#[command(mut_arg("config", |arg| arg.hide(true)), mut_arg("print_schema", |arg| arg.hide(true)))]
#[command(mut_arg("dry_run", |arg| arg.hide(true)), mut_arg("check", |arg| arg.hide(true)))]
struct SimulatorArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// File that is told the address as JSON once the simulator listens
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,

    /// Object store with models and the inputs and outputs of jobs [default: Amazon's]
    #[arg(long, value_name = "URL")]
    s3_url: Option<String>,

    /// Longest time until a captured request is written to S3
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    capture_secs: u64,

    /// Region in the names of resources
    #[arg(long, value_name = "NAME", default_value = "eu-central-1")]
    region: String,

    /// How long each change takes, beside loading and running
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    delay_ms: u64,

    /// File with a list of faults
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,

    /// Let training jobs run their command on this machine: whoever can reach the simulator can
    /// then run commands here
    #[arg(long)]
    run_jobs: bool,

    #[command(flatten)]
    common: CommonArgs,
}

impl Program for SimulatorArgs {
    const SCHEMA: &'static str = "mloop.sagemaker_simulator/1";

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    /// The simulator has arguments only.
    fn config_schema() -> serde_json::Value {
        json!({"not": {}})
    }
}

fn main() -> std::process::ExitCode {
    mloop_cli::run(simulate)
}

async fn simulate(args: SimulatorArgs, stop: Stop) -> Result<Outcome, Failure> {
    let storage = Storage { endpoint_url: args.s3_url, credentials: None };
    let settings = Settings {
        listen: args.listen,
        region: args.region,
        capture_every: Duration::from_secs(args.capture_secs),
        delays: Delays::all(Duration::from_millis(args.delay_ms)),
        run_jobs: args.run_jobs,
        ..Settings::new(storage)
    };
    let faults = args.faults.as_deref().map(read_faults).transpose()?;
    let simulator = Simulator::start(settings, args.common.clock()).await;
    let simulator = simulator.map_err(Failure::with(Exit::Config))?;
    simulator.fault(faults.unwrap_or_default());
    tracing::info!(url = simulator.url(), "listening");
    if let Some(path) = args.address_file {
        let text = json!({"listen": simulator.address()}).to_string();
        // Whoever waits for the file must not read half of it.
        let part = path.with_extension("part");
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, &path))
            .map_err(Failure::with(Exit::Config))?;
    }
    stop.raised().await;
    simulator.write_captured().await.map_err(Failure::with(Exit::Transient))?;
    let calls = simulator.calls().len();
    Ok(Outcome::new(Exit::Done, json!({"outcome": "stopped", "calls": calls})))
}

fn read_faults(path: &Path) -> Result<Vec<Fault>, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::with(Exit::Config))?;
    serde_json::from_str(&text).map_err(Failure::with(Exit::Config))
}
