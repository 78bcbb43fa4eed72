//! Endpoints and their states.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::names::name;
use crate::operations::page;
use crate::protocol::{ApiError, moment};
use crate::world::{Made, World};

/// Longest `FailureReason`.
const MAX_REASON: usize = 1024;

/// The states that an endpoint can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Updating,
    SystemUpdating,
    RollingBack,
    InService,
    OutOfService,
    UpdateRollbackFailed,
    Failed,
    Deleting,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::SystemUpdating => "SystemUpdating",
            Self::RollingBack => "RollingBack",
            Self::InService => "InService",
            Self::OutOfService => "OutOfService",
            Self::UpdateRollbackFailed => "UpdateRollbackFailed",
            Self::Failed => "Failed",
            Self::Deleting => "Deleting",
        }
    }

    /// Whether a change is under way, so that no other may begin.
    fn is_busy(self) -> bool {
        use Status::{Creating, Deleting, RollingBack, SystemUpdating, Updating};
        matches!(self, Creating | Updating | SystemUpdating | RollingBack | Deleting)
    }
}

/// One endpoint.
pub(crate) struct Endpoint {
    pub(crate) status: Status,
    /// The configuration that serves, or that it is created with.
    pub(crate) config: String,
    /// The configuration that an update leads to.
    target: Option<String>,
    reason: Option<String>,
    created: DateTime<Utc>,
    modified: DateTime<Utc>,
    pub(crate) fleet: Option<Arc<Fleet>>,
    /// Counts the changes, so that one that was overtaken has no effect.
    generation: u64,
}

fn arn(world: &World, endpoint: &str) -> String {
    world.arn("endpoint", endpoint)
}

fn missing(world: &World, endpoint: &str) -> ApiError {
    ApiError::could_not_find("endpoint", &arn(world, endpoint))
}

fn known_config(world: &World, request: &Value) -> Result<String, ApiError> {
    let config = name(request, "EndpointConfigName")?;
    if world.resources().configs.contains_key(config) {
        return Ok(config.to_owned());
    }
    let arn = world.arn("endpoint-config", config);
    Err(ApiError::could_not_find("endpoint configuration", &arn))
}

pub(crate) fn create(world: &Arc<World>, request: &Value) -> Result<Value, ApiError> {
    let endpoint = name(request, "EndpointName")?.to_owned();
    let config = known_config(world, request)?;
    let arn = arn(world, &endpoint);
    let now = world.clock.now();
    let mut resources = world.resources();
    if resources.endpoints.contains_key(&endpoint) {
        return Err(ApiError::already_there("endpoint", &arn));
    }
    let made = Endpoint {
        status: Status::Creating,
        config: config.clone(),
        target: None,
        reason: None,
        created: now,
        modified: now,
        fleet: None,
        generation: 1,
    };
    resources.endpoints.insert(endpoint.clone(), made);
    drop(resources);
    tokio::spawn(Change { world: Arc::clone(world), endpoint, config, generation: 1 }.create());
    Ok(json!({"EndpointArn": arn}))
}

pub(crate) fn update(world: &Arc<World>, request: &Value) -> Result<Value, ApiError> {
    let endpoint = name(request, "EndpointName")?.to_owned();
    let arn = arn(world, &endpoint);
    if !world.resources().endpoints.contains_key(&endpoint) {
        return Err(missing(world, &endpoint));
    }
    let config = known_config(world, request)?;
    let mut resources = world.resources();
    let found = resources.endpoints.get_mut(&endpoint).ok_or_else(|| missing(world, &endpoint))?;
    if found.status.is_busy() {
        return Err(ApiError::validation(format!("Cannot update in-progress endpoint \"{arn}\".")));
    }
    if found.status == Status::Failed {
        return Err(ApiError::validation(format!("Cannot update failed endpoint \"{arn}\".")));
    }
    found.status = Status::Updating;
    found.target = Some(config.clone());
    found.reason = None;
    found.modified = world.clock.now();
    found.generation += 1;
    let generation = found.generation;
    drop(resources);
    tokio::spawn(Change { world: Arc::clone(world), endpoint, config, generation }.update());
    Ok(json!({"EndpointArn": arn}))
}

