//! Listens, accepts, and drains when it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mloop_core::{Clock, Sha256Digest};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};

use crate::app::App;
use crate::capture::Capture;
use crate::changes::FirstModel;
use crate::endpoints::Endpoints;
use crate::error::ServeError;
use crate::metrics::{Render, Requests};
use crate::model::LoadedModel;
use crate::settings::{Limits, SAGEMAKER_MODEL_FOLDER, Settings};
use crate::store::{Store, StoreError, replace_file};
use crate::workers::Workers;
use crate::{admin, changes, invocations};

/// Connections of the admin plane.
const ADMIN_CONNECTIONS: usize = 64;

/// Pause after a connection could not be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a server listens: content of the address file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Data plane.
    pub listen: SocketAddr,
    /// Admin plane.
    pub admin: SocketAddr,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request that had begun was answered.
    Clean,
    /// This many connections were still busy when the time for draining was over.
    CutOff(u64),
}

/// A server that listens already, and answers once [`Server::serve`] runs.
pub struct Server {
    app: Arc<App>,
    data: TcpListener,
    admin: TcpListener,
    addresses: Addresses,
    first: Option<FirstModel>,
}

/// Looks whether a server with these settings would serve, changing nothing: whether the settings
/// make sense, and whether the model to begin with loads. Its digest, when there is one. Blocks.
///
/// # Errors
/// [`ServeError`]: what stands in the way.
pub fn check(settings: &Settings) -> Result<Option<Sha256Digest>, ServeError> {
    check_settings(settings)?;
    let Some(first) = first_model(settings)? else { return Ok(None) };
    let model = LoadedModel::load(&first.folder, first.digest);
    Ok(Some(model.map_err(|error| ServeError::Model(error.into()))?.digest()))
}

impl Server {
    /// Takes the addresses and folders of the settings; loads nothing yet.
    ///
    /// # Errors
    /// [`ServeError`]: nothing has been changed then but that folders may have been made.
    pub async fn bind(
        settings: Settings,
        clock: Arc<dyn Clock>,
        render: Render,
    ) -> Result<Self, ServeError> {
        check_settings(&settings)?;
        let first = first_model(&settings)?;
        let store = settings.state.as_deref().map(Store::open).transpose();
        let store = store.map_err(ServeError::State)?.map(Arc::new);
        let remembered = store.as_ref().map(|store| store.read()).transpose();
        let remembered = remembered.map_err(ServeError::State)?.unwrap_or_default();
        let data = listen(settings.listen).await?;
        let admin = listen(settings.admin).await?;
        let addresses = Addresses { listen: local(&data)?, admin: local(&admin)? };
        let start = |capture| Capture::start(capture, Arc::clone(&clock));
        let capture = settings.capture.map(start).transpose()?;
        if let Some(path) = &settings.address_file {
            write_addresses(path, &addresses)?;
        }
        let limits = settings.limits;
        let app = Arc::new(App {
            endpoints: Endpoints::default(),
            default_endpoint: settings.default_endpoint,
            store,
            remembered: Mutex::new(remembered),
            restored: AtomicBool::new(false),
            workers: Workers::new(limits.queue, limits.workers),
            capture,
            limits,
            clock,
            render,
            strays: Requests::default(),
            connections: AtomicU64::new(0),
        });
        Ok(Self { app, data, admin, addresses, first })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Loads what is to serve, and answers until `stop` completes; then accepts nothing more,
    /// answers what has begun, and writes out what was captured.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Drained {
        let Self { app, data, admin, addresses, first } = self;
        tracing::info!(listen = %addresses.listen, admin = %addresses.admin, "listening");
        let (stopping, stopped) = watch::channel(());
        let accept = |listener, router, connections| {
            let plane = Plane {
                router,
                head_timeout: app.limits.head_timeout,
                permits: Arc::new(Semaphore::new(connections)),
                app: Arc::clone(&app),
            };
            tokio::spawn(plane.accept(listener, stopped.clone()))
        };
        let planes = [
            accept(data, invocations::router(Arc::clone(&app)), app.limits.connections),
            accept(admin, admin::router(Arc::clone(&app)), ADMIN_CONNECTIONS),
        ];
        drop(stopped);
        let restoring = tokio::spawn(restore(Arc::clone(&app), first));
        stop.await;
        tracing::info!("stopping: no new connections, answering what has begun");
        restoring.abort();
        let drained = drain(&app, stopping).await;
        planes.iter().for_each(tokio::task::JoinHandle::abort);
        close_capture(app).await;
        drained
    }
}

