//! What is asked for under a derived name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_sagemaker::operation::describe_endpoint_config::DescribeEndpointConfigOutput;
use aws_sdk_sagemaker::operation::describe_model::DescribeModelOutput;
use aws_sdk_sagemaker::types::{
    CaptureMode, CaptureOption, ContainerDefinition, DataCaptureConfig, ProductionVariant,
    ProductionVariantInstanceType, Tag, VpcConfig,
};
use mloop_core::{ModelVersion, Sha256Digest};
use serde::Serialize;

use crate::names::derived;
use crate::objects::Location;
use crate::settings::{CaptureSettings, FleetSettings, SageMakerDeployerSettings, VpcSettings};

/// Environment variable of a model's container with the digest of its version: what a description
/// of an endpoint is traced back to.
pub(crate) const DIGEST_VARIABLE: &str = "MLOOP_VERSION_DIGEST";

/// The same everywhere: SageMaker shifts traffic between fleets of one variant only.
pub(crate) const VARIANT: &str = "primary";

/// Whether an environment variable is mloop's own.
pub(crate) fn reserved(name: &str) -> bool {
    name.starts_with("MLOOP_")
}

/// A model of SageMaker: a version, its image and its role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ModelPlan {
    #[serde(skip)]
    pub(crate) name: String,
    image: String,
    artifact: String,
    environment: BTreeMap<String, String>,
    role: String,
    isolated: bool,
    vpc: Option<VpcSettings>,
}

impl ModelPlan {
    pub(crate) fn new(
        settings: &SageMakerDeployerSettings,
        version: &ModelVersion,
        artifact: &Location,
    ) -> Result<Self, serde_json::Error> {
        let digest = version.version.digest;
        let mut environment = settings.environment.clone();
        environment.insert(DIGEST_VARIABLE.to_owned(), digest.to_string());
        let plan = Self {
            name: String::new(),
            image: settings.image.clone(),
            artifact: artifact.to_string(),
            environment,
            role: settings.role_arn.clone(),
            isolated: settings.network_isolation,
            vpc: settings.vpc.clone(),
        };
        let name = derived(&version.model, digest, Sha256Digest::of_json(&plan)?);
        Ok(Self { name, ..plan })
    }

    pub(crate) fn container(&self) -> ContainerDefinition {
        let environment: HashMap<String, String> = self.environment.clone().into_iter().collect();
        ContainerDefinition::builder()
            .image(&self.image)
            .model_data_url(&self.artifact)
            .set_environment(Some(environment))
            .build()
    }

    pub(crate) fn role(&self) -> &str {
        &self.role
    }

    pub(crate) fn isolated(&self) -> bool {
        self.isolated
    }

    pub(crate) fn vpc(&self) -> Option<VpcConfig> {
        let vpc = self.vpc.as_ref()?;
        let subnets = Some(vpc.subnets.clone());
        let groups = Some(vpc.security_groups.clone());
        Some(VpcConfig::builder().set_subnets(subnets).set_security_group_ids(groups).build())
    }

    /// What a description differs in; none when it is this.
    pub(crate) fn difference(&self, found: &DescribeModelOutput) -> Option<&'static str> {
        let container = found.primary_container();
        let vpc =
            found.vpc_config().map(|vpc| (sorted(vpc.subnets()), sorted(vpc.security_group_ids())));
        let own = self.vpc.as_ref().map(|vpc| (sorted(&vpc.subnets), sorted(&vpc.security_groups)));
        let environment: Option<BTreeMap<String, String>> = container
            .and_then(ContainerDefinition::environment)
            .map(|map| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
        let image = container.and_then(ContainerDefinition::image);
        let artifact = container.and_then(ContainerDefinition::model_data_url);
        first_difference([
            ("image", image == Some(&self.image)),
            ("artifact", artifact == Some(&self.artifact)),
            ("environment", environment.as_ref() == Some(&self.environment)),
            ("role", found.execution_role_arn() == Some(&self.role)),
            (
                "network isolation",
                found.enable_network_isolation().unwrap_or(false) == self.isolated,
            ),
            ("VPC", vpc == own),
        ])
    }
}

/// An endpoint configuration: one variant of a model on its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigPlan {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) model: String,
    fleet: FleetSettings,
    capture: Option<CaptureSettings>,
    kms_key: Option<String>,
    startup_timeout_secs: u32,
}