pub(crate) fn delete(world: &Arc<World>, request: &Value) -> Result<Value, ApiError> {
    let endpoint = name(request, "EndpointName")?.to_owned();
    let arn = arn(world, &endpoint);
    let mut resources = world.resources();
    let found = resources.endpoints.get_mut(&endpoint).ok_or_else(|| missing(world, &endpoint))?;
    if found.status == Status::Deleting {
        return Ok(Value::Null);
    }
    if found.status.is_busy() {
        return Err(ApiError::validation(format!("Cannot update in-progress endpoint \"{arn}\".")));
    }
    found.status = Status::Deleting;
    found.modified = world.clock.now();
    found.fleet = None;
    found.generation += 1;
    let generation = found.generation;
    drop(resources);
    let config = String::new();
    tokio::spawn(Change { world: Arc::clone(world), endpoint, config, generation }.delete());
    Ok(Value::Null)
}

pub(crate) fn list(world: &World, request: &Value) -> Value {
    let resources = world.resources();
    let all = resources.endpoints.iter().map(|(name, endpoint)| {
        let summary = json!({
            "EndpointName": name,
            "EndpointArn": arn(world, name),
            "EndpointStatus": endpoint.status.as_str(),
            "CreationTime": moment(endpoint.created),
            "LastModifiedTime": moment(endpoint.modified),
        });
        (name.as_str(), summary)
    });
    page(request, "Endpoints", all)
}

pub(crate) fn describe(world: &Arc<World>, request: &Value) -> Result<Value, ApiError> {
    let endpoint = name(request, "EndpointName")?;
    maintain(world, endpoint);
    let resources = world.resources();
    let found = resources.endpoints.get(endpoint).ok_or_else(|| missing(world, endpoint))?;
    let mut answer = json!({
        "EndpointName": endpoint,
        "EndpointArn": arn(world, endpoint),
        "EndpointConfigName": found.config,
        "EndpointStatus": found.status.as_str(),
        "CreationTime": moment(found.created),
        "LastModifiedTime": moment(found.modified),
    });
    if let Some(reason) = &found.reason {
        answer["FailureReason"] = json!(reason.chars().take(MAX_REASON).collect::<String>());
    }
    let pending = match found.status {
        Status::Creating => Some(&found.config),
        _ => found.target.as_ref(),
    };
    if let Some(pending) = pending {
        let variants = resources.configs.get(pending).map(pending_variants);
        answer["PendingDeploymentSummary"] = json!({
            "EndpointConfigName": pending,
            "ProductionVariants": variants.unwrap_or_default(),
            "StartTime": moment(found.modified),
        });
    }
    if let Some(made) = resources.configs.get(&found.config) {
        if found.status != Status::Creating {
            answer["ProductionVariants"] = serving_variants(made, |model| {
                let made = resources.models.get(model)?;
                Some((made.request["PrimaryContainer"]["Image"].clone(), moment(found.modified)))
            });
        }
        let capture = &made.request["DataCaptureConfig"];
        if !capture.is_null() {
            answer["DataCaptureConfig"] = json!({
                "EnableCapture": capture["EnableCapture"].as_bool().unwrap_or(true),
                "CaptureStatus": "Started",
                "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                "DestinationS3Uri": capture["DestinationS3Uri"],
                "KmsKeyId": capture["KmsKeyId"].as_str().unwrap_or_default(),
            });
        }
    }
    Ok(answer)
}

fn variants(made: &Made) -> impl Iterator<Item = &Value> {
    made.request["ProductionVariants"].as_array().into_iter().flatten()
}

fn pending_variants(made: &Made) -> Vec<Value> {
    let summary = |variant: &Value| {
        json!({
            "VariantName": variant["VariantName"],
            "DesiredInstanceCount": variant["InitialInstanceCount"],
            "InstanceType": variant["InstanceType"],
        })
    };
    variants(made).map(summary).collect()
}

