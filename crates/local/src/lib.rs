//! The embedded defaults: what mloop runs on when nothing is installed.
//!
//! | contract | kind | implementation |
//! |---|---|---|
//! | model registry | `directory` | [`DirectoryRegistry`] |
//! | job submitter | `process` | [`ProcessSubmitter`] |
//! | deployer | `local` | [`LocalDeployer`], over `model_server` |
//! | latency source | `window` | [`WindowLatency`] |
//! | notifier | `file`, `stderr` | [`FileNotifier`], [`StderrNotifier`] |

mod deployer;
mod disk;
mod latency;
mod notifier;
mod process;
mod registry;
pub mod session;
mod submitter;

pub use deployer::{LocalDeployer, LocalDeployerSettings};
pub use latency::{WindowLatency, WindowLatencySettings};
use mloop_deployer::DeployerRegistry;
use mloop_platform::{
    LatencySourceRegistry, ModelRegistryKinds, NotifierRegistry, SubmitterRegistry,
};
pub use notifier::{FileNotifier, FileNotifierSettings, StderrNotifier, StderrNotifierSettings};
pub use registry::{DirectoryRegistry, DirectoryRegistrySettings, POINTS as REGISTRY_POINTS};
pub use submitter::{ProcessSubmitter, ProcessSubmitterSettings};

/// Registers the kinds of model registries.
pub fn register_models(registry: &mut ModelRegistryKinds) {
    registry.register::<DirectoryRegistrySettings>();
}

/// Registers the kinds of latency sources.
pub fn register_latency_sources(registry: &mut LatencySourceRegistry) {
    registry.register::<WindowLatencySettings>();
}

/// Registers the kinds of job submitters.
pub fn register_submitters(registry: &mut SubmitterRegistry) {
    registry.register::<ProcessSubmitterSettings>();
}

/// Registers the kinds of deployers.
pub fn register_deployers(registry: &mut DeployerRegistry) {
    registry.register::<LocalDeployerSettings>();
}

/// Registers the kinds of notifiers.
pub fn register_notifiers(registry: &mut NotifierRegistry) {
    registry.register::<FileNotifierSettings>();
    registry.register::<StderrNotifierSettings>();
}
