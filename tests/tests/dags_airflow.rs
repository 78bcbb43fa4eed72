//! The DAGs in real Airflow, each by `airflow dags test`, with the real binaries over the small problem.
//! The Airflow of the service bench lends its programs; the database is this test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::episode::Episode;
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::{EpisodeId, JobId, ModelName, Subject, TargetName};
use mloop_services::{Service, Services};
use mloop_testkit::program;
use mloop_testkit::small::SmallWorld;
use mloop_tests::root;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What one run of a DAG left in the database: its state, its tasks' states and `XCom`s.
const LEFT: &str = "
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
run, state = db.execute('select run_id, state from dag_run where dag_id = ? order by id desc', sys.argv[2:]).fetchone()
tasks = dict(db.execute('select task_id, state from task_instance where run_id = ? and dag_id = ?', (run, sys.argv[2])))
xcoms = {}
for task, key, value in db.execute('select task_id, key, value from xcom where run_id = ? and dag_id = ?', (run, sys.argv[2])):
    xcoms.setdefault(task, {})[key] = json.loads(value)
print(json.dumps({'state': state, 'tasks': tasks, 'xcoms': xcoms}))
";

/// An Airflow home with the DAGs of this repository, over a small world.
struct Airflow {
    python: PathBuf,
    folder: TempDir,
    world: SmallWorld,
}

/// One run of a DAG.
#[derive(Debug)]
struct Run {
    state: String,
    tasks: Value,
    xcoms: Value,
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

impl Airflow {
    fn new() -> Self {
        let python = Services::running().python(Service::Airflow).to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        let airflow = Self { python, folder, world: SmallWorld::new().expect("a world") };
        let made = airflow.call(&["db", "migrate"]);
        assert!(made.status.success(), "{}", text(&made));
        airflow
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    /// `airflow` on the command line.
    fn call(&self, arguments: &[&str]) -> Output {
        let configs = self.world.folder().join("configs");
        let binaries = program::folder().expect("this program has a folder");
        let path = std::env::join_paths([&binaries, Path::new("/usr/bin"), Path::new("/bin")]);
        let mut command = Command::new(self.python.with_file_name("airflow"));
        command.args(arguments).current_dir(self.home()).env("PATH", path.expect("no colon"));
        command.env("AIRFLOW_HOME", self.home()).env("PYTHONPYCACHEPREFIX", self.home());
        command.env("AIRFLOW__CORE__DAGS_FOLDER", root().join("dags"));
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.env("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False");
        for (variable, file) in [
            ("MLOOP_MONITORING_CONFIG", "monitoring_config.yaml"),
            ("MLOOP_RETRAIN_CONFIG", "retrain_config.yaml"),
            ("MLOOP_TRAINING_CONFIG", "training_config.yaml"),
            ("MLOOP_DEPLOYMENT_CONFIG", "deployment_config.yaml"),
        ] {
            command.env(variable, configs.join(file));
        }
        command.output().expect("airflow starts")
    }

    /// Runs a DAG in this process' child, without scheduler, and looks at what it left.
    fn test(&self, dag: &str, more: &[&str], succeeds: bool) -> Run {
        let output = self.call(&[&["dags", "test", dag], more].concat());
        assert_eq!(output.status.success(), succeeds, "{dag}: {}", text(&output));
        let database = self.home().join("airflow.db");
        let left = Command::new(&self.python).args(["-c", LEFT]).arg(database).arg(dag).output();
        let left = left.expect("python runs");
        assert!(left.status.success(), "{}", text(&left));
        let left: Value = serde_json::from_slice(&left.stdout).expect("JSON");
        let state = left["state"].as_str().expect("a state").to_owned();
        Run { state, tasks: left["tasks"].clone(), xcoms: left["xcoms"].clone() }
    }
}

impl Run {
    /// The `XCom` of a task that succeeded: the binary's last line, left twice.
    fn result(&self, task: &str) -> &Value {
        assert_eq!(self.tasks[task], "success", "{self:#?}");
        let xcoms = &self.xcoms[task];
        let left = json!({"exit_code": 0, "result": xcoms["return_value"]});
        assert_eq!(xcoms["mloop_result"], left, "{self:#?}");
        &xcoms["return_value"]
    }

