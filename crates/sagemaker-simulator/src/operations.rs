//! The control plane: which call does what.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::names::{name, problem, required, role, text};
use crate::protocol::{ApiError, moment};
use crate::world::{Made, World};
use crate::{endpoints, jobs};

/// Calls that change something.
const ACTING: [&str; 10] = [
    "CreateModel",
    "DeleteModel",
    "CreateEndpointConfig",
    "DeleteEndpointConfig",
    "CreateEndpoint",
    "UpdateEndpoint",
    "DeleteEndpoint",
    "CreateTrainingJob",
    "StopTrainingJob",
    "AddTags",
];

pub(crate) fn acts(operation: &str) -> bool {
    ACTING.contains(&operation)
}

/// Carries a call out.
pub(crate) fn run(world: &Arc<World>, operation: &str, request: &Value) -> Result<Value, ApiError> {
    match operation {
        "CreateModel" => create_model(world, request),
        "DescribeModel" => describe_model(world, request),
        "DeleteModel" => delete_model(world, request),
        "ListModels" => Ok(list_models(world, request)),
        "CreateEndpointConfig" => create_config(world, request),
        "DescribeEndpointConfig" => describe_config(world, request),
        "DeleteEndpointConfig" => delete_config(world, request),
        "ListEndpointConfigs" => Ok(list_configs(world, request)),
        "CreateEndpoint" => endpoints::create(world, request),
        "DescribeEndpoint" => endpoints::describe(world, request),
        "UpdateEndpoint" => endpoints::update(world, request),
        "DeleteEndpoint" => endpoints::delete(world, request),
        "ListEndpoints" => Ok(endpoints::list(world, request)),
        "CreateTrainingJob" => jobs::create(world, request),
        "DescribeTrainingJob" => jobs::describe(world, request),
        "StopTrainingJob" => jobs::stop(world, request),
        _ => Err(ApiError::new(
            400,
            "UnknownOperationException",
            format!("the simulator has no {operation}"),
        )),
    }
}

/// What a call says when what it names is not to be seen yet.
pub(crate) fn not_found(world: &World, operation: &str, request: &Value) -> ApiError {
    let (kind, what, member) = match operation {
        "CreateEndpoint" | "UpdateEndpoint" | "DescribeEndpointConfig" => {
            ("endpoint-config", "endpoint configuration", "EndpointConfigName")
        }
        "DescribeModel" => ("model", "model", "ModelName"),
        "CreateEndpointConfig" => {
            let model = request["ProductionVariants"][0]["ModelName"].as_str();
            return ApiError::could_not_find("model", &world.arn("model", model.unwrap_or("?")));
        }
        "DescribeTrainingJob" | "StopTrainingJob" => return jobs::unknown(),
        _ => ("endpoint", "endpoint", "EndpointName"),
    };
    ApiError::could_not_find(what, &world.arn(kind, request[member].as_str().unwrap_or("?")))
}

fn create_model(world: &World, request: &Value) -> Result<Value, ApiError> {
    let model = name(request, "ModelName")?;
    role(request, "ExecutionRoleArn")?;
    let container = required(request, "PrimaryContainer")?;
    let image = text(container, "Image")?;
    if image.len() > 255 || image.contains(char::is_whitespace) {
        return Err(problem("primaryContainer.image", "Member must satisfy pattern: [\\S]+"));
    }
    if let Some(url) = container["ModelDataUrl"].as_str()
        && !(url.starts_with("s3://") || url.starts_with("https://"))
    {
        return Err(problem("primaryContainer.modelDataUrl", "Member must be an S3 URL"));
    }
    let arn = world.arn("model", model);
    let made = Made { request: request.clone(), at: world.clock.now() };
    let mut resources = world.resources();
    if resources.models.contains_key(model) {
        return Err(ApiError::already_there("model", &arn));
    }
    resources.models.insert(model.to_owned(), made);
    Ok(json!({"ModelArn": arn}))
}

fn describe_model(world: &World, request: &Value) -> Result<Value, ApiError> {
    let model = name(request, "ModelName")?;
    let arn = world.arn("model", model);
    let resources = world.resources();
    let made = resources.models.get(model);
    let made = made.ok_or_else(|| ApiError::could_not_find("model", &arn))?;
    let mut answer = described(
        &made.request,
        &["ModelName", "PrimaryContainer", "ExecutionRoleArn", "VpcConfig"],
    );
    answer["PrimaryContainer"]["Mode"] = json!("SingleModel");
    answer["EnableNetworkIsolation"] =
        json!(made.request["EnableNetworkIsolation"].as_bool().unwrap_or(false));
    answer["ModelArn"] = json!(arn);
    answer["CreationTime"] = moment(made.at);
    Ok(answer)
}

