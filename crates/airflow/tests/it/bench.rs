//! DAGs of this test program in the Airflow of the service bench.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mloop_core::job::{JobSpec, JobStatus};
use mloop_core::secret::{Secret, SecretError, Secrets};
use mloop_core::{JobId, SystemClock};
use mloop_http::{BaseUrl, Client, Method, Policy, Request, Response};
use mloop_platform::conformance::samples;
use mloop_platform::{JobSubmitter, PlatformDeps, PlatformError, Submission, SubmitterRegistry};
use mloop_services::Services;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The DAGs, with `ID` for their ids' beginning. The first reason of a job says what its task does: it
/// waits, dies, or ends with this code and this last line.
const DAGS: &str = r#"
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from mloop_tasks import binary

COMMAND = '''
case "$SCENARIO" in
  wait) exec sleep 300;;
  later) case "$RUN" in *__*) exec sleep 300;; *) exit 30;; esac;;
  killed) kill -9 $$;;
  [0-9]*) echo "a log line"; printf '%s\n' "${SCENARIO#* }"; exit "${SCENARIO%% *}";;
  *) echo '{"outcome": "blessed"}';;
esac
'''
ENV = {
    "SCENARIO": "{{ dag_run.conf['spec']['cause']['reasons'][0] }}",
    "RUN": "{{ dag_run.run_id }}",
}

for name in ("ID", "ID_paused"):
    with DAG(name, schedule=None, is_paused_upon_creation=name.endswith("paused")):
        task = binary("train", COMMAND, env=ENV, skip_on=(99, 10, 11))
        task.retries = 0

with DAG("ID_plain", schedule=None, is_paused_upon_creation=False):
    BashOperator(
        task_id="learn", bash_command=COMMAND, env=ENV, append_env=True, skip_on_exit_code=[10, 11]
    )
"#;

/// How long a run may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(240);

/// The Airflow, with DAGs of this program's own: the bench outlives the tests, and job ids are the
/// same at every run of them.
pub(crate) struct Bench {
    pub(crate) url: String,
    pub(crate) password: String,
    username: String,
    /// The DAG of most tests.
    pub(crate) dag: String,
    client: Client,
    token: String,
}

/// Has one secret, under every name.
struct One(String);

impl Secrets for One {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }

    fn in_file(&self, _path: &Path) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }
}

/// Tries again what may be tried again, as the next run would: Airflow on SQLite answers some of several
/// calls at once with 500, since its database is locked.
struct Patient(Arc<dyn JobSubmitter>);

/// Whether to call again, after a pause.
async fn again<T>(ended: &Result<T, PlatformError>, began: Instant) -> bool {
    let again =
        ended.as_ref().is_err_and(PlatformError::is_transient) && began.elapsed() < PATIENCE;
    if again {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    again
}

#[async_trait::async_trait]
impl JobSubmitter for Patient {
    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let began = Instant::now();
        loop {
            let ended = self.0.submit_training_job(spec).await;
            if !again(&ended, began).await {
                return ended;
            }
        }
    }

    async fn probe(&self) -> Result<(), PlatformError> {
        let began = Instant::now();
        loop {
            let ended = self.0.probe().await;
            if !again(&ended, began).await {
                return ended;
            }
        }
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let began = Instant::now();
        loop {
            let ended = self.0.status(job).await;
            if !again(&ended, began).await {
                return ended;
            }
        }
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        let began = Instant::now();
        loop {
            let ended = self.0.cancel(job).await;
            if !again(&ended, began).await {
                return ended;
            }
        }
    }
}

/// A submitter of these settings, whose password or token is this.
pub(crate) fn built(settings: &Value, secret: &str) -> Arc<dyn JobSubmitter> {
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_airflow::register_submitters(&mut kinds);
    let secrets = Arc::new(One(secret.to_owned()));
    let deps = PlatformDeps::new(PathBuf::from("."), Arc::new(SystemClock)).with_secrets(secrets);
    kinds.build("airflow", "jobs", settings, &deps).expect("settings")
}

/// A job whose task does that.
pub(crate) fn job(name: &str, scenario: &str) -> JobSpec {
    let mut spec = samples::job(name);
    spec.cause.reasons = vec![scenario.to_owned()];
    spec
}

