//! The Airflow of the service bench, by its REST API.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mloop_http::{BaseUrl, Client, Method, Policy, Request, Response};
use mloop_services::Services;
use serde::Deserialize;
use serde_json::{Value, json};

/// Bound of every wait: a run of a DAG takes seconds, and a schedule of a minute comes in a minute.
const PATIENCE: Duration = Duration::from_secs(240);
/// Pause between two looks. Airflow on SQLite answers some of many calls with 500.
const EVERY: Duration = Duration::from_millis(500);
/// Lines of a log that a failure shows.
const TAIL: usize = 40;

/// A client with an administrator's token, for the DAGs of one loop: callers name them as shipped.
pub(crate) struct Airflow {
    /// Ends the ids of the loop's DAGs.
    suffix: String,
    runtime: tokio::runtime::Runtime,
    client: Client,
    base: BaseUrl,
    token: String,
    home: PathBuf,
}

/// A run of a DAG.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Run {
    pub(crate) dag_id: String,
    pub(crate) dag_run_id: String,
    pub(crate) state: String,
    pub(crate) run_type: String,
    /// What the tasks of our DAGs take for now.
    pub(crate) run_after: DateTime<Utc>,
    pub(crate) data_interval_start: Option<DateTime<Utc>>,
    pub(crate) data_interval_end: Option<DateTime<Utc>>,
}

/// How a task of mloop ended: the `XCom` that it leaves in any case.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Left {
    pub(crate) exit_code: i64,
    pub(crate) result: Value,
}

impl Airflow {
    pub(crate) fn new(suffix: &str) -> Self {
        let services = Services::running();
        let airflow = services.airflow();
        let client = Client::new(Policy::default()).expect("a client");
        let mut known = Self {
            suffix: suffix.to_owned(),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            client,
            base: airflow.url.parse().expect("an address"),
            token: String::new(),
            home: airflow.home.clone(),
        };
        let login = json!({"username": airflow.username, "password": airflow.password});
        let request = Request::new(Method::Post, &known.base, &["auth", "token"]).json(&login);
        let answer: Value = known.send(&request).json().expect("JSON");
        known.token = answer["access_token"].as_str().expect("a token").to_owned();
        known
    }

    /// Sends until there is an answer that is no failure of the server's.
    fn send(&self, request: &Request) -> Response {
        let began = Instant::now();
        loop {
            let answer = self.runtime.block_on(self.client.send(request));
            match answer {
                Ok(answer) if answer.status < 500 => return answer,
                other => assert!(began.elapsed() < PATIENCE, "Airflow does not answer: {other:?}"),
            }
            std::thread::sleep(EVERY);
        }
    }

    fn request(&self, method: Method, path: &[&str]) -> Request {
        let path = [&["api", "v2"], path].concat();
        Request::new(method, &self.base, &path)
            .header("authorization", &format!("Bearer {}", self.token))
    }

    /// The id of the loop's DAG that is shipped under this id.
    pub(crate) fn id(&self, dag: &str) -> String {
        format!("{dag}{}", self.suffix)
    }

    /// The name of its file.
    pub(crate) fn file(&self, dag: &str) -> String {
        format!("{}_dag.py", self.id(dag))
    }

    fn get(&self, path: &[&str]) -> Response {
        self.send(&self.request(Method::Get, path))
    }

    /// Waits until the DAG processor has read the DAGs.
    pub(crate) fn wait_until_known(&self, dags: &[&str]) {
        let began = Instant::now();
        while !dags.iter().all(|dag| self.get(&["dags", &self.id(dag)]).status == 200) {
            let errors = self.get(&["importErrors"]);
            let found: Value = errors.json().unwrap_or_default();
            let files = found["import_errors"].as_array().into_iter().flatten();
            let mut files = files.filter_map(|error| error["filename"].as_str());
            let ours = |file: &str| dags.iter().any(|dag| file.ends_with(&self.file(dag)));
            assert!(!files.any(ours), "a DAG cannot be imported: {}", errors.excerpt(4000));
            assert!(began.elapsed() < PATIENCE, "Airflow does not see all of {dags:?}");
            std::thread::sleep(EVERY);
        }
    }

