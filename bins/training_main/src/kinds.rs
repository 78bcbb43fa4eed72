//! Which kinds of components this program knows; another team's program adds its own here.

use mloop_config::{EnvelopeSchema, TrainingConfig};
use mloop_platform::{ModelRegistryKinds, SourceRegistry};
use mloop_trainer::TrainerRegistry;

/// All kinds, by what they are for.
pub(crate) struct Kinds {
    pub(crate) models: ModelRegistryKinds,
    pub(crate) sources: SourceRegistry,
    pub(crate) trainers: TrainerRegistry,
}

impl Kinds {
    /// Registers everything that is compiled in, and names what is not.
    pub(crate) fn new() -> Self {
        let mut kinds = Self {
            models: ModelRegistryKinds::new("registry"),
            sources: SourceRegistry::new("source"),
            trainers: TrainerRegistry::new("trainer"),
        };
        mloop_local::register_models(&mut kinds.models);
        #[cfg(feature = "mlflow")]
        mloop_mlflow::register_models(&mut kinds.models);
        #[cfg(not(feature = "mlflow"))]
        kinds.models.register_absent("mlflow", "mlflow");
        mloop_profiler::register_builtin(&mut kinds.sources);
        #[cfg(feature = "vision")]
        mloop_vision::register(&mut kinds.trainers);
        #[cfg(not(feature = "vision"))]
        kinds.trainers.register_absent("cv", "vision");
        kinds
    }

    /// The JSON Schema of the configuration.
    pub(crate) fn schema() -> serde_json::Value {
        let kinds = Self::new();
        EnvelopeSchema::of::<TrainingConfig>()
            .kinds("registry", &kinds.models)
            .kinds("trainer", &kinds.trainers)
            .kinds("traffic.source", &kinds.sources)
            .finish()
    }
}
