//! Settings of the deployer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_sagemaker::config::Credentials;
use mloop_deployer::{BuildError, Endpoints, Spec};
use mloop_platform::PlatformDeps;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, ConnectionSettings};
use crate::deployer::AwsSageMakerDeployer;
use crate::objects::Location;
use crate::plan::{DIGEST_VARIABLE, reserved};

/// Settings of [`AwsSageMakerDeployer`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SageMakerDeployerSettings {
    /// Region, addresses and time limits.
    pub connection: ConnectionSettings,
    /// Role that the containers run under: it may read the artifacts and pull the image.
    pub role_arn: String,
    /// Image of the model server (or any that keeps SageMaker's container contract), by its digest:
    /// `…/model-server@sha256:…`. A tag could mean another image tomorrow.
    pub image: String,
    /// Where versions are put as `model.tar.gz`: `s3://bucket/prefix`.
    pub artifacts: String,
    /// KMS key for the artifacts and the volumes of the endpoints; AWS's default when left out.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Instances of production.
    pub production: FleetSettings,
    /// Instances of staging; one of production's type when left out.
    #[serde(default)]
    pub staging: Option<FleetSettings>,
    /// Data capture of production; none captures nothing, and leaves monitoring without traffic.
    #[serde(default)]
    pub data_capture: Option<CaptureSettings>,
    /// Whether containers can make no calls out.
    #[serde(default = "default_network_isolation")]
    pub network_isolation: bool,
    /// VPC that the containers are attached to.
    #[serde(default)]
    pub vpc: Option<VpcSettings>,
    /// Environment variables of the containers. No secrets: everybody who may describe a model
    /// reads them.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Tags of everything that is made, for the bill.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Longest time in seconds, 60 to 3600, that a container may take to download its model and
    /// answer `/ping`.
    #[serde(default = "default_startup_timeout_secs")]
    pub startup_timeout_secs: u32,
    /// Longest time in seconds that an endpoint may take to answer; SageMaker's own limit is 60.
    #[serde(default = "default_invoke_timeout_secs")]
    pub invoke_timeout_secs: u64,
    /// Longest time in seconds that the deletion of a failed staging endpoint is waited for.
    #[serde(default = "default_deletion_timeout_secs")]
    pub deletion_timeout_secs: u64,
    /// Milliseconds between two looks at it. SageMaker throttles who looks often.
    #[serde(default = "default_deletion_poll_ms")]
    pub deletion_poll_ms: u64,
}

/// Instances of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetSettings {
    /// Such as `ml.m5.large`.
    pub instance_type: String,
    /// How many.
    #[serde(default = "default_instance_count")]
    pub instance_count: u32,
}

/// Data capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureSettings {
    /// Share of the requests, 1 to 100.
    pub percentage: u32,
    /// Where to: `s3://bucket/prefix`; SageMaker adds endpoint, variant and hour.
    pub destination: String,
    /// KMS key for the captured requests; AWS's default when left out.
    #[serde(default)]
    pub kms_key: Option<String>,
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcSettings {
    /// Subnets.
    pub subnets: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
}

fn default_network_isolation() -> bool {
    true
}

fn default_startup_timeout_secs() -> u32 {
    600
}

fn default_invoke_timeout_secs() -> u64 {
    60
}

fn default_deletion_timeout_secs() -> u64 {
    600
}

fn default_deletion_poll_ms() -> u64 {
    15_000
}

fn default_instance_count() -> u32 {
    1
}

impl Spec<Endpoints, PlatformDeps> for SageMakerDeployerSettings {
    const KIND: &'static str = "sagemaker";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Endpoints, BuildError> {
        self.endpoints(&deps.base, None)
    }
}

impl SageMakerDeployerSettings {
    pub(crate) fn endpoints(
        self,
        base: &Path,
        credentials: Option<Credentials>,
    ) -> Result<Endpoints, BuildError> {
        self.check()?;
        let artifacts = location("artifacts", &self.artifacts)?;
        let settings = self.connection.clone();
        let connection = Connection::new(settings, base, self.invoke_timeout_secs, credentials)?;
        let deployer = Arc::new(AwsSageMakerDeployer::new(self, artifacts, connection));
        Ok(Endpoints { deployer: deployer.clone(), client: deployer.clone(), janitor: deployer })
    }

    fn check(&self) -> Result<(), BuildError> {
        self.connection.check()?;
        check_role("role_arn", &self.role_arn)?;
        check_image("image", &self.image)?;
        check_fleet("production", &self.production)?;
        if let Some(staging) = &self.staging {
            check_fleet("staging", staging)?;
        }
        if let Some(capture) = &self.data_capture {
            location("data_capture.destination", &capture.destination)?;
            if !(1..=100).contains(&capture.percentage) {
                return Err(BuildError::invalid("data_capture.percentage", "must be 1 to 100"));
            }
        }
        if !(60..=3600).contains(&self.startup_timeout_secs) {
            return Err(BuildError::invalid("startup_timeout_secs", "must be 60 to 3600"));
        }
        let counts = [
            ("invoke_timeout_secs", self.invoke_timeout_secs),
            ("deletion_timeout_secs", self.deletion_timeout_secs),
            ("deletion_poll_ms", self.deletion_poll_ms),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(BuildError::invalid(*key, "must be above 0"));
        }
        check_environment(&self.environment)?;
        check_tags(&self.tags)
    }
}