fn serving_variants(made: &Made, image: impl Fn(&str) -> Option<(Value, Value)>) -> Value {
    let summary = |variant: &Value| {
        let weight = variant["InitialVariantWeight"].as_f64().unwrap_or(1.0);
        let images = variant["ModelName"].as_str().and_then(&image).map(|(image, at)| {
            json!([{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": at}])
        });
        json!({
            "VariantName": variant["VariantName"],
            "DeployedImages": images.unwrap_or_else(|| json!([])),
            "CurrentWeight": weight,
            "DesiredWeight": weight,
            "CurrentInstanceCount": variant["InitialInstanceCount"],
            "DesiredInstanceCount": variant["InitialInstanceCount"],
        })
    };
    variants(made).map(summary).collect()
}

/// Begins the maintenance that a fault asks for.
fn maintain(world: &Arc<World>, endpoint: &str) {
    let mut resources = world.resources();
    let Some(found) = resources.endpoints.get_mut(endpoint) else { return };
    if found.status != Status::InService {
        return;
    }
    let fault = world.faults.take(|fault| match fault {
        Fault::SystemUpdating { endpoint: wanted, .. } => {
            wanted.as_deref().is_none_or(|name| name == endpoint)
        }
        _ => false,
    });
    let Some(Fault::SystemUpdating { millis, .. }) = fault else { return };
    found.status = Status::SystemUpdating;
    found.generation += 1;
    let (generation, config) = (found.generation, found.config.clone());
    let change =
        Change { world: Arc::clone(world), endpoint: endpoint.to_owned(), config, generation };
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        change.apply(|endpoint, _| endpoint.status = Status::InService);
    });
}

/// A change under way.
struct Change {
    world: Arc<World>,
    endpoint: String,
    config: String,
    generation: u64,
}

impl Change {
    /// Changes the endpoint, unless another change has begun or it is gone.
    fn apply(&self, change: impl FnOnce(&mut Endpoint, DateTime<Utc>)) {
        let now = self.world.clock.now();
        let mut resources = self.world.resources();
        let found = resources.endpoints.get_mut(&self.endpoint);
        if let Some(endpoint) = found.filter(|found| found.generation == self.generation) {
            change(endpoint, now);
            endpoint.modified = now;
        }
    }

    async fn create(self) {
        tokio::time::sleep(self.world.settings.delays.creating).await;
        let fault = self.world.faults.for_change(&self.endpoint, false);
        match fault {
            Some(Fault::Stuck { .. }) => {}
            Some(Fault::OutOfService { reason, .. }) => self.end(Status::OutOfService, reason),
            Some(Fault::Failed { reason, .. }) => self.end(Status::Failed, reason),
            _ => match Fleet::start(&self.world, &self.config).await {
                Ok(fleet) => self.serve(fleet),
                Err(reason) => self.end(Status::Failed, Some(reason)),
            },
        }
    }

    async fn update(self) {
        tokio::time::sleep(self.world.settings.delays.updating).await;
        let fault = self.world.faults.for_change(&self.endpoint, true);
        match fault {
            Some(Fault::Stuck { .. }) => {}
            Some(Fault::OutOfService { reason, .. }) => self.end(Status::OutOfService, reason),
            Some(Fault::Failed { reason, .. }) => self.end(Status::Failed, reason),
            Some(Fault::SilentRollback { reason, .. }) => self.go_back(reason).await,
            Some(Fault::UpdateRollbackFailed { reason, .. }) => self.apply(|endpoint, _| {
                endpoint.status = Status::UpdateRollbackFailed;
                endpoint.target = None;
                endpoint.reason = reason;
            }),
            _ => match Fleet::start(&self.world, &self.config).await {
                Ok(fleet) => self.serve(fleet),
                Err(reason) => self.go_back(Some(reason)).await,
            },
        }
    }

    /// All traffic to the new fleet at once; the old one answers what it has begun.
    fn serve(self, fleet: Fleet) {
        self.apply(|endpoint, _| {
            endpoint.status = Status::InService;
            endpoint.config = self.config.clone();
            endpoint.target = None;
            endpoint.fleet = Some(Arc::new(fleet));
        });
    }

    async fn go_back(self, reason: Option<String>) {
        self.apply(|endpoint, _| {
            endpoint.status = Status::RollingBack;
            endpoint.reason = reason;
        });
        tokio::time::sleep(self.world.settings.delays.rolling_back).await;
        self.apply(|endpoint, _| {
            endpoint.status = Status::InService;
            endpoint.target = None;
        });
    }

    fn end(self, status: Status, reason: Option<String>) {
        self.apply(|endpoint, _| {
            endpoint.status = status;
            endpoint.target = None;
            endpoint.reason = reason;
            endpoint.fleet = None;
        });
    }

    async fn delete(self) {
        tokio::time::sleep(self.world.settings.delays.deleting).await;
        let mut resources = self.world.resources();
        let ours = |found: &Endpoint| found.generation == self.generation;
        if resources.endpoints.get(&self.endpoint).is_some_and(ours) {
            resources.endpoints.remove(&self.endpoint);
        }
    }
}

/// What a request to an endpoint finds.
pub(crate) fn serving(world: &World, endpoint: &str) -> Result<Arc<Fleet>, ApiError> {
    let resources = world.resources();
    let found = resources.endpoints.get(endpoint).and_then(|found| found.fleet.clone());
    let account = &world.settings.account;
    found.ok_or_else(|| {
        let message = format!("Endpoint {endpoint} of account {account} not found.");
        ApiError::new(400, "ValidationError", message)
    })
}
