//! API server and Job controller.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use mloop_http::testing::Asked;
use serde_json::{Value, json};

use super::pod::Given;
use crate::manifest::{CONTAINER, QUEUE};

const JOBS: &str = "/apis/batch/v1/namespaces/ml/jobs";
const PODS: &str = "/api/v1/namespaces/ml/pods";

/// The objects of the namespace.
#[derive(Default)]
pub(super) struct State {
    pub(super) jobs: BTreeMap<String, Value>,
    pub(super) pods: BTreeMap<String, Value>,
    pub(super) given: Given,
    /// Jobs that were made, deleted ones included.
    pub(super) made: usize,
    /// Whether Kueue is installed: its webhook suspends what comes with a queue.
    pub(super) has_kueue: bool,
    clock: u32,
}

/// How the training container of a pod ended.
pub(super) struct Ended {
    pub(super) exit_code: i32,
    pub(super) message: String,
    /// Its node was drained.
    pub(super) disrupted: bool,
}

/// A refusal, as the API server words it.
fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    (code, body)
}

impl State {
    pub(super) fn tick(&mut self) -> u32 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn answer(&mut self, asked: &Asked) -> (u16, Value) {
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

    pub(super) fn create(&mut self, body: &str, dry_run: bool) -> (u16, Value) {
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
        if self.has_kueue && job["metadata"]["labels"][QUEUE].is_string() {
            job["spec"]["suspend"] = json!(true);
        }
        self.jobs.insert(name.clone(), job.clone());
        if job["spec"]["suspend"] == true {
            self.suspended(&name);
        } else {
            self.start_pod(&name);
        }
        (201, job)
    }

    /// Somebody, Kueue say, holds an open Job or lets it go, and the controller does what follows.
    pub(super) fn suspend(&mut self, name: &str, suspend: bool) {
        let job = self.job(name);
        job["spec"]["suspend"] = json!(suspend);
        if suspend {
            return self.suspended(name);
        }
        job["status"]["conditions"] = json!([{"type": "Suspended", "status": "False",
            "reason": "JobResumed", "message": "Job resumed"}]);
        self.start_pod(name);
    }

    /// The controller takes the pods of a suspended Job away.
    fn suspended(&mut self, name: &str) {
        let status = &mut self.job(name)["status"];
        status["active"] = json!(0);
        status["ready"] = json!(0);
        status["conditions"] = json!([{"type": "Suspended", "status": "True",
            "reason": "JobSuspended", "message": "Job suspended"}]);
        let has_ended =
            |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        self.pods.retain(|_, pod| owner(pod) != name || has_ended(pod));
    }

    /// The controller of times to live, so many seconds after all ends so far: ended Jobs whose time is over
    /// go, and their pods with them.
    pub(super) fn outlive(&mut self, secs: u64) {
        let is_over = |job: &Value| {
            let conditions = job["status"]["conditions"].as_array();
            let ended = |one: &Value| {
                matches!(one["type"].as_str(), Some("Complete" | "Failed"))
                    && one["status"] == "True"
            };
            let to_live = job["spec"]["ttlSecondsAfterFinished"].as_u64();
            conditions.is_some_and(|all| all.iter().any(ended))
                && to_live.is_some_and(|to_live| to_live <= secs)
        };
        self.jobs.retain(|_, job| !is_over(job));
        let jobs = &self.jobs;
        self.pods.retain(|_, pod| jobs.contains_key(&owner(pod)));
    }

    fn delete(&mut self, name: &str, body: &str) -> (u16, Value) {
        let Some(job) = self.jobs.get(name) else { return missing(name) };
        let options: Value = serde_json::from_str(body).unwrap_or_default();
        let wanted = &options["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != job["metadata"]["uid"] {
            return refusal(409, "Conflict", "the UID in the precondition does not match");
        }
        self.jobs.remove(name);
        self.pods.retain(|_, pod| owner(pod) != name);
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
        let mut metadata = job["spec"]["template"]["metadata"].clone();
        metadata["name"] = json!(pod_name);
        metadata["ownerReferences"] = json!([owner]);
        let pod = json!({"metadata": metadata, "spec": job["spec"]["template"]["spec"],
            "status": {"phase": "Pending"}});
        self.pods.insert(pod_name, pod);
    }

    /// The name of a Job's newest pod: they are numbered.
    pub(super) fn newest_pod(&self, job: &str) -> String {
        let owned = |name: &&String| owner(&self.pods[*name]) == job;
        self.pods.keys().rfind(owned).unwrap_or_else(|| panic!("no pod of {job}")).clone()
    }

    /// The kubelet says that a pod runs.
    pub(super) fn runs(&mut self, pod: &str) {
        let found = self.pods.get_mut(pod).unwrap_or_else(|| panic!("no pod {pod}"));
        found["status"]["phase"] = json!("Running");
        let job = owner(found);
        self.job(&job)["status"]["ready"] = json!(1);
    }

    /// The kubelet says how a pod ended, and the controller does what follows.
    pub(super) fn ended(&mut self, pod: &str, how: &Ended) {
        let Ended { exit_code, message, disrupted } = how;
        let at = self.tick();
        let found = self.pods.get_mut(pod).unwrap_or_else(|| panic!("no pod {pod}"));
        found["status"] = json!({
            "phase": if *exit_code == 0 { "Succeeded" } else { "Failed" },
            "conditions": if *disrupted { json!([{"type": "DisruptionTarget", "status": "True"}]) }
                else { json!([]) },
            "containerStatuses": [{
                "name": CONTAINER, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": exit_code, "message": message,
                    "reason": if *exit_code == 0 { "Completed" } else { "Error" },
                    "finishedAt": format!("2026-03-01T00:{:02}:{:02}Z", at / 60, at % 60)}},
            }],
        });
        let job = owner(found);
        self.control(&job, *exit_code, *disrupted);
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

/// The Job that a pod is of.
fn owner(pod: &Value) -> String {
    pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default().to_owned()
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
