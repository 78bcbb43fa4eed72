//! Submitters in the stand-in's namespace.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use mloop_core::SystemClock;
use mloop_kubernetes::testing::{self, NAMESPACE, TOKEN};
use mloop_platform::{JobSubmitter, PlatformDeps, SubmitterRegistry};
use serde_json::{Value, json};

/// One namespace of a cluster, and how submitters reach it.
pub(crate) struct Cluster(testing::Cluster);

impl Deref for Cluster {
    type Target = testing::Cluster;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Settings of a submitter in the namespace.
pub(crate) fn settings(kubeconfig: &Path) -> Value {
    json!({
        "kubeconfig": kubeconfig,
        "namespace": NAMESPACE,
        "image": format!("registry.example.org/training@sha256:{}", "a".repeat(64)),
        "command": ["training_main", "--config", "/etc/mloop/training_config.yaml"],
        "config_map": "training",
        "resources": {"cpu": "2", "memory": "4Gi"},
        "backoff_limit": 1,
    })
}

/// A submitter of these settings.
pub(crate) fn built(settings: &Value) -> Arc<dyn JobSubmitter> {
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_kubernetes::register_submitters(&mut kinds);
    let deps = PlatformDeps::new(".", Arc::new(SystemClock));
    kinds.build("kubernetes", "jobs", settings, &deps).expect("settings")
}

impl Cluster {
    /// A namespace without Jobs, in which the test plays the kubelet.
    pub(crate) fn new() -> Self {
        Self(testing::Cluster::new())
    }

    /// A namespace without Jobs, in which pods run.
    pub(crate) fn with_a_node() -> Self {
        Self(testing::Cluster::with_a_node())
    }

    /// Settings of a submitter that reaches the namespace by a cluster entry and a token.
    pub(crate) fn settings(&self, cluster: &Value, token: &str) -> Value {
        settings(&self.kubeconfig(cluster, token))
    }

    /// Settings of a submitter that reaches the namespace at a URL.
    pub(crate) fn settings_at(&self, url: &str) -> Value {
        self.settings(&json!({ "server": url }), TOKEN)
    }

    /// Settings of a submitter that reaches the namespace.
    pub(crate) fn plain_settings(&self) -> Value {
        self.settings_at(&format!("http://{}", self.address()))
    }

    /// A submitter.
    pub(crate) fn submitter(&self) -> Arc<dyn JobSubmitter> {
        built(&self.plain_settings())
    }
}
