//! Endpoints in memory that do what a test asks around one call: refuse it, lose or change its answer,
//! or never answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use mloop_core::EndpointName;
use mloop_core::deployment::EndpointDescription;
use mloop_deployer::{
    Answer, DeployError, DeployRequest, Deployer, EndpointClient, InMemoryEndpoints, Invocation,
    MockEndpointClient, SwitchRequest,
};

/// What becomes of the first call of `rollback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// It never arrives.
    Lost,
    /// It has its effect, and neither the answer nor a look at the endpoint gets through.
    Blinds,
}

/// A platform whose first rollback goes wrong.
pub(crate) struct Interrupted {
    inner: Arc<InMemoryEndpoints>,
    first: First,
    rollbacks: AtomicUsize,
}

impl Interrupted {
    pub(crate) fn new(inner: &Arc<InMemoryEndpoints>, first: First) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), first, rollbacks: AtomicUsize::new(0) })
    }
}

fn unreachable(doing: &str) -> DeployError {
    DeployError::Unavailable {
        system: "the platform in memory".to_owned(),
        doing: doing.to_owned(),
        hint: "ask again".to_owned(),
        cause: "the connection was cut".into(),
    }
}

#[async_trait]
impl Deployer for Interrupted {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        self.inner.deploy_model(request).await
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        if self.first == First::Blinds && self.rollbacks.load(Ordering::SeqCst) == 1 {
            return Err(unreachable("describing"));
        }
        self.inner.describe(endpoint).await
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        self.inner.switch_to_production(request).await
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        if self.rollbacks.fetch_add(1, Ordering::SeqCst) > 0 {
            return self.inner.rollback(request).await;
        }
        if self.first == First::Blinds {
            self.inner.rollback(request).await?;
        }
        Err(unreachable("rolling back"))
    }
}

/// A client whose answers a test changes on their way.
pub(crate) struct Changed {
    pub(crate) inner: Arc<dyn EndpointClient>,
    pub(crate) change: fn(&Invocation, &mut Answer),
}

#[async_trait]
impl EndpointClient for Changed {
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let mut answer = self.inner.invoke(endpoint, invocation).await?;
        (self.change)(invocation, &mut answer);
        Ok(answer)
    }
}

/// A client that is never answered.
pub(crate) struct Silent;

#[async_trait]
impl EndpointClient for Silent {
    async fn invoke(
        &self,
        _endpoint: &EndpointName,
        _invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        std::future::pending().await
    }
}

/// A client whose every request ends without an answer at once.
pub(crate) fn deaf() -> MockEndpointClient {
    let mut client = MockEndpointClient::new();
    client.expect_invoke().returning(|_, _| Err(unreachable("asking")));
    client
}
