//! What all handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use mloop_core::{Clock, EndpointName};
use tokio::sync::Mutex;

use crate::capture::Capture;
use crate::endpoints::Endpoints;
use crate::metrics::{Render, Requests};
use crate::settings::Limits;
use crate::store::{Assignments, Store};
use crate::workers::Workers;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) endpoints: Endpoints,
    pub(crate) default_endpoint: EndpointName,
    pub(crate) store: Option<Arc<Store>>,
    /// What the store holds; locked for the time of a change, so that there is one at a time.
    pub(crate) remembered: Mutex<Assignments>,
    /// Set once everything that was to be restored has been tried.
    pub(crate) restored: AtomicBool,
    pub(crate) workers: Workers,
    pub(crate) capture: Option<Capture>,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) render: Render,
    /// Requests to endpoints that there are not.
    pub(crate) strays: Requests,
    /// Open connections of both planes.
    pub(crate) connections: AtomicU64,
}
