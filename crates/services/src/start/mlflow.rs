//! MLflow: a tracking server with a SQLite store that serves artifacts itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Ground, entry, random, service};
use crate::engine::{Launch, Task};
use crate::entries::{Entry, Mlflow, MlflowAuth};
use crate::process::Stop;
use crate::{BenchError, place};

/// Half a minute where nothing else runs; on two loaded cores three times that.
const DEADLINE: Duration = Duration::from_secs(240);

pub(super) fn prepare(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("mlflow")?;
    let python = ground.environment("mlflow", "mlflow")?;
    let port = ground.port("mlflow");
    let command = server(&python, &folder, port);
    let mlflow = Mlflow { url: format!("http://127.0.0.1:{port}") };
    Ok(Launch {
        tasks: vec![Task { name: "mlflow", command, stop: Stop::Everybody }],
        probe: mlflow.probe(),
        deadline: DEADLINE,
        entry: entry(&mlflow)?,
    })
}

pub(super) fn prepare_auth(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("mlflow_auth")?;
    let python = ground.environment("mlflow", "mlflow")?;
    let port = ground.port("mlflow_auth");
    let mlflow = MlflowAuth {
        url: format!("http://127.0.0.1:{port}"),
        username: "admin".to_owned(),
        password: random(16)?,
    };
    let settings = folder.join("basic_auth.ini");
    place::write(
        &settings,
        &format!(
            "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{}\n\
             admin_username = {}\n\
             authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            folder.join("users.db").display(),
            mlflow.username,
        ),
    )?;
    let mut command = server(&python, &folder, port);
    command.args(["--app-name", "basic-auth"]).env("MLFLOW_AUTH_CONFIG_PATH", settings);
    command.env("MLFLOW_AUTH_ADMIN_PASSWORD", &mlflow.password);
    command.env("MLFLOW_FLASK_SERVER_SECRET_KEY", random(16)?);
    Ok(Launch {
        tasks: vec![Task { name: "mlflow_auth", command, stop: Stop::Everybody }],
        probe: mlflow.probe(),
        deadline: DEADLINE,
        entry: entry(&mlflow)?,
    })
}

fn server(python: &Path, folder: &Path, port: u16) -> Command {
    let mut command = service(python.with_file_name("mlflow"), folder);
    command.args(["server", "--host", "127.0.0.1", "--workers", "1", "--port"]);
    command.arg(port.to_string()).arg("--backend-store-uri");
    command.arg(format!("sqlite:///{}", folder.join("mlflow.db").display()));
    command.arg("--artifacts-destination").arg(folder.join("artifacts"));
    // Workers for jobs that no test starts would take as much memory as the server.
    command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false");
    command.env("MLFLOW_DISABLE_TELEMETRY", "true").env("PATH", beside(python));
    command
}

/// `PATH` with an environment's programs first: servers start their workers by name.
pub(super) fn beside(python: &Path) -> std::ffi::OsString {
    let mut folders = vec![python.parent().map(PathBuf::from).unwrap_or_default()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(folders).unwrap_or_default()
}