impl ConfigPlan {
    pub(crate) fn new(
        settings: &SageMakerDeployerSettings,
        version: &ModelVersion,
        model: &ModelPlan,
        staging: bool,
    ) -> Result<Self, serde_json::Error> {
        let own = settings.production.clone();
        let one = || FleetSettings { instance_count: 1, ..own.clone() };
        let fleet =
            if staging { settings.staging.clone().unwrap_or_else(one) } else { own.clone() };
        // The requests of smoke tests are no traffic.
        let capture = if staging { None } else { settings.data_capture.clone() };
        let plan = Self {
            name: String::new(),
            model: model.name.clone(),
            fleet,
            capture,
            kms_key: settings.kms_key.clone(),
            startup_timeout_secs: settings.startup_timeout_secs,
        };
        let inputs = Sha256Digest::of_json(&plan)?;
        let name = derived(&version.model, version.version.digest, inputs);
        Ok(Self { name, ..plan })
    }

    pub(crate) fn kms_key(&self) -> Option<&str> {
        self.kms_key.as_deref()
    }

    pub(crate) fn variant(&self) -> ProductionVariant {
        ProductionVariant::builder()
            .variant_name(VARIANT)
            .model_name(&self.model)
            .instance_type(ProductionVariantInstanceType::from(self.fleet.instance_type.as_str()))
            .initial_instance_count(self.count())
            .initial_variant_weight(1.0)
            .model_data_download_timeout_in_seconds(self.startup())
            .container_startup_health_check_timeout_in_seconds(self.startup())
            .build()
    }

    fn count(&self) -> i32 {
        i32::try_from(self.fleet.instance_count).unwrap_or(i32::MAX)
    }

    fn startup(&self) -> i32 {
        i32::try_from(self.startup_timeout_secs).unwrap_or(3600)
    }

    pub(crate) fn data_capture(&self) -> Option<DataCaptureConfig> {
        let capture = self.capture.as_ref()?;
        let both = [CaptureMode::Input, CaptureMode::Output]
            .map(|mode| CaptureOption::builder().capture_mode(mode).build());
        let built = DataCaptureConfig::builder()
            .enable_capture(true)
            .initial_sampling_percentage(i32::try_from(capture.percentage).unwrap_or(100))
            .destination_s3_uri(&capture.destination)
            .set_kms_key_id(capture.kms_key.clone())
            .set_capture_options(Some(both.to_vec()));
        Some(built.build())
    }

    /// What a description differs in; none when it is this.
    pub(crate) fn difference(&self, found: &DescribeEndpointConfigOutput) -> Option<&'static str> {
        let [variant] = found.production_variants() else { return Some("number of variants") };
        let kind = variant.instance_type().map(ProductionVariantInstanceType::as_str);
        let capture = found
            .data_capture_config()
            .map(|capture| (capture.initial_sampling_percentage(), capture.destination_s3_uri()));
        let wanted = self.data_capture();
        let wanted = wanted
            .as_ref()
            .map(|capture| (capture.initial_sampling_percentage(), capture.destination_s3_uri()));
        first_difference([
            ("variant", variant.variant_name() == Some(VARIANT)),
            ("model", variant.model_name() == Some(&self.model)),
            ("instance type", kind == Some(&self.fleet.instance_type)),
            ("instance count", variant.initial_instance_count() == Some(self.count())),
            // Keys are left out: an alias may come back as the key that it stands for.
            ("data capture", capture == wanted),
        ])
    }
}

fn sorted(texts: &[String]) -> BTreeSet<&String> {
    texts.iter().collect()
}

fn first_difference<const N: usize>(equal: [(&'static str, bool); N]) -> Option<&'static str> {
    equal.into_iter().find(|(_, equal)| !equal).map(|(what, _)| what)
}

/// Tags of what is made for a version.
pub(crate) fn tags(own: &BTreeMap<String, String>, version: &ModelVersion) -> Vec<Tag> {
    let ours = [
        ("mloop:model".to_owned(), version.model.to_string()),
        ("mloop:version".to_owned(), version.version.number.to_string()),
        ("mloop:digest".to_owned(), version.version.digest.to_string()),
    ];
    let own = own.iter().map(|(key, value)| (key.clone(), value.clone()));
    let all = ours.into_iter().chain(own);
    all.map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}