    fn set_paused(&self, dag: &str, paused: bool) -> Response {
        let request = self.request(Method::Patch, &["dags", &self.id(dag)]);
        let request = request.query("update_mask", "is_paused");
        self.send(&request.json(&json!({"is_paused": paused})))
    }

    pub(crate) fn unpause(&self, dag: &str) {
        let answer = self.set_paused(dag, false);
        assert_eq!(answer.status, 200, "{dag}: {}", answer.excerpt(500));
    }

    /// Starts a run by hand.
    pub(crate) fn trigger(&self, dag: &str, run: &str, conf: &Value) {
        let request = self.request(Method::Post, &["dags", &self.id(dag), "dagRuns"]);
        let body = json!({"dag_run_id": run, "logical_date": null, "conf": conf});
        let answer = self.send(&request.json(&body));
        assert_eq!(answer.status, 200, "{dag}: {}", answer.excerpt(500));
    }

    /// The runs of a DAG, oldest first.
    pub(crate) fn runs(&self, dag: &str) -> Vec<Run> {
        #[derive(Deserialize)]
        struct Page {
            dag_runs: Vec<Run>,
        }
        let request = self.request(Method::Get, &["dags", &self.id(dag), "dagRuns"]);
        let answer = self.send(&request.query("limit", "100").query("order_by", "id"));
        if answer.status == 404 {
            return vec![];
        }
        let page: Page = answer.json().unwrap_or_else(|error| {
            panic!("the runs of {dag}: {error}: {}", answer.excerpt(500));
        });
        page.dag_runs
    }

    /// What a task of a run left; none while it has not ended.
    pub(crate) fn left(&self, run: &Run, task: &str) -> Option<Left> {
        let Run { dag_id, dag_run_id, .. } = run;
        let place = ["dags", dag_id, "dagRuns", dag_run_id, "taskInstances", task];
        let answer = self.get(&[&place[..], &["xcomEntries", "mloop_result"]].concat());
        if answer.status == 404 {
            return None;
        }
        let entry: Value = answer.json().expect("JSON");
        Some(serde_json::from_value(entry["value"].clone()).expect("exit code and last line"))
    }

    /// State and number of tries of a task.
    pub(crate) fn tried(&self, run: &Run, task: &str) -> (String, u64) {
        let Run { dag_id, dag_run_id, .. } = run;
        let answer = self.get(&["dags", dag_id, "dagRuns", dag_run_id, "taskInstances", task]);
        let found: Value = answer.json().expect("JSON");
        let state = found["state"].as_str().unwrap_or_default().to_owned();
        (state, found["try_number"].as_u64().unwrap_or_default())
    }

