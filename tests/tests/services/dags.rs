//! The DAGs in the bench's Airflow, with the binaries of this build.

use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Once;

use mloop_s3::testing::KEYS;
use mloop_services::Services;
use mloop_testkit::program;
use mloop_tests::root;

use crate::airflow::Airflow;
use crate::configured::Jobs;

/// A DAG as shipped, and the file of its configuration.
#[derive(Clone, Copy)]
pub(crate) struct Dag {
    id: &'static str,
    pub(crate) config: &'static str,
}

pub(crate) const DAGS: [Dag; 4] = [
    Dag { id: "mloop_monitoring", config: "monitoring_config.yaml" },
    Dag { id: "mloop_retraining", config: "retrain_config.yaml" },
    Dag { id: "mloop_training", config: "training_config.yaml" },
    Dag { id: "mloop_deployment", config: "deployment_config.yaml" },
];

/// What wakes retraining and deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The events of assets alone: their clocks next strike in years.
    ByEvents,
    /// The clock alone, every five seconds: no task emits an event.
    ByTheClock,
}

/// The DAGs of one loop, paused until asked for. They are removed with everything that Airflow knows of
/// them.
pub(crate) struct Dags {
    pub(crate) airflow: Airflow,
    dags: Vec<Dag>,
    placed: Vec<PathBuf>,
}

impl Woken {
    /// The type of the runs that it leads to.
    pub(crate) fn run_type(self) -> &'static str {
        match self {
            Self::ByEvents => "asset_triggered",
            Self::ByTheClock => "scheduled",
        }
    }

    /// What the ids of a loop's DAGs end with.
    pub(crate) fn suffix(self, name: &str) -> String {
        match self {
            Self::ByEvents => String::new(),
            Self::ByTheClock => format!("_{name}"),
        }
    }
}

/// A shipped file with changes, each of which must find its text.
struct Shipped {
    name: String,
    text: String,
}

impl Shipped {
    fn new(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join("dags").join(name));
        Self { name: name.to_owned(), text: text.expect("a shipped file") }
    }

    fn with(self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "dags/{} no longer holds `{from}`", self.name);
        Self { text: self.text.replace(from, to), ..self }
    }
}

impl Dag {
    /// The variable that names its configuration.
    pub(crate) fn variable(self) -> String {
        format!("MLOOP_{}", self.config.trim_end_matches(".yaml").to_uppercase())
    }

    fn shipped(self) -> Shipped {
        Shipped::new(&format!("{}_dag.py", self.id.trim_start_matches("mloop_")))
    }

    /// As shipped, but its clock next strikes in years.
    fn by_events(self) -> String {
        match self.clock() {
            Some(clock) => self.shipped().with(clock, "\"0 0 29 2 *\"").text,
            None => self.shipped().text,
        }
    }

    /// As shipped, but on its own among several loops: with an id, a configuration and an asset that are
    /// nobody else's. Its clock strikes every five seconds, and no task tells of its asset.
    fn by_the_clock(self, id: &str, configs: &Path) -> String {
        let config = configs.join(self.config);
        let shipped = self
            .shipped()
            .with(&format!("dag_id=\"{}\"", self.id), &format!("dag_id=\"{id}\""))
            .with(&format!("\"${}\"", self.variable()), &format!("\"{}\"", config.display()));
        let Some(clock) = self.clock() else {
            let told = if self.id == "mloop_training" { "STAGING_READY" } else { "MONITORED" };
            return shipped.with(&format!("tells={told},"), "").text;
        };
        let asset = if self.id == "mloop_retraining" { "MONITORED" } else { "STAGING_READY" };
        let own = format!(
            "from airflow.sdk import Asset\nfrom mloop_tasks import binary\n{asset} = Asset(\"{id}\")"
        );
        let import = format!("from mloop_tasks import {asset}, binary");
        shipped.with(clock, "\"* * * * * */5\"").with(&import, &own).text
    }

    /// The schedule beside the asset, where there is one.
    fn clock(self) -> Option<&'static str> {
        match self.id {
            "mloop_retraining" => Some("\"20 * * * *\""),
            "mloop_deployment" => Some("\"*/30 * * * *\""),
            _ => None,
        }
    }
}

impl Dags {
    /// Puts the DAGs of a loop in place; Airflow finds them within seconds.
    pub(crate) fn new(jobs: Jobs, configs: &Path) -> Self {
        let woken = jobs.woken();
        let airflow = Airflow::new(&woken.suffix(jobs.name()));
        let needed = DAGS.into_iter().filter(|dag| jobs.are_runs() || dag.id != "mloop_training");
        let mut dags = Self { airflow, dags: needed.collect(), placed: vec![] };
        place_what_all_share();
        let folder = Services::running().airflow().dags_folder.clone();
        for dag in &dags.dags {
            let path = folder.join(dags.airflow.file(dag.id));
            // What a run that was killed may have left.
            remove(&path);
            dags.airflow.remove(dag.id);
            let text = match woken {
                Woken::ByEvents => dag.by_events(),
                Woken::ByTheClock => dag.by_the_clock(&dags.airflow.id(dag.id), configs),
            };
            write(&path, &text, 0o644);
            dags.placed.push(path);
        }
        dags
    }

    /// Waits until Airflow has found all.
    pub(crate) fn wait_until_known(&self) {
        let ids: Vec<&str> = self.dags.iter().map(|dag| dag.id).collect();
        self.airflow.wait_until_known(&ids);
    }

    /// Unpauses all but monitoring.
    pub(crate) fn unpause_those_that_follow(&self) {
        let others = self.dags.iter().filter(|dag| dag.id != "mloop_monitoring");
        others.for_each(|dag| self.airflow.unpause(dag.id));
    }
}

/// The binaries and what all DAGs import. They stay: other loops, and other tests' DAGs, need them.
fn place_what_all_share() {
    static PLACED: Once = Once::new();
    PLACED.call_once(|| {
        let services = Services::running();
        let place = services.airflow();
        for name in ["monitoring_main", "retraining_main", "training_main", "deployment_main"] {
            write(&place.bin_folder.join(name), &wrapper(name), 0o755);
        }
        let shared = Shipped::new("mloop_tasks.py");
        // A task that is to be tried again waits for the scheduler, and hardly longer.
        let shared =
            shared.with("retry_delay=timedelta(minutes=2)", "retry_delay=timedelta(seconds=1)");
        write(&place.dags_folder.join(&shared.name), &shared.text, 0o644);
    });
}

impl Drop for Dags {
    fn drop(&mut self) {
        let removed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            self.placed.iter().for_each(|path| remove(path));
            self.dags.iter().for_each(|dag| self.airflow.remove(dag.id));
        }));
        // A test that failed already has said more than this would.
        if let Err(problem) = removed
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(problem);
        }
    }
}

/// A binary of this build with AWS's credentials, as a worker's environment would have them, and with what
/// a file beside it adds, if there is one.
fn wrapper(name: &str) -> String {
    let path = program::path(name).expect("built");
    format!(
        "#!/bin/sh\nexport AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}\n\
         export AWS_EC2_METADATA_DISABLED=true\n[ ! -r \"$0.env\" ] || . \"$0.env\"\n\
         exec '{}' \"$@\"\n",
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
