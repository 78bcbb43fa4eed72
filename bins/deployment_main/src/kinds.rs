//! Which kinds of components this program knows; another team's program adds its own here.

use mloop_config::{DeploymentConfig, EnvelopeSchema};
use mloop_deployer::DeployerRegistry;
use mloop_platform::{LedgerRegistry, ModelRegistryKinds, NotifierRegistry};

/// All kinds, by what they are for.
pub(crate) struct Kinds {
    pub(crate) ledgers: LedgerRegistry,
    pub(crate) models: ModelRegistryKinds,
    pub(crate) deployers: DeployerRegistry,
    pub(crate) notifiers: NotifierRegistry,
}

impl Kinds {
    /// Registers everything that is compiled in, and names what is not.
    pub(crate) fn new() -> Self {
        let mut kinds = Self {
            ledgers: LedgerRegistry::new("ledger"),
            models: ModelRegistryKinds::new("registry"),
            deployers: DeployerRegistry::new("deployer"),
            notifiers: NotifierRegistry::new("notifier"),
        };
        mloop_local::register_models(&mut kinds.models);
        #[cfg(feature = "mlflow")]
        mloop_mlflow::register_models(&mut kinds.models);
        #[cfg(not(feature = "mlflow"))]
        kinds.models.register_absent("mlflow", "mlflow");
        mloop_local::register_deployers(&mut kinds.deployers);
        #[cfg(feature = "sagemaker")]
        mloop_sagemaker::register_deployers(&mut kinds.deployers);
        #[cfg(not(feature = "sagemaker"))]
        kinds.deployers.register_absent("sagemaker", "sagemaker");
        #[cfg(feature = "sqlite")]
        mloop_ledger::register_sqlite(&mut kinds.ledgers);
        #[cfg(not(feature = "sqlite"))]
        kinds.ledgers.register_absent("sqlite", "sqlite");
        #[cfg(feature = "postgres")]
        mloop_ledger::register_postgres(&mut kinds.ledgers);
        #[cfg(not(feature = "postgres"))]
        kinds.ledgers.register_absent("postgres", "postgres");
        kinds.add_notifiers();
        kinds
    }

    fn add_notifiers(&mut self) {
        mloop_local::register_notifiers(&mut self.notifiers);
        #[cfg(feature = "slack")]
        mloop_slack::register_builtin(&mut self.notifiers);
        #[cfg(not(feature = "slack"))]
        self.notifiers.register_absent("slack", "slack");
        #[cfg(feature = "email")]
        mloop_email::register_builtin(&mut self.notifiers);
        #[cfg(not(feature = "email"))]
        self.notifiers.register_absent("email", "email");
        #[cfg(feature = "alertmanager")]
        mloop_alertmanager::register_builtin(&mut self.notifiers);
        #[cfg(not(feature = "alertmanager"))]
        self.notifiers.register_absent("alertmanager", "alertmanager");
    }

    /// The JSON Schema of the configuration.
    pub(crate) fn schema() -> serde_json::Value {
        let kinds = Self::new();
        EnvelopeSchema::of::<DeploymentConfig>()
            .kinds("ledger", &kinds.ledgers)
            .kinds("registry", &kinds.models)
            .kinds("deployer", &kinds.deployers)
            .kinds("notifiers", &kinds.notifiers)
            .finish()
    }
}
