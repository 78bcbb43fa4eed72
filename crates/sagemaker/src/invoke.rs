//! Requests to endpoints.

use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_sagemakerruntime::error::SdkError;
use aws_sdk_sagemakerruntime::operation::invoke_endpoint::InvokeEndpointError;
use aws_sdk_sagemakerruntime::primitives::Blob;
use mloop_core::{EndpointName, attributes};
use mloop_deployer::{Answer, DeployError, EndpointClient, Invocation};

use crate::deployer::AwsSageMakerDeployer;
use crate::failure::{Class, Failure};

#[async_trait]
impl EndpointClient for AwsSageMakerDeployer {
    /// SageMaker wraps what a container answers with 4xx or 5xx into an error of its own; it is
    /// unwrapped here. Such an answer has no custom attributes, and so no digest.
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let clients = self.connection.clients().await;
        let runtime = if invocation.fresh_connection {
            self.connection.fresh_runtime(clients)
        } else {
            clients.runtime.clone()
        };
        let call = runtime
            .invoke_endpoint()
            .endpoint_name(endpoint.as_str())
            .content_type(&invocation.content_type)
            .set_custom_attributes(invocation.custom_attributes.clone())
            .set_inference_id(invocation.inference_id.clone())
            .body(Blob::new(invocation.body.clone()));
        let began = Instant::now();
        let answer = call.send().await;
        let latency = began.elapsed();
        match answer {
            Ok(answer) => {
                let digest = answer.custom_attributes().and_then(attributes::digest_of);
                let body = answer.body.map(Blob::into_inner).unwrap_or_default();
                Ok(Answer { status: 200, body, digest, latency })
            }
            Err(error) => match of_the_container(&error) {
                Some((status, body)) => Ok(Answer { status, body, digest: None, latency }),
                None => self.unanswered(endpoint, error, latency),
            },
        }
    }
}

impl AwsSageMakerDeployer {
    /// SageMaker's own refusals are answers too, as those of any server.
    fn unanswered(
        &self,
        endpoint: &EndpointName,
        error: SdkError<InvokeEndpointError>,
        latency: std::time::Duration,
    ) -> Result<Answer, DeployError> {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let failure = Failure::of(error);
        match (failure.class, status) {
            (Class::Refused | Class::Missing, Some(status)) => {
                Ok(Answer { status, body: failure.said.into_bytes(), digest: None, latency })
            }
            _ => Err(self.failed(&format!("asking {endpoint}"))(failure)),
        }
    }
}

/// Status and body that the container answered with, when that was no success.
fn of_the_container(error: &SdkError<InvokeEndpointError>) -> Option<(u16, Vec<u8>)> {
    let InvokeEndpointError::ModelError(error) = error.as_service_error()? else { return None };
    let status = error.original_status_code().and_then(|status| u16::try_from(status).ok())?;
    Some((status, error.original_message().unwrap_or_default().as_bytes().to_vec()))
}
