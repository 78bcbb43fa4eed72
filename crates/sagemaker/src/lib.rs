//! Deployer and training-job submitter on Amazon SageMaker.
//!
//! | module | does |
//! |---|---|
//! | `connection` | region, addresses, time limits; the clients, made at their first use |
//! | `failure` | the one policy of what an answer of AWS means |
//! | `acting` | calls that change something, each preceded by a look |
//! | `archive`, `objects` | a version as reproducible `model.tar.gz`; S3 |
//! | `names`, `plan` | names that derive from what they name, and what is asked for under them |
//! | `reaction` | what is done about each state of an endpoint |
//! | `deployer`, `looks`, `invoke` | `AwsSageMakerDeployer`: deployer, client and janitor |
//! | `submitter`, `training` | `SageMakerSubmitter`: training jobs |
//!
//! SageMaker knows no idempotency token for what is called here. So every name derives from its
//! content, each change is preceded by a look, and after a call without a clear answer a look decides.
//!
//! S3 is spoken to with `aws-sdk-s3` rather than through another client, so that credentials, time
//! limits, repeats and the meaning of errors are those of the other two services. An object is written on
//! condition that there is none, so that the SDK may repeat that.

mod acting;
mod archive;
mod connection;
mod deployer;
mod failure;
mod invoke;
mod job_settings;
mod looks;
mod names;
mod objects;
mod plan;
mod reaction;
mod settings;
mod submitter;
#[cfg(feature = "testing")]
pub mod testing;
mod training;

pub use connection::ConnectionSettings;
pub use deployer::AwsSageMakerDeployer;
pub use job_settings::SageMakerSubmitterSettings;
use mloop_deployer::DeployerRegistry;
use mloop_platform::SubmitterRegistry;
pub use settings::{CaptureSettings, FleetSettings, SageMakerDeployerSettings, VpcSettings};
pub use submitter::SageMakerSubmitter;

/// Fail points of a deployment's calls, in their order.
pub const DEPLOYER_POINTS: [&str; 5] = [
    "sagemaker.uploaded",
    "sagemaker.modelled",
    "sagemaker.configured",
    "sagemaker.changing",
    "sagemaker.changed",
];

/// Fail points of a submission's calls, in their order.
pub const SUBMITTER_POINTS: [&str; 2] = ["sagemaker.job_written", "sagemaker.job_created"];

/// Registers the kinds of deployers.
pub fn register_deployers(registry: &mut DeployerRegistry) {
    registry.register::<SageMakerDeployerSettings>();
}

/// Registers the kinds of job submitters.
pub fn register_submitters(registry: &mut SubmitterRegistry) {
    registry.register::<SageMakerSubmitterSettings>();
}
