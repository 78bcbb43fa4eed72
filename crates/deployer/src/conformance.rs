//! What every deployer must do, whoever wrote it.

use std::path::PathBuf;
use std::time::Duration;

use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, ModelVersion, Sha256Digest};

use crate::{DeployError, DeployRequest, Deployer, Endpoints, Invocation, SwitchRequest};

/// A version with its files, for the suite.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The version.
    pub version: ModelVersion,
    /// Its files.
    pub folder: PathBuf,
}

/// Walks two versions through a staging and a production endpoint, which must not exist before.
/// `sound` is a request that both versions answer with 200; `patience` is the longest time that an
/// endpoint may take to change.
///
/// # Panics
/// With the broken rule.
pub async fn check_deployer(
    platform: &Endpoints,
    [staging, production]: [&EndpointName; 2],
    [first, second]: [&Candidate; 2],
    sound: &Invocation,
    patience: Duration,
) {
    let deployer = platform.deployer.as_ref();
    let absent = deployer.describe(staging).await.expect("a missing endpoint is described");
    assert_eq!(absent, None, "an endpoint that does not exist is none, not an error");

    let stage = deploy(staging, first);
    deployer.deploy_model(&stage).await.expect("a first deployment");
    deployer.deploy_model(&stage).await.expect("a repeated deployment is adopted");
    settled(deployer, staging, first.version.version.digest, patience).await;

    let to_first = switch(production, first, None);
    deployer.switch_to_production(&to_first).await.expect("a first switch");
    deployer.switch_to_production(&to_first).await.expect("a repeated switch is adopted");
    settled(deployer, production, first.version.version.digest, patience).await;
    answers_with(platform, production, sound, first.version.version.digest).await;

    let stranger = switch(production, second, Some(Sha256Digest::of(b"somebody else's")));
    let refusal = deployer.switch_to_production(&stranger).await.expect_err("a stranger's version");
    assert!(matches!(refusal, DeployError::Conflict { .. }), "{refusal:?}");
    answers_with(platform, production, sound, first.version.version.digest).await;

    let to_second = switch(production, second, Some(first.version.version.digest));
    deployer.switch_to_production(&to_second).await.expect("a second switch");
    settled(deployer, production, second.version.version.digest, patience).await;
    answers_with(platform, production, sound, second.version.version.digest).await;
    answers_with(platform, staging, sound, first.version.version.digest).await;

    let stranger = switch(production, first, Some(Sha256Digest::of(b"somebody else's")));
    let refusal = deployer.rollback(&stranger).await.expect_err("not what is to be taken back");
    assert!(matches!(refusal, DeployError::Conflict { .. }), "{refusal:?}");
    answers_with(platform, production, sound, second.version.version.digest).await;

    let back = switch(production, first, Some(second.version.version.digest));
    deployer.rollback(&back).await.expect("a rollback");
    deployer.rollback(&back).await.expect("a repeated rollback");
    settled(deployer, production, first.version.version.digest, patience).await;
    answers_with(platform, production, sound, first.version.version.digest).await;

    platform.janitor.remove_endpoint(staging).await.expect("staging is removed");
    platform.janitor.remove_endpoint(staging).await.expect("what is gone is fine");
    let left = platform.janitor.endpoints().await.expect("a list");
    assert!(!left.contains(staging) && left.contains(production), "{left:?}");
}

fn deploy(endpoint: &EndpointName, candidate: &Candidate) -> DeployRequest {
    let Candidate { version, folder } = candidate.clone();
    DeployRequest { endpoint: endpoint.clone(), version, folder }
}

fn switch(
    endpoint: &EndpointName,
    candidate: &Candidate,
    current: Option<Sha256Digest>,
) -> SwitchRequest {
    let Candidate { version, folder } = candidate.clone();
    SwitchRequest { endpoint: endpoint.clone(), version, folder, current }
}

async fn settled(
    deployer: &dyn Deployer,
    endpoint: &EndpointName,
    digest: Sha256Digest,
    patience: Duration,
) {
    let end = tokio::time::Instant::now() + patience;
    loop {
        let found = deployer.describe(endpoint).await.expect("an endpoint is described");
        match found {
            Some(EndpointDescription { state: EndpointState::InService, configured, .. })
                if configured == Some(digest) =>
            {
                return;
            }
            other => assert!(tokio::time::Instant::now() < end, "{endpoint}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn answers_with(
    platform: &Endpoints,
    endpoint: &EndpointName,
    sound: &Invocation,
    digest: Sha256Digest,
) {
    for fresh_connection in [false, true] {
        let invocation = Invocation { fresh_connection, ..sound.clone() };
        let answer = platform.client.invoke(endpoint, &invocation).await.expect("an answer");
        assert_eq!((answer.status, answer.digest), (200, Some(digest)), "{endpoint}");
    }
}

/// A version of that number whose digest is that of `content`, for tests without files.
///
/// # Panics
/// Never.
#[must_use]
pub fn sample_version(number: u64, content: &str) -> ModelVersion {
    ModelVersion {
        model: mloop_core::ModelName::new("fashion").expect("a name"),
        version: mloop_core::VersionRef { number, digest: Sha256Digest::of(content.as_bytes()) },
        created_at: "2026-03-01T00:00:00Z".parse().expect("a moment"),
        source: format!("memory:{number}"),
        tags: std::collections::BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Fault, InMemoryEndpoints};

    async fn run(fake: InMemoryEndpoints) {
        let fake = Arc::new(fake);
        let platform =
            Endpoints { deployer: fake.clone(), client: fake.clone(), janitor: fake.clone() };
        let names = ["staging", "production"].map(|name| EndpointName::new(name).expect("a name"));
        let [first, second] = ["one", "two"].map(|content| Candidate {
            version: sample_version(1, content),
            folder: PathBuf::new(),
        });
        let content_type = "image/png".to_owned();
        let sound = Invocation { content_type, body: vec![1], ..Invocation::default() };
        check_deployer(
            &platform,
            [&names[0], &names[1]],
            [&first, &second],
            &sound,
            Duration::from_millis(200),
        )
        .await;
    }

    #[tokio::test]
    async fn the_fake_passes() {
        run(InMemoryEndpoints::new()).await;
    }

    #[tokio::test]
    #[should_panic(expected = "production")]
    async fn a_switch_that_does_not_happen_is_caught() {
        run(InMemoryEndpoints::with_fault(Fault::SilentRollback)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "500")]
    async fn an_endpoint_that_does_not_answer_is_caught() {
        run(InMemoryEndpoints::with_fault(Fault::Broken)).await;
    }
}
