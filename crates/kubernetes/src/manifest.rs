//! The Job that is made of a job.

use mloop_core::JobId;
use mloop_core::job::JobSpec;
use mloop_platform::{BuildError, PlatformError};
use serde_json::{Map, Value, json};

use crate::jobs::{Asked, JOB_ID, RUN, SPEC, SPEC_DIGEST, name};
use crate::settings::{KubernetesSubmitterSettings, Resources, is_pinned};

/// The container that trains.
pub(crate) const CONTAINER: &str = "training";

/// Label: the queue of Kueue, which suspends what has it until it is admitted.
pub(crate) const QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Exit codes that no further try of the pod changes; sorted, as Kubernetes wants them.
pub(crate) const FINAL_EXIT_CODES: [i32; 5] = [10, 11, 20, 21, 40];

/// Largest job file: annotations of one object may have 256 KiB together.
const MAX_SPEC_BYTES: usize = 200 << 10;

/// Where the volumes are mounted.
const JOB_FOLDER: &str = "/mloop/job";
const WORK_FOLDER: &str = "/mloop/work";
const CONFIG_FOLDER: &str = "/etc/mloop";
/// Written by the container, read by the kubelet into the state of the pod.
const TERMINATION_MESSAGE: &str = "/dev/termination-log";

/// Makes Jobs.
pub(crate) struct Template {
    settings: KubernetesSubmitterSettings,
}

impl Template {
    /// Checks the patch by a Job made with it.
    pub(crate) fn new(settings: KubernetesSubmitterSettings) -> Result<Self, BuildError> {
        let template = Self { settings };
        let plain = template.unpatched(&sample_id(), &Asked::nothing(), 1);
        match problem(&plain, &template.sample()) {
            Some(problem) => Err(BuildError::invalid("patch", problem)),
            None => Ok(template),
        }
    }

    /// The Job of no job, to be looked at.
    pub(crate) fn sample(&self) -> Value {
        self.patched(self.unpatched(&sample_id(), &Asked::nothing(), 1))
    }

    /// The Job of this number for a job.
    pub(crate) fn job(
        &self,
        doing: &str,
        spec: &JobSpec,
        asked: &Asked,
        number: u32,
    ) -> Result<Value, PlatformError> {
        if asked.text.len() > MAX_SPEC_BYTES {
            let problem = format!(
                "the job file has {} bytes; a Job can carry {MAX_SPEC_BYTES}",
                asked.text.len()
            );
            return Err(PlatformError::invalid(doing, problem));
        }
        Ok(self.patched(self.unpatched(&spec.job_id, asked, number)))
    }

    fn patched(&self, mut job: Value) -> Value {
        if !self.settings.patch.is_null() {
            merge(&mut job, &self.settings.patch);
        }
        job
    }

