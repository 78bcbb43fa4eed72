//! The runtime: requests to endpoints.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use mloop_core::attributes::{CUSTOM_ATTRIBUTES_HEADER, INFERENCE_ID_HEADER};
use mloop_http::Method;
use serde_json::{Value, json};

use crate::capture::Answered;
use crate::endpoints;
use crate::fault::CallFault;
use crate::fleet::{Fleet, Variant};
use crate::protocol::{ApiError, cut, runtime_error};
use crate::world::{Call, World};

/// Largest body of an invocation.
const MAX_BODY: usize = 6_291_456;

/// The only headers that a container sees of a request.
const HANDED_THROUGH: [&str; 4] =
    ["content-type", "accept", CUSTOM_ATTRIBUTES_HEADER, INFERENCE_ID_HEADER];

const OPERATION: &str = "InvokeEndpoint";

/// `POST /endpoints/{name}/invocations`.
pub(crate) async fn invoke(
    State(world): State<Arc<World>>,
    Path(endpoint): Path<String>,
    request: Request,
) -> Response<Body> {
    let fault = world.faults.for_call(OPERATION);
    if let Some(CallFault::Slow { millis }) = &fault {
        tokio::time::sleep(std::time::Duration::from_millis(*millis)).await;
    }
    let refusal = match &fault {
        Some(CallFault::LoseRequest) => {
            record(&world, 0, false);
            return cut();
        }
        Some(CallFault::Throttle) => Some(ApiError::throttled()),
        Some(CallFault::Error { status, code, message }) => {
            Some(ApiError::new(*status, code, message.clone()))
        }
        Some(CallFault::NotFound) => Some(ApiError::new(400, "ValidationError", "not found")),
        _ if !request.headers().contains_key(header::AUTHORIZATION) => Some(ApiError::new(
            403,
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        )),
        _ => None,
    };
    let answered = match refusal {
        Some(refusal) => Err(refusal),
        None => forward(&world, &endpoint, request).await,
    };
    let answer =
        answered.unwrap_or_else(|error| runtime_error(error.status, &error.code, &error.body()));
    let lost = matches!(fault, Some(CallFault::LoseAnswer));
    record(&world, answer.status().as_u16(), !lost);
    if lost { cut() } else { answer }
}

fn record(world: &World, status: u16, answered: bool) {
    let (request, answer) = (Value::Null, Value::Null);
    let operation = OPERATION.to_owned();
    world.record(Call { operation, request, status, answer, effect: false, answered });
}

async fn forward(
    world: &World,
    endpoint: &str,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let fleet = endpoints::serving(world, endpoint)?;
    let (head, body) = request.into_parts();
    let target = text(&head.headers, "x-amzn-sagemaker-target-variant");
    let unknown = || ApiError::new(400, "ValidationError", "Could not find the target variant");
    let variant = fleet.next(target).ok_or_else(unknown)?;
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| {
        let message = format!("The request body has more than {MAX_BODY} bytes");
        ApiError::new(413, "ValidationError", message)
    })?;
    let mut asked = mloop_http::Request::new(Method::Post, &variant.url, &["invocations"]);
    // The content type comes with the body.
    let kind = text(&head.headers, "content-type").unwrap_or_default();
    let input = (kind.to_owned(), body.clone());
    asked = asked.body(kind, body.to_vec());
    for name in HANDED_THROUGH.iter().filter(|name| **name != "content-type") {
        if let Some(value) = text(&head.headers, name) {
            asked = asked.header(name, value);
        }
    }
    let answer = world.http.send(&asked).await.map_err(|error| {
        ApiError::new(503, "ServiceUnavailable", mloop_core::error_chain(&error))
    })?;
    let inference_id = text(&head.headers, INFERENCE_ID_HEADER).map(str::to_owned);
    capture(world, (endpoint, &fleet, variant), inference_id, input, &answer);
    Ok(answered(world, endpoint, variant, &answer))
}

/// Captures what a container answered. A record that finds no room fails no request.
fn capture(
    world: &World,
    (endpoint, fleet, variant): (&str, &Fleet, &Variant),
    inference_id: Option<String>,
    asked: (String, bytes::Bytes),
    answer: &mloop_http::Response,
) {
    let Some(plan) = &fleet.capture else { return };
    if !(200..300).contains(&answer.status) {
        return;
    }
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    let answer = (kind, bytes::Bytes::from(answer.body.clone()));
    let at = world.clock.now();
    let Some(record) = plan.record(Answered { at, inference_id, asked, answer }) else { return };
    if let Err(problem) = world.captured.add(plan, endpoint, &variant.name, &record) {
        tracing::warn!("a request was not captured: {problem}");
    }
}

fn answered(
    world: &World,
    endpoint: &str,
    variant: &Variant,
    answer: &mloop_http::Response,
) -> Response<Body> {
    if !(200..300).contains(&answer.status) {
        return model_error(world, endpoint, &variant.name, answer);
    }
    let mut response = Response::new(Body::from(answer.body.clone()));
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    set("x-amzn-invoked-production-variant", &variant.name);
    for name in ["content-type", CUSTOM_ATTRIBUTES_HEADER] {
        if let Some(value) = answer.header(name) {
            set(name, value);
        }
    }
    response
}

/// What SageMaker makes of a container's answer of 4xx or 5xx.
fn model_error(
    world: &World,
    endpoint: &str,
    variant: &str,
    answer: &mloop_http::Response,
) -> Response<Body> {
    let original = String::from_utf8_lossy(&answer.body);
    let (region, status) = (&world.settings.region, answer.status);
    let message = format!(
        "Received client error ({status}) from {variant} with message \"{original}\". See \
         https://{region}.console.aws.amazon.com/cloudwatch/home for more information."
    );
    let group = format!("log-group:/aws/sagemaker/Endpoints/{endpoint}");
    let logs = format!("arn:aws:logs:{region}:{}:{group}", world.settings.account);
    let body = json!({
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
        "LogStreamArn": logs,
        "Message": message,
        "OriginalMessage": original,
        "OriginalStatusCode": status,
    });
    runtime_error(424, "ModelError", &body)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
