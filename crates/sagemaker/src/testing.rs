//! The same components with credentials that a test gives, rather than those of the machine.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_sagemaker::config::Credentials;
use mloop_deployer::Endpoints;
use mloop_platform::JobSubmitter;

use crate::{SageMakerDeployerSettings, SageMakerSubmitterSettings};

fn credentials([id, secret]: [&str; 2]) -> Option<Credentials> {
    Some(Credentials::new(id, secret, None, None, "test"))
}

/// A deployer with a key id and a secret key.
///
/// # Panics
/// When the settings are wrong.
#[must_use]
pub fn endpoints(settings: SageMakerDeployerSettings, keys: [&str; 2]) -> Endpoints {
    settings.endpoints(Path::new("."), credentials(keys)).expect("settings of a test")
}

/// A submitter with a key id and a secret key.
///
/// # Panics
/// When the settings are wrong.
#[must_use]
pub fn submitter(settings: SageMakerSubmitterSettings, keys: [&str; 2]) -> Arc<dyn JobSubmitter> {
    settings.submitter(Path::new("."), credentials(keys)).expect("settings of a test")
}
