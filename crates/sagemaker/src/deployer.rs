//! Endpoints of SageMaker, changed and looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sagemaker::types::EndpointStatus;
use mloop_core::deployment::EndpointDescription;
use mloop_core::{EndpointName, ModelVersion, Sha256Digest, failpoint};
use mloop_deployer::{DeployError, DeployRequest, Deployer, Janitor, Permission, SwitchRequest};
use tokio::time::{Instant, sleep};

use crate::acting::{Look, act, sight_pauses};
use crate::archive;
use crate::connection::{Clients, Connection};
use crate::failure::{Class, Failure};
use crate::looks::{config_is_there, delete, model_is_there, read_version, status};
use crate::objects::{Content, Location, put_once};
use crate::plan::{ConfigPlan, ModelPlan, tags};
use crate::reaction::{Purpose, Reaction, Standing, describe, react};
use crate::settings::SageMakerDeployerSettings;

/// Further looks at a configuration that seems to be a stranger's; less than two seconds in all.
const STRANGER_TRIES: usize = 3;

/// Endpoints on one page of a list, and most pages.
const PAGE: i32 = 100;
const PAGES: usize = 100;

/// Deployer, client and janitor of SageMaker's real-time endpoints.
///
/// An endpoint has one variant on one model. Serverless and multi-model endpoints are none of
/// mloop's: it finds them to be strangers' and leaves them alone.
///
/// Models, configurations and artifacts stay when an endpoint is removed: they cost next to nothing,
/// the way back needs them, and SageMaker reads them whenever it replaces an instance.
#[derive(Debug)]
pub struct AwsSageMakerDeployer {
    settings: SageMakerDeployerSettings,
    artifacts: Location,
    pub(crate) connection: Connection,
    /// Which version our configurations serve; neither can be changed.
    known: Mutex<BTreeMap<String, Sha256Digest>>,
}

/// What an endpoint is to become.
struct Wanted<'a> {
    endpoint: &'a EndpointName,
    version: &'a ModelVersion,
    folder: &'a Path,
    purpose: Purpose,
    permission: &'a dyn Permission,
}

impl Wanted<'_> {
    /// Asks whether the endpoint may be changed now.
    async fn ask(&self) -> Result<(), Failure> {
        match self.permission.is_given().await {
            true => Ok(()),
            false => Err(Failure::here(Class::Withdrawn, "permission was withdrawn")),
        }
    }
}

impl AwsSageMakerDeployer {
    pub(crate) fn new(
        settings: SageMakerDeployerSettings,
        artifacts: Location,
        connection: Connection,
    ) -> Self {
        Self { settings, artifacts, connection, known: Mutex::default() }
    }

    pub(crate) fn failed(&self, doing: &str) -> impl Fn(Failure) -> DeployError + use<> {
        let (system, doing) = (self.connection.system(), doing.to_owned());
        move |failure| failure.deploying(&system, &doing)
    }

    /// Brings an endpoint on its way to a version.
    async fn bring(&self, doing: &str, wanted: &Wanted<'_>) -> Result<(), DeployError> {
        let clients = self.connection.clients().await;
        let failed = self.failed(doing);
        let digest = wanted.version.version.digest;
        // Nothing is uploaded where there is nothing to change.
        match self.reaction(clients, wanted).await.map_err(&failed)? {
            Reaction::Adopt => return Ok(()),
            Reaction::Conflict(problem) => return Err(conflict(doing, problem)),
            _ => {}
        }
        let config = self.prepare(clients, wanted).await.map_err(&failed)?;
        self.remember(&config.name, digest);
        // Preparing takes its time: only a look directly before the change counts.
        match self.reaction(clients, wanted).await.map_err(&failed)? {
            Reaction::Adopt => Ok(()),
            Reaction::Conflict(problem) => Err(conflict(doing, problem)),
            Reaction::Later(why) => Err(failed(Failure::here(Class::Busy, why))),
            change => self.change(clients, wanted, &config, change).await.map_err(failed),
        }
    }