fn delete_model(world: &World, request: &Value) -> Result<Value, ApiError> {
    let model = name(request, "ModelName")?;
    let gone = world.resources().models.remove(model);
    let missing = || ApiError::could_not_find("model", &world.arn("model", model));
    gone.map(|_| Value::Null).ok_or_else(missing)
}

fn create_config(world: &World, request: &Value) -> Result<Value, ApiError> {
    let config = name(request, "EndpointConfigName")?;
    let variants = required(request, "ProductionVariants")?.as_array().cloned().unwrap_or_default();
    if variants.is_empty() || variants.len() > 10 {
        return Err(problem("productionVariants", "Member must have 1 to 10 elements"));
    }
    if let Some(capture) = request.get("DataCaptureConfig").filter(|one| !one.is_null()) {
        required(capture, "InitialSamplingPercentage")?;
        text(capture, "DestinationS3Uri")?;
        required(capture, "CaptureOptions")?;
    }
    let arn = world.arn("endpoint-config", config);
    let made = Made { request: request.clone(), at: world.clock.now() };
    let mut resources = world.resources();
    for variant in &variants {
        name(variant, "VariantName")?;
        let model = name(variant, "ModelName")?;
        text(variant, "InstanceType")?;
        required(variant, "InitialInstanceCount")?;
        if !resources.models.contains_key(model) {
            return Err(ApiError::could_not_find("model", &world.arn("model", model)));
        }
    }
    if resources.configs.contains_key(config) {
        return Err(ApiError::already_there("endpoint configuration", &arn));
    }
    resources.configs.insert(config.to_owned(), made);
    Ok(json!({"EndpointConfigArn": arn}))
}

fn describe_config(world: &World, request: &Value) -> Result<Value, ApiError> {
    let config = name(request, "EndpointConfigName")?;
    let arn = world.arn("endpoint-config", config);
    let resources = world.resources();
    let made = resources.configs.get(config);
    let made = made.ok_or_else(|| ApiError::could_not_find("endpoint configuration", &arn))?;
    let members = ["EndpointConfigName", "ProductionVariants", "DataCaptureConfig", "KmsKeyId"];
    let mut answer = described(&made.request, &members);
    for variant in answer["ProductionVariants"].as_array_mut().into_iter().flatten() {
        if variant["InitialVariantWeight"].is_null() {
            variant["InitialVariantWeight"] = json!(1.0);
        }
    }
    answer["EndpointConfigArn"] = json!(arn);
    answer["CreationTime"] = moment(made.at);
    Ok(answer)
}

fn delete_config(world: &World, request: &Value) -> Result<Value, ApiError> {
    let config = name(request, "EndpointConfigName")?;
    let gone = world.resources().configs.remove(config);
    let arn = world.arn("endpoint-config", config);
    gone.map(|_| Value::Null)
        .ok_or_else(|| ApiError::could_not_find("endpoint configuration", &arn))
}

/// The members of a request that its description repeats.
fn described(request: &Value, members: &[&str]) -> Value {
    let known = members.iter().filter(|member| !request[**member].is_null());
    Value::Object(known.map(|member| ((*member).to_owned(), request[*member].clone())).collect())
}

fn list_models(world: &World, request: &Value) -> Value {
    let resources = world.resources();
    let all = resources.models.iter().map(|(name, made)| {
        let summary = json!({
            "ModelName": name,
            "ModelArn": world.arn("model", name),
            "CreationTime": moment(made.at),
        });
        (name.as_str(), summary)
    });
    page(request, "Models", all)
}

fn list_configs(world: &World, request: &Value) -> Value {
    let resources = world.resources();
    let all = resources.configs.iter().map(|(name, made)| {
        let summary = json!({
            "EndpointConfigName": name,
            "EndpointConfigArn": world.arn("endpoint-config", name),
            "CreationTime": moment(made.at),
        });
        (name.as_str(), summary)
    });
    page(request, "EndpointConfigs", all)
}

/// One page of a list: names that contain `NameContains`, `MaxResults` at a time; the token is the
/// last name of the page before.
pub(crate) fn page<'a>(
    request: &Value,
    member: &str,
    all: impl Iterator<Item = (&'a str, Value)>,
) -> Value {
    let most = request["MaxResults"].as_u64().unwrap_or(10).clamp(1, 100);
    let most = usize::try_from(most).unwrap_or(10);
    let part = request["NameContains"].as_str().unwrap_or_default();
    let after = request["NextToken"].as_str().unwrap_or_default();
    let mut rest = all.filter(|(name, _)| name.contains(part) && *name > after);
    let page: Vec<(&str, Value)> = rest.by_ref().take(most).collect();
    let token = page.last().map(|(name, _)| (*name).to_owned());
    let more = rest.next().is_some();
    let mut answer = json!({});
    answer[member] = page.into_iter().map(|(_, summary)| summary).collect();
    if more {
        answer["NextToken"] = json!(token);
    }
    answer
}
