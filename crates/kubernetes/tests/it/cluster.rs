//! The stand-in: API server, Job controller and kubelet of one namespace.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use mloop_core::SystemClock;
use mloop_http::testing::{Asked, Reply, Server};
use mloop_platform::{JobSubmitter, PlatformDeps, SubmitterRegistry};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The namespace, and a token with all rights in it.
const NAMESPACE: &str = "ml";
const TOKEN: &str = "good";
/// A token that is known and may do nothing.
pub(crate) const WEAK: &str = "weak";

const JOBS: &str = "/apis/batch/v1/namespaces/ml/jobs";
const PODS: &str = "/api/v1/namespaces/ml/pods";

/// One namespace of a cluster.
pub(crate) struct Cluster {
    server: Server,
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    /// Jobs that were made, deleted ones included.
    made: usize,
    clock: u32,
}

/// Settings of a submitter in the namespace.
pub(crate) fn settings(kubeconfig: &Path) -> Value {
    json!({
        "kubeconfig": kubeconfig,
        "namespace": NAMESPACE,
        "image": format!("registry.example.org/training@sha256:{}", "a".repeat(64)),
        "command": ["training_main", "--config", "/etc/mloop/training_config.yaml"],
        "config_map": "training",
        "resources": {"cpu": "2", "memory": "4Gi"},
        "backoff_limit": 1,
    })
}

/// A submitter of these settings.
pub(crate) fn built(settings: &Value) -> Arc<dyn JobSubmitter> {
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_kubernetes::register_submitters(&mut kinds);
    let deps = PlatformDeps::new(".", Arc::new(SystemClock));
    kinds.build("kubernetes", "jobs", settings, &deps).expect("settings")
}

/// A kubeconfig, which is YAML and so may be JSON, for a cluster and a user.
pub(crate) fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}

impl Cluster {
    /// A namespace without Jobs.
    pub(crate) fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::clone(&state);
        let server = Server::answering(move |asked, _| {
            let (status, body) = lock(&kept).answer(asked);
            match (asked.header("connection"), Reply::json(status, &body)) {
                (Some("close"), Reply::Text(text)) => Reply::Cut(text),
                (_, reply) => reply,
            }
        });
        Self { server, state, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    /// What the API server was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// Writes a kubeconfig for a cluster entry and a token; settings that name it.
    pub(crate) fn settings(&self, cluster: &Value, token: &str) -> Value {
        let path = self.folder.path().join(format!("kubeconfig-{}", lock(&self.state).tick()));
        let text = kubeconfig(cluster, &json!({ "token": token })).to_string();
        std::fs::write(&path, text).expect("written");
        settings(&path)
    }

    /// Settings of a submitter that reaches the namespace at a URL.
    pub(crate) fn settings_at(&self, url: &str) -> Value {
        self.settings(&json!({ "server": url }), TOKEN)
    }

    /// Settings of a submitter that reaches the namespace.
    pub(crate) fn plain_settings(&self) -> Value {
        self.settings_at(&format!("http://{}", self.address()))
    }

    /// A submitter.
    pub(crate) fn submitter(&self) -> Arc<dyn JobSubmitter> {
        built(&self.plain_settings())
    }

    /// How many Jobs were ever made.
    pub(crate) fn made(&self) -> usize {
        lock(&self.state).made
    }

    /// The names of the Jobs that are there.
    pub(crate) fn jobs(&self) -> Vec<String> {
        lock(&self.state).jobs.keys().cloned().collect()
    }

    /// Makes a Job past mloop.
    pub(crate) fn put(&self, job: &Value) {
        let (status, body) = lock(&self.state).create(&job.to_string(), false);
        assert_eq!(status, 201, "{body}");
    }

    /// The kubelet: the pod of a Job runs.
    pub(crate) fn run(&self, job: &str) {
        let mut state = lock(&self.state);
        state.job(job)["status"]["ready"] = json!(1);
    }

    /// The kubelet, and then the controller: the pod of a Job ended. `disrupted`: its node is drained.
    pub(crate) fn end(&self, job: &str, exit_code: i32, message: &str, disrupted: bool) {
        let mut state = lock(&self.state);
        let at = state.tick();
        let pod = state.newest_pod(job);
        pod["status"] = json!({
            "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
            "conditions": if disrupted { json!([{"type": "DisruptionTarget", "status": "True"}]) }
                else { json!([]) },
            "containerStatuses": [{
                "name": "training", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": exit_code, "message": message,
                    "reason": if exit_code == 0 { "Completed" } else { "Error" },
                    "finishedAt": format!("2026-03-01T00:{:02}:{:02}Z", at / 60, at % 60)}},
            }],
        });
        state.control(job, exit_code, disrupted);
    }

    /// The pods of ended Jobs are collected, long before the Jobs.
    pub(crate) fn collect_pods(&self) {
        lock(&self.state).pods.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A refusal, as the API server words it.
fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    (code, body)
}

