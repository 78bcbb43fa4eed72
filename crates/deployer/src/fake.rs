//! A platform in memory that misbehaves on request.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, Sha256Digest};

use crate::{
    Answer, DeployError, DeployRequest, Deployer, EndpointClient, Invocation, Janitor, Permission,
    SwitchRequest,
};

/// What the platform does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A switch is accepted, and production silently keeps serving the old version.
    SilentRollback,
    /// The switch has its effect, and the answer to the call is lost.
    AnswerLost,
    /// The endpoint answers every request with status 500.
    Broken,
}

/// Endpoints in memory: deployer, client and janitor at once. Every image is answered with status
/// 200 and the digest of the version, every body that is not an image with 400.
#[derive(Default)]
pub struct InMemoryEndpoints {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serving: BTreeMap<EndpointName, Sha256Digest>,
    fault: Option<Fault>,
    switches: usize,
}

impl InMemoryEndpoints {
    /// A platform without endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with a fault.
    #[must_use]
    pub fn with_fault(fault: Fault) -> Self {
        let endpoints = Self::default();
        endpoints.lock().fault = Some(fault);
        endpoints
    }

    /// What an endpoint serves.
    #[must_use]
    pub fn serving(&self, endpoint: &EndpointName) -> Option<Sha256Digest> {
        self.lock().serving.get(endpoint).copied()
    }

    /// How often what an endpoint serves was changed.
    #[must_use]
    pub fn switches(&self) -> usize {
        self.lock().switches
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to replace what mloop did not put there.
    fn check(&self, doing: &str, request: &SwitchRequest) -> Result<(), DeployError> {
        let found = self.serving(&request.endpoint);
        let wanted = request.version.version.digest;
        if found.is_none() || found == request.current || found == Some(wanted) {
            return Ok(());
        }
        let problem = "a version that mloop did not put there serves".to_owned();
        Err(DeployError::Conflict { doing: format!("{doing} {}", request.endpoint), problem })
    }

    /// Asks whether the change may be made.
    async fn ask(&self, doing: &str, permission: &dyn Permission) -> Result<(), DeployError> {
        if permission.is_given().await {
            return Ok(());
        }
        Err(DeployError::Withdrawn { doing: doing.to_owned() })
    }

    fn change(&self, endpoint: &EndpointName, digest: Sha256Digest) {
        let mut state = self.lock();
        if state.serving.insert(endpoint.clone(), digest) != Some(digest) {
            state.switches += 1;
        }
    }
}

#[async_trait]
impl Deployer for InMemoryEndpoints {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.ask("deploying", request.permission.as_ref()).await?;
        self.change(&request.endpoint, request.version.version.digest);
        Ok(())
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        let configured = self.serving(endpoint);
        Ok(configured.map(|_| EndpointDescription {
            state: EndpointState::InService,
            configured,
            pending: None,
            detail: String::new(),
        }))
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.check("switching", request)?;
        self.ask("switching", request.permission.as_ref()).await?;
        let fault = self.lock().fault;
        if fault != Some(Fault::SilentRollback) {
            self.change(&request.endpoint, request.version.version.digest);
        }
        if fault == Some(Fault::AnswerLost) {
            self.lock().fault = None;
            return Err(DeployError::Unavailable {
                system: "the platform in memory".to_owned(),
                doing: format!("switching {}", request.endpoint),
                hint: "ask again".to_owned(),
                cause: "the connection was cut".into(),
            });
        }
        Ok(())
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.check("rolling back", request)?;
        self.ask("rolling back", request.permission.as_ref()).await?;
        self.change(&request.endpoint, request.version.version.digest);
        Ok(())
    }
}

#[async_trait]
impl EndpointClient for InMemoryEndpoints {
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let digest = self.serving(endpoint);
        let status = match (digest, self.lock().fault) {
            (None, _) => 404,
            (_, Some(Fault::Broken)) => 500,
            _ if invocation.content_type.starts_with("image/") && !invocation.body.is_empty() => {
                200
            }
            _ => 400,
        };
        Ok(Answer { status, body: b"{}".to_vec(), digest, latency: Duration::from_millis(1) })
    }
}

#[async_trait]
impl Janitor for InMemoryEndpoints {
    async fn remove_endpoint(&self, endpoint: &EndpointName) -> Result<(), DeployError> {
        self.lock().serving.remove(endpoint);
        Ok(())
    }

    async fn endpoints(&self) -> Result<Vec<EndpointName>, DeployError> {
        Ok(self.lock().serving.keys().cloned().collect())
    }
}
