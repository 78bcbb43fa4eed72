//! Airflow, all of it in one call of `airflow standalone`.

use std::process::Command;
use std::time::Duration;

use super::mlflow::beside;
use super::{Ground, entry, random, service};
use crate::engine::{Launch, Task};
use crate::entries::{Airflow, Entry};
use crate::install::call;
use crate::process::Stop;
use crate::{BenchError, place};

/// A minute where nothing else runs.
const DEADLINE: Duration = Duration::from_secs(300);

/// The configurations of the four binaries: variable and file.
const CONFIGS: [(&str, &str); 4] = [
    ("MLOOP_MONITORING_CONFIG", "monitoring_config.yaml"),
    ("MLOOP_RETRAIN_CONFIG", "retrain_config.yaml"),
    ("MLOOP_TRAINING_CONFIG", "training_config.yaml"),
    ("MLOOP_DEPLOYMENT_CONFIG", "deployment_config.yaml"),
];

pub(super) fn prepare(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let home = ground.folder("airflow")?;
    let python = ground.environment("airflow", "airflow")?;
    let url = format!("http://127.0.0.1:{}", ground.port("airflow"));
    let password = random(16)?;
    let (dags_folder, bin_folder) = (home.join("dags"), home.join("bin"));
    let configs_folder = home.join("configs");
    for folder in [&dags_folder, &bin_folder, &configs_folder] {
        place::make(folder)?;
    }
    // Airflow makes up passwords for users that this file lacks, and takes those that it has.
    let passwords = home.join("simple_auth_manager_passwords.json.generated");
    place::write(&passwords, &serde_json::json!({"admin": password}).to_string())?;
    let mut path = bin_folder.clone().into_os_string();
    path.push(":");
    path.push(beside(&python));
    let text = |path: &std::ffi::OsStr| path.to_string_lossy().into_owned();
    // Its processes share this file. One that waits for others too long dies, and nobody starts it again:
    // so readers must not keep writers waiting, which is a property of the file, and writers wait longer.
    let file = home.join("airflow.db");
    let apart =
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')";
    call(Command::new(&python).args(["-c", apart]).arg(&file))?;
    let database = format!("sqlite:///{}?timeout=30", file.display());
    let mut environment = vec![
        ("AIRFLOW_HOME".to_owned(), text(home.as_os_str())),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN".to_owned(), database),
        ("AIRFLOW__CORE__DAGS_FOLDER".to_owned(), text(dags_folder.as_os_str())),
        ("PATH".to_owned(), text(&path)),
    ];
    for (variable, name) in CONFIGS {
        environment.push((variable.to_owned(), text(configs_folder.join(name).as_os_str())));
    }
    for (key, value) in settings(ground, &url)? {
        environment.push((format!("AIRFLOW__{key}"), value));
    }
    let mut command = service(python.with_file_name("airflow"), &home);
    command.arg("standalone").envs(environment.iter().cloned());
    let airflow = Airflow {
        url,
        username: "admin".to_owned(),
        password,
        home,
        dags_folder,
        bin_folder,
        configs_folder,
        environment,
        python,
    };
    Ok(Launch {
        tasks: vec![Task { name: "airflow", command, stop: Stop::Everybody }],
        probe: airflow.probe(),
        deadline: DEADLINE,
        entry: entry(&airflow)?,
    })
}

/// Small and quick: one API worker, four tasks at once, DAGs looked for every few seconds.
fn settings(ground: &Ground<'_>, url: &str) -> Result<Vec<(&'static str, String)>, BenchError> {
    let port = |name| ground.port(name).to_string();
    let fixed = [
        ("CORE__LOAD_EXAMPLES", "False"),
        ("CORE__PARALLELISM", "4"),
        ("API__HOST", "127.0.0.1"),
        ("API__WORKERS", "1"),
        // A request that holds the file's lock needs a second connection to end: with Airflow's 15, eight
        // requests at once waited for each other until processes died of it.
        ("DATABASE__SQL_ALCHEMY_POOL_SIZE", "60"),
        ("DAG_PROCESSOR__REFRESH_INTERVAL", "3"),
        // New and changed files are read at the next look; this is for those that stay the same.
        ("DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL", "30"),
        ("DAG_PROCESSOR__PARSING_PROCESSES", "1"),
        ("USAGE_DATA_COLLECTION__ENABLED", "False"),
    ];
    let mut settings: Vec<_> = fixed.map(|(key, value)| (key, value.to_owned())).into();
    settings.extend([
        ("API__PORT", port("airflow")),
        ("API__BASE_URL", url.to_owned()),
        ("CORE__EXECUTION_API_SERVER_URL", format!("{url}/execution/")),
        ("LOGGING__WORKER_LOG_SERVER_PORT", port("airflow-worker-logs")),
        ("LOGGING__TRIGGER_LOG_SERVER_PORT", port("airflow-trigger-logs")),
        ("API__SECRET_KEY", random(16)?),
        ("API_AUTH__JWT_SECRET", random(32)?),
    ]);
    Ok(settings)
}
