//! How each service is started: one file each.

mod airflow;
mod mlflow;
mod moto;
mod ports;
mod postgres;
mod prometheus;
mod smtp;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use crate::BenchError;
use crate::engine::{Engine, Launch};
use crate::install::Installer;
use crate::service::Service;

/// What the services of one call start from.
pub(crate) struct Ground<'a> {
    engine: &'a Engine<'a>,
    installer: Installer<'a>,
    ports: BTreeMap<&'static str, u16>,
}

/// Installs a service and says how to start it.
pub(crate) fn prepare(service: Service, ground: &Ground<'_>) -> Result<Launch, BenchError> {
    match service {
        Service::Postgres => postgres::prepare(ground),
        Service::Pushgateway => prometheus::pushgateway(ground),
        Service::Alertmanager => prometheus::alertmanager(ground),
        Service::Prometheus => prometheus::prometheus(ground),
        Service::Smtp => smtp::prepare(ground),
        Service::Moto => moto::prepare(ground),
        Service::Mlflow => mlflow::prepare(ground),
        Service::MlflowAuth => mlflow::prepare_auth(ground),
        Service::Airflow => airflow::prepare(ground),
        Service::Kubernetes | Service::Oracles => installed(service, ground),
    }
}

/// Nothing to start: the environment is all.
fn installed(service: Service, ground: &Ground<'_>) -> Result<Launch, BenchError> {
    ground.environment(service.name(), service.name())?;
    let probe = crate::health::Probe::Nothing;
    let deadline = std::time::Duration::ZERO;
    Ok(Launch { tasks: vec![], probe, deadline, entry: Value::Null })
}

impl<'a> Ground<'a> {
    /// Chooses the ports, those of helpers too.
    pub(crate) fn new(engine: &'a Engine<'a>, services: &[Service]) -> Result<Self, BenchError> {
        let helpers: &[&str] = &["webhook", "airflow-worker-logs", "airflow-trigger-logs"];
        let names = services.iter().map(|service| service.name()).chain(helpers.iter().copied());
        let ports = ports::choose(names)?;
        Ok(Self { engine, installer: Installer::new(engine.tell)?, ports })
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.get(name).copied().unwrap_or_default()
    }

    /// `127.0.0.1:PORT` of another service, which starts now or runs already.
    fn address(&self, name: &str) -> String {
        if let Some(port) = self.ports.get(name) {
            return format!("127.0.0.1:{port}");
        }
        let record = self.engine.record();
        let url = record.entries.get(name).and_then(|entry| entry["url"].as_str());
        url.unwrap_or_default().trim_start_matches("http://").to_owned()
    }

    /// A service's folder, empty.
    fn folder(&self, name: &str) -> Result<PathBuf, BenchError> {
        let folder = self.engine.file.with_file_name(name);
        crate::place::clear(&folder)?;
        crate::place::make(&folder)?;
        Ok(folder)
    }

    /// An environment, told in the file under a name.
    fn environment(&self, name: &str, told_as: &str) -> Result<PathBuf, BenchError> {
        let python = self.installer.environment(name)?;
        let mut record = self.engine.record();
        record.python.insert(told_as.to_owned(), python.clone());
        record.write(self.engine.file)?;
        Ok(python)
    }
}

/// A command with what all services have in common.
fn service(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    // Nothing of the caller's Python; no proxy between services on loopback.
    for key in ["PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"] {
        command.env_remove(key);
    }
    for key in ["NO_PROXY", "no_proxy"] {
        command.env(key, "127.0.0.1,localhost");
    }
    // Memory: glibc keeps an arena for each thread, BLAS a buffer.
    for (key, value) in [("MALLOC_ARENA_MAX", "2"), ("OMP_NUM_THREADS", "1")] {
        command.env(key, value);
    }
    command.env("PYTHONUNBUFFERED", "1");
    command
}

/// An entry as the file has it.
fn entry(value: &impl Serialize) -> Result<Value, BenchError> {
    serde_json::to_value(value).map_err(|error| BenchError::Failed(error.to_string()))
}

/// So many random bytes, in hexadecimal.
pub(crate) fn random(bytes: usize) -> Result<String, BenchError> {
    let mut buffer = vec![0; bytes];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut buffer))
        .map_err(BenchError::io("reading /dev/urandom"))?;
    Ok(hex::encode(buffer))
}
