//! Listens, and hands calls to the control plane, the runtime and the script of faults.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mloop_core::Clock;
use mloop_http::{Client, Policy};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fault::{CallFault, Fault};
use crate::protocol::{ApiError, Cut, control_answer, cut};
use crate::settings::Settings;
use crate::storage::Storage;
use crate::world::{Call, World};
use crate::{operations, runtime};

/// Most bytes of a call to the control plane.
const MAX_CALL: usize = 1 << 20;

/// Time for the head of a request to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that a container may take to answer, as at SageMaker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the simulator could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("listening on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client that asks the containers could not be made.
    #[error("making the client that asks the containers")]
    Client(#[source] mloop_http::HttpError),
}

/// Captured requests could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing captured requests: {0}")]
pub struct CaptureError(String);

/// A simulator that listens. Everything that it keeps is gone when it is dropped, what it captured and did not
/// write yet too: see [`Simulator::write_captured`].
pub struct Simulator {
    world: Arc<World>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
    capturing: JoinHandle<()>,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.accepting.abort();
        self.capturing.abort();
        // Servers and jobs end with what holds them.
        let mut resources = self.world.resources();
        resources.endpoints.clear();
        resources.jobs.clear();
    }
}

impl Simulator {
    /// Starts listening.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let address = settings.listen;
        let bind = |source| StartError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let storage = Storage::new(&settings.region, &settings.storage).await;
        let policy = Policy { timeout: ANSWER_TIMEOUT, ..Policy::default() };
        let http = Client::new(policy).map_err(StartError::Client)?;
        let every = settings.capture_every;
        let world = Arc::new(World::new(settings, clock, storage.clone(), http));
        let capturing = tokio::spawn(Arc::clone(&world.captured).write_every(every, storage));
        let accepting = tokio::spawn(accept(listener, router(Arc::clone(&world))));
        Ok(Self { world, address, accepting, capturing })
    }

    /// Writes what data capture has gathered so far to where it belongs.
    ///
    /// # Errors
    /// [`CaptureError`]; what could not be written is kept for the next time.
    pub async fn write_captured(&self) -> Result<(), CaptureError> {
        self.world.captured.write(&self.world.storage).await.map_err(CaptureError)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds faults to the script.
    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world.faults.add(faults);
    }

    /// The faults that still wait.
    #[must_use]
    pub fn waiting_faults(&self) -> Vec<Fault> {
        self.world.faults.waiting()
    }

    /// All calls so far, the last 10,000 at most.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.world.calls()
    }

    /// Names of everything that there is.
    #[must_use]
    pub fn inventory(&self) -> Value {
        self.world.inventory()
    }
}

fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/", post(control))
        .route("/endpoints/{name}/invocations", post(runtime::invoke))
        .route("/simulator/health", get(|| async { "OK" }))
        .route("/simulator/faults", get(waiting).post(add_faults).delete(clear_faults))
        .route("/simulator/calls", get(calls))
        .route("/simulator/inventory", get(inventory))
        .with_state(world)
}

async fn accept(listener: TcpListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, router.clone()));
            }
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers on one connection. An answer that is marked as lost closes the connection instead.
async fn serve(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request| {
        let answered = hyper::service::Service::call(&service, request);
        async move {
            let answer = answered.await.unwrap_or_else(|never: Infallible| match never {});
            match answer.extensions().get::<Cut>() {
                Some(Cut) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                None => Ok(answer),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection ended early: {error}");
    }
}

async fn control(State(world): State<Arc<World>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix("SageMaker."));
    let operation = operation.unwrap_or_default().to_owned();
    let body = to_bytes(body, MAX_CALL).await.unwrap_or_default();
    let request = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let fault = world.faults.for_call(&operation);
    match fault {
        Some(CallFault::LoseRequest) => {
            let answer = Value::Null;
            let (effect, answered) = (false, false);
            world.record(Call { operation, request, status: 0, answer, effect, answered });
            return cut();
        }
        Some(CallFault::Slow { millis }) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        _ => {}
    }
    let result = run(&world, &operation, &request, &head.headers, fault.as_ref());
    let effect = result.is_ok() && operations::acts(&operation);
    let (status, answer) = match result {
        Ok(answer) => (200, answer),
        Err(error) => (error.status, error.body()),
    };
    let answered = fault != Some(CallFault::LoseAnswer);
    tracing::info!(operation, status, answered, "called");
    let response = if answered { control_answer(status, &answer) } else { cut() };
    world.record(Call { operation, request, status, answer, effect, answered });
    response
}

fn run(
    world: &Arc<World>,
    operation: &str,
    request: &Value,
    headers: &HeaderMap,
    fault: Option<&CallFault>,
) -> Result<Value, ApiError> {
    if !headers.contains_key(header::AUTHORIZATION) {
        let code = "MissingAuthenticationTokenException";
        return Err(ApiError::new(403, code, "Missing Authentication Token"));
    }
    match fault {
        Some(CallFault::Throttle) => Err(ApiError::throttled()),
        Some(CallFault::NotFound) => Err(operations::not_found(world, operation, request)),
        Some(CallFault::Error { status, code, message }) => {
            Err(ApiError::new(*status, code, message.clone()))
        }
        _ if !request.is_object() => {
            Err(ApiError::new(400, "SerializationException", "the body is no JSON object"))
        }
        _ => operations::run(world, operation, request),
    }
}

async fn waiting(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"waiting": world.faults.waiting()}))
}

/// Takes one fault, or a list.
async fn add_faults(State(world): State<Arc<World>>, body: String) -> (StatusCode, String) {
    let one = serde_json::from_str::<Fault>(&body).map(|fault| vec![fault]);
    match serde_json::from_str::<Vec<Fault>>(&body).or(one) {
        Ok(faults) => {
            world.faults.add(faults);
            (StatusCode::CREATED, String::new())
        }
        Err(error) => {
            (StatusCode::BAD_REQUEST, format!("no fault and no list of faults: {error}\n"))
        }
    }
}

async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.faults.clear();
    StatusCode::NO_CONTENT
}

async fn calls(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!({"calls": world.calls()}))
}

async fn inventory(State(world): State<Arc<World>>) -> Json<Value> {
    Json(world.inventory())
}