    async fn reaction(&self, clients: &Clients, wanted: &Wanted<'_>) -> Result<Reaction, Failure> {
        let found = self.standing(clients, wanted.endpoint).await?;
        Ok(react(found.as_ref(), wanted.version.version.digest, wanted.purpose))
    }

    /// Carries a change out.
    async fn change(
        &self,
        clients: &Clients,
        wanted: &Wanted<'_>,
        config: &ConfigPlan,
        mut change: Reaction,
    ) -> Result<(), Failure> {
        let endpoint = wanted.endpoint.as_str();
        if change == Reaction::Recreate {
            wanted.ask().await?;
            self.delete_and_wait(clients, wanted.endpoint).await?;
            change = Reaction::Create;
        }
        let change = &change;
        let call = || async move {
            wanted.ask().await?;
            failpoint::reach("sagemaker.changing");
            let sent = if *change == Reaction::Update {
                let call = clients.acting.update_endpoint().endpoint_name(endpoint);
                let sent = call.endpoint_config_name(&config.name).send().await;
                sent.map(drop).map_err(Failure::of)
            } else {
                let call = clients.acting.create_endpoint().endpoint_name(endpoint);
                let call = call.set_tags(Some(tags(&self.settings.tags, wanted.version)));
                let sent = call.endpoint_config_name(&config.name).send().await;
                sent.map(drop).map_err(Failure::of)
            };
            failpoint::reach("sagemaker.changed");
            sent
        };
        let look = || async move {
            match self.reaction(clients, wanted).await? {
                Reaction::Adopt => Ok(Look::Done),
                Reaction::Conflict(problem) => Err(Failure::here(Class::Exists, problem)),
                again if again == *change => Ok(Look::AsBefore),
                _ => Ok(Look::Changed),
            }
        };
        act(clients, call, look).await.map(drop)
    }

    /// Puts the version into S3, and makes its model and configuration, as far as they are not there.
    async fn prepare(&self, clients: &Clients, wanted: &Wanted<'_>) -> Result<ConfigPlan, Failure> {
        let artifact = self.upload(clients, wanted.version, wanted.folder).await?;
        failpoint::reach("sagemaker.uploaded");
        let unplanned = |error: serde_json::Error| Failure::here(Class::Refused, error.to_string());
        let model = ModelPlan::new(&self.settings, wanted.version, &artifact).map_err(unplanned)?;
        self.ensure_model(clients, wanted.version, &model).await?;
        failpoint::reach("sagemaker.modelled");
        let staging = wanted.purpose == Purpose::Staging;
        let config = ConfigPlan::new(&self.settings, wanted.version, &model, staging);
        let config = config.map_err(unplanned)?;
        self.ensure_config(clients, wanted.version, &config).await?;
        failpoint::reach("sagemaker.configured");
        Ok(config)
    }

    async fn upload(
        &self,
        clients: &Clients,
        version: &ModelVersion,
        folder: &Path,
    ) -> Result<Location, Failure> {
        let from = folder.to_owned();
        let packed = tokio::task::spawn_blocking(move || archive::pack(&from)).await;
        let packed = packed.map_err(std::io::Error::other).and_then(|packed| packed);
        let archive = packed.map_err(|error| {
            let class = match error.kind() {
                std::io::ErrorKind::InvalidData => Class::Unfit,
                std::io::ErrorKind::PermissionDenied => Class::Denied,
                // A full disk says nothing of the version.
                _ => Class::Busy,
            };
            Failure::here(class, format!("packing {}: {error}", folder.display()))
        })?;
        let below = format!("{}/{}/model.tar.gz", version.model, archive.digest);
        let artifact = self.artifacts.join(&below);
        let (path, digest, bytes) = (archive.file.path(), archive.digest, archive.bytes);
        let content = Content::File { path, digest, bytes };
        put_once(clients, &artifact, &content, self.settings.kms_key.as_deref()).await?;
        Ok(artifact)
    }

