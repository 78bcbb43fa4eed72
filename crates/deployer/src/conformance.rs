//! What every deployer must do, whoever wrote it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, ModelVersion, Sha256Digest};

use crate::{Always, DeployError, DeployRequest, Endpoints, Invocation, Permission, SwitchRequest};

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
    let look = Look { platform, sound, patience };
    let absent = deployer.describe(staging).await.expect("a missing endpoint is described");
    assert_eq!(absent, None, "an endpoint that does not exist is none, not an error");

    let withdrawn = |result: Result<(), DeployError>, rule: &str| {
        let refusal = result.expect_err(rule);
        assert!(matches!(refusal, DeployError::Withdrawn { .. }), "{rule}: {refusal:?}");
    };
    let stage = deploy(staging, first);
    let denied = DeployRequest { permission: Arc::new(Never), ..stage.clone() };
    withdrawn(deployer.deploy_model(&denied).await, "a deployment without permission");
    let found = deployer.describe(staging).await.expect("a missing endpoint is described");
    assert_eq!(found, None, "a deployment without permission makes no endpoint");
    deployer.deploy_model(&stage).await.expect("a first deployment");
    deployer.deploy_model(&stage).await.expect("a repeated deployment is adopted");
    look.settled(staging, first, "a deployment comes up").await;

    let to_first = switch(production, first, None);
    let denied = without_permission(&to_first);
    withdrawn(deployer.switch_to_production(&denied).await, "a first switch without permission");
    let found = deployer.describe(production).await.expect("a missing endpoint is described");
    assert_eq!(found, None, "a switch without permission makes no endpoint");
    deployer.switch_to_production(&to_first).await.expect("a first switch");
    deployer.switch_to_production(&to_first).await.expect("a repeated switch is adopted");
    look.settled(production, first, "a first switch makes production").await;
    look.answered(production, first, "the first version answers").await;

    let stranger = switch(production, second, Some(Sha256Digest::of(b"somebody else's")));
    let refusal = deployer.switch_to_production(&stranger).await.expect_err("a stranger's version");
    assert!(matches!(refusal, DeployError::Conflict { .. }), "not a conflict: {refusal:?}");
    look.answered(production, first, "a refused switch changes nothing").await;

    let to_second = switch(production, second, Some(first.version.version.digest));
    let denied = without_permission(&to_second);
    withdrawn(deployer.switch_to_production(&denied).await, "a second switch without permission");
    look.answered(production, first, "a switch without permission changes nothing").await;
    deployer.switch_to_production(&to_second).await.expect("a second switch");
    look.settled(production, second, "a second switch takes place").await;
    look.answered(production, second, "a switch takes all traffic").await;
    look.answered(staging, first, "a switch leaves staging alone").await;

    let stranger = switch(production, first, Some(Sha256Digest::of(b"somebody else's")));
    let refusal = deployer.rollback(&stranger).await.expect_err("not what is to be taken back");
    assert!(matches!(refusal, DeployError::Conflict { .. }), "{refusal:?}");
    look.answered(production, second, "a refused rollback changes nothing").await;

    let back = switch(production, first, Some(second.version.version.digest));
    withdrawn(deployer.rollback(&without_permission(&back)).await, "a rollback without permission");
    look.answered(production, second, "a rollback without permission changes nothing").await;
    deployer.rollback(&back).await.expect("a rollback");
    deployer.rollback(&back).await.expect("a repeated rollback is adopted");
    look.settled(production, first, "a rollback takes place").await;
    look.answered(production, first, "a rollback takes all traffic").await;

    platform.janitor.remove_endpoint(staging).await.expect("staging is removed");
    platform.janitor.remove_endpoint(staging).await.expect("what is gone is fine");
    let left = platform.janitor.endpoints().await.expect("a list");
    assert!(!left.contains(staging), "what was removed is gone: {left:?}");
    assert!(left.contains(production), "what was not removed stays: {left:?}");
}

fn deploy(endpoint: &EndpointName, candidate: &Candidate) -> DeployRequest {
    let Candidate { version, folder } = candidate.clone();
    DeployRequest { endpoint: endpoint.clone(), version, folder, permission: Arc::new(Always) }
}

fn without_permission(request: &SwitchRequest) -> SwitchRequest {
    SwitchRequest { permission: Arc::new(Never), ..request.clone() }
}

/// Of who was overtaken.
#[derive(Debug)]
struct Never;