async fn restore(app: Arc<App>, first: Option<FirstModel>) {
    changes::restore(Arc::clone(&app), first).await;
    app.restored.store(true, Ordering::Release);
    match invocations::readiness(&app) {
        Ok(()) => tracing::info!("ready"),
        Err(reason) => tracing::error!("/ping keeps answering 503: {reason}"),
    }
}

/// Tells all connections to end, and waits for them as long as the limits allow.
async fn drain(app: &App, stopping: watch::Sender<()>) -> Drained {
    stopping.send_replace(());
    match tokio::time::timeout(app.limits.drain, stopping.closed()).await {
        Ok(()) => {
            tracing::info!("everything that had begun is answered");
            Drained::Clean
        }
        Err(_) => {
            let busy = app.connections.load(Ordering::Relaxed);
            tracing::warn!(busy, "the time for draining is over: connections are cut");
            Drained::CutOff(busy)
        }
    }
}

async fn close_capture(app: Arc<App>) {
    let close = move || app.capture.as_ref().map(Capture::close);
    if tokio::task::spawn_blocking(close).await.is_err() {
        tracing::error!("closing the capture files failed, which is a bug");
    }
}

/// One listener with its router.
struct Plane {
    router: Router,
    head_timeout: Duration,
    permits: Arc<Semaphore>,
    app: Arc<App>,
}

impl Plane {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<()>) {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            let accepted = tokio::select! {
                _ = stopped.changed() => return,
                accepted = async { (permit.await, listener.accept().await) } => accepted,
            };
            match accepted {
                (Ok(permit), Ok((stream, _))) => self.spawn(stream, permit, stopped.clone()),
                (_, Err(error)) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), _) => return,
            }
        }
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit, stopped: watch::Receiver<()>) {
        let (router, timeout) = (self.router.clone(), self.head_timeout);
        let open = OpenConnection::new(Arc::clone(&self.app));
        tokio::spawn(async move {
            serve_connection(stream, router, timeout, stopped).await;
            drop((permit, open));
        });
    }
}

/// Answers on one connection until it ends, or ends it after the request under way.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    head_timeout: Duration,
    mut stopped: watch::Receiver<()>,
) {
    // Answers are small: waiting to fill a packet would only delay them. Not fatal when refused.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("a connection ended early: {}", mloop_core::error_chain(&error));
    }
}

/// Counts a connection while it is open.
struct OpenConnection(Arc<App>);

impl OpenConnection {
    fn new(app: Arc<App>) -> Self {
        app.connections.fetch_add(1, Ordering::Relaxed);
        Self(app)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn check_settings(settings: &Settings) -> Result<(), ServeError> {
    if !settings.admin.ip().is_loopback() {
        return Err(ServeError::AdminNotLoopback(settings.admin));
    }
    let Limits { body_bytes, queue, workers, connections, endpoints, .. } = settings.limits;
    let counts = [
        ("--body-bytes", body_bytes),
        ("--queue", queue),
        ("--workers", workers),
        ("--connections", connections),
        ("--endpoints", endpoints),
    ];
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((setting, _)) => Err(ServeError::Setting { setting, problem: "must be at least 1" }),
        None => Ok(()),
    }
}

/// The model to begin with: the given one; SageMaker's where nothing at all is given.
fn first_model(settings: &Settings) -> Result<Option<FirstModel>, ServeError> {
    let folder = match (&settings.model, &settings.state) {
        (Some(folder), _) => folder.clone(),
        (None, Some(_)) => return Ok(None),
        (None, None) => PathBuf::from(SAGEMAKER_MODEL_FOLDER),
    };
    if settings.state.is_none() && !folder.is_dir() {
        return Err(ServeError::NoModel(folder));
    }
    Ok(Some(FirstModel { folder, digest: settings.model_digest }))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, ServeError> {
    let unknown = (std::net::Ipv4Addr::UNSPECIFIED, 0).into();
    listener.local_addr().map_err(|source| ServeError::Bind { address: unknown, source })
}

fn write_addresses(path: &Path, addresses: &Addresses) -> Result<(), ServeError> {
    let mut json = serde_json::to_vec(addresses).expect("addresses are text");
    json.push(b'\n');
    replace_file(path, &json).map_err(|error| {
        let StoreError::Io { doing, path, source } = error else {
            return ServeError::State(error);
        };
        ServeError::Write { doing, path, source }
    })
}
