//! What tests read: where the services are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::BenchError;
use crate::entries::{
    Airflow, Alertmanager, Entry, Mlflow, MlflowAuth, Moto, Postgres, Prometheus, Pushgateway,
    Python, Smtp,
};
use crate::place;
use crate::record::SCHEMA;
use crate::service::Service;

/// Longest wait for a service that is there and does not answer as a healthy one would.
const BUSY: Duration = Duration::from_secs(90);

/// The services that run, as the file of the bench tells.
pub struct Services {
    file: PathBuf,
    content: Content,
}

/// The file, as far as tests need it.
#[derive(Deserialize)]
struct Content {
    schema: String,
    #[serde(default)]
    python: Python,
    mlflow: Option<Mlflow>,
    mlflow_auth: Option<MlflowAuth>,
    airflow: Option<Airflow>,
    moto: Option<Moto>,
    prometheus: Option<Prometheus>,
    pushgateway: Option<Pushgateway>,
    alertmanager: Option<Alertmanager>,
    smtp: Option<Smtp>,
    postgres: Option<Postgres>,
}

/// Whether an entry's service answers; the text is its address or what is wrong. None where there is
/// no entry.
type Health = Option<Result<String, String>>;

fn health<E: Entry>(entry: Option<&E>) -> Health {
    let probe = entry?.probe();
    Some(probe.ask().map(|()| probe.address()))
}

/// An environment with no server is well when it is there.
fn installed(python: Option<&Path>) -> Health {
    let python = python.filter(|python| python.exists())?;
    Some(Ok(python.display().to_string()))
}

impl Services {
    /// The bench of this workspace, or of the file that `MLOOP_SERVICES` names.
    ///
    /// # Panics
    /// With the command that starts the bench when its file is not there or is not readable. That a
    /// service answers is asked when the service is.
    #[must_use]
    pub fn running() -> Self {
        match Self::read(&place::file()) {
            Ok(services) => services,
            Err(error) => panic!("{error}"),
        }
    }

    /// The bench of a file.
    ///
    /// # Errors
    /// With the command that starts the bench when the file is not there, and what is wrong with it
    /// when it is not one of this bench.
    pub fn read(file: &Path) -> Result<Self, BenchError> {
        let text = std::fs::read(file).map_err(|cause| {
            let shown = file.display();
            BenchError::Failed(format!(
                "the service bench is not running ({shown}: {cause}); start it with \
                 `cargo xtask services up`"
            ))
        })?;
        let malformed = |problem| BenchError::Malformed { file: file.to_path_buf(), problem };
        let content: Content =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if content.schema != SCHEMA {
            return Err(malformed(format!("its schema is {}, not {SCHEMA}", content.schema)));
        }
        Ok(Self { file: file.to_path_buf(), content })
    }

    /// Whether a service answers.
    pub(crate) fn health(&self, service: Service) -> Health {
        let content = &self.content;
        match service {
            Service::Mlflow => health(content.mlflow.as_ref()),
            Service::MlflowAuth => health(content.mlflow_auth.as_ref()),
            Service::Airflow => health(content.airflow.as_ref()),
            Service::Moto => health(content.moto.as_ref()),
            Service::Prometheus => health(content.prometheus.as_ref()),
            Service::Pushgateway => health(content.pushgateway.as_ref()),
            Service::Alertmanager => health(content.alertmanager.as_ref()),
            Service::Smtp => health(content.smtp.as_ref()),
            Service::Postgres => health(content.postgres.as_ref()),
            Service::Kubernetes => installed(content.python.kubernetes.as_deref()),
            Service::Oracles => installed(content.python.oracles.as_deref()),
        }
    }