    /// Exit code and last line of a task that was skipped or failed.
    fn ended(&self, task: &str, state: &str) -> (i64, &Value) {
        assert_eq!(self.tasks[task], state, "{self:#?}");
        assert_eq!(self.xcoms[task].get("return_value"), None, "{self:#?}");
        let left = &self.xcoms[task]["mloop_result"];
        (left["exit_code"].as_i64().expect("a code"), &left["result"])
    }
}

/// A job with values that a shell would act on.
fn job() -> JobSpec {
    let subject = Subject {
        model: ModelName::new("fashion").expect("a name"),
        target: TargetName::new("production").expect("a name"),
    };
    let id: EpisodeId = Episode::id_of(&subject, None, 1);
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: JobId::derive(&["dags"]),
        subject,
        cause: Cause {
            episode: id,
            attempt: 1,
            reasons: vec!["$(touch pwned) `touch pwned`; 'é\" \\ {{ 7 * 7 }}".to_owned()],
            evidence: vec![],
        },
        champion: None,
        traffic: None,
        evidence_from: None,
        as_of: "2026-03-01T00:00:00Z".parse().expect("a moment"),
    }
}

fn pwned(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        path.file_name().is_some_and(|name| name == "pwned") || (path.is_dir() && pwned(&path))
    })
}

#[test]
fn the_four_dags_run_with_the_real_binaries() {
    let airflow = Airflow::new();
    let imported = airflow.call(&["dags", "list-import-errors"]);
    assert!(
        imported.status.success() && text(&imported).contains("No data found"),
        "{}",
        text(&imported)
    );

    // A first version, without a job.
    let trained = airflow.test("mloop_training", &[], true);
    assert_eq!(trained.result("train")["outcome"], "blessed");
    assert_eq!(trained.result("train")["schema"], "mloop.training/1");

    // It goes to production; after that there is nothing newer, which skips all of the DAG.
    let deployed = airflow.test("mloop_deployment", &[], true);
    assert_eq!(deployed.result("deploy")["outcome"], "staged");
    assert_eq!(deployed.result("smoke_test")["outcome"], "smoke_passed");
    assert_eq!(deployed.result("switch_to_production")["outcome"], "switched");
    let again = airflow.test("mloop_deployment", &[], true);
    assert_eq!((again.ended("deploy", "skipped").0, again.state.as_str()), (99, "success"));
    assert_eq!(again.tasks["switch_to_production"], "skipped");

    // The hour before the moment of the run, as under the scheduler.
    let monitored = airflow.test("mloop_monitoring", &["2026-03-01T13:00:00+00:00"], true);
    let window = &monitored.result("monitor")["window"];
    let moment = |key: &str| -> DateTime<Utc> {
        window[key].as_str().expect("a moment").parse().expect("a moment")
    };
    assert_eq!(moment("end") - moment("start"), TimeDelta::hours(1), "{window}");
    assert_eq!(moment("end"), "2026-03-01T13:00:00Z".parse::<DateTime<Utc>>().expect("a moment"));

    // No need of a new version is no failure.
    let decided = airflow.test("mloop_retraining", &[], true);
    let (code, decision) = decided.ended("retrain", "skipped");
    assert_eq!((code, &decision["schema"]), (99, &json!("mloop.retraining/1")));

    // A job reaches the training as it is, and a verdict that skips the task is left behind.
    let conf = json!({"spec": job(), "spec_digest": "d"}).to_string();
    let judged = airflow.test("mloop_training", &["--conf", &conf], true);
    let (code, verdict) = judged.ended("train", "skipped");
    assert!(matches!(code, 10 | 11), "{judged:#?}");
    assert_eq!(verdict["job_id"], json!(job().job_id));

    // What is no job is refused, not run, and not tried again.
    let conf = json!({"spec": "$(touch pwned)"}).to_string();
    let refused = airflow.test("mloop_training", &["--conf", &conf], false);
    let (code, line) = refused.ended("train", "failed");
    assert_eq!((code, &line["outcome"]), (20, &json!("error")), "{refused:#?}");
    for folder in [airflow.home(), airflow.world.folder(), &root().join("dags")] {
        assert!(!pwned(folder), "a value was run as shell: see {}", folder.display());
    }
}