impl Bench {
    /// The one bench of this program, its DAGs known to Airflow.
    pub(crate) async fn get() -> &'static Self {
        static BENCH: OnceCell<Bench> = OnceCell::const_new();
        BENCH.get_or_init(Self::new).await
    }

    async fn new() -> Self {
        let services = Services::running();
        let airflow = services.airflow();
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
        let dag = format!("it_{now}");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let shared = std::fs::read_to_string(root.join("dags/mloop_tasks.py")).expect("the file");
        put(&airflow.dags_folder.join("mloop_tasks.py"), &shared);
        put(&airflow.dags_folder.join("mloop_airflow_it.py"), &DAGS.replace("ID", &dag));
        let client = Client::new(Policy::default()).expect("a client");
        let mut bench = Self {
            url: airflow.url.clone(),
            username: airflow.username.clone(),
            password: airflow.password.clone(),
            dag,
            client,
            token: String::new(),
        };
        let login = json!({"username": bench.username, "password": bench.password});
        let request = Request::new(Method::Post, &bench.base(), &["auth", "token"]).json(&login);
        let answer: Value =
            bench.client.send(&request).await.expect("an answer").json().expect("a token");
        bench.token = answer["access_token"].as_str().expect("a token").to_owned();
        for dag in [bench.dag.clone(), bench.named("paused"), bench.named("plain")] {
            let known = async || bench.get_json(&["api", "v2", "dags", &dag]).await.status == 200;
            bench.until("the DAG is known", known).await;
        }
        bench
    }

    fn base(&self) -> BaseUrl {
        self.url.parse().expect("an address")
    }

    /// The id of another of the DAGs.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}_{name}", self.dag)
    }

    /// The submitter, of this DAG.
    pub(crate) fn submitter(&self, dag: &str) -> Arc<dyn JobSubmitter> {
        Arc::new(Patient(self.submitter_at(&self.url, dag, &json!({"timeout_secs": 60}))))
    }

    /// The submitter, of this DAG, at a relay.
    pub(crate) fn submitter_at(&self, url: &str, dag: &str, http: &Value) -> Arc<dyn JobSubmitter> {
        let task = if dag.ends_with("plain") { "learn" } else { "train" };
        let settings = json!({"url": url, "dag_id": dag, "task_id": task, "http": http,
            "username": self.username, "password_env": "AIRFLOW_PASSWORD"});
        built(&settings, &self.password)
    }

    /// Calls Airflow itself.
    pub(crate) async fn call(&self, request: Request) -> Response {
        let request = request.header("authorization", &format!("Bearer {}", self.token));
        let began = Instant::now();
        loop {
            let answer = self.client.send(&request).await.expect("an answer");
            if answer.status < 500 || began.elapsed() > PATIENCE {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn get_json(&self, path: &[&str]) -> Response {
        self.call(Request::new(Method::Get, &self.base(), path)).await
    }

    pub(crate) fn request(&self, method: Method, dag: &str, below: &[&str]) -> Request {
        let path = [&["api", "v2", "dags", dag], below].concat();
        Request::new(method, &self.base(), &path)
    }

    /// All runs of a DAG whose name begins like this, with their states.
    pub(crate) async fn runs(&self, dag: &str, job: &JobId) -> Vec<(String, String)> {
        let request = self.request(Method::Get, dag, &["dagRuns"]).query("limit", "100");
        let answer: Value = self.call(request).await.json().expect("runs");
        let runs = answer["dag_runs"].as_array().expect("runs").iter();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let runs = runs.map(|run| (text(&run["dag_run_id"]), text(&run["state"])));
        runs.filter(|(id, _)| id.starts_with(job.as_str())).collect()
    }

    /// Waits for the end of a job.
    pub(crate) async fn end(&self, submitter: &dyn JobSubmitter, job: &JobId) -> JobStatus {
        let began = Instant::now();
        loop {
            let status = submitter.status(job).await.expect("a status");
            if !matches!(status, JobStatus::Queued | JobStatus::Running) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{job} does not end: {status:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits for what must come.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < PATIENCE, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Replaces a file at once: the DAG processor reads at any moment.
fn put(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        return;
    }
    let part = path.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&part, text).expect("written");
    std::fs::rename(&part, path).expect("renamed");
}
