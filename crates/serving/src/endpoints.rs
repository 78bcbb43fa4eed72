//! Which version serves where.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use mloop_core::{EndpointName, Sha256Digest};
use serde::Serialize;

use crate::metrics::Requests;
use crate::model::LoadedModel;
use crate::store::Assignment;

/// A named place that answers with one version at a time.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: EndpointName,
    serving: Mutex<Serving>,
    in_flight: AtomicU64,
    switches: AtomicU64,
    pub(crate) requests: Requests,
}

/// What an endpoint serves, and how it came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Serving {
    pub(crate) model: Option<Arc<LoadedModel>>,
    /// The registry's number of the version, when it came with one.
    pub(crate) version: Option<u64>,
    /// What served before; the way back.
    pub(crate) previous: Option<Sha256Digest>,
    /// Whether another version is being loaded.
    pub(crate) changing: bool,
    /// Whether the last run of the server, or its arguments, said that a version serves here, and none does
    /// yet.
    pub(crate) owed: bool,
    /// What went wrong last; empty when nothing did.
    pub(crate) detail: String,
}

impl Serving {
    pub(crate) fn digest(&self) -> Option<Sha256Digest> {
        self.model.as_ref().map(|model| model.digest())
    }
}

/// An endpoint as the admin plane shows it.
#[derive(Debug, Serialize)]
pub(crate) struct EndpointView {
    name: EndpointName,
    digest: Option<Sha256Digest>,
    version: Option<u64>,
    previous: Option<Sha256Digest>,
    state: &'static str,
    detail: String,
    requests: u64,
    in_flight: u64,
}

/// One request on its way: holds the version that served when it began until it has been answered.
pub(crate) struct InFlight {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) model: Arc<LoadedModel>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(crate) fn new(name: EndpointName) -> Self {
        Self {
            name,
            serving: Mutex::default(),
            in_flight: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            requests: Requests::default(),
        }
    }

    pub(crate) fn name(&self) -> &EndpointName {
        &self.name
    }

    /// Begins a request on the version that serves now; none when none does.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let model = self.lock().model.clone()?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(InFlight { endpoint: Arc::clone(self), model })
    }

    /// Replaces the version for every request that has not begun.
    pub(crate) fn switch(&self, model: Arc<LoadedModel>, assignment: &Assignment) {
        if self.serve(model, assignment) {
            self.switches.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Serves what was served before the server was started.
    pub(crate) fn restore(&self, model: Arc<LoadedModel>, assignment: &Assignment) {
        self.serve(model, assignment);
    }

    /// Whether another version served before.
    fn serve(&self, model: Arc<LoadedModel>, assignment: &Assignment) -> bool {
        let (version, previous) = (assignment.version, assignment.previous);
        let model = Some(model);
        let next = Serving { model, version, previous, ..Serving::default() };
        let before = std::mem::replace(&mut *self.lock(), next);
        before.model.is_some()
    }

    /// Says that a version is to serve here, and is being loaded.
    pub(crate) fn owe(&self) {
        self.note(|serving| (serving.changing, serving.owed) = (true, true));
    }

    /// Changes what is known beside the version.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Serving)) {
        change(&mut self.lock());
    }

    pub(crate) fn serving(&self) -> Serving {
        self.lock().clone()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    pub(crate) fn view(&self) -> EndpointView {
        let serving = self.serving();
        let state = match (&serving.model, serving.changing) {
            (_, true) => "changing",
            (Some(_), false) => "in_service",
            (None, false) => "failed",
        };
        EndpointView {
            name: self.name.clone(),
            digest: serving.digest(),
            version: serving.version,
            previous: serving.previous,
            state,
            detail: serving.detail,
            requests: self.requests.total(),
            in_flight: self.in_flight(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Serving> {
        // What it guards is whole after each assignment, so a panic elsewhere does not spoil it.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All endpoints by name.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(RwLock<BTreeMap<EndpointName, Arc<Endpoint>>>);

impl Endpoints {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Endpoint>> {
        let endpoints = self.0.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.values().find(|endpoint| endpoint.name.as_str() == name).cloned()
    }

    /// The endpoint, made when there is none.
    pub(crate) fn get_or_make(&self, name: &EndpointName) -> Arc<Endpoint> {
        let mut endpoints = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Endpoint::new(name.clone()));
        Arc::clone(endpoints.entry(name.clone()).or_insert_with(make))
    }

    pub(crate) fn remove(&self, name: &EndpointName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Endpoint>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
