//! Settings of the submitter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_sagemaker::config::Credentials;
use mloop_platform::{BuildError, JobSubmitter, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{Connection, ConnectionSettings};
use crate::settings::{
    VpcSettings, check_environment, check_image, check_role, check_tags, location,
};
use crate::submitter::SageMakerSubmitter;

/// Settings of [`SageMakerSubmitter`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SageMakerSubmitterSettings {
    /// Region, addresses and time limits.
    pub connection: ConnectionSettings,
    /// Role that the containers run under.
    pub role_arn: String,
    /// Image with `training_main`, by its digest: `…/training@sha256:…`.
    pub image: String,
    /// Program and arguments in the image, such as
    /// `[training_main, --config, /opt/ml/input/data/config/training_config.yaml]`. Let its work
    /// folder be below `/opt/ml/checkpoints`, so that an interrupted job goes on.
    pub command: Vec<String>,
    /// Channels beside `job`: each name's objects are found in `/opt/ml/input/data/{name}`.
    #[serde(default)]
    pub channels: BTreeMap<String, String>,
    /// Where job files, checkpoints and results are kept: `s3://bucket/prefix`.
    pub jobs: String,
    /// Such as `ml.m5.xlarge`. A job runs on one instance.
    pub instance_type: String,
    /// Size of its volume in GB.
    #[serde(default = "default_volume_gb")]
    pub volume_gb: u32,
    /// Longest time in seconds that a job may run, after which it is stopped with its state saved.
    #[serde(default = "default_max_runtime_secs")]
    pub max_runtime_secs: u32,
    /// How often an interrupted job is started again before a person must look.
    #[serde(default = "default_max_restarts")]
    pub max_restarts: u32,
    /// KMS key for volumes and outputs; AWS's default when left out.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Whether containers can make no calls out. A training that registers its version in MLflow
    /// must be able to.
    #[serde(default)]
    pub network_isolation: bool,
    /// VPC that the containers are attached to.
    #[serde(default)]
    pub vpc: Option<VpcSettings>,
    /// Environment variables of the containers. No secrets: everybody who may describe a job reads
    /// them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Tags of the jobs, for the bill.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

fn default_volume_gb() -> u32 {
    30
}

fn default_max_runtime_secs() -> u32 {
    86_400
}

fn default_max_restarts() -> u32 {
    5
}

impl Spec<Arc<dyn JobSubmitter>, PlatformDeps> for SageMakerSubmitterSettings {
    const KIND: &'static str = "sagemaker";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn JobSubmitter>, BuildError> {
        self.submitter(&deps.base, None)
    }
}

impl SageMakerSubmitterSettings {
    pub(crate) fn submitter(
        self,
        base: &Path,
        credentials: Option<Credentials>,
    ) -> Result<Arc<dyn JobSubmitter>, BuildError> {
        self.check()?;
        let jobs = location("jobs", &self.jobs)?;
        let secs = self.connection.timeout_secs;
        let connection = Connection::new(self.connection.clone(), base, secs, credentials)?;
        Ok(Arc::new(SageMakerSubmitter::new(self, jobs, connection)))
    }

    fn check(&self) -> Result<(), BuildError> {
        self.connection.check()?;
        check_role("role_arn", &self.role_arn)?;
        check_image("image", &self.image)?;
        if self.command.first().is_none_or(String::is_empty) {
            return Err(BuildError::invalid("command", "must begin with a program"));
        }
        if let Some(long) = self.command.iter().find(|word| word.len() > 256) {
            let problem = format!("`{long}` has more than 256 characters");
            return Err(BuildError::invalid("command", problem));
        }
        for (name, url) in &self.channels {
            let key = format!("channels.{name}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            if name == "job" || name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
                let problem = "must be 1 to 64 letters, digits, dots, hyphens and underscores, and \
                               not `job`";
                return Err(BuildError::invalid(key, problem));
            }
            location(&key, url)?;
        }
        if !self.instance_type.starts_with("ml.") {
            let problem = "must be an instance type of SageMaker, such as ml.m5.xlarge";
            return Err(BuildError::invalid("instance_type", problem));
        }
        if !(1..=16_384).contains(&self.volume_gb) {
            return Err(BuildError::invalid("volume_gb", "must be 1 to 16384"));
        }
        if !(1..=28 * 86_400).contains(&self.max_runtime_secs) {
            return Err(BuildError::invalid("max_runtime_secs", "must be 1 to 2419200 (28 days)"));
        }
        if self.max_restarts > 99 {
            return Err(BuildError::invalid("max_restarts", "must be at most 99"));
        }
        check_environment(&self.environment)?;
        check_tags(&self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sound() -> Value {
        json!({
            "connection": {"region": "eu-central-1"},
            "role_arn": "arn:aws:iam::123456789012:role/mloop",
            "image": format!("registry/training@sha256:{}", "0".repeat(64)),
            "command": ["training_main"],
            "jobs": "s3://models/jobs",
            "instance_type": "ml.m5.xlarge",
        })
    }

    #[test]
    fn what_aws_would_refuse_is_told_at_once() {
        for (change, key) in [
            (json!({}), None),
            (json!({"command": []}), Some("command")),
            (json!({"channels": {"job": "s3://models/x"}}), Some("channels.job")),
            (json!({"channels": {"data": "/data"}}), Some("channels.data")),
            (json!({"instance_type": "m5"}), Some("instance_type")),
            (json!({"volume_gb": 0}), Some("volume_gb")),
            (json!({"max_runtime_secs": 3_000_000}), Some("max_runtime_secs")),
            (json!({"max_restarts": 100}), Some("max_restarts")),
            (json!({"jobs": "jobs"}), Some("jobs")),
        ] {
            let mut settings = sound();
            for (name, value) in change.as_object().expect("an object") {
                settings[name] = value.clone();
            }
            let settings: SageMakerSubmitterSettings =
                serde_json::from_value(settings).expect("known settings");
            let path = settings.submitter(Path::new("."), None).err().map(|error| match error {
                BuildError::Settings { path, .. } => path,
                other => panic!("{other}"),
            });
            assert_eq!(path.as_deref(), key, "{change}");
        }
    }
}
