//! What the configuration says of the submitter.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mloop_platform::{BuildError, JobSubmitter, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::KubernetesSubmitter;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::manifest::Template;

/// Settings of [`KubernetesSubmitter`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSubmitterSettings {
    /// The kubeconfig to connect by; left out, the service account of the pod that this program runs
    /// in. Its commands (`exec`) are run, as `kubectl` runs them.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one when left out.
    #[serde(default)]
    pub context: Option<String>,
    /// The one namespace in which jobs are made.
    pub namespace: String,
    /// Image with `training_main`, by digest: `registry.example.org/training@sha256:…`.
    pub image: String,
    /// Program and arguments, such as `[training_main, --config, /etc/mloop/training_config.yaml]`;
    /// the job file, the work folder and the termination message are added.
    pub command: Vec<String>,
    /// `ConfigMap` that is mounted at `/etc/mloop`.
    #[serde(default)]
    pub config_map: Option<String>,
    /// Service account of the pods, for access to storage, say; its token is not mounted.
    #[serde(default)]
    pub service_account: Option<String>,
    /// What one job gets: requests and limits alike.
    pub resources: Resources,
    /// Where checkpoints go.
    #[serde(default)]
    pub work: Work,
    /// Environment variables. No secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values the cluster takes from its Secrets.
    #[serde(default)]
    pub secrets: Vec<SecretVariable>,
    /// User and group id of the training; never 0.
    #[serde(default = "user")]
    pub run_as_user: i64,
    /// Tries of the pod beyond the first, for what may go away by itself.
    #[serde(default = "backoff_limit")]
    pub backoff_limit: u32,
    /// Longest run of a Job in seconds, its retries included; no limit when left out.
    #[serde(default)]
    pub active_deadline_secs: Option<u32>,
    /// Seconds from the order to stop until the pod is killed: checkpoints are saved meanwhile.
    #[serde(default = "grace")]
    pub grace_secs: u32,
    /// Seconds for which a Job that ended is kept, so that its end can be read and a repeat finds it:
    /// longer than any outage of what calls `retraining_main`. A week by default; at least a day.
    #[serde(default = "time_to_live")]
    pub ttl_secs_after_finished: u32,
    /// Kueue's queue; without, Kubernetes schedules the pods itself.
    #[serde(default)]
    pub kueue: Option<Kueue>,
    /// JSON merge patch (RFC 7396) of the Job for all else: tolerations, affinity, more labels. It
    /// cannot change the name, mloop's own labels and annotations, or leave the image without digest.
    #[serde(default)]
    pub patch: Value,
    /// Longest time in seconds to connect.
    #[serde(default = "connect_timeout")]
    pub connect_timeout_secs: u64,
    /// Longest time in seconds of one call.
    #[serde(default = "timeout")]
    pub timeout_secs: u64,
}

/// What one job gets, as Kubernetes writes quantities.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors, such as `"4"` or `500m`.
    pub cpu: String,
    /// Memory, such as `16Gi`.
    pub memory: String,
    /// Local disk for what stands neither in a volume nor in the image, such as `20Gi`.
    #[serde(default)]
    pub ephemeral_storage: Option<String>,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// What the cluster calls a GPU.
    #[serde(default = "gpu_resource")]
    pub gpu_resource: String,
}

/// Where checkpoints go: a claim outlives the pod, so that an interrupted job goes on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// `PersistentVolumeClaim`; without one, a restarted job begins anew.
    #[serde(default)]
    pub claim: Option<String>,
    /// Largest size without a claim, such as `50Gi`.
    #[serde(default)]
    pub size_limit: Option<String>,
}

/// An environment variable from a Secret of the namespace.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretVariable {
    /// The variable.
    pub env: String,
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// How Kueue queues the jobs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kueue {
    /// `LocalQueue` of the namespace.
    pub queue: String,
    /// `WorkloadPriorityClass`.
    #[serde(default)]
    pub priority_class: Option<String>,
}

fn user() -> i64 {
    10_001
}

fn backoff_limit() -> u32 {
    3
}

fn grace() -> u32 {
    60
}

fn time_to_live() -> u32 {
    7 * 24 * 3600
}

fn gpu_resource() -> String {
    "nvidia.com/gpu".to_owned()
}

fn connect_timeout() -> u64 {
    2
}

fn timeout() -> u64 {
    30
}

