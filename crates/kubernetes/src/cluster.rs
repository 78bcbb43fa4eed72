//! The calls of the Kubernetes API that a submitter needs, in one namespace.

use std::fmt::Display;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions, Request};
use kube::{Client, Resource as _};
use mloop_core::{BoxError, JobId, error_chain};
use mloop_platform::PlatformError;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::connection::Connection;
use crate::jobs::{self, JOB_ID, RUN, called};

/// Objects that a list holds at most: a job has a handful of Jobs, and a Job a handful of pods.
const LIST_LIMIT: u32 = 500;

/// Tries of a call, and the longest pauses between them: the policy of all of mloop's connections.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What becomes of a call that acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It stays.
    Kept,
    /// The API server does everything but keep it.
    DryRun,
}

/// One namespace of a cluster.
pub(crate) struct Cluster {
    connection: Connection,
    namespace: String,
    client: OnceCell<Client>,
}

impl Cluster {
    pub(crate) fn new(connection: Connection, namespace: String) -> Self {
        Self { connection, namespace, client: OnceCell::new() }
    }

    /// What people look a Job up by.
    pub(crate) fn handle(&self, name: &str) -> String {
        format!("job.batch/{name} in namespace {}", self.namespace)
    }

    /// All Jobs of a job with their numbers, the newest last.
    pub(crate) async fn jobs(
        &self,
        doing: &str,
        job: &JobId,
    ) -> Result<Vec<(u32, Job)>, PlatformError> {
        let params = ListParams::default().labels(&format!("{JOB_ID}={job}")).limit(LIST_LIMIT);
        let api: Api<Job> = Api::namespaced(self.client(doing).await?, &self.namespace);
        let found = self.answered(doing, || api.list(&params)).await?.items;
        let numbered = found.into_iter().map(|job| Ok((jobs::number(doing, &job)?, job)));
        let mut found = numbered.collect::<Result<Vec<_>, PlatformError>>()?;
        found.sort_by_key(|(number, _)| *number);
        Ok(found)
    }

    /// A Job; none when there is none of this name.
    pub(crate) async fn job(&self, doing: &str, name: &str) -> Result<Option<Job>, PlatformError> {
        let api: Api<Job> = Api::namespaced(self.client(doing).await?, &self.namespace);
        self.answered(doing, || api.get_opt(name)).await
    }

    /// The pods of a Job.
    pub(crate) async fn pods(
        &self,
        doing: &str,
        job: &JobId,
        number: u32,
    ) -> Result<Vec<Pod>, PlatformError> {
        let labels = format!("{JOB_ID}={job},{RUN}={number}");
        let params = ListParams::default().labels(&labels).limit(LIST_LIMIT);
        let api: Api<Pod> = Api::namespaced(self.client(doing).await?, &self.namespace);
        Ok(self.answered(doing, || api.list(&params)).await?.items)
    }

    /// Makes a Job, or asks whether it could be made; false when there is one of its name. May be repeated: the name is taken once.
    pub(crate) async fn create(
        &self,
        doing: &str,
        job: &Value,
        effect: Effect,
    ) -> Result<bool, PlatformError> {
        let client = self.client(doing).await?;
        let broken = |error: &dyn Display| PlatformError::invalid(doing, error.to_string());
        let request = Request::new(Job::url_path(&(), Some(&self.namespace)));
        let body = job.to_string().into_bytes();
        let dry_run = effect == Effect::DryRun;
        let params = PostParams { field_manager: Some("mloop".to_owned()), dry_run };
        let mut request = request.create(&params, body).map_err(|error| broken(&error))?;
        // A key that the server does not know (a mistake in a patch, say) must not be left out in
        // silence.
        let strict = format!("{}&fieldValidation=Strict", request.uri());
        *request.uri_mut() = strict.parse().map_err(|error| broken(&error))?;
        let made = self.ask(|| client.request::<Job>(request.clone())).await;
        match made {
            Ok(_) => Ok(true),
            Err(Failed::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                Ok(false)
            }
            Err(failed) => Err(self.told(doing, failed)),
        }
    }

