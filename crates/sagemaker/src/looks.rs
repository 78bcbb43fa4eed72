//! Looks at what there is, and deletion.

use aws_sdk_sagemaker::types::EndpointStatus;
use mloop_core::{EndpointName, Sha256Digest};

use crate::acting::{Look, act};
use crate::connection::Clients;
use crate::failure::{Class, Failure};
use crate::names::belongs;
use crate::plan::{ConfigPlan, DIGEST_VARIABLE, ModelPlan, VARIANT};

/// The state of an endpoint; none when there is none of this name.
pub(crate) async fn status(
    clients: &Clients,
    endpoint: &EndpointName,
) -> Result<Option<EndpointStatus>, Failure> {
    let call = clients.sagemaker.describe_endpoint().endpoint_name(endpoint.as_str());
    match call.send().await.map_err(Failure::of) {
        Ok(found) => Ok(Some(found.endpoint_status().cloned().unwrap_or("unknown".into()))),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Asks for a deletion: what is gone or going is fine.
pub(crate) async fn delete(clients: &Clients, endpoint: &EndpointName) -> Result<(), Failure> {
    let call = || async move {
        let call = clients.acting.delete_endpoint().endpoint_name(endpoint.as_str());
        match call.send().await.map_err(Failure::of) {
            Err(failure) if !failure.is_missing() => Err(failure),
            _ => Ok(()),
        }
    };
    let look = || async move {
        let found = status(clients, endpoint).await?;
        Ok(Look::of(found.is_none_or(|status| status == EndpointStatus::Deleting)))
    };
    act(clients, call, look).await.map(drop)
}

/// The version of a configuration that mloop made, or why it is none.
pub(crate) async fn read_version(
    clients: &Clients,
    config: &str,
) -> Result<Result<Sha256Digest, String>, Failure> {
    let call = clients.sagemaker.describe_endpoint_config().endpoint_config_name(config);
    let found = match call.send().await.map_err(Failure::of) {
        Ok(found) => found,
        Err(failure) if failure.is_missing() => return Ok(Err("it was deleted".to_owned())),
        Err(failure) => return Err(failure),
    };
    let [variant] = found.production_variants() else {
        return Ok(Err("it has several variants".to_owned()));
    };
    if variant.variant_name() != Some(VARIANT) {
        return Ok(Err("its variant has another name".to_owned()));
    }
    let Some(model) = variant.model_name() else {
        return Ok(Err("its variant has no model".to_owned()));
    };
    let call = clients.sagemaker.describe_model().model_name(model);
    let found = match call.send().await.map_err(Failure::of) {
        Ok(found) => found,
        Err(failure) if failure.is_missing() => {
            return Ok(Err(format!("its model {model} was deleted")));
        }
        Err(failure) => return Err(failure),
    };
    let environment = found.primary_container().and_then(|container| container.environment());
    let digest = environment.and_then(|environment| environment.get(DIGEST_VARIABLE));
    let digest = digest.and_then(|digest| digest.parse::<Sha256Digest>().ok());
    Ok(match digest {
        Some(digest) if belongs(config, digest) && belongs(model, digest) => Ok(digest),
        Some(_) => Err("its name or that of its model is another's".to_owned()),
        None => Err(format!("its model {model} names no version")),
    })
}

pub(crate) async fn model_is_there(clients: &Clients, plan: &ModelPlan) -> Result<bool, Failure> {
    let call = clients.sagemaker.describe_model().model_name(&plan.name);
    match call.send().await.map_err(Failure::of) {
        Ok(found) => same("model", &plan.name, plan.difference(&found)),
        Err(failure) if failure.is_missing() => Ok(false),
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn config_is_there(clients: &Clients, plan: &ConfigPlan) -> Result<bool, Failure> {
    let call = clients.sagemaker.describe_endpoint_config().endpoint_config_name(&plan.name);
    match call.send().await.map_err(Failure::of) {
        Ok(found) => same("endpoint configuration", &plan.name, plan.difference(&found)),
        Err(failure) if failure.is_missing() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// True, or the conflict that another content is.
fn same(what: &str, name: &str, difference: Option<&str>) -> Result<bool, Failure> {
    let Some(difference) = difference else { return Ok(true) };
    let problem = format!(
        "the {what} {name} is there with another {difference}; its name is mloop's, so find out who \
         made it, and delete it"
    );
    Err(Failure::here(Class::Exists, problem))
}