impl KubernetesSubmitterSettings {
    fn check(&self) -> Result<(), BuildError> {
        let wrong = |key: &str, problem: &str| Err(BuildError::invalid(key, problem));
        if self.context.is_some() && self.kubeconfig.is_none() {
            return wrong("context", "is of a kubeconfig: set `kubeconfig` too");
        }
        if !is_label(&self.namespace) {
            return wrong(
                "namespace",
                "must be lower-case letters, digits and hyphens, at most 63",
            );
        }
        if !is_pinned(&self.image) {
            return wrong(
                "image",
                "must be named by digest, `…@sha256:` and 64 hexadecimal digits: a tag may point to \
                 another image when the job is repeated",
            );
        }
        if self.command.first().is_none_or(String::is_empty) {
            return wrong("command", "must begin with a program");
        }
        if self.run_as_user < 1 {
            return wrong("run_as_user", "must be above 0: the training needs no root");
        }
        if self.active_deadline_secs == Some(0) {
            return wrong("active_deadline_secs", "must be above 0");
        }
        if self.ttl_secs_after_finished < 86_400 {
            return wrong("ttl_secs_after_finished", "must be at least 86400, or ends are missed");
        }
        if !(self.patch.is_null() || self.patch.is_object()) {
            return wrong("patch", "must be a map, as the Job is");
        }
        for (key, secs) in [
            ("connect_timeout_secs", self.connect_timeout_secs),
            ("timeout_secs", self.timeout_secs),
        ] {
            if secs == 0 {
                return wrong(key, "must be above 0");
            }
        }
        self.check_quantities()
    }

    fn check_quantities(&self) -> Result<(), BuildError> {
        let resources = &self.resources;
        let quantities = [
            ("resources.cpu", Some(&resources.cpu)),
            ("resources.memory", Some(&resources.memory)),
            ("resources.ephemeral_storage", resources.ephemeral_storage.as_ref()),
            ("work.size_limit", self.work.size_limit.as_ref()),
        ];
        for (key, quantity) in quantities {
            if quantity.is_some_and(|text| !is_quantity(text)) {
                let problem = "is no quantity of Kubernetes, such as `4`, `500m` or `16Gi`";
                return Err(BuildError::invalid(key, problem));
            }
        }
        Ok(())
    }
}

/// RFC 1123, as namespaces are named.
fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let end = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().all(|byte| fits(*byte))
        && end(bytes.first())
        && end(bytes.last())
}

/// Whether an image is named by its digest.
pub(crate) fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    !name.is_empty() && digest.len() == 64 && digest.bytes().all(hexadecimal)
}

fn is_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = text.split_at(digits);
    let known = ["", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"];
    number.parse::<f64>().is_ok_and(|number| number > 0.0) && known.contains(&suffix)
}

impl Spec<Arc<dyn JobSubmitter>, PlatformDeps> for KubernetesSubmitterSettings {
    const KIND: &'static str = "kubernetes";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn JobSubmitter>, BuildError> {
        self.check()?;
        let connection = Connection {
            kubeconfig: self.kubeconfig.as_ref().map(|path| deps.resolve(path)),
            context: self.context.clone(),
            connect_timeout: Duration::from_secs(self.connect_timeout_secs),
            timeout: Duration::from_secs(self.timeout_secs),
        };
        let cluster = Cluster::new(connection, self.namespace.clone());
        let template = Template::new(self)?;
        Ok(Arc::new(KubernetesSubmitter::new(cluster, template)))
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::SystemClock;
    use mloop_platform::SubmitterRegistry;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let image = format!("registry.example.org/training@sha256:{}", "a".repeat(64));
        let good = json!({"namespace": "ml", "image": image, "command": ["training_main"],
            "resources": {"cpu": "500m", "memory": "4Gi"}});
        let mut registry = SubmitterRegistry::new("submitter");
        crate::register_submitters(&mut registry);
        let deps = PlatformDeps::new(".", Arc::new(SystemClock));
        let problem = |settings: &Value| match registry.build("kubernetes", "j", settings, &deps) {
            Ok(_) => "none".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(problem(&good), "none");
        for (key, value) in [
            ("namespace", json!("ML")),
            ("namespace", json!("-ml")),
            ("image", json!("training:latest")),
            ("image", json!(format!("training@sha256:{}", "a".repeat(63)))),
            ("command", json!([])),
            ("resources.cpu", json!({"cpu": "two", "memory": "4Gi"})),
            ("resources.memory", json!({"cpu": "2", "memory": "4 GB"})),
            ("resources.cpu", json!({"cpu": "0", "memory": "4Gi"})),
            ("resources", json!({"cpu": 2, "memory": "4Gi"})),
            ("work.size_limit", json!({"size_limit": "large"})),
            ("run_as_user", json!(0)),
            ("active_deadline_secs", json!(0)),
            ("ttl_secs_after_finished", json!(3_600)),
            ("timeout_secs", json!(0)),
            ("patch", json!([])),
            ("context", json!("elsewhere")),
            ("gpus", json!(1)),
        ] {
            let mut settings = good.clone();
            let top = key.split('.').next().unwrap_or(key);
            settings[top] = value.clone();
            let found = problem(&settings);
            assert!(found.contains(key), "{key}: {value}: {found}");
        }
    }
}
