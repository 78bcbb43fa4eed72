//! What there is: models, configurations, endpoints and jobs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use mloop_core::Clock;
use serde::Serialize;
use serde_json::{Value, json};

use crate::capture::Gathered;
use crate::endpoints::Endpoint;
use crate::fault::Faults;
use crate::jobs::Job;
use crate::settings::Settings;
use crate::storage::Storage;

/// Calls that are remembered; the oldest go first.
const REMEMBERED_CALLS: usize = 10_000;

/// A model or an endpoint configuration: as it was asked for, and when.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) request: Value,
    pub(crate) at: DateTime<Utc>,
}

/// Everything that was made.
#[derive(Default)]
pub(crate) struct Resources {
    pub(crate) models: BTreeMap<String, Made>,
    pub(crate) configs: BTreeMap<String, Made>,
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) jobs: BTreeMap<String, Job>,
}

/// One call, as it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Such as `CreateModel`; `InvokeEndpoint` for the runtime.
    pub operation: String,
    /// Its body; null for the runtime, whose bodies are not kept.
    pub request: Value,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer; null for the runtime.
    pub answer: Value,
    /// Whether something was changed.
    pub effect: bool,
    /// Whether the caller heard of it.
    pub answered: bool,
}

/// What all handlers share.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Faults,
    pub(crate) storage: Storage,
    /// What data capture has not written yet.
    pub(crate) captured: Arc<Gathered>,
    pub(crate) http: mloop_http::Client,
    resources: Mutex<Resources>,
    calls: Mutex<VecDeque<Call>>,
}

impl World {
    pub(crate) fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        storage: Storage,
        http: mloop_http::Client,
    ) -> Self {
        let (faults, captured, resources, calls) = Default::default();
        Self { settings, clock, faults, storage, captured, http, resources, calls }
    }

    pub(crate) fn resources(&self) -> MutexGuard<'_, Resources> {
        // What it guards is whole after each assignment, so a panic elsewhere does not spoil it.
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn arn(&self, kind: &str, name: &str) -> String {
        let Settings { region, account, .. } = &self.settings;
        format!("arn:aws:sagemaker:{region}:{account}:{kind}/{name}")
    }

    pub(crate) fn record(&self, call: Call) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() == REMEMBERED_CALLS {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().cloned().collect()
    }

    /// Names of everything that there is, for people and tests.
    pub(crate) fn inventory(&self) -> Value {
        let resources = self.resources();
        let endpoints: BTreeMap<&String, Value> = resources
            .endpoints
            .iter()
            .map(|(name, endpoint)| {
                (name, json!({"status": endpoint.status.as_str(), "config": endpoint.config}))
            })
            .collect();
        let jobs: BTreeMap<&String, &str> =
            resources.jobs.iter().map(|(name, job)| (name, job.status)).collect();
        json!({
            "models": resources.models.keys().collect::<Vec<_>>(),
            "endpoint_configs": resources.configs.keys().collect::<Vec<_>>(),
            "endpoints": endpoints,
            "training_jobs": jobs,
        })
    }
}