    /// Waits for a run of a DAG that succeeded, and whose task left what is looked for. A run that
    /// failed ends the test at once.
    pub(crate) fn wait_for(
        &self,
        dag: &str,
        task: &str,
        what: &str,
        wanted: impl Fn(&Run, &Left) -> bool,
    ) -> (Run, Left) {
        let began = Instant::now();
        loop {
            let runs = self.runs(dag);
            for run in &runs {
                assert_ne!(run.state, "failed", "{what}: a run failed\n{}", self.report(run));
                let left = (run.state == "success").then(|| self.left(run, task)).flatten();
                if let Some(left) = left.filter(|left| wanted(run, left)) {
                    return (run.clone(), left);
                }
            }
            if began.elapsed() > PATIENCE {
                let told: Vec<String> = runs.iter().map(|run| self.report(run)).collect();
                panic!("{what}: not within {PATIENCE:?}; runs of {dag}:\n{}", told.join("\n"));
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Waits until a run that was started by hand is as it is wanted.
    pub(crate) fn wait_for_run(
        &self,
        dag: &str,
        id: &str,
        else_what: &str,
        wanted: impl Fn(&Run) -> bool,
    ) -> Run {
        let began = Instant::now();
        loop {
            let found = self.runs(dag).into_iter().find(|run| run.dag_run_id == id);
            let run = found.unwrap_or_else(|| panic!("{dag} has no run {id}"));
            if wanted(&run) {
                return run;
            }
            assert!(began.elapsed() < PATIENCE, "{else_what}\n{}", self.report(&run));
            std::thread::sleep(EVERY);
        }
    }

    /// Waits for the end of a run.
    pub(crate) fn wait_for_end(&self, dag: &str, id: &str) -> Run {
        let ended = |run: &Run| !["queued", "running"].contains(&run.state.as_str());
        self.wait_for_run(dag, id, "it does not end", ended)
    }

    /// The exit codes of a task's tries that have ended, of their logs: each try takes away what the one
    /// before it left.
    pub(crate) fn exit_codes(&self, run: &Run, task: &str) -> Vec<i64> {
        let code = |line: String| {
            event(&line).strip_prefix("Command exited with return code ")?.trim().parse().ok()
        };
        let text = |attempt| std::fs::read_to_string(self.log(run, task, attempt)).ok();
        let logs = (1..).map_while(text);
        logs.filter_map(|log| log.lines().find_map(|line| code(line.to_owned()))).collect()
    }

    fn log(&self, run: &Run, task: &str, attempt: u64) -> PathBuf {
        let logs = self.home.join("logs").join(format!("dag_id={}", run.dag_id));
        let logs = logs.join(format!("run_id={}/task_id={task}", run.dag_run_id));
        logs.join(format!("attempt={attempt}.log"))
    }

    /// A run for people: its tasks' states, and the ends of their logs.
    pub(crate) fn report(&self, run: &Run) -> String {
        let Run { dag_id, dag_run_id, state, run_type, .. } = run;
        let mut text = format!("{dag_id} / {dag_run_id} ({run_type}): {state}\n");
        let answer = self.get(&["dags", dag_id, "dagRuns", dag_run_id, "taskInstances"]);
        let tasks: Value = answer.json().unwrap_or_default();
        for task in tasks["task_instances"].as_array().into_iter().flatten() {
            let id = task["task_id"].as_str().unwrap_or_default();
            let attempt = task["try_number"].as_u64().unwrap_or_default();
            let lines = std::fs::read_to_string(self.log(run, id, attempt)).unwrap_or_default();
            let lines: Vec<String> = lines.lines().map(event).collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n    ");
            writeln!(text, "  {id}, try {attempt}: {}\n    {tail}", task["state"]).expect("text");
        }
        text
    }

    /// Ends what runs of a DAG, and removes it with all that Airflow knows of it, if anything. Its
    /// file must be gone, or it would come back.
    pub(crate) fn remove(&self, dag: &str) {
        let began = Instant::now();
        self.set_paused(dag, true);
        for run in self.runs(dag) {
            if ["queued", "running"].contains(&run.state.as_str()) {
                let place = ["dags", &run.dag_id, "dagRuns", &run.dag_run_id];
                let request = self.request(Method::Patch, &place);
                self.send(&request.json(&json!({"state": "failed"})));
            }
        }
        loop {
            // 409 while a task ends.
            let answer = self.send(&self.request(Method::Delete, &["dags", &self.id(dag)]));
            if answer.status != 409 || began.elapsed() > PATIENCE {
                assert!(matches!(answer.status, 204 | 404), "{dag}: {}", answer.excerpt(500));
                return;
            }
            std::thread::sleep(EVERY);
        }
    }
}

/// What happened, of a line of a task's log.
fn event(line: &str) -> String {
    let entry: Value = serde_json::from_str(line).unwrap_or_default();
    entry["event"].as_str().unwrap_or(line).to_owned()
}
