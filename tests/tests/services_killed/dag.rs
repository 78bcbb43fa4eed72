//! A DAG in the bench's Airflow whose task waits for ever.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mloop_http::{BaseUrl, Client, Method, Policy, Request, Response};
use mloop_services::Services;
use serde_json::{Value, json};

/// Bound of every wait: Airflow looks for new files every few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const EVERY: Duration = Duration::from_millis(300);

/// A DAG of its own, removed with all that Airflow knows of it.
pub(crate) struct Waiting {
    pub(crate) id: String,
    file: PathBuf,
}

impl Waiting {
    /// A DAG of this name, which Airflow comes to know by and by.
    pub(crate) fn new(name: &str) -> Self {
        let id = name.replace('-', "_");
        let file = Services::running().airflow().dags_folder.join(format!("{id}.py"));
        let text = format!(
            "from airflow.providers.standard.operators.bash import BashOperator\n\
             from airflow.sdk import DAG\n\n\
             with DAG(\"{id}\", schedule=None, is_paused_upon_creation=False):\n    \
                 # No pool has this name, so that nothing ever runs.\n    \
                 BashOperator(task_id=\"train\", bash_command=\"true\", pool=\"{id}\")\n"
        );
        let part = file.with_extension("part");
        std::fs::write(&part, text).expect("written");
        std::fs::rename(&part, &file).expect("renamed");
        Self { id, file }
    }

    /// Waits until Airflow knows it.
    pub(crate) fn wait_until_known(&self) {
        self.until("Airflow knows the DAG", |caller| {
            caller.call(Method::Get, &[], None).status == 200
        });
    }

    /// The names of its runs.
    pub(crate) fn runs(&self) -> Vec<String> {
        Caller::new(&self.id).runs()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Caller) -> bool) {
        let (caller, began) = (Caller::new(&self.id), Instant::now());
        while !is_so(&caller) {
            assert!(began.elapsed() < PATIENCE, "in vain: {what}: {}", self.id);
            std::thread::sleep(EVERY);
        }
    }

    fn remove(&self) {
        // Or it would come back.
        drop(std::fs::remove_file(&self.file));
        let caller = Caller::new(&self.id);
        if caller.call(Method::Get, &[], None).status == 404 {
            return;
        }
        for run in caller.runs() {
            caller.call(Method::Patch, &["dagRuns", &run], Some(json!({"state": "failed"})));
        }
        // 409 while a task ends.
        self.until("the DAG is removed", |caller| {
            matches!(caller.call(Method::Delete, &[], None).status, 204 | 404)
        });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let removed = std::panic::catch_unwind(|| self.remove());
        // A test that failed already has said more than this would.
        if let Err(problem) = removed
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(problem);
        }
    }
}

/// A client with an administrator's token, for one DAG.
struct Caller {
    runtime: tokio::runtime::Runtime,
    client: Client,
    base: BaseUrl,
    token: String,
    dag: String,
}

impl Caller {
    fn new(dag: &str) -> Self {
        let services = Services::running();
        let airflow = services.airflow();
        let mut caller = Self {
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            client: Client::new(Policy::default()).expect("a client"),
            base: airflow.url.parse().expect("an address"),
            token: String::new(),
            dag: dag.to_owned(),
        };
        let login = json!({"username": airflow.username, "password": airflow.password});
        let request = Request::new(Method::Post, &caller.base, &["auth", "token"]).json(&login);
        let answer: Value = caller.send(&request).json().expect("JSON");
        caller.token = answer["access_token"].as_str().expect("a token").to_owned();
        caller
    }

    fn call(&self, method: Method, below: &[&str], body: Option<Value>) -> Response {
        let path = [&["api", "v2", "dags", &self.dag], below].concat();
        let request = Request::new(method, &self.base, &path);
        let request = request.header("authorization", &format!("Bearer {}", self.token));
        self.send(&match body {
            Some(body) => request.json(&body),
            None => request,
        })
    }

    /// Sends until there is an answer that is no failure of the server's: Airflow on SQLite answers
    /// some of many calls with 500.
    fn send(&self, request: &Request) -> Response {
        let began = Instant::now();
        loop {
            match self.runtime.block_on(self.client.send(request)) {
                Ok(answer) if answer.status < 500 => return answer,
                other => assert!(began.elapsed() < PATIENCE, "Airflow does not answer: {other:?}"),
            }
            std::thread::sleep(EVERY);
        }
    }

    fn runs(&self) -> Vec<String> {
        let answer = self.call(Method::Get, &["dagRuns"], None);
        let page: Value = answer.json().expect("JSON");
        let runs = page["dag_runs"].as_array().expect("runs").iter();
        runs.map(|run| run["dag_run_id"].as_str().expect("a name").to_owned()).collect()
    }
}