    /// An entry whose service answers: one that is there and busy is waited for, since on a machine
    /// under load a scheduler is late with its sign of life.
    fn ask<'a, E: Entry>(&self, entry: Option<&'a E>) -> &'a E {
        let (began, mut found) = (Instant::now(), health(entry));
        while matches!(found, Some(Err(_)))
            && entry.is_some_and(|entry| entry.probe().is_listened_to())
            && began.elapsed() < BUSY
        {
            std::thread::sleep(Duration::from_millis(500));
            found = health(entry);
        }
        let problem = match (entry, found) {
            (Some(entry), Some(Ok(_))) => return entry,
            (_, Some(Err(reason))) => format!("does not answer: {reason}"),
            _ => format!("is not in {}", self.file.display()),
        };
        let name = E::SERVICE.name();
        panic!("the service `{name}` {problem}; start it with `cargo xtask services up {name}`")
    }

    /// MLflow. Its store lives as long as the bench: names made by a test must be its own.
    ///
    /// # Panics
    /// With the command that starts it when it does not answer; so do the other services.
    #[must_use]
    #[track_caller]
    pub fn mlflow(&self) -> &Mlflow {
        self.ask(self.content.mlflow.as_ref())
    }

    /// MLflow with basic authentication.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn mlflow_auth(&self) -> &MlflowAuth {
        self.ask(self.content.mlflow_auth.as_ref())
    }

    /// Airflow.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn airflow(&self) -> &Airflow {
        self.ask(self.content.airflow.as_ref())
    }

    /// AWS as moto plays it.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn moto(&self) -> &Moto {
        self.ask(self.content.moto.as_ref())
    }

    /// Prometheus.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn prometheus(&self) -> &Prometheus {
        self.ask(self.content.prometheus.as_ref())
    }

    /// The Pushgateway.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn pushgateway(&self) -> &Pushgateway {
        self.ask(self.content.pushgateway.as_ref())
    }

    /// The Alertmanager.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn alertmanager(&self) -> &Alertmanager {
        self.ask(self.content.alertmanager.as_ref())
    }

    /// The SMTP server.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn smtp(&self) -> &Smtp {
        self.ask(self.content.smtp.as_ref())
    }

    /// PostgreSQL.
    ///
    /// # Panics
    /// As [`Services::mlflow`].
    #[must_use]
    #[track_caller]
    pub fn postgres(&self) -> &Postgres {
        self.ask(self.content.postgres.as_ref())
    }

    /// The interpreter of an environment that comes with a service: MLflow's client with `mlflow`,
    /// boto3 with `moto`, `kubernetes_validate` with `kubernetes`, `scipy` and its like with
    /// `oracles`.
    ///
    /// # Panics
    /// With the command that installs it when it is not there.
    #[must_use]
    #[track_caller]
    pub fn python(&self, service: Service) -> &Path {
        let python = &self.content.python;
        let found = match service {
            Service::Mlflow | Service::MlflowAuth => python.mlflow.as_deref(),
            Service::Airflow => python.airflow.as_deref(),
            Service::Moto => python.boto3.as_deref(),
            Service::Kubernetes => python.kubernetes.as_deref(),
            Service::Oracles => python.oracles.as_deref(),
            Service::Smtp => python.smtp.as_deref(),
            _ => None,
        };
        let name = service.name();
        match found.filter(|python| python.exists()) {
            Some(python) => python,
            None => panic!(
                "the Python environment of `{name}` is not installed; \
                 `cargo xtask services up {name}` installs it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bench of a file with this content.
    fn reading(content: &str) -> Result<Services, BenchError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("services.json");
        std::fs::write(&file, content).expect("written");
        Services::read(&file)
    }

    #[test]
    fn a_missing_file_is_told_with_the_command_that_makes_it() {
        let error = Services::read(Path::new("/nowhere/services.json")).err().expect("no file");
        let told = error.to_string();
        assert!(told.contains("/nowhere/services.json: No such file"), "{told}");
        assert!(told.ends_with("start it with `cargo xtask services up`"), "{told}");
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let other = reading(r#"{"schema": "mloop.services/0"}"#).err().expect("another schema");
        assert!(other.to_string().contains("its schema is mloop.services/0"), "{other}");
        let broken = reading("{").err().expect("broken");
        assert!(matches!(broken, BenchError::Malformed { .. }), "{broken}");
        let unknown = r#"{"schema": "mloop.services/1", "moto": {"url": "x", "host": "y"}}"#;
        assert!(reading(unknown).is_err(), "a field that the tests do not know");
    }

    #[test]
    #[should_panic(expected = "start it with `cargo xtask services up moto`")]
    fn a_service_that_was_not_started_is_told_with_its_command() {
        let services = reading(r#"{"schema": "mloop.services/1"}"#).expect("an empty bench");
        assert!(services.moto().url.is_empty());
    }

    #[test]
    #[should_panic(expected = "the service `smtp` does not answer: Connection refused")]
    fn a_service_that_does_not_answer_is_told_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let smtp = Smtp {
            host: "localhost".to_owned(),
            port,
            username: String::new(),
            password: String::new(),
            ca_file: PathBuf::new(),
            mailbox: PathBuf::new(),
        };
        let content = serde_json::json!({"schema": SCHEMA, "smtp": smtp}).to_string();
        assert!(reading(&content).expect("a bench").smtp().port == port);
    }

    #[test]
    #[should_panic(expected = "`cargo xtask services up kubernetes` installs it")]
    fn an_environment_that_is_not_there_is_told_with_its_command() {
        let content = r#"{"schema": "mloop.services/1", "python": {"kubernetes": "/nowhere"}}"#;
        assert!(reading(content).expect("a bench").python(Service::Kubernetes).exists());
    }
}
