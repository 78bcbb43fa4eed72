//! The calls of Airflow's REST API that a submitter needs.

use mloop_core::{JobId, Secret};
use mloop_http::{BaseUrl, Client, Method, Request, Response, Service};
use mloop_platform::PlatformError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::runs::{self, DagRun};

/// Runs that are asked for at once: Airflow's own largest page.
const PAGE: usize = 100;

/// Characters of an answer that a message repeats.
const EXCERPT: usize = 300;

/// How a caller gets a token.
pub(crate) enum Login {
    /// By name and password, from Airflow.
    Password { username: String, password: Secret },
    /// It has one.
    Token(Secret),
}

/// The training DAG of an Airflow.
pub(crate) struct Airflow {
    /// For people; without a slash at its end.
    address: String,
    service: Service,
    login: Login,
    /// The token of the last login; it is good for a day.
    token: Mutex<Option<Secret>>,
    dag: String,
}

/// What the DAG is like.
#[derive(Debug, Deserialize)]
struct Dag {
    is_paused: bool,
    /// Whether the file of the DAG no longer has it.
    #[serde(default)]
    is_stale: bool,
}

/// A page of runs.
#[derive(Debug, Deserialize)]
struct Page {
    dag_runs: Vec<DagRun>,
    total_entries: usize,
}

/// What Airflow says of a refusal.
fn said(answer: &Response) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        detail: Value,
    }
    match answer.json() {
        Ok(Refusal { detail: Value::String(text) }) => text.chars().take(EXCERPT).collect(),
        Ok(Refusal { detail }) => detail.to_string().chars().take(EXCERPT).collect(),
        Err(_) => answer.excerpt(EXCERPT),
    }
}

impl Airflow {
    pub(crate) fn new(base: BaseUrl, client: Client, login: Login, dag: String) -> Self {
        let address = base.to_string().trim_end_matches('/').to_owned();
        let service = Service::new("Airflow", base, client).saying(said);
        Self { address, service, login, token: Mutex::new(None), dag }
    }

    /// Where people see a run.
    pub(crate) fn page(&self, run: &str) -> String {
        format!("{}/dags/{}/runs/{run}", self.address, self.dag)
    }

    /// That the DAG is there and takes new runs up.
    pub(crate) async fn check_dag(&self, doing: &str) -> Result<(), PlatformError> {
        let dag: Dag = self.found(doing, self.get(&[])).await?;
        if dag.is_stale {
            return Err(self.no_dag(doing, "its file no longer has it"));
        }
        if dag.is_paused {
            let problem = format!(
                "the DAG `{0}` of {1} is paused, so that a run of it would wait for ever; unpause it \
                 (`airflow dags unpause {0}`), and the next call submits the job",
                self.dag,
                self.service.place()
            );
            return Err(PlatformError::conflict(doing, problem));
        }
        Ok(())
    }

    /// All runs of a job, the newest last.
    pub(crate) async fn runs(
        &self,
        doing: &str,
        job: &JobId,
    ) -> Result<Vec<(u32, DagRun)>, PlatformError> {
        let request = self
            .get(&["dagRuns"])
            .query("run_id_pattern", &format!("{job}%"))
            .query("limit", &PAGE.to_string());
        let page: Page = self.found(doing, request).await?;
        if page.total_entries > page.dag_runs.len() {
            let problem = format!(
                "{} tells of {} runs for the one job {job}; is it a release before 3.1, which cannot \
                 look for the names of runs?",
                self.service.place(),
                page.total_entries
            );
            return Err(PlatformError::conflict(doing, problem));
        }
        Ok(runs::of_job(job, page.dag_runs))
    }

    /// A run; none when there is none of this name.
    pub(crate) async fn run(&self, doing: &str, id: &str) -> Result<Option<DagRun>, PlatformError> {
        self.maybe(doing, self.get(&["dagRuns", id])).await
    }

    /// Starts a run; false when there is one of this name already. May be repeated: the name is taken
    /// once.
    pub(crate) async fn start(
        &self,
        doing: &str,
        id: &str,
        conf: &Value,
    ) -> Result<bool, PlatformError> {
        // The date is no key of ours: two runs without one never collide.
        let body = json!({"dag_run_id": id, "logical_date": null, "conf": conf});
        let request = self.request(Method::Post, &["dagRuns"]).json(&body).repeatable();
        let answer = self.call(doing, &request).await?;
        match answer.status {
            200..300 => Ok(true),
            409 => Ok(false),
            404 => Err(self.no_dag(doing, &said(&answer))),
            _ => Err(self.service.refused(doing, &answer)),
        }
    }

    /// Marks a run as failed, upon which Airflow asks its tasks to stop. One that is gone is fine.
    pub(crate) async fn stop(&self, doing: &str, id: &str) -> Result<(), PlatformError> {
        let request =
            self.request(Method::Patch, &["dagRuns", id]).json(&json!({"state": "failed"}));
        let answer = self.call(doing, &request).await?;
        match answer.status {
            200..300 | 404 => Ok(()),
            _ => Err(self.service.refused(doing, &answer)),
        }
    }

