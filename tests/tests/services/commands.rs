//! The DAGs as shipped by `airflow dags test`, which needs no scheduler, with every role on its service. The
//! Airflow of the bench lends its programs; the database is this test's own.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mloop_s3::testing::KEYS;
use mloop_services::{Service, Services, run_within};
use mloop_testkit::program;
use mloop_tests::root;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::configured::Jobs;
use crate::dags::DAGS;
use crate::world::{World, this_hour};

/// What one run of a DAG left in the database: its tasks' states and `XCom`s.
const LEFT: &str = "
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
run, = db.execute('select run_id from dag_run where dag_id = ? order by id desc', sys.argv[2:]).fetchone()
tasks = dict(db.execute('select task_id, state from task_instance where run_id = ? and dag_id = ?', (run, sys.argv[2])))
xcoms = {}
for task, key, value in db.execute('select task_id, key, value from xcom where run_id = ? and dag_id = ?', (run, sys.argv[2])):
    xcoms.setdefault(task, {})[key] = json.loads(value)
print(json.dumps({'tasks': tasks, 'xcoms': xcoms}))
";

/// Longest time of one command: a DAG's run takes less than a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// `airflow` on the command line, with a home of its own.
struct CommandLine<'a> {
    python: PathBuf,
    home: TempDir,
    world: &'a World,
}

/// One run of a DAG.
#[derive(Debug)]
struct Run(Value);

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

impl<'a> CommandLine<'a> {
    fn new(world: &'a World) -> Self {
        let python = Services::running().python(Service::Airflow).to_owned();
        let airflow = Self { python, home: tempfile::tempdir().expect("a folder"), world };
        airflow.call(&["db", "migrate"]);
        airflow
    }

    fn call(&self, arguments: &[&str]) {
        let home = self.home.path();
        let binaries = program::folder().expect("this program has a folder");
        let path = std::env::join_paths([&*binaries, "/usr/bin".as_ref(), "/bin".as_ref()]);
        let mut command = Command::new(self.python.with_file_name("airflow"));
        command.args(arguments).current_dir(home).env("PATH", path.expect("no colon"));
        command.env("AIRFLOW_HOME", home).env("PYTHONPYCACHEPREFIX", home);
        command.env("AIRFLOW__CORE__DAGS_FOLDER", root().join("dags"));
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.env("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False");
        command.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        for dag in DAGS {
            command.env(dag.variable(), self.world.configs().join(dag.config));
        }
        let output = run_within(&mut command, LIMIT).unwrap_or_else(|error| panic!("{error}"));
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }

    /// Runs a DAG, all of whose tasks must succeed.
    fn test(&self, dag: &str, more: &[&str]) -> Run {
        self.call(&[&["dags", "test", dag], more].concat());
        let database = self.home.path().join("airflow.db");
        let mut left = Command::new(&self.python);
        let left = run_within(left.args(["-c", LEFT]).arg(database).arg(dag), LIMIT);
        let left = left.unwrap_or_else(|error| panic!("{error}"));
        assert!(left.status.success(), "{}", text(&left));
        Run(serde_json::from_slice(&left.stdout).expect("JSON"))
    }
}

impl Run {
    /// The `XCom` of a task: the binary's last line, left twice.
    fn result(&self, task: &str) -> &Value {
        assert_eq!(self.0["tasks"][task], "success", "{self:#?}");
        let xcoms = &self.0["xcoms"][task];
        let left = json!({"exit_code": 0, "result": xcoms["return_value"]});
        assert_eq!(xcoms["mloop_result"], left, "{self:#?}");
        &xcoms["return_value"]
    }
}

#[test]
fn each_dag_passes_airflows_own_test() {
    let world = World::new(Jobs::Processes);
    let airflow = CommandLine::new(&world);
    // A first version, without a job.
    let trained = airflow.test("mloop_training", &[]);
    let line = trained.result("train");
    assert_eq!(
        (&line["schema"], &line["outcome"]),
        (&json!("mloop.training/1"), &json!("blessed"))
    );

    let deployed = airflow.test("mloop_deployment", &[]);
    for (task, outcome) in
        [("deploy", "staged"), ("smoke_test", "smoke_passed"), ("switch_to_production", "switched")]
    {
        assert_eq!(deployed.result(task)["outcome"], outcome);
    }
    assert_eq!(json!(world.answering()), line["version"]["digest"]);

    // The hour before the moment of the run, as under the scheduler.
    world.drifted_traffic();
    let end = this_hour();
    let monitored = airflow.test("mloop_monitoring", &[&end.to_rfc3339()]);
    let line = monitored.result("monitor");
    let moment = |key: &str| -> DateTime<Utc> {
        line["window"][key].as_str().expect("a moment").parse().expect("a moment")
    };
    assert_eq!((moment("end"), (end - moment("start")).num_minutes()), (end, 60), "{line}");
    assert_eq!(line["outcome"], "alert", "{line}");

    let decided = airflow.test("mloop_retraining", &[]);
    assert_eq!(decided.result("retrain")["outcome"], "submitted");
}
