//! The four DAGs in the bench's Airflow, with the binaries of this build.

use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use mloop_services::Services;
use mloop_testkit::program;
use mloop_tests::root;

use crate::airflow::Airflow;
use crate::world::KEYS;

/// The DAGs: id and file.
const DAGS: [(&str, &str); 4] = [
    ("mloop_monitoring", "monitoring_dag.py"),
    ("mloop_retraining", "retraining_dag.py"),
    ("mloop_training", "training_dag.py"),
    ("mloop_deployment", "deployment_dag.py"),
];

/// What wakes retraining and deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The events of assets alone: their clocks next strike in years.
    ByEvents,
    /// The clock alone, every quarter of a minute: no task emits an event.
    ByTheClock,
}

/// The DAGs, paused until asked for. They are removed with everything that Airflow knows of them.
pub(crate) struct Dags {
    pub(crate) airflow: Airflow,
    placed: Vec<PathBuf>,
}

impl Woken {
    /// A DAG file, as shipped but for what wakes it.
    fn file(self, name: &str) -> String {
        let path = root().join("dags").join(name);
        let mut text = std::fs::read_to_string(&path).expect("a shipped file");
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "dags/{name} no longer holds `{from}`");
            text = text.replace(from, to);
        };
        let clock = match self {
            Self::ByEvents => "\"0 0 29 2 *\"",
            Self::ByTheClock => "\"* * * * * */15\"",
        };
        match name {
            "retraining_dag.py" => change("\"20 * * * *\"", clock),
            "deployment_dag.py" => change("\"*/30 * * * *\"", clock),
            "monitoring_dag.py" if self == Self::ByTheClock => change("tells=MONITORED,", ""),
            "training_dag.py" if self == Self::ByTheClock => change("tells=STAGING_READY,", ""),
            _ => {}
        }
        text
    }

    /// The type of the runs that it leads to.
    pub(crate) fn run_type(self) -> &'static str {
        match self {
            Self::ByEvents => "asset_triggered",
            Self::ByTheClock => "scheduled",
        }
    }
}

impl Dags {
    pub(crate) fn new(woken: Woken) -> Self {
        let mut dags = Self { airflow: Airflow::new(), placed: vec![] };
        let services = Services::running();
        let place = services.airflow();
        // What a run that was killed may have left.
        for (dag, file) in DAGS {
            remove(&place.dags_folder.join(file));
            dags.airflow.remove(dag);
        }
        for name in ["monitoring_main", "retraining_main", "training_main", "deployment_main"] {
            dags.put(&place.bin_folder.join(name), &wrapper(name), 0o755);
        }
        // Other tests' DAGs import it too, so it stays.
        let shared = "mloop_tasks.py";
        write(&place.dags_folder.join(shared), &woken.file(shared), 0o644);
        for (_, file) in DAGS {
            dags.put(&place.dags_folder.join(file), &woken.file(file), 0o644);
        }
        dags.airflow.wait_until_known(&DAGS.map(|(dag, _)| dag));
        dags
    }

    fn put(&mut self, path: &Path, text: &str, mode: u32) {
        write(path, text, mode);
        self.placed.push(path.to_owned());
    }
}

impl Drop for Dags {
    fn drop(&mut self) {
        let removed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.placed.iter().for_each(|path| remove(path));
            DAGS.iter().for_each(|(dag, _)| self.airflow.remove(dag));
        }));
        // A test that failed already has said more than this would.
        if let Err(problem) = removed
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(problem);
        }
    }
}

/// A binary of this build with AWS's credentials, as a worker's environment would have them.
fn wrapper(name: &str) -> String {
    let path = program::path(name).expect("built");
    format!(
        "#!/bin/sh\nexport AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}\n\
         export AWS_EC2_METADATA_DISABLED=true\nexec '{}' \"$@\"\n",
        KEYS[0],
        KEYS[1],
        path.display()
    )
}

/// Replaces a file at once: the DAG processor reads at any moment.
fn write(path: &Path, text: &str, mode: u32) {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, text).expect("written");
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(mode)).expect("set");
    std::fs::rename(&part, path).expect("renamed");
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("removing {}: {error}", path.display());
        }
        _ => {}
    }
}