    async fn ensure_model(
        &self,
        clients: &Clients,
        version: &ModelVersion,
        plan: &ModelPlan,
    ) -> Result<(), Failure> {
        if model_is_there(clients, plan).await? {
            return Ok(());
        }
        let call = || async move {
            let call = clients.acting.create_model().model_name(&plan.name);
            let sent = call
                .primary_container(plan.container())
                .execution_role_arn(plan.role())
                .enable_network_isolation(plan.isolated())
                .set_vpc_config(plan.vpc())
                .set_tags(Some(tags(&self.settings.tags, version)))
                .send()
                .await;
            sent.map(drop).map_err(|error| Failure::of(error).for_good())
        };
        let look = || async move { Ok(Look::of(model_is_there(clients, plan).await?)) };
        act(clients, call, look).await.map(drop)
    }

    async fn ensure_config(
        &self,
        clients: &Clients,
        version: &ModelVersion,
        plan: &ConfigPlan,
    ) -> Result<(), Failure> {
        if config_is_there(clients, plan).await? {
            return Ok(());
        }
        let call = || async move {
            let call = clients.acting.create_endpoint_config();
            let sent = call
                .endpoint_config_name(&plan.name)
                .production_variants(plan.variant())
                .set_data_capture_config(plan.data_capture())
                .set_kms_key_id(plan.kms_key().map(str::to_owned))
                .set_tags(Some(tags(&self.settings.tags, version)))
                .send()
                .await;
            sent.map(drop).map_err(Failure::of)
        };
        let look = || async move { Ok(Look::of(config_is_there(clients, plan).await?)) };
        act(clients, call, look).await.map(drop)
    }

    async fn delete_and_wait(
        &self,
        clients: &Clients,
        endpoint: &EndpointName,
    ) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(self.settings.deletion_timeout_secs);
        let mut asked = false;
        while let Some(status) = status(clients, endpoint).await? {
            if status != EndpointStatus::Deleting && !asked {
                delete(clients, endpoint).await?;
                asked = true;
            }
            if Instant::now() >= end {
                let problem = format!("{endpoint} is still being deleted");
                return Err(Failure::here(Class::Busy, problem));
            }
            sleep(Duration::from_millis(self.settings.deletion_poll_ms)).await;
        }
        Ok(())
    }

    /// How an endpoint is; none when there is none of this name.
    async fn standing(
        &self,
        clients: &Clients,
        endpoint: &EndpointName,
    ) -> Result<Option<Standing>, Failure> {
        let call = clients.sagemaker.describe_endpoint().endpoint_name(endpoint.as_str());
        let found = match call.send().await.map_err(Failure::of) {
            Ok(found) => found,
            Err(failure) if failure.is_missing() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let unknown = EndpointStatus::from("unknown");
        let status = found.endpoint_status().cloned().unwrap_or(unknown);
        let mut odd = vec![];
        if let Some(reason) = found.failure_reason().filter(|reason| !reason.is_empty()) {
            odd.push(reason.to_owned());
        }
        let target = found.pending_deployment_summary().and_then(|one| one.endpoint_config_name());
        let serving = found.endpoint_config_name();
        let reasons = odd.len();
        let mut pending = None;
        if let Some(config) = target {
            pending = Some(self.version_of(clients, config, &mut odd).await?);
        }
        let mut configured = None;
        if let Some(config) = serving {
            let digest = self.version_of(clients, config, &mut odd).await?;
            if status == EndpointStatus::Creating {
                pending = pending.or(Some(digest));
            } else {
                configured = Some(digest);
            }
        }
        let (foreign, detail) = (odd.len() > reasons, odd.join("; "));
        Ok(Some(Standing { status, configured, pending, foreign, detail }))
    }

    /// The version that a configuration serves. One that mloop did not make has none: it is told by
    /// the digest of its name, which is that of no version, so that it is everybody's stranger.
    async fn version_of(
        &self,
        clients: &Clients,
        config: &str,
        odd: &mut Vec<String>,
    ) -> Result<Sha256Digest, Failure> {
        if let Some(digest) = self.recall(config) {
            return Ok(digest);
        }
        let mut found = read_version(clients, config).await?;
        // What another copy made a moment before may not be seen yet, and is no stranger's.
        for pause in sight_pauses().take(STRANGER_TRIES) {
            if found.is_ok() {
                break;
            }
            sleep(pause).await;
            found = read_version(clients, config).await?;
        }
        match found {
            Ok(digest) => {
                self.remember(config, digest);
                Ok(digest)
            }
            Err(problem) => {
                odd.push(format!("configuration {config} is not mloop's: {problem}"));
                Ok(Sha256Digest::of(config.as_bytes()))
            }
        }
    }

    fn recall(&self, config: &str) -> Option<Sha256Digest> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(config).copied()
    }

    fn remember(&self, config: &str, digest: Sha256Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(config.to_owned(), digest);
    }
}

