//! The data plane: `/ping`, `/invocations`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mloop_core::attributes::{self, CUSTOM_ATTRIBUTES_HEADER, INFERENCE_ID_HEADER};
use mloop_core::capture::InferenceAnswer;
use mloop_core::error_chain;
use mloop_vision::{Classifier, InputError};

use crate::app::App;
use crate::capture::Captured;
use crate::endpoints::{Endpoint, InFlight};
use crate::error::Refusal;
use crate::metrics;

/// SageMaker's limits on what the two headers hold.
const MAX_INFERENCE_ID: usize = 64;
const MAX_ATTRIBUTES: usize = 1024;

/// How much more than the limit of a body is read and thrown away, so that the caller gets to see
/// the answer 413 rather than a broken connection.
const DRAINED_BODIES: usize = 4;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/metrics", get(show_metrics))
        .route("/invocations", post(invoke_default))
        .route("/endpoints/{name}/invocations", post(invoke_named))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// Whether the server may be sent traffic; else why not.
pub(crate) fn readiness(app: &App) -> Result<(), String> {
    if !app.restored.load(Ordering::Acquire) {
        return Err("the versions to serve are being loaded".to_owned());
    }
    let serves = |endpoint: &Arc<Endpoint>| endpoint.serving().model.is_some();
    let all = app.endpoints.all();
    // What served before the start must serve again. A version that is new and cannot serve is told to
    // whoever brought it, and is no reason to take the others out of service.
    let owed: Vec<_> = all.iter().filter(|endpoint| endpoint.serving().owed).cloned().collect();
    let judged = match app.endpoints.get(app.default_endpoint.as_str()) {
        _ if !owed.is_empty() => owed,
        Some(endpoint) => vec![endpoint],
        None => all,
    };
    if judged.is_empty() || judged.iter().any(serves) {
        return Ok(());
    }
    let reason = |endpoint: Arc<Endpoint>| {
        format!("endpoint `{}` does not serve: {}", endpoint.name(), endpoint.serving().detail)
    };
    Err(judged.into_iter().map(reason).collect::<Vec<_>>().join("; "))
}

async fn ping(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    readiness(&app).map(|()| "ready\n").map_err(Refusal::not_ready)
}

async fn show_metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = (app.render)(&metrics::families(&app));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

pub(crate) async fn no_such_path() -> Refusal {
    Refusal::not_found("there is nothing at this path")
}

