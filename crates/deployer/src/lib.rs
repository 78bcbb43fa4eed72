//! The contracts of deployment: who changes endpoints, who asks them, who tidies up.
//!
//! Nothing in these traits waits for hours: a call asks for a change and returns, and
//! [`Deployer::describe`] tells how far it has come.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod fake;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::deployment::EndpointDescription;
use mloop_core::exit_class::{Classified, ExitClass};
use mloop_core::registry::KindRegistry;
use mloop_core::{BoxError, EndpointName, ModelVersion, Sha256Digest};
use mloop_platform::PlatformDeps;

#[cfg(feature = "testing")]
pub use fake::{Fault, InMemoryEndpoints};
pub use mloop_core::registry::{BuildError, Spec};

/// Kinds of deployers that a program knows.
pub type DeployerRegistry = KindRegistry<Endpoints, PlatformDeps>;

/// What a kind of deployer builds: three views of one platform.
#[derive(Clone)]
pub struct Endpoints {
    /// Changes endpoints.
    pub deployer: Arc<dyn Deployer>,
    /// Asks them.
    pub client: Arc<dyn EndpointClient>,
    /// Tidies up.
    pub janitor: Arc<dyn Janitor>,
}

/// Whether a change that was asked for may be made now.
///
/// What precedes a change (uploads, resources that nobody uses yet) may take minutes, in which whoever
/// asked for it may have been overtaken. So a deployer asks here, see [`Deployer`].
#[async_trait]
pub trait Permission: fmt::Debug + Send + Sync {
    /// True: the change may be made, in the moment after this answer. Asked again before each further
    /// call.
    async fn is_given(&self) -> bool;
}

/// For who acts alone: every change may be made.
#[derive(Debug, Clone, Copy)]
pub struct Always;

#[async_trait]
impl Permission for Always {
    async fn is_given(&self) -> bool {
        true
    }
}

/// A version on its way to an endpoint.
#[derive(Debug, Clone)]
pub struct DeployRequest {
    /// The endpoint to make or to change.
    pub endpoint: EndpointName,
    /// The version.
    pub version: ModelVersion,
    /// Its files, their digests compared.
    pub folder: PathBuf,
    /// Asked directly before the endpoint is changed.
    pub permission: Arc<dyn Permission>,
}

/// A change of what production serves.
#[derive(Debug, Clone)]
pub struct SwitchRequest {
    /// Production.
    pub endpoint: EndpointName,
    /// The version that is to answer all requests.
    pub version: ModelVersion,
    /// Its files, their digests compared.
    pub folder: PathBuf,
    /// What serves now, as far as mloop knows: anything else but the wanted version is a stranger's
    /// change and a [`DeployError::Conflict`].
    pub current: Option<Sha256Digest>,
    /// Asked directly before production is changed.
    pub permission: Arc<dyn Permission>,
}

/// Changes what endpoints serve.
///
/// # Contract
/// - Idempotent: names and configurations derive from the version's digest, so that a repeat finds
///   what the first try made.
/// - Each change is preceded by a look at the endpoint: the wanted state is adopted, a stranger's
///   is a conflict.
/// - The request's [`Permission`] is asked directly before each call that changes an endpoint, after all
///   preparation and the last look. Without it no such call is made: [`DeployError::Withdrawn`].
/// - A switch replaces the version for all traffic at once or, where the platform does it in steps,
///   ends there; requests in flight are answered.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Deployer: Send + Sync {
    /// Asks for an endpoint (a staging one) that serves the version.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError>;

    /// What an endpoint is configured to serve and how it is; none when there is no such endpoint.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError>;

    /// Asks for all traffic of production to go to the version.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError>;

    /// Asks for all traffic of production to go back to the version of the request, which is the
    /// one before. An endpoint that does not answer any more is no conflict.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError>;
}

/// One request to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invocation {
    /// Content type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// The caller's id of the request.
    pub inference_id: Option<String>,
    /// `X-Amzn-SageMaker-Custom-Attributes`: group attributes such as `site=north`.
    pub custom_attributes: Option<String>,
    /// Ask over a connection of its own, so that no old server keeps answering.
    pub fresh_connection: bool,
}

/// An endpoint's answer. A status of 400 and above is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Digest of the version that answered, from the header that the server sets.
    pub digest: Option<Sha256Digest>,
    /// From the first byte sent to the last one received.
    pub latency: Duration,
}

/// Asks endpoints.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait EndpointClient: Send + Sync {
    /// Sends one request; never repeats it.
    ///
    /// # Errors
    /// [`DeployError::Unavailable`] when no answer came.
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError>;
}

/// Tidies up what deployments leave behind.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Janitor: Send + Sync {
    /// Removes an endpoint; one that is gone already is fine.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn remove_endpoint(&self, endpoint: &EndpointName) -> Result<(), DeployError>;

    /// The endpoints that there are.
    ///
    /// # Errors
    /// [`DeployError`].
    async fn endpoints(&self) -> Result<Vec<EndpointName>, DeployError>;
}

/// Why an endpoint could not be changed, described or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The same call may succeed later.
    #[error("{doing}: {system} cannot be reached or is busy; {hint}")]
    Unavailable {
        /// Which system and where.
        system: String,
        /// What was being done.
        doing: String,
        /// What to do, such as the command that starts the server.
        hint: String,
        /// The system's own error.
        #[source]
        cause: BoxError,
    },
    /// The credentials or permissions do not suffice.
    #[error("{doing}: {system} refused the credentials; check that they are valid and may do this")]
    Denied {
        /// Which system and where.
        system: String,
        /// What was being done.
        doing: String,
        /// The system's own error.
        #[source]
        cause: BoxError,
    },
    /// The platform refuses this version or request for good.
    #[error("{doing}: {problem}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The platform's words, and what to do.
        problem: String,
    },
    /// Whoever asked for the change may not make it any more; it was not made.
    #[error("{doing}: the run that asked for it may not change it any more; nothing was changed")]
    Withdrawn {
        /// What was being done.
        doing: String,
    },
    /// The endpoint is not as mloop left it: a person must look.
    #[error("{doing}: {problem}")]
    Conflict {
        /// What was being done.
        doing: String,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
}

impl DeployError {
    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl Classified for DeployError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Unavailable { .. } => ExitClass::Transient,
            Self::Denied { .. } => ExitClass::Credentials,
            Self::Withdrawn { .. } => ExitClass::LeaseHeld,
            Self::Refused { .. } | Self::Conflict { .. } => ExitClass::NeedsPerson,
        }
    }
}
