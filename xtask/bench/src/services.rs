//! Where the services are, and what they need to know before they are called.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use mloop_core::SystemClock;
use mloop_sagemaker_simulator::{Delays, Settings, Simulator, Storage};
use mloop_services::Services;

use crate::Outcome;

/// Moto takes any.
pub(crate) const KEYS: [&str; 2] = ["test", "test"];

pub(crate) const REGION: &str = "us-east-1";

/// A DAG whose runs have nothing to do.
const DAG: &str = "
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG(\"ID\", schedule=None, is_paused_upon_creation=False):
    EmptyOperator(task_id=\"train\")
";

/// Where each service listens.
pub(crate) struct Addresses {
    pub(crate) mlflow: String,
    pub(crate) gateway: String,
    pub(crate) airflow: String,
    pub(crate) simulator: String,
    pub(crate) s3: String,
}

impl Addresses {
    pub(crate) fn all(&self) -> [&str; 5] {
        [&self.mlflow, &self.gateway, &self.airflow, &self.simulator, &self.s3]
    }
}

pub(crate) struct Bench {
    pub(crate) addresses: Addresses,
    /// Name and password of Airflow's user.
    pub(crate) user: (String, String),
    /// A DAG that can be triggered.
    pub(crate) dag: String,
    /// A bucket that is there.
    pub(crate) bucket: String,
    /// Part of the names of everything that this run makes: services outlive it.
    pub(crate) unique: String,
    simulator: Child,
    dag_file: PathBuf,
}

impl Bench {
    pub(crate) async fn start() -> Outcome<Self> {
        let services = Services::running();
        let unique = std::time::UNIX_EPOCH.elapsed()?.as_millis().to_string();
        let (s3, airflow) = (services.moto().url.clone(), services.airflow());
        let dag = format!("bench_{unique}");
        let dag_file = airflow.dags_folder.join(format!("{dag}.py"));
        std::fs::write(&dag_file, DAG.replace("ID", &dag))?;
        let bucket = format!("bench-{unique}");
        client(&s3).create_bucket().bucket(&bucket).send().await?;
        let (simulator, url) = simulator(&s3)?;
        let addresses = Addresses {
            mlflow: services.mlflow().url.clone(),
            gateway: services.pushgateway().url.clone(),
            airflow: airflow.url.clone(),
            simulator: url,
            s3,
        };
        let user = (airflow.username.clone(), airflow.password.clone());
        Ok(Self { addresses, user, dag, bucket, unique, simulator, dag_file })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing more can be done about either.
        drop(self.simulator.kill().and_then(|()| self.simulator.wait()));
        drop(std::fs::remove_file(&self.dag_file));
    }
}

fn client(url: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(Credentials::new(KEYS[0], KEYS[1], None, None, "bench"));
    aws_sdk_s3::Client::from_conf(config.build())
}

/// The simulator as a process of its own, which ends with this one.
fn simulator(s3_url: &str) -> Outcome<(Child, String)> {
    let own = std::env::current_exe()?;
    let mut child = Command::new(own)
        .args(["simulator", s3_url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the simulator has an output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.trim() {
        url if url.starts_with("http://") => Ok((child, url.to_owned())),
        other => Err(format!("the simulator did not start: {other}").into()),
    }
}

/// Runs the simulator until standard input ends, and tells its address.
pub(crate) async fn simulate(s3_url: &str) -> Outcome {
    let credentials = Some((KEYS[0].to_owned(), KEYS[1].to_owned()));
    let storage = Storage { endpoint_url: Some(s3_url.to_owned()), credentials };
    let settings = Settings {
        delays: Delays::all(Duration::from_millis(30)),
        region: REGION.to_owned(),
        ..Settings::new(storage)
    };
    let simulator = Simulator::start(settings, Arc::new(SystemClock)).await?;
    println!("{}", simulator.url());
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Asks until something is so.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFn() -> Outcome<Option<T>>) -> Outcome<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        if began.elapsed() > Duration::from_secs(120) {
            return Err(format!("waited in vain: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
