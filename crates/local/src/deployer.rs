//! Endpoints of a running `model_server`, which is never started from here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mloop_core::attributes::{self, CUSTOM_ATTRIBUTES_HEADER, INFERENCE_ID_HEADER};
use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, Sha256Digest};
use mloop_deployer::{
    Answer, BuildError, DeployError, DeployRequest, Deployer, EndpointClient, Endpoints,
    Invocation, Janitor, Permission, Spec, SwitchRequest,
};
use mloop_http::{BaseUrl, Client, HttpError, Method, Policy, Request, Response};
use mloop_platform::PlatformDeps;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Settings of [`LocalDeployer`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalDeployerSettings {
    /// Address of the data plane, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// Address of the administration plane, such as `http://127.0.0.1:8081`.
    pub admin_url: String,
    /// Longest time in seconds that a change may take, loading and warming up included.
    #[serde(default = "default_change_timeout_secs")]
    pub change_timeout_secs: u64,
    /// Longest time in seconds that an endpoint may take to answer.
    #[serde(default = "default_invoke_timeout_secs")]
    pub invoke_timeout_secs: u64,
}

fn default_change_timeout_secs() -> u64 {
    120
}

fn default_invoke_timeout_secs() -> u64 {
    30
}

impl Spec<Endpoints, PlatformDeps> for LocalDeployerSettings {
    const KIND: &'static str = "local";

    fn build(self, _name: String, _deps: &PlatformDeps) -> Result<Endpoints, BuildError> {
        let address = |key: &str, text: &str| {
            text.parse::<BaseUrl>().map_err(|error| BuildError::invalid(key, error.to_string()))
        };
        let client = |key: &str, secs: u64| {
            if secs == 0 {
                return Err(BuildError::invalid(key, "must be above 0"));
            }
            let policy = Policy { timeout: Duration::from_secs(secs), ..Policy::default() };
            Client::new(policy).map_err(|error| BuildError::invalid("", error.to_string()))
        };
        let local = Arc::new(LocalDeployer {
            data: address("url", &self.url)?,
            admin: address("admin_url", &self.admin_url)?,
            changing: client("change_timeout_secs", self.change_timeout_secs)?,
            invoking: client("invoke_timeout_secs", self.invoke_timeout_secs)?,
        });
        Ok(Endpoints { deployer: local.clone(), client: local.clone(), janitor: local })
    }
}

/// Deployer, client and janitor of a `model_server`.
#[derive(Debug, Clone)]
pub struct LocalDeployer {
    data: BaseUrl,
    admin: BaseUrl,
    changing: Client,
    invoking: Client,
}

/// What the server tells of an endpoint; it may tell more.
#[derive(Debug, Deserialize)]
struct Told {
    name: EndpointName,
    digest: Option<Sha256Digest>,
    state: EndpointState,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct ToldAll {
    endpoints: Vec<Told>,
}

impl LocalDeployer {
    async fn ask(
        &self,
        doing: &str,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Response, DeployError> {
        let mut request = Request::new(method, &self.admin, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent = self.changing.send(&request).await;
        let answer = sent.map_err(|error| unanswered(doing, &self.admin, error))?;
        if answer.status == 404 && method == Method::Get {
            return Ok(answer);
        }
        self.judged(doing, answer)
    }

    /// An answer, if it is one of success.
    fn judged(&self, doing: &str, answer: Response) -> Result<Response, DeployError> {
        let said = words(&answer);
        let doing = doing.to_owned();
        let Err(cause) = answer.clone().success() else { return Ok(answer) };
        let system = format!("model_server at {}", self.admin);
        Err(match answer.status {
            409 => DeployError::Conflict { doing, problem: said },
            401 | 403 => DeployError::Denied { system, doing, cause: cause.into() },
            429 | 500..=599 => DeployError::Unavailable {
                system,
                doing,
                hint: format!("it answered `{said}`; its log says more, try again later"),
                cause: cause.into(),
            },
            // model_server's word for a version that it cannot serve.
            422 => DeployError::Refused { doing, problem: said },
            _ => DeployError::Conflict {
                doing,
                problem: format!(
                    "{said}; is there a model_server at `admin_url` ({})?",
                    self.admin
                ),
            },
        })
    }

    async fn put(
        &self,
        doing: &str,
        request: (&EndpointName, &mloop_core::ModelVersion, &std::path::Path),
        expected: Value,
        permission: &dyn Permission,
    ) -> Result<(), DeployError> {
        let (endpoint, version, folder) = request;
        let folder = std::path::absolute(folder).map_err(|error| DeployError::Conflict {
            doing: doing.to_owned(),
            problem: format!("the folder {} cannot be named: {error}", folder.display()),
        })?;
        let body = json!({
            "folder": folder,
            "digest": version.version.digest,
            "version": version.version.number,
            "expected": expected,
        });
        if !permission.is_given().await {
            return Err(DeployError::Withdrawn { doing: doing.to_owned() });
        }
        let path = ["admin", "endpoints", endpoint.as_str()];
        self.ask(doing, Method::Put, &path, Some(&body)).await.map(drop)
    }

    /// Replaces what production is expected to serve.
    async fn replace(&self, doing: &str, request: &SwitchRequest) -> Result<(), DeployError> {
        let SwitchRequest { endpoint, version, folder, current, permission } = request;
        let described = self.describe(endpoint).await?;
        if serves(described.as_ref(), version.version.digest) {
            return Ok(());
        }
        let found = described.and_then(|description| description.configured);
        if found.is_some() && found != *current && found != Some(version.version.digest) {
            let name = |digest: Option<Sha256Digest>| {
                digest.map_or("nothing".to_owned(), |digest| digest.short(12))
            };
            let problem = format!(
                "it serves {}, and mloop left {} there; find out who changed it",
                name(found),
                name(*current)
            );
            return Err(DeployError::Conflict { doing: doing.to_owned(), problem });
        }
        // The server compares again, in the same step as the change.
        let expected = json!({"digest": found});
        self.put(doing, (endpoint, version, folder), expected, permission.as_ref()).await
    }
}

#[async_trait]
impl Deployer for LocalDeployer {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let DeployRequest { endpoint, version, folder, permission } = request;
        let doing = format!("deploying {} to {endpoint}", version.version);
        if serves(self.describe(endpoint).await?.as_ref(), version.version.digest) {
            return Ok(());
        }
        let expected = json!({"any": true});
        self.put(&doing, (endpoint, version, folder), expected, permission.as_ref()).await
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        let doing = format!("describing {endpoint}");
        let path = ["admin", "endpoints", endpoint.as_str()];
        let answer = self.ask(&doing, Method::Get, &path, None).await?;
        if answer.status == 404 && code(&answer) == "not_found" {
            return Ok(None);
        }
        let told: Told = decoded(&doing, &answer)?;
        Ok(Some(EndpointDescription {
            state: told.state,
            configured: told.digest,
            pending: None,
            detail: told.detail,
        }))
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        let SwitchRequest { endpoint, version, .. } = request;
        self.replace(&format!("switching {endpoint} to {}", version.version), request).await
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        let SwitchRequest { endpoint, version, .. } = request;
        self.replace(&format!("rolling {endpoint} back to {}", version.version), request).await
    }
}

#[async_trait]
impl EndpointClient for LocalDeployer {
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let path = ["endpoints", endpoint.as_str(), "invocations"];
        let mut request = Request::new(Method::Post, &self.data, &path)
            .body(&invocation.content_type, invocation.body.clone())
            .fresh_connection(invocation.fresh_connection);
        if let Some(id) = &invocation.inference_id {
            request = request.header(INFERENCE_ID_HEADER, id);
        }
        if let Some(groups) = &invocation.custom_attributes {
            request = request.header(CUSTOM_ATTRIBUTES_HEADER, groups);
        }
        let began = Instant::now();
        let sent = self.invoking.send(&request).await;
        let latency = began.elapsed();
        let doing = format!("asking {endpoint}");
        let answer = sent.map_err(|error| unanswered(&doing, &self.data, error))?;
        let digest = answer.header(CUSTOM_ATTRIBUTES_HEADER).and_then(attributes::digest_of);
        Ok(Answer { status: answer.status, digest, latency, body: answer.body })
    }
}

#[async_trait]
impl Janitor for LocalDeployer {
    async fn remove_endpoint(&self, endpoint: &EndpointName) -> Result<(), DeployError> {
        let doing = format!("removing {endpoint}");
        if self.describe(endpoint).await?.is_none() {
            return Ok(());
        }
        let path = ["admin", "endpoints", endpoint.as_str()];
        self.ask(&doing, Method::Delete, &path, None).await.map(drop)
    }

    async fn endpoints(&self) -> Result<Vec<EndpointName>, DeployError> {
        let doing = "listing the endpoints";
        let answer = self.ask(doing, Method::Get, &["admin", "endpoints"], None).await?;
        let all: ToldAll = decoded(doing, &answer)?;
        Ok(all.endpoints.into_iter().map(|told| told.name).collect())
    }
}

fn serves(found: Option<&EndpointDescription>, digest: Sha256Digest) -> bool {
    found.is_some_and(|found| {
        found.state == EndpointState::InService && found.configured == Some(digest)
    })
}

/// The server's code for programs; empty when there is none, as in the answer of another server.
fn code(answer: &Response) -> String {
    let body = answer.json::<Value>().unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The server's own words, or its status.
fn words(answer: &Response) -> String {
    let body = answer.json::<Value>().unwrap_or_default();
    let message = body["error"]["message"].as_str();
    message.map_or_else(|| format!("it answered with status {}", answer.status), str::to_owned)
}

fn decoded<T: DeserializeOwned>(doing: &str, answer: &Response) -> Result<T, DeployError> {
    answer.json().map_err(|error| DeployError::Conflict {
        doing: doing.to_owned(),
        problem: format!("the answer is not model_server's ({error}); check `admin_url`"),
    })
}

/// What a call without an answer means.
fn unanswered(doing: &str, server: &BaseUrl, error: HttpError) -> DeployError {
    let doing = doing.to_owned();
    if !error.is_transient() {
        let problem = mloop_core::error_chain(&error);
        return DeployError::Conflict { doing, problem };
    }
    DeployError::Unavailable {
        system: format!("model_server at {server}"),
        doing,
        hint: "if it does not run, start it with `model_server serve --state DIR --capture DIR \
               --capture-max-bytes BYTES --capture-max-age-days DAYS`, or its service"
            .to_owned(),
        cause: error.into(),
    }
}