    /// An `XCom` of a task; none when the task left none under this key.
    pub(crate) async fn xcom(
        &self,
        doing: &str,
        run: &str,
        task: &str,
        key: &str,
    ) -> Result<Option<Value>, PlatformError> {
        #[derive(Deserialize)]
        struct Entry {
            value: Value,
        }
        let path = ["dagRuns", run, "taskInstances", task, "xcomEntries", key];
        let entry: Option<Entry> = self.maybe(doing, self.get(&path)).await?;
        Ok(entry.map(|entry| entry.value))
    }

    /// How a task of a run stands, in Airflow's words; none when the run has no such task.
    pub(crate) async fn task_state(
        &self,
        doing: &str,
        run: &str,
        task: &str,
    ) -> Result<Option<String>, PlatformError> {
        #[derive(Deserialize)]
        struct Instance {
            state: Option<String>,
        }
        let request = self.get(&["dagRuns", run, "taskInstances", task]);
        let instance: Option<Instance> = self.maybe(doing, request).await?;
        Ok(instance.map(|instance| instance.state.unwrap_or_else(|| "not started".to_owned())))
    }

    fn request(&self, method: Method, below_dag: &[&str]) -> Request {
        let path = [&["api", "v2", "dags", &self.dag], below_dag].concat();
        self.service.request(method, &path)
    }

    fn get(&self, below_dag: &[&str]) -> Request {
        self.request(Method::Get, below_dag)
    }

    /// The answer to a question about the DAG.
    async fn found<T: DeserializeOwned>(
        &self,
        doing: &str,
        request: Request,
    ) -> Result<T, PlatformError> {
        let found = self.maybe(doing, request).await?;
        found.ok_or_else(|| self.no_dag(doing, "404"))
    }

    /// The answer to a question; none for 404.
    async fn maybe<T: DeserializeOwned>(
        &self,
        doing: &str,
        request: Request,
    ) -> Result<Option<T>, PlatformError> {
        let answer = self.call(doing, &request).await?;
        match answer.status {
            200..300 => self.service.decode(doing, &answer).map(Some),
            404 => Ok(None),
            _ => Err(self.service.refused(doing, &answer)),
        }
    }

    fn no_dag(&self, doing: &str, said: &str) -> PlatformError {
        let problem = format!(
            "{} has no DAG `{}` that can run ({said}); put dags/training_dag.py and dags/mloop_tasks.py \
             into its DAG folder, or correct `dag_id` or `url` of the submitter",
            self.service.place(),
            self.dag
        );
        PlatformError::invalid(doing, problem)
    }

    /// Sends a request with a token. One from an earlier call may have expired, or been signed with a
    /// key that changed: a refusal is believed of a new one only.
    async fn call(&self, doing: &str, request: &Request) -> Result<Response, PlatformError> {
        let (token, is_new) = self.token(doing, None).await?;
        let sent = self.service.call(doing, &signed(request, &token)).await;
        match sent {
            Err(PlatformError::Denied { .. }) if !is_new => {
                let (token, _) = self.token(doing, Some(&token)).await?;
                self.service.call(doing, &signed(request, &token)).await
            }
            sent => sent,
        }
    }

    /// A token other than the one that was `refused`, and whether a refusal of it is final.
    async fn token(
        &self,
        doing: &str,
        refused: Option<&Secret>,
    ) -> Result<(Secret, bool), PlatformError> {
        let (username, password) = match &self.login {
            Login::Token(token) => return Ok((token.clone(), true)),
            Login::Password { username, password } => (username, password),
        };
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| Some(*token) != refused) {
            return Ok((token.clone(), false));
        }
        let token = self.log_in(doing, username, password).await?;
        *kept = Some(token.clone());
        Ok((token, true))
    }

    async fn log_in(
        &self,
        doing: &str,
        username: &str,
        password: &Secret,
    ) -> Result<Secret, PlatformError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
        }
        let body = json!({"username": username, "password": password.reveal()});
        let request = self.service.request(Method::Post, &["auth", "token"]);
        let answer = self.service.call(doing, &request.json(&body).repeatable()).await?;
        match answer.status {
            200..300 => {
                let granted: Granted = self.service.decode(doing, &answer)?;
                Ok(Secret::new(granted.access_token))
            }
            // Not its words: they repeat what was sent, the password included.
            status => Err(PlatformError::invalid(
                doing,
                format!(
                    "{} answered {status} when asked for a token at /auth/token; is `url` that of an \
                     Airflow 3 whose users have passwords? Else give it a token by `token_env`",
                    self.service.place()
                ),
            )),
        }
    }
}

fn signed(request: &Request, token: &Secret) -> Request {
    request.clone().header("authorization", &format!("Bearer {}", token.reveal()))
}
