//! A stand-in for one namespace of a cluster, for tests: API server, Job controller and, where it shall
//! have a node, a kubelet.
//!
//! It answers as a real API server (1.20, with its Job controller) was seen to answer; what that one
//! did not know yet, the pod failure policy, suspension and times to live, it does as Kubernetes
//! documents it, and Kueue's webhook as Kueue does. Kueue itself is played by the test.

mod api;
mod kubelet;
mod pod;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mloop_http::testing::{Asked, Reply, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::api::{Ended, State};
use self::kubelet::Kubelet;

/// The namespace.
pub const NAMESPACE: &str = "ml";
/// A token with all rights in it.
pub const TOKEN: &str = "good";
/// A token that is known and may do nothing.
pub const WEAK: &str = "weak";

/// One namespace of a cluster. All that runs in it ends with the value.
pub struct Cluster {
    server: Server,
    state: Arc<Mutex<State>>,
    _kubelet: Option<Kubelet>,
    folder: TempDir,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A namespace without Jobs and without nodes: [`Self::run`] and [`Self::end`] play the kubelet.
    ///
    /// # Panics
    /// When this machine has no free port or no room for a folder.
    #[must_use]
    pub fn new() -> Self {
        Self::with(false)
    }

    /// A namespace without Jobs, whose pods really run: as processes of this machine.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn with_a_node() -> Self {
        Self::with(true)
    }

    fn with(node: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::clone(&state);
        let server = Server::answering(move |asked, _| {
            let (status, body) = lock(&kept).answer(asked);
            match (asked.header("connection"), Reply::json(status, &body)) {
                (Some("close"), Reply::Text(text)) => Reply::Cut(text),
                (_, reply) => reply,
            }
        });
        let kubelet = node.then(|| Kubelet::new(&state, folder.path()));
        Self { server, state, _kubelet: kubelet, folder }
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// What the API server was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// Writes a kubeconfig for a cluster entry and a token.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn kubeconfig(&self, cluster: &Value, token: &str) -> PathBuf {
        let path = self.folder.path().join(format!("kubeconfig-{}", lock(&self.state).tick()));
        let text = kubeconfig(cluster, &json!({ "token": token })).to_string();
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Makes a `ConfigMap` of one file.
    pub fn put_config_map(&self, name: &str, file: &str, text: &str) {
        let files = [(file.to_owned(), text.to_owned())].into();
        lock(&self.state).given.config_maps.insert(name.to_owned(), files);
    }

    /// Makes a Secret of one key.
    pub fn put_secret(&self, name: &str, key: &str, value: &str) {
        let keys = [(key.to_owned(), value.to_owned())].into();
        lock(&self.state).given.secrets.insert(name.to_owned(), keys);
    }

    /// How many Jobs were ever made.
    #[must_use]
    pub fn made(&self) -> usize {
        lock(&self.state).made
    }

    /// The names of the Jobs that are there.
    #[must_use]
    pub fn jobs(&self) -> Vec<String> {
        lock(&self.state).jobs.keys().cloned().collect()
    }

    /// The pods that are there, as the API server has them.
    #[must_use]
    pub fn pods(&self) -> Vec<Value> {
        lock(&self.state).pods.values().cloned().collect()
    }

    /// Makes a Job past mloop.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn put(&self, job: &Value) {
        let (status, body) = lock(&self.state).create(&job.to_string(), false);
        assert_eq!(status, 201, "{body}");
    }

    /// The kubelet: the newest pod of a Job runs.
    ///
    /// # Panics
    /// When there is no such Job.
    pub fn run(&self, job: &str) {
        let mut state = lock(&self.state);
        let pod = state.newest_pod(job);
        state.runs(&pod);
    }

    /// The kubelet, and then the controller: the newest pod of a Job ended. `disrupted`: its node is
    /// drained.
    ///
    /// # Panics
    /// When there is no such Job.
    pub fn end(&self, job: &str, exit_code: i32, message: &str, disrupted: bool) {
        let mut state = lock(&self.state);
        let pod = state.newest_pod(job);
        state.ended(&pod, &Ended { exit_code, message: message.to_owned(), disrupted });
    }

    /// Installs Kueue: from now on a Job with a queue is suspended as it is made.
    pub fn install_kueue(&self) {
        lock(&self.state).has_kueue = true;
    }

    /// Kueue, or a person: holds an open Job, whose pods go, or lets it go on.
    ///
    /// # Panics
    /// When there is no such Job.
    pub fn suspend(&self, job: &str, suspend: bool) {
        lock(&self.state).suspend(job, suspend);
    }

    /// So much later: ended Jobs whose time to live is over are gone with their pods.
    pub fn outlive(&self, time: Duration) {
        lock(&self.state).outlive(time.as_secs());
    }

    /// The pods of ended Jobs are collected, long before the Jobs.
    pub fn collect_pods(&self) {
        lock(&self.state).pods.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A kubeconfig, which is YAML and so may be JSON, for a cluster and a user.
#[must_use]
pub fn kubeconfig(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    })
}
