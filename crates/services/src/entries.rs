//! What the file of the bench says about each service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::health::Probe;
use crate::service::Service;

/// An entry of the file, and how its service is asked for its health.
pub(crate) trait Entry {
    const SERVICE: Service;

    fn probe(&self) -> Probe;
}

/// The port of a URL on loopback; 0, which never answers, for anything else.
fn port(url: &str) -> u16 {
    let authority = url.split("://").nth(1).unwrap_or_default().split('/').next();
    let port = authority.and_then(|authority| authority.rsplit_once(':')?.1.parse().ok());
    port.unwrap_or_default()
}

/// An MLflow tracking server: SQLite store, artifacts proxied by the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlflow {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
}

/// An MLflow tracking server that asks for basic authentication; others may read.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlflowAuth {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
    /// An administrator.
    pub username: String,
    /// The administrator's password, made for this start.
    pub password: String,
}

/// Airflow with its own home, a SQLite database and the local executor.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Airflow {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
    /// An administrator.
    pub username: String,
    /// The administrator's password, made for this start.
    pub password: String,
    /// `AIRFLOW_HOME`.
    pub home: PathBuf,
    /// Looked through every few seconds for DAGs.
    pub dags_folder: PathBuf,
    /// First in the `PATH` of tasks: the place for mloop's binaries.
    pub bin_folder: PathBuf,
    /// Where `MLOOP_MONITORING_CONFIG` and its like, set for all tasks, look for their files, named
    /// as those in `configs/`.
    pub configs_folder: PathBuf,
    /// The environment that `airflow` on the command line needs to speak to this installation, as
    /// pairs of name and value.
    pub environment: Vec<(String, String)>,
    /// The interpreter of its environment; `airflow` stands beside it.
    pub python: PathBuf,
}

/// AWS as moto plays it: any credentials are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moto {
    /// The endpoint of every AWS service: `http://127.0.0.1:PORT`.
    pub url: String,
}

/// Prometheus: scrapes itself and the Pushgateway every second and takes remote writes, of up to three
/// hours ago too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
}

/// The Pushgateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pushgateway {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
}

/// The Alertmanager; its one receiver is a webhook that keeps what it gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub url: String,
    /// What the webhook got: one JSON object a line.
    pub received: PathBuf,
}

/// An SMTP server: STARTTLS before AUTH, AUTH before MAIL. Recipients `reject@`, `later@`, `slow@`,
/// `cut@` and `lost@` make it fail as docs/services.md says.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `localhost`, for which its certificate is made.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who may send.
    pub username: String,
    /// Made for this start.
    pub password: String,
    /// The authority that signed its certificate, in PEM.
    pub ca_file: PathBuf,
    /// One `.eml` file for each mail, in the order of their names, each complete as soon as it is
    /// there. The headers `X-Envelope-From` and `X-Envelope-To` in front are the server's.
    pub mailbox: PathBuf,
}

/// A PostgreSQL server with nothing in it; each test makes its own database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// `postgresql://USER:PASSWORD@127.0.0.1:PORT/postgres`, of the superuser.
    pub url: String,
    /// The superuser's name.
    pub admin: String,
    /// Made for this start.
    pub password: String,
    /// The port.
    pub port: u16,
    /// The folder of `psql` and the server's other programs.
    pub programs: PathBuf,
}

/// Interpreters of the environments that are installed, for `python -c` with the official clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// Airflow.
    pub airflow: Option<PathBuf>,
    /// MLflow's client.
    pub mlflow: Option<PathBuf>,
    /// boto3, botocore's service descriptions among it, and moto.
    pub boto3: Option<PathBuf>,
    /// `kubernetes_validate`.
    pub kubernetes: Option<PathBuf>,
    /// `scipy`, `statsmodels`, `sklearn` and `fairlearn`, and packages that ship real data.
    pub oracles: Option<PathBuf>,
    /// aiosmtpd.
    pub smtp: Option<PathBuf>,
}

impl Entry for Mlflow {
    const SERVICE: Service = Service::Mlflow;

    fn probe(&self) -> Probe {
        Probe::page(port(&self.url), "/health")
    }
}

impl Entry for MlflowAuth {
    const SERVICE: Service = Service::MlflowAuth;

    fn probe(&self) -> Probe {
        Probe::page(port(&self.url), "/health")
    }
}

impl Entry for Airflow {
    const SERVICE: Service = Service::Airflow;

    fn probe(&self) -> Probe {
        // Database, scheduler, triggerer and DAG processor.
        Probe::Http {
            port: port(&self.url),
            path: "/api/v2/monitor/health".to_owned(),
            text: "\"status\":\"healthy\"",
            times: 4,
        }
    }
}

impl Entry for Moto {
    const SERVICE: Service = Service::Moto;

    fn probe(&self) -> Probe {
        Probe::page(port(&self.url), "/moto-api/")
    }
}

impl Entry for Prometheus {
    const SERVICE: Service = Service::Prometheus;

    fn probe(&self) -> Probe {
        // Healthy once the Pushgateway was scraped: the first time comes seconds after the start.
        Probe::Http {
            port: port(&self.url),
            path: "/api/v1/query?query=up%7Bjob%3D%22pushgateway%22%7D%3D%3D1".to_owned(),
            text: "\"job\":\"pushgateway\"",
            times: 1,
        }
    }
}

impl Entry for Pushgateway {
    const SERVICE: Service = Service::Pushgateway;

    fn probe(&self) -> Probe {
        Probe::page(port(&self.url), "/-/ready")
    }
}

impl Entry for Alertmanager {
    const SERVICE: Service = Service::Alertmanager;

    fn probe(&self) -> Probe {
        Probe::page(port(&self.url), "/-/ready")
    }
}

impl Entry for Smtp {
    const SERVICE: Service = Service::Smtp;

    fn probe(&self) -> Probe {
        Probe::Smtp { port: self.port }
    }
}

impl Entry for Postgres {
    const SERVICE: Service = Service::Postgres;

    fn probe(&self) -> Probe {
        Probe::Postgres { port: self.port, username: self.admin.clone() }
    }
}