    fn unpatched(&self, job: &JobId, asked: &Asked, number: u32) -> Value {
        let settings = &self.settings;
        let own = labels(job, number);
        let mut queued = own.clone();
        if let Some(kueue) = &settings.kueue {
            queued.insert(QUEUE.to_owned(), json!(kueue.queue));
            if let Some(class) = &kueue.priority_class {
                queued.insert("kueue.x-k8s.io/priority-class".to_owned(), json!(class));
            }
        }
        let mut job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name(job, number),
                "namespace": settings.namespace,
                "labels": queued,
                "annotations": {SPEC_DIGEST: asked.digest},
            },
            "spec": {
                "completions": 1,
                "parallelism": 1,
                "backoffLimit": settings.backoff_limit,
                "ttlSecondsAfterFinished": settings.ttl_secs_after_finished,
                "podFailurePolicy": {"rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER,
                            "operator": "In",
                            "values": FINAL_EXIT_CODES,
                        },
                        // Releases before 1.29 ask for the key.
                        "onPodConditions": [],
                    },
                    // A node that is drained is no fault of the training's.
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]},
                "template": {
                    "metadata": {"labels": own, "annotations": {SPEC: asked.text}},
                    "spec": self.pod(),
                },
            },
        });
        if let Some(secs) = settings.active_deadline_secs {
            job["spec"]["activeDeadlineSeconds"] = json!(secs);
        }
        job
    }

    fn pod(&self) -> Value {
        let settings = &self.settings;
        let mut pod = json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": settings.grace_secs,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": settings.run_as_user,
                "runAsGroup": settings.run_as_user,
                "fsGroup": settings.run_as_user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self.container()],
            "volumes": self.volumes(),
        });
        if let Some(account) = &settings.service_account {
            pod["serviceAccountName"] = json!(account);
        }
        pod
    }

    fn container(&self) -> Value {
        let settings = &self.settings;
        let job_file = format!("{JOB_FOLDER}/job.json");
        let own = [
            ["--job-file", &job_file],
            ["--work", WORK_FOLDER],
            ["--termination-message", TERMINATION_MESSAGE],
        ];
        let own = own.concat().into_iter().map(str::to_owned);
        let command: Vec<String> = settings.command.iter().cloned().chain(own).collect();
        let mut mounts = vec![
            json!({"name": "job", "mountPath": JOB_FOLDER, "readOnly": true}),
            json!({"name": "work", "mountPath": WORK_FOLDER}),
            json!({"name": "tmp", "mountPath": "/tmp"}),
        ];
        if settings.config_map.is_some() {
            mounts.push(json!({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": true}));
        }
        json!({
            "name": CONTAINER,
            "image": settings.image,
            "command": command,
            "env": self.env(),
            "resources": resources(&settings.resources),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "terminationMessagePath": TERMINATION_MESSAGE,
            "terminationMessagePolicy": "File",
            "volumeMounts": mounts,
        })
    }

    fn env(&self) -> Vec<Value> {
        let plain =
            self.settings.env.iter().map(|(name, value)| json!({"name": name, "value": value}));
        let secret = self.settings.secrets.iter().map(|secret| {
            let from = json!({"secretKeyRef": {"name": secret.name, "key": secret.key}});
            json!({"name": secret.env, "valueFrom": from})
        });
        plain.chain(secret).collect()
    }

    fn volumes(&self) -> Vec<Value> {
        let settings = &self.settings;
        let file = json!({"path": "job.json",
            "fieldRef": {"fieldPath": format!("metadata.annotations['{SPEC}']")}});
        let work = match (&settings.work.claim, &settings.work.size_limit) {
            (Some(claim), _) => {
                json!({"name": "work", "persistentVolumeClaim": {"claimName": claim}})
            }
            (None, Some(size)) => json!({"name": "work", "emptyDir": {"sizeLimit": size}}),
            (None, None) => json!({"name": "work", "emptyDir": {}}),
        };
        let mut volumes = vec![
            json!({"name": "job", "downwardAPI": {"items": [file]}}),
            work,
            json!({"name": "tmp", "emptyDir": {}}),
        ];
        if let Some(name) = &settings.config_map {
            volumes.push(json!({"name": "config", "configMap": {"name": name}}));
        }
        volumes
    }
}

/// The id of no job.
pub(crate) fn sample_id() -> JobId {
    JobId::derive(&["sample"])
}

/// The labels by which Job and pods are found.
fn labels(job: &JobId, number: u32) -> Map<String, Value> {
    let labels = [
        ("app.kubernetes.io/name", "mloop-training".to_owned()),
        ("app.kubernetes.io/managed-by", "mloop".to_owned()),
        (JOB_ID, job.to_string()),
        (RUN, number.to_string()),
    ];
    labels.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// Requests and limits alike: nothing is lent, so nothing is taken away in the middle.
fn resources(resources: &Resources) -> Value {
    let mut all = json!({"cpu": resources.cpu, "memory": resources.memory});
    if let Some(storage) = &resources.ephemeral_storage {
        all["ephemeral-storage"] = json!(storage);
    }
    if resources.gpus > 0 {
        all[&resources.gpu_resource] = json!(resources.gpus.to_string());
    }
    json!({"requests": all, "limits": all})
}

/// JSON merge patch, RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// What a patch did that it must not do: everything by which Jobs are found, told apart and judged.
fn problem(plain: &Value, patched: &Value) -> Option<String> {
    let kept = [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/labels/mloop~1job-id",
        "/metadata/labels/mloop~1run",
        "/metadata/annotations/mloop~1spec-digest",
        "/spec/completions",
        "/spec/parallelism",
        "/spec/podFailurePolicy",
        "/spec/ttlSecondsAfterFinished",
        "/spec/template/metadata/labels/mloop~1job-id",
        "/spec/template/metadata/labels/mloop~1run",
        "/spec/template/metadata/annotations/mloop~1spec",
        "/spec/template/spec/restartPolicy",
    ];
    if let Some(path) = kept.iter().find(|path| plain.pointer(path) != patched.pointer(path)) {
        let path = path.trim_start_matches('/').replace('/', ".").replace("~1", "/");
        return Some(format!("may not change `{path}`, by which mloop finds and judges its Jobs"));
    }
    let containers = patched.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let containers = containers.map(Vec::as_slice).unwrap_or_default();
    if !containers.iter().any(|container| container["name"] == CONTAINER) {
        return Some(format!(
            "leaves no container `{CONTAINER}`; a list in a patch replaces the whole list"
        ));
    }
    let loose = containers.iter().find(|one| !one["image"].as_str().is_some_and(is_pinned));
    loose.map(|one| format!("the image of container {} must be named by digest", one["name"]))
}

#[cfg(test)]
mod tests {
    use mloop_platform::conformance::samples;

    use super::*;

    fn image() -> String {
        format!("registry.example.org/training@sha256:{}", "a".repeat(64))
    }

    fn settings(more: &Value) -> KubernetesSubmitterSettings {
        let mut settings = json!({"namespace": "ml", "image": image(),
            "command": ["training_main"], "resources": {"cpu": "2", "memory": "4Gi"}});
        merge(&mut settings, more);
        // As it is: merging would take the nulls out of it.
        settings["patch"] = more.get("patch").cloned().unwrap_or_default();
        serde_json::from_value(settings).expect("settings")
    }

    fn made(more: &Value) -> Value {
        let template = Template::new(settings(more)).expect("a template");
        let spec = samples::job("a");
        let asked = Asked::of("testing", &spec).expect("JSON");
        template.job("testing", &spec, &asked, 2).expect("a Job")
    }

    #[test]
    fn a_job_carries_what_is_asked_for_and_how_it_may_fail() {
        let job = made(&json!({}));
        let spec = samples::job("a");
        assert_eq!(job["metadata"]["name"], format!("mloop-{}-r2", spec.job_id));
        let text = job["spec"]["template"]["metadata"]["annotations"][SPEC].as_str();
        let carried: JobSpec = serde_json::from_str(text.expect("text")).expect("a job");
        assert_eq!(carried, spec);
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(
            pod["volumes"][0]["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"],
            "metadata.annotations['mloop/spec']"
        );
        let command = pod["containers"][0]["command"].as_array().expect("a list");
        assert_eq!(command[1..3], [json!("--job-file"), json!("/mloop/job/job.json")]);
        let codes = &job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"];
        assert_eq!(codes, &json!([10, 11, 20, 21, 40]));
        assert_eq!(pod["automountServiceAccountToken"], false);
    }

    #[test]
    fn settings_go_where_kubernetes_looks_for_them() {
        let job = made(&json!({
            "resources": {"gpus": 2, "ephemeral_storage": "20Gi"},
            "env": {"RUST_LOG": "info"},
            "secrets": [{"env": "MLFLOW_PASSWORD", "name": "mlflow", "key": "password"}],
            "kueue": {"queue": "gpus", "priority_class": "low"},
            "work": {"claim": "checkpoints"},
            "config_map": "training",
            "service_account": "trainer",
            "active_deadline_secs": 7200,
        }));
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let all = json!({"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi",
            "nvidia.com/gpu": "2"});
        assert_eq!(container["resources"], json!({"requests": all, "limits": all}));
        assert_eq!(container["env"][1]["valueFrom"]["secretKeyRef"]["name"], "mlflow");
        assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "gpus");
        assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"], "low");
        assert_eq!(pod["volumes"][1]["persistentVolumeClaim"]["claimName"], "checkpoints");
        assert_eq!(pod["volumes"][3]["configMap"]["name"], "training");
        assert_eq!(pod["serviceAccountName"], "trainer");
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 7200);
    }

    #[test]
    fn a_patch_may_add_but_not_hide() {
        let job = made(&json!({"patch": {"spec": {"template": {"spec": {
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "enableServiceLinks": null,
        }}}}}));
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["tolerations"][0]["key"], "gpu");
        assert_eq!(pod.get("enableServiceLinks"), None);
        for (patch, says) in [
            (json!({"metadata": {"name": "x"}}), "metadata.name"),
            (json!({"metadata": {"labels": null}}), "metadata.labels.mloop/job-id"),
            (json!({"spec": {"podFailurePolicy": null}}), "spec.podFailurePolicy"),
            (json!({"spec": {"template": null}}), "spec.template"),
            (
                json!({"spec": {"template": {"spec": {"containers": []}}}}),
                "no container `training`",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "training", "image": "training:latest"}]}}}}),
                "must be named by digest",
            ),
        ] {
            let refused = Template::new(settings(&json!({ "patch": patch })));
            let problem = refused.err().expect("refused").to_string();
            assert!(problem.contains(says), "{problem}");
        }
    }

    #[test]
    fn a_job_file_that_no_job_can_carry_is_refused() {
        let template = Template::new(settings(&json!({}))).expect("a template");
        let mut spec = samples::job("a");
        spec.cause.reasons = vec!["x".repeat(MAX_SPEC_BYTES)];
        let asked = Asked::of("testing", &spec).expect("JSON");
        let refused = template.job("testing", &spec, &asked, 1).expect_err("too large");
        assert!(matches!(refused, PlatformError::Invalid { .. }), "{refused:?}");
    }
}