pub(crate) async fn wrong_method() -> Refusal {
    let message = "this path takes another method";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn invoke_default(State(app): State<Arc<App>>, request: Request) -> Response {
    let endpoint = app.endpoints.get(app.default_endpoint.as_str());
    let missing = format!(
        "there is no default endpoint `{}`: ask /endpoints/NAME/invocations",
        app.default_endpoint
    );
    invoke(&app, endpoint, missing, request).await
}

async fn invoke_named(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let endpoint = app.endpoints.get(&name);
    invoke(&app, endpoint, format!("there is no endpoint `{name}`"), request).await
}

async fn invoke(
    app: &Arc<App>,
    endpoint: Option<Arc<Endpoint>>,
    missing: String,
    request: Request,
) -> Response {
    let began = Instant::now();
    let Some(endpoint) = endpoint else {
        let refusal = if app.restored.load(Ordering::Acquire) {
            Refusal::not_found(missing)
        } else {
            Refusal::not_ready("the versions to serve are being loaded")
        };
        return counted(&app.strays, began, refusal.into_response());
    };
    let Some(in_flight) = endpoint.begin() else {
        let refusal =
            Refusal::not_ready(format!("endpoint `{}` serves no version", endpoint.name()));
        return counted(&endpoint.requests, began, refusal.into_response());
    };
    let mut response = match answer(app, &in_flight, request).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    let digest = attributes::of_answer(&in_flight.model.digest());
    let value = HeaderValue::try_from(digest).expect("hexadecimal digits are a header value");
    response.headers_mut().insert(CUSTOM_ATTRIBUTES_HEADER, value);
    counted(&endpoint.requests, began, response)
}

fn counted(requests: &metrics::Requests, began: Instant, response: Response) -> Response {
    requests.count(response.status().as_u16(), began.elapsed());
    response
}

/// The answer for one image, captured.
async fn answer(app: &Arc<App>, in_flight: &InFlight, request: Request) -> Result<Bytes, Refusal> {
    let (parts, body) = request.into_parts();
    let asked = Asked::read(&parts.headers)?;
    let admission = app.workers.admit().ok_or_else(Refusal::overloaded)?;
    let body = read_body(body, app.limits.body_bytes, app.limits.body_timeout).await?;
    let arrived = Instant::now();
    if body.is_empty() {
        return Err(Refusal::bad_request("the body is empty: send one image"));
    }
    let model = Arc::clone(&in_flight.model);
    let (work, image) = (asked.clone(), body.clone());
    let computed = app
        .workers
        .run(admission, move || compute(model.classifier(), &work, &image, arrived))
        .await;
    let json = computed.map_err(|panic| {
        tracing::error!("computing an answer failed, which is a bug: {panic}");
        Refusal::internal("computing the answer failed: see the server's log")
    })??;
    if let Some(capture) = &app.capture {
        capture.offer(Captured {
            endpoint: in_flight.endpoint.name().clone(),
            at: app.clock.now(),
            inference_id: asked.inference_id,
            content_type: asked.content_type,
            input: body,
            output: json.clone(),
        });
    }
    Ok(json)
}

/// What the head of an invocation says.
#[derive(Debug, Clone)]
struct Asked {
    content_type: String,
    inference_id: Option<String>,
    attributes: std::collections::BTreeMap<String, String>,
}

impl Asked {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let content_type = text(headers, header::CONTENT_TYPE.as_str(), MAX_ATTRIBUTES)?;
        let inference_id = text(headers, INFERENCE_ID_HEADER, MAX_INFERENCE_ID)?;
        let attributes = text(headers, CUSTOM_ATTRIBUTES_HEADER, MAX_ATTRIBUTES)?;
        Ok(Self {
            content_type: content_type.unwrap_or_default(),
            inference_id,
            attributes: attributes.map(|text| attributes::parse(&text)).unwrap_or_default(),
        })
    }
}

/// A header as text of at most `longest` characters; an empty one counts as absent.
fn text(headers: &HeaderMap, name: &str, longest: usize) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= longest => Ok(Some(text.to_owned())),
        _ => Err(Refusal::bad_request(format!(
            "header `{name}` must be at most {longest} visible ASCII characters"
        ))),
    }
}

fn compute(
    classifier: &Classifier,
    asked: &Asked,
    body: &[u8],
    arrived: Instant,
) -> Result<Bytes, Refusal> {
    let image = classifier.decode(&asked.content_type, body).map_err(|error| input(&error))?;
    let answer = classifier.classify(&[image]).pop();
    let wrong = || Refusal::internal("the version gave no answer for the image");
    let answer = answer.ok_or_else(wrong)?;
    let prediction = classifier.classes().get(answer.class).ok_or_else(wrong)?;
    let answer = InferenceAnswer {
        prediction: prediction.clone(),
        confidence: answer.confidence,
        probabilities: answer.probabilities,
        features: answer.features,
        attributes: asked.attributes.clone(),
        embedding: answer.embedding,
        model_digest: classifier.digest(),
        latency_micros: u64::try_from(arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
    };
    let json = serde_json::to_vec(&answer).expect("names are string keys");
    Ok(Bytes::from(json))
}

fn input(error: &InputError) -> Refusal {
    let message = error_chain(error);
    match error {
        InputError::UnknownContentType(_) => {
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
        }
        _ => Refusal::bad_request(message),
    }
}

async fn read_body(body: Body, limit: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(timeout, collect(body, limit));
    let late = || {
        let message = format!("the body did not arrive within {} s", timeout.as_secs_f64());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    };
    read.await.unwrap_or_else(|_| Err(late()))
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut seen = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            Refusal::bad_request(format!("the body broke off: {}", error_chain(&error)))
        })?;
        seen += chunk.len();
        if seen > limit.saturating_mul(DRAINED_BODIES) {
            break;
        }
        if seen <= limit {
            bytes.extend_from_slice(&chunk);
        }
    }
    if seen > limit {
        let message = format!("the body has more than {limit} bytes");
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
    }
    Ok(bytes.freeze())
}