/// The place that a setting names.
pub(crate) fn location(key: &str, text: &str) -> Result<Location, BuildError> {
    text.parse().map_err(|problem: String| BuildError::invalid(key, problem))
}

pub(crate) fn check_role(key: &str, arn: &str) -> Result<(), BuildError> {
    let parts: Vec<&str> = arn.split(':').collect();
    let fits = matches!(parts.as_slice(), ["arn", partition, "iam", "", account, role]
        if partition.starts_with("aws")
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && role.starts_with("role/"));
    let problem = "must be the ARN of a role: arn:aws:iam::123456789012:role/name";
    if fits { Ok(()) } else { Err(BuildError::invalid(key, problem)) }
}

pub(crate) fn check_image(key: &str, image: &str) -> Result<(), BuildError> {
    let digest = image.rsplit_once("@sha256:").map(|(_, digest)| digest);
    let is_digest = |text: &str| {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if digest.is_some_and(is_digest) && image.len() <= 255 && !image.contains(char::is_whitespace) {
        return Ok(());
    }
    let problem = "must name the image by its digest: registry/name@sha256:64 hexadecimal digits";
    Err(BuildError::invalid(key, problem))
}

fn check_fleet(key: &str, fleet: &FleetSettings) -> Result<(), BuildError> {
    if !fleet.instance_type.starts_with("ml.") {
        let problem = "must be an instance type of SageMaker, such as ml.m5.large";
        return Err(BuildError::invalid(format!("{key}.instance_type"), problem));
    }
    if fleet.instance_count == 0 {
        return Err(BuildError::invalid(format!("{key}.instance_count"), "must be above 0"));
    }
    Ok(())
}

pub(crate) fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), BuildError> {
    if let Some(name) = environment.keys().find(|name| reserved(name)) {
        let problem = format!("{DIGEST_VARIABLE} and all MLOOP_ names are mloop's own");
        return Err(BuildError::invalid(format!("environment.{name}"), problem));
    }
    let too_long = environment.iter().find(|(_, value)| value.len() > 512);
    match too_long {
        Some((name, _)) => {
            Err(BuildError::invalid(format!("environment.{name}"), "has more than 512 characters"))
        }
        None if environment.len() > 50 => {
            Err(BuildError::invalid("environment", "has more than 50 variables"))
        }
        None => Ok(()),
    }
}

pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), BuildError> {
    let allowed = |character: char| character.is_alphanumeric() || " _.:/=+-@".contains(character);
    for (key, value) in tags {
        let fits = (1..=128).contains(&key.len())
            && value.len() <= 256
            && key.chars().chain(value.chars()).all(allowed)
            && !key.starts_with("aws:")
            && !key.starts_with("mloop:");
        if !fits {
            let problem = "AWS allows letters, digits, spaces and _.:/=+-@, 128 characters in a \
                           key and 256 in a value; `aws:` and `mloop:` are taken";
            return Err(BuildError::invalid(format!("tags.{key}"), problem));
        }
    }
    // AWS allows 50, of which mloop needs three.
    if tags.len() > 40 {
        return Err(BuildError::invalid("tags", "has more than 40 tags"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sound() -> Value {
        let image =
            format!("123456789012.dkr.ecr.eu-central-1.amazonaws.com/m@sha256:{}", "0".repeat(64));
        json!({
            "connection": {"region": "eu-central-1"},
            "role_arn": "arn:aws:iam::123456789012:role/mloop",
            "image": image,
            "artifacts": "s3://models/mloop",
            "production": {"instance_type": "ml.m5.large"},
        })
    }

    #[test]
    fn what_aws_would_refuse_is_told_at_once() {
        for (change, key) in [
            (json!({}), None),
            (json!({"role_arn": "mloop"}), Some("role_arn")),
            (json!({"image": "model-server:latest"}), Some("image")),
            (json!({"artifacts": "/models"}), Some("artifacts")),
            (json!({"production": {"instance_type": "m5"}}), Some("production.instance_type")),
            (
                json!({"staging": {"instance_type": "ml.m5.large", "instance_count": 0}}),
                Some("staging.instance_count"),
            ),
            (
                json!({"data_capture": {"percentage": 0, "destination": "s3://models/c"}}),
                Some("data_capture.percentage"),
            ),
            (
                json!({"data_capture": {"percentage": 100, "destination": "here"}}),
                Some("data_capture.destination"),
            ),
            (json!({"startup_timeout_secs": 5}), Some("startup_timeout_secs")),
            (json!({"environment": {"MLOOP_X": "y"}}), Some("environment.MLOOP_X")),
            (json!({"tags": {"team": "a;b"}}), Some("tags.team")),
        ] {
            let mut settings = sound();
            for (name, value) in change.as_object().expect("an object") {
                settings[name] = value.clone();
            }
            let settings: SageMakerDeployerSettings =
                serde_json::from_value(settings).expect("known settings");
            let path = settings.check().and_then(|()| location("artifacts", &settings.artifacts));
            let path = path.err().map(|error| match error {
                BuildError::Settings { path, .. } => path,
                other => panic!("{other}"),
            });
            assert_eq!(path.as_deref(), key, "{change}");
        }
    }
}
