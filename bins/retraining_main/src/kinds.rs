//! Which kinds of components this program knows; another team's program adds its own here.

use mloop_config::{EnvelopeSchema, RetrainConfig};
use mloop_platform::{LedgerRegistry, ModelRegistryKinds, NotifierRegistry, SubmitterRegistry};
use mloop_trigger::TriggerRegistry;

/// All kinds, by what they are for.
pub(crate) struct Kinds {
    pub(crate) ledgers: LedgerRegistry,
    pub(crate) models: ModelRegistryKinds,
    pub(crate) triggers: TriggerRegistry,
    pub(crate) submitters: SubmitterRegistry,
    pub(crate) notifiers: NotifierRegistry,
}

impl Kinds {
    /// Registers everything that is compiled in, and names what is not.
    pub(crate) fn new() -> Self {
        let mut kinds = Self {
            ledgers: LedgerRegistry::new("ledger"),
            models: ModelRegistryKinds::new("registry"),
            triggers: TriggerRegistry::new("trigger"),
            submitters: SubmitterRegistry::new("submitter"),
            notifiers: NotifierRegistry::new("notifier"),
        };
        mloop_local::register_models(&mut kinds.models);
        #[cfg(feature = "mlflow")]
        mloop_mlflow::register_models(&mut kinds.models);
        #[cfg(not(feature = "mlflow"))]
        kinds.models.register_absent("mlflow", "mlflow");
        kinds.add_submitters();
        mloop_triggers::register_builtin(&mut kinds.triggers);
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

    fn add_submitters(&mut self) {
        mloop_local::register_submitters(&mut self.submitters);
        #[cfg(feature = "sagemaker")]
        mloop_sagemaker::register_submitters(&mut self.submitters);
        #[cfg(not(feature = "sagemaker"))]
        self.submitters.register_absent("sagemaker", "sagemaker");
        #[cfg(feature = "airflow")]
        mloop_airflow::register_submitters(&mut self.submitters);
        #[cfg(not(feature = "airflow"))]
        self.submitters.register_absent("airflow", "airflow");
        #[cfg(feature = "kubernetes")]
        mloop_kubernetes::register_submitters(&mut self.submitters);
        #[cfg(not(feature = "kubernetes"))]
        self.submitters.register_absent("kubernetes", "kubernetes");
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
        EnvelopeSchema::of::<RetrainConfig>()
            .kinds("ledger", &kinds.ledgers)
            .kinds("registry", &kinds.models)
            .kinds("triggers", &kinds.triggers)
            .kinds("submitter", &kinds.submitters)
            .kinds("notifiers", &kinds.notifiers)
            .finish()
    }
}