    /// Deletes a Job with its pods, which get their time to save. One that is gone is fine, and so is
    /// another of its name.
    pub(crate) async fn delete(&self, doing: &str, job: &Job) -> Result<(), PlatformError> {
        let api: Api<Job> = Api::namespaced(self.client(doing).await?, &self.namespace);
        let uid = job.metadata.uid.clone();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::background()
        };
        match self.ask(|| api.delete(called(job), &params)).await {
            Ok(_) => Ok(()),
            Err(Failed::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(failed) => Err(self.told(doing, failed)),
        }
    }

    async fn client(&self, doing: &str) -> Result<Client, PlatformError> {
        self.client.get_or_try_init(|| self.connection.client(doing)).await.cloned()
    }

    async fn answered<T, F>(&self, doing: &str, call: impl Fn() -> F) -> Result<T, PlatformError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        self.ask(call).await.map_err(|failed| self.told(doing, failed))
    }

    /// Makes a call, each try for so long and no longer, and again after failures that may go away. All
    /// calls may be repeated: those that act name what they act on.
    async fn ask<T, F>(&self, call: impl Fn() -> F) -> Result<T, Failed>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut tried = 1;
        loop {
            let failed = match self.ask_once(call()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let pause = if tried < TRIES { failed.pause(tried) } else { None };
            let Some(pause) = pause else { return Err(failed) };
            tokio::time::sleep(pause).await;
            tried += 1;
        }
    }

    async fn ask_once<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
        let limit = self.connection.timeout;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) => Err(Failed::Api(status)),
            Ok(Err(error)) => Err(Failed::Other(error)),
            Err(_) => Err(Failed::TimedOut(format!("no answer within {} s", limit.as_secs_f64()))),
        }
    }

    fn told(&self, doing: &str, failed: Failed) -> PlatformError {
        let system = || format!("Kubernetes (namespace {})", self.namespace);
        let denied = |cause: BoxError| PlatformError::Denied {
            system: system(),
            doing: doing.to_owned(),
            cause,
        };
        match failed {
            Failed::TimedOut(cause) => PlatformError::unavailable(system(), doing, cause),
            Failed::Other(error @ kube::Error::Auth(_)) => denied(error.into()),
            Failed::Other(error @ (kube::Error::HyperError(_) | kube::Error::Service(_))) => {
                PlatformError::unavailable(system(), doing, error)
            }
            Failed::Other(error) => {
                let problem = format!(
                    "{} answered something else than expected ({}); is it the API server of a cluster \
                     that mloop knows, 1.31 or later?",
                    system(),
                    error_chain(&error)
                );
                PlatformError::conflict(doing, problem)
            }
            Failed::Api(status) => {
                let said = format!("it answered {}: {}", status.code, status.message);
                match status.code {
                    // A quota that is used up refuses in the same words as a missing right.
                    403 if status.message.contains("exceeded quota") => {
                        PlatformError::unavailable(system(), doing, said)
                    }
                    401 | 403 => denied(said.into()),
                    408 | 429 | 500.. => PlatformError::unavailable(system(), doing, said),
                    _ => PlatformError::invalid(doing, format!("{}: {said}", system())),
                }
            }
        }
    }
}

/// How a call failed.
enum Failed {
    /// The API server refused.
    Api(Box<kube::core::Status>),
    /// It did not answer.
    TimedOut(String),
    /// Something else, below.
    Other(kube::Error),
}

impl Failed {
    /// How long to wait before the next try; none when there shall be none.
    fn pause(&self, tried: u32) -> Option<Duration> {
        match self {
            Self::Api(status) if matches!(status.code, 429 | 502 | 503 | 504) => {
                let told = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                if told > 0 {
                    let told = Duration::from_secs(told.into());
                    return (told <= LONGEST_PAUSE).then_some(told);
                }
            }
            Self::TimedOut(_)
            | Self::Other(kube::Error::HyperError(_) | kube::Error::Service(_)) => {}
            Self::Api(_) | Self::Other(_) => return None,
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (tried - 1).min(16)).min(LONGEST_PAUSE);
        // Between half and all of it, so that callers that failed together do not return together.
        let jitter = f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX);
        Some(doubled.mul_f64(0.5 + jitter / 2.0))
    }
}