impl State {
    fn tick(&mut self) -> u32 {
        self.clock += 1;
        self.clock
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        match asked.header("authorization") {
            None => return refusal(403, "Forbidden", "User \"system:anonymous\" cannot do this"),
            Some("Bearer good") => {}
            Some("Bearer weak") => {
                let message =
                    "jobs.batch is forbidden: User \"weak\" cannot do this in namespace ml";
                return refusal(403, "Forbidden", message);
            }
            Some(_) => return refusal(401, "Unauthorized", "Unauthorized"),
        }
        let (method, target) = asked.line.split_once(' ').expect("a method");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let one = path.strip_prefix(JOBS).and_then(|rest| rest.strip_prefix('/'));
        match (method, one) {
            ("POST", None) if path == JOBS => {
                let strict = query.contains("fieldValidation=Strict");
                match strict.then(|| unknown_field(&asked.body)).flatten() {
                    Some(field) => {
                        let message = format!(
                            "Job in version \"v1\" cannot be handled as a Job: strict decoding \
                                     error: unknown field \"{field}\""
                        );
                        refusal(400, "BadRequest", &message)
                    }
                    None => self.create(&asked.body, query.contains("dryRun=All")),
                }
            }
            ("GET", None) if path == JOBS => list("JobList", &self.jobs, query),
            ("GET", None) if path == PODS => list("PodList", &self.pods, query),
            ("GET", Some(name)) => match self.jobs.get(name) {
                Some(job) => (200, job.clone()),
                None => missing(name),
            },
            ("DELETE", Some(name)) => self.delete(name, &asked.body),
            _ => refusal(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    fn create(&mut self, body: &str, dry_run: bool) -> (u16, Value) {
        let Ok(typed) = serde_json::from_str::<Job>(body) else {
            return refusal(400, "BadRequest", "Job in version \"v1\" cannot be handled as a Job");
        };
        let mut job: Value = serde_json::from_str(body).expect("JSON");
        let name = typed.metadata.name.unwrap_or_default();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            return refusal(
                422,
                "Invalid",
                &format!("Job.batch \"{name}\" is invalid: metadata.name"),
            );
        }
        if job["spec"]["template"]["spec"]["restartPolicy"] != "Never" {
            let field = "spec.template.spec.restartPolicy";
            return refusal(422, "Invalid", &format!("Job.batch \"{name}\" is invalid: {field}"));
        }
        if self.jobs.contains_key(&name) {
            let message = format!("jobs.batch \"{name}\" already exists");
            return refusal(409, "AlreadyExists", &message);
        }
        if dry_run {
            return (201, job);
        }
        self.made += 1;
        job["metadata"]["uid"] = json!(format!("uid-{}", self.tick()));
        job["status"] = json!({});
        self.jobs.insert(name.clone(), job.clone());
        self.start_pod(&name);
        (201, job)
    }

    fn delete(&mut self, name: &str, body: &str) -> (u16, Value) {
        let Some(job) = self.jobs.get(name) else { return missing(name) };
        let options: Value = serde_json::from_str(body).unwrap_or_default();
        let wanted = &options["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != job["metadata"]["uid"] {
            return refusal(409, "Conflict", "the UID in the precondition does not match");
        }
        self.jobs.remove(name);
        self.pods.retain(|_, pod| pod["metadata"]["ownerReferences"][0]["name"] != name);
        (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
    }

    fn job(&mut self, name: &str) -> &mut Value {
        self.jobs.get_mut(name).unwrap_or_else(|| panic!("no Job {name}"))
    }

    /// The controller makes a pod.
    fn start_pod(&mut self, name: &str) {
        let pod_name = format!("{name}-{:05}", self.tick());
        let job = self.job(name);
        job["status"]["active"] = json!(1);
        job["status"]["ready"] = json!(0);
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": name,
            "uid": job["metadata"]["uid"]});
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        let metadata = json!({"name": pod_name, "labels": labels, "ownerReferences": [owner]});
        self.pods.insert(pod_name, json!({"metadata": metadata, "status": {"phase": "Pending"}}));
    }

    fn newest_pod(&mut self, job: &str) -> &mut Value {
        let owned = |pod: &&mut Value| pod["metadata"]["ownerReferences"][0]["name"] == job;
        self.pods.values_mut().rfind(owned).expect("a pod")
    }

    /// The controller, after a pod ended.
    fn control(&mut self, name: &str, exit_code: i32, disrupted: bool) {
        let job = self.job(name);
        job["status"]["active"] = json!(0);
        job["status"]["ready"] = json!(0);
        if exit_code == 0 {
            job["status"]["succeeded"] = json!(1);
            job["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
            return;
        }
        let rules =
            job["spec"]["podFailurePolicy"]["rules"].as_array().cloned().unwrap_or_default();
        let matching = rules.iter().position(|rule| {
            let codes = rule["onExitCodes"]["values"].as_array();
            codes.is_some_and(|codes| codes.contains(&json!(exit_code)))
                || (disrupted && rule["onPodConditions"][0]["type"] == "DisruptionTarget")
        });
        let action = matching.map(|index| (index, rules[index]["action"].as_str().unwrap_or("")));
        let failed = match action {
            Some((index, "FailJob")) => {
                let message = format!(
                    "Container training for pod ml/{name}-x failed with exit code {exit_code} matching \
                     FailJob rule at index {index}"
                );
                Some(("PodFailurePolicy", message))
            }
            Some((_, "Ignore")) => None,
            _ => {
                let failed = job["status"]["failed"].as_i64().unwrap_or(0) + 1;
                job["status"]["failed"] = json!(failed);
                let limit = job["spec"]["backoffLimit"].as_i64().unwrap_or(6);
                let message = "Job has reached the specified backoff limit".to_owned();
                (failed > limit).then_some(("BackoffLimitExceeded", message))
            }
        };
        match failed {
            Some((reason, message)) => {
                let condition = |kind: &str| {
                    json!({"type": kind, "status": "True", "reason": reason,
                    "message": message})
                };
                job["status"]["conditions"] =
                    json!([condition("FailureTarget"), condition("Failed")]);
            }
            None => self.start_pod(name),
        }
    }
}

fn missing(name: &str) -> (u16, Value) {
    refusal(404, "NotFound", &format!("jobs.batch \"{name}\" not found"))
}

/// The objects whose labels a selector names.
fn list(kind: &str, objects: &BTreeMap<String, Value>, query: &str) -> (u16, Value) {
    let decoded = query.replace("%3D", "=").replace("%2F", "/").replace("%2C", ",");
    let selector = decoded.split('&').find_map(|part| part.strip_prefix("labelSelector="));
    let wanted: Vec<(&str, &str)> =
        selector.into_iter().flat_map(|s| s.split(',')).filter_map(|s| s.split_once('=')).collect();
    let found = objects.values().filter(|object| {
        wanted.iter().all(|(key, value)| object["metadata"]["labels"][*key] == *value)
    });
    let items: Vec<&Value> = found.collect();
    (200, json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// The first key that a Job does not have: reading it as a Job loses it.
fn unknown_field(body: &str) -> Option<String> {
    let asked: Value = serde_json::from_str(body).ok()?;
    let known: Job = serde_json::from_str(body).ok()?;
    lost(&asked, &serde_json::to_value(known).ok()?, "")
}

fn lost(asked: &Value, known: &Value, path: &str) -> Option<String> {
    match (asked, known) {
        (Value::Object(asked), Value::Object(known)) => asked.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match known.get(key) {
                Some(known) => lost(value, known, &path),
                None => Some(path),
            }
        }),
        (Value::Array(asked), Value::Array(known)) => {
            let pairs = asked.iter().zip(known).enumerate();
            pairs.into_iter().find_map(|(n, (a, k))| lost(a, k, &format!("{path}[{n}]")))
        }
        _ => None,
    }
}