#[async_trait]
impl Deployer for AwsSageMakerDeployer {
    async fn deploy_model(&self, request: &DeployRequest) -> Result<(), DeployError> {
        let DeployRequest { endpoint, version, folder, permission } = request;
        let doing = format!("deploying {} to {endpoint}", version.version);
        let (purpose, permission) = (Purpose::Staging, permission.as_ref());
        self.bring(&doing, &Wanted { endpoint, version, folder, purpose, permission }).await
    }

    async fn describe(
        &self,
        endpoint: &EndpointName,
    ) -> Result<Option<EndpointDescription>, DeployError> {
        let clients = self.connection.clients().await;
        let found = self.standing(clients, endpoint).await;
        let found = found.map_err(self.failed(&format!("describing {endpoint}")))?;
        Ok(found.map(describe))
    }

    async fn switch_to_production(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        let SwitchRequest { endpoint, version, folder, current, permission } = request;
        let doing = format!("switching {endpoint} to {}", version.version);
        let (purpose, permission) = (Purpose::Switch { current: *current }, permission.as_ref());
        self.bring(&doing, &Wanted { endpoint, version, folder, purpose, permission }).await
    }

    async fn rollback(&self, request: &SwitchRequest) -> Result<(), DeployError> {
        let SwitchRequest { endpoint, version, folder, current, permission } = request;
        let doing = format!("rolling {endpoint} back to {}", version.version);
        let (purpose, permission) = (Purpose::Rollback { current: *current }, permission.as_ref());
        self.bring(&doing, &Wanted { endpoint, version, folder, purpose, permission }).await
    }
}

#[async_trait]
impl Janitor for AwsSageMakerDeployer {
    /// Asks for the deletion; an endpoint that is being created or changed cannot be deleted yet. One that
    /// has become somebody else's is left alone: mloop's is gone.
    async fn remove_endpoint(&self, endpoint: &EndpointName) -> Result<(), DeployError> {
        let clients = self.connection.clients().await;
        let failed = self.failed(&format!("removing {endpoint}"));
        match self.standing(clients, endpoint).await.map_err(&failed)? {
            None => Ok(()),
            Some(found) if found.status == EndpointStatus::Deleting => Ok(()),
            Some(found) if found.foreign => {
                tracing::warn!(%endpoint, found.detail, "not removed: it is not mloop's any more");
                Ok(())
            }
            Some(_) => delete(clients, endpoint).await.map_err(failed),
        }
    }

    /// All endpoints of the region, but those that are being deleted and those whose names are none
    /// of mloop's form.
    async fn endpoints(&self) -> Result<Vec<EndpointName>, DeployError> {
        let clients = self.connection.clients().await;
        let failed = self.failed("listing the endpoints");
        let (mut names, mut token) = (vec![], None);
        for _ in 0..PAGES {
            let call = clients.sagemaker.list_endpoints().max_results(PAGE);
            let page = call.set_next_token(token).send().await;
            let page = page.map_err(Failure::of).map_err(&failed)?;
            let found = page
                .endpoints()
                .iter()
                .filter(|endpoint| endpoint.endpoint_status() != Some(&EndpointStatus::Deleting));
            names.extend(found.filter_map(|found| EndpointName::new(found.endpoint_name()?).ok()));
            token = page.next_token().map(str::to_owned);
            if token.is_none() {
                return Ok(names);
            }
        }
        let problem = format!("there are more than {} endpoints", names.len());
        Err(failed(Failure::here(Class::Refused, problem)))
    }
}

fn conflict(doing: &str, problem: String) -> DeployError {
    DeployError::Conflict { doing: doing.to_owned(), problem }
}