#[async_trait]
impl Permission for Never {
    async fn is_given(&self) -> bool {
        false
    }
}

fn switch(
    endpoint: &EndpointName,
    candidate: &Candidate,
    current: Option<Sha256Digest>,
) -> SwitchRequest {
    let Candidate { version, folder } = candidate.clone();
    let (endpoint, permission) = (endpoint.clone(), Arc::new(Always));
    SwitchRequest { endpoint, version, folder, current, permission }
}

/// What an endpoint is looked at with.
struct Look<'a> {
    platform: &'a Endpoints,
    sound: &'a Invocation,
    patience: Duration,
}

impl Look<'_> {
    /// Waits until an endpoint is in service with a version.
    async fn settled(&self, endpoint: &EndpointName, wanted: &Candidate, rule: &str) {
        let end = tokio::time::Instant::now() + self.patience;
        let wanted = Some(wanted.version.version.digest);
        loop {
            let found = self.platform.deployer.describe(endpoint).await;
            match found.expect("an endpoint is described") {
                Some(EndpointDescription {
                    state: EndpointState::InService, configured, ..
                }) if configured == wanted => {
                    return;
                }
                other => assert!(tokio::time::Instant::now() < end, "{rule}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Demands answers of a version, over a connection that may be old and over a new one.
    async fn answered(&self, endpoint: &EndpointName, wanted: &Candidate, rule: &str) {
        let wanted = (200, Some(wanted.version.version.digest));
        for fresh_connection in [false, true] {
            let invocation = Invocation { fresh_connection, ..self.sound.clone() };
            let answer = self.platform.client.invoke(endpoint, &invocation).await;
            let answer = answer.expect("an answer");
            assert_eq!((answer.status, answer.digest), wanted, "{rule}: {endpoint}");
        }
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use mloop_platform::conformance::complaint;

    use super::*;
    use crate::{Answer, Deployer, EndpointClient, InMemoryEndpoints, Janitor};

    type Done = Result<(), DeployError>;

    /// A rule of the contract to be broken.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        FailsOnMissing,
        InventsMissing,
        RefusesSecondDeployment,
        NeverDeploys,
        RefusesSecondSwitch,
        NeverSwitches,
        AnswersWithErrors,
        HidesDigest,
        ReplacesStrangers,
        IsBusyWithStrangers,
        ReplacesAndRefuses,
        StopsAfterFirstSwitch,
        KeepsOldServer,
        SwitchesStaging,
        TakesStrangersBack,
        TakesBackAndRefuses,
        RefusesSecondRollback,
        NeverGoesBack,
        LingersAfterRollback,
        RefusesSecondRemoval,
        NeverRemoves,
        RemovesAll,
        DeploysUnasked,
        DeploysAndWithdraws,
        SwitchesUnasked,
        SwitchesAndWithdraws,
        IsBusyWithoutPermission,
        TakesBackUnasked,
        TakesBackAndWithdraws,
    }

    /// Endpoints that follow the contract but for one thing.
    struct Faulty {
        inner: InMemoryEndpoints,
        fault: Option<Fault>,
        /// Calls of the methods that a fault counts.
        calls: AtomicUsize,
        went_back: AtomicBool,
    }

    impl Faulty {
        fn has(&self, fault: Fault) -> bool {
            self.fault == Some(fault)
        }

        /// Fails at the second call under a fault.
        fn once(&self, fault: Fault) -> Done {
            let again = self.has(fault) && self.calls.fetch_add(1, Ordering::Relaxed) > 0;
            if again { Err(refused()) } else { Ok(()) }
        }

        async fn set(&self, endpoint: &EndpointName, request: &SwitchRequest) -> Done {
            let SwitchRequest { version, folder, .. } = request.clone();
            let (endpoint, permission) = (endpoint.clone(), Arc::new(Always));
            let request = DeployRequest { endpoint, version, folder, permission };
            self.inner.deploy_model(&request).await
        }
    }

    fn refused() -> DeployError {
        DeployError::Refused { doing: "trying".to_owned(), problem: "no".to_owned() }
    }

    fn name(name: &str) -> EndpointName {
        EndpointName::new(name).expect("a name")
    }

    #[async_trait]
    impl Deployer for Faulty {
        async fn deploy_model(&self, request: &DeployRequest) -> Done {
            if !request.permission.is_given().await {
                let always = DeployRequest { permission: Arc::new(Always), ..request.clone() };
                return match self.fault {
                    Some(Fault::DeploysUnasked) => self.inner.deploy_model(&always).await,
                    Some(Fault::DeploysAndWithdraws) => {
                        self.inner.deploy_model(&always).await?;
                        self.inner.deploy_model(request).await
                    }
                    _ => self.inner.deploy_model(request).await,
                };
            }
            self.once(Fault::RefusesSecondDeployment)?;
            if self.has(Fault::NeverDeploys) {
                return Ok(());
            }
            self.inner.deploy_model(request).await
        }

        async fn describe(
            &self,
            endpoint: &EndpointName,
        ) -> Result<Option<EndpointDescription>, DeployError> {
            let found = self.inner.describe(endpoint).await?;
            let invented = || EndpointDescription {
                state: EndpointState::Failed,
                configured: None,
                pending: None,
                detail: String::new(),
            };
            match (found, self.fault) {
                (None, Some(Fault::FailsOnMissing)) => Err(refused()),
                (None, Some(Fault::InventsMissing)) => Ok(Some(invented())),
                (found, _) => Ok(found),
            }
        }

        async fn switch_to_production(&self, request: &SwitchRequest) -> Done {
            if !request.permission.is_given().await {
                let serves = self.inner.serving(&request.endpoint).is_some();
                return match self.fault {
                    Some(Fault::SwitchesUnasked) => self.set(&request.endpoint, request).await,
                    Some(Fault::SwitchesAndWithdraws) if serves => {
                        self.set(&request.endpoint, request).await?;
                        self.inner.switch_to_production(request).await
                    }
                    Some(Fault::IsBusyWithoutPermission) if serves => Err(refused()),
                    _ => self.inner.switch_to_production(request).await,
                };
            }
            self.once(Fault::RefusesSecondSwitch)?;
            let serves = self.inner.serving(&request.endpoint);
            match self.fault {
                Some(Fault::NeverSwitches) => return Ok(()),
                Some(Fault::ReplacesStrangers) => {
                    return self.set(&request.endpoint, request).await;
                }
                Some(Fault::SwitchesStaging) => self.set(&name("staging"), request).await?,
                _ => {}
            }
            let done = self.inner.switch_to_production(request).await;
            match (self.fault, serves, &done) {
                (Some(Fault::ReplacesAndRefuses), _, Err(_)) => {
                    self.set(&request.endpoint, request).await?;
                }
                (Some(Fault::IsBusyWithStrangers), _, Err(_)) => return Err(refused()),
                (Some(Fault::StopsAfterFirstSwitch), Some(before), Ok(())) => {
                    let mut back = request.clone();
                    back.version.version.digest = before;
                    self.set(&request.endpoint, &back).await?;
                }
                _ => {}
            }
            done
        }

        async fn rollback(&self, request: &SwitchRequest) -> Done {
            if !request.permission.is_given().await {
                return match self.fault {
                    Some(Fault::TakesBackUnasked) => self.set(&request.endpoint, request).await,
                    Some(Fault::TakesBackAndWithdraws) => {
                        self.set(&request.endpoint, request).await?;
                        Err(DeployError::Withdrawn { doing: "rolling back".to_owned() })
                    }
                    _ => self.inner.rollback(request).await,
                };
            }
            let serves = self.inner.serving(&request.endpoint);
            let is_strange =
                ![request.current, Some(request.version.version.digest)].contains(&serves);
            match self.fault {
                Some(Fault::TakesStrangersBack) if is_strange => {
                    return self.set(&request.endpoint, request).await;
                }
                Some(Fault::TakesBackAndRefuses) if is_strange => {
                    let refusal = self.inner.rollback(request).await;
                    self.set(&request.endpoint, request).await?;
                    return refusal;
                }
                _ if is_strange => return self.inner.rollback(request).await,
                _ => {}
            }
            self.once(Fault::RefusesSecondRollback)?;
            self.went_back.store(true, Ordering::Relaxed);
            if self.has(Fault::NeverGoesBack) {
                return Ok(());
            }
            self.inner.rollback(request).await
        }
    }

    #[async_trait]
    impl EndpointClient for Faulty {
        async fn invoke(
            &self,
            endpoint: &EndpointName,
            invocation: &Invocation,
        ) -> Result<Answer, DeployError> {
            let mut answer = self.inner.invoke(endpoint, invocation).await?;
            match self.fault {
                Some(Fault::AnswersWithErrors) => answer.status = 500,
                Some(Fault::HidesDigest) => answer.digest = None,
                Some(Fault::KeepsOldServer) if !invocation.fresh_connection => {
                    answer.digest = Some(Sha256Digest::of(b"one"));
                }
                Some(Fault::LingersAfterRollback) if self.went_back.load(Ordering::Relaxed) => {
                    answer.digest = Some(Sha256Digest::of(b"two"));
                }
                _ => {}
            }
            Ok(answer)
        }
    }

    #[async_trait]
    impl Janitor for Faulty {
        async fn remove_endpoint(&self, endpoint: &EndpointName) -> Done {
            self.once(Fault::RefusesSecondRemoval)?;
            if self.has(Fault::RemovesAll) {
                self.inner.remove_endpoint(&name("production")).await?;
            }
            if self.has(Fault::NeverRemoves) {
                return Ok(());
            }
            self.inner.remove_endpoint(endpoint).await
        }

        async fn endpoints(&self) -> Result<Vec<EndpointName>, DeployError> {
            self.inner.endpoints().await
        }
    }

    async fn run(fault: Option<Fault>) {
        let inner = InMemoryEndpoints::new();
        let (calls, went_back) = (AtomicUsize::new(0), AtomicBool::new(false));
        let fake = Arc::new(Faulty { inner, fault, calls, went_back });
        let platform =
            Endpoints { deployer: fake.clone(), client: fake.clone(), janitor: fake.clone() };
        let candidate =
            |content| Candidate { version: sample_version(1, content), folder: PathBuf::new() };
        let [first, second] = ["one", "two"].map(candidate);
        let content_type = "image/png".to_owned();
        let sound = Invocation { content_type, body: vec![1], ..Invocation::default() };
        let names = [&name("staging"), &name("production")];
        // In memory nothing takes its time.
        check_deployer(&platform, names, [&first, &second], &sound, Duration::ZERO).await;
    }

    #[tokio::test]
    async fn the_fake_passes() {
        run(None).await;
    }

    #[tokio::test]
    async fn a_platform_that_breaks_a_rule_is_caught() {
        for (fault, rule) in [
            (Fault::FailsOnMissing, "a missing endpoint is described"),
            (Fault::InventsMissing, "an endpoint that does not exist is none"),
            (Fault::RefusesSecondDeployment, "a repeated deployment is adopted"),
            (Fault::NeverDeploys, "a deployment comes up"),
            (Fault::RefusesSecondSwitch, "a repeated switch is adopted"),
            (Fault::NeverSwitches, "a first switch makes production"),
            (Fault::AnswersWithErrors, "the first version answers"),
            (Fault::HidesDigest, "the first version answers"),
            (Fault::ReplacesStrangers, "a stranger's version"),
            (Fault::IsBusyWithStrangers, "not a conflict"),
            (Fault::ReplacesAndRefuses, "a refused switch changes nothing"),
            (Fault::StopsAfterFirstSwitch, "a second switch takes place"),
            (Fault::KeepsOldServer, "a switch takes all traffic"),
            (Fault::SwitchesStaging, "a switch leaves staging alone"),
            (Fault::TakesStrangersBack, "not what is to be taken back"),
            (Fault::TakesBackAndRefuses, "a refused rollback changes nothing"),
            (Fault::RefusesSecondRollback, "a repeated rollback is adopted"),
            (Fault::NeverGoesBack, "a rollback takes place"),
            (Fault::LingersAfterRollback, "a rollback takes all traffic"),
            (Fault::RefusesSecondRemoval, "what is gone is fine"),
            (Fault::NeverRemoves, "what was removed is gone"),
            (Fault::RemovesAll, "what was not removed stays"),
            (Fault::DeploysUnasked, "a deployment without permission"),
            (Fault::DeploysAndWithdraws, "a deployment without permission makes no endpoint"),
            (Fault::SwitchesUnasked, "a first switch without permission"),
            (Fault::SwitchesAndWithdraws, "a switch without permission changes nothing"),
            (Fault::IsBusyWithoutPermission, "a second switch without permission"),
            (Fault::TakesBackUnasked, "a rollback without permission"),
            (Fault::TakesBackAndWithdraws, "a rollback without permission changes nothing"),
        ] {
            let found = complaint(run(Some(fault))).await;
            let caught = found.as_ref().is_some_and(|text| text.contains(rule));
            assert!(caught, "{fault:?}, {rule}: {found:?}");
        }
    }
}
