//! Which kinds of components this program knows; another team's program adds its own here.

use mloop_config::{EnvelopeSchema, MonitoringConfig};
use mloop_monitor::MonitorRegistry;
use mloop_platform::{
    LatencySourceRegistry, LedgerRegistry, ModelRegistryKinds, NotifierRegistry, SourceRegistry,
};
use mloop_reporter::ReporterRegistry;

/// All kinds, by what they are for.
pub(crate) struct Kinds {
    pub(crate) ledgers: LedgerRegistry,
    pub(crate) models: ModelRegistryKinds,
    pub(crate) sources: SourceRegistry,
    pub(crate) latency: LatencySourceRegistry,
    pub(crate) monitors: MonitorRegistry,
    pub(crate) reporters: ReporterRegistry,
    pub(crate) notifiers: NotifierRegistry,
}

impl Kinds {
    /// Registers everything that is compiled in, and names what is not.
    pub(crate) fn new() -> Self {
        let mut kinds = Self {
            ledgers: LedgerRegistry::new("ledger"),
            models: ModelRegistryKinds::new("registry"),
            sources: SourceRegistry::new("source"),
            latency: LatencySourceRegistry::new("latency_source"),
            monitors: MonitorRegistry::new("monitor"),
            reporters: ReporterRegistry::new("reporter"),
            notifiers: NotifierRegistry::new("notifier"),
        };
        mloop_local::register_models(&mut kinds.models);
        #[cfg(feature = "mlflow")]
        mloop_mlflow::register_models(&mut kinds.models);
        #[cfg(not(feature = "mlflow"))]
        kinds.models.register_absent("mlflow", "mlflow");
        mloop_local::register_latency_sources(&mut kinds.latency);
        mloop_monitors::register_builtin(&mut kinds.monitors);
        mloop_reporters::register_builtin(&mut kinds.reporters);
        #[cfg(feature = "sqlite")]
        mloop_ledger::register_sqlite(&mut kinds.ledgers);
        #[cfg(not(feature = "sqlite"))]
        kinds.ledgers.register_absent("sqlite", "sqlite");
        #[cfg(feature = "postgres")]
        mloop_ledger::register_postgres(&mut kinds.ledgers);
        #[cfg(not(feature = "postgres"))]
        kinds.ledgers.register_absent("postgres", "postgres");
        #[cfg(feature = "capture-files")]
        mloop_profiler::register_builtin(&mut kinds.sources);
        #[cfg(not(feature = "capture-files"))]
        kinds.sources.register_absent("capture_files", "capture-files");
        kinds.add_prometheus();
        kinds.add_notifiers();
        kinds
    }

    fn add_prometheus(&mut self) {
        #[cfg(feature = "prometheus")]
        {
            mloop_prometheus::register_builtin(&mut self.reporters);
            mloop_prometheus::register_latency_sources(&mut self.latency);
        }
        #[cfg(not(feature = "prometheus"))]
        {
            self.reporters.register_absent("prometheus_textfile", "prometheus");
            self.reporters.register_absent("prometheus_pushgateway", "prometheus");
            self.latency.register_absent("prometheus", "prometheus");
        }
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
        EnvelopeSchema::of::<MonitoringConfig>()
            .kinds("ledger", &kinds.ledgers)
            .kinds("registry", &kinds.models)
            .kinds("source", &kinds.sources)
            .kinds("latency_source", &kinds.latency)
            .kinds("monitors", &kinds.monitors)
            .kinds("reporters", &kinds.reporters)
            .kinds("notifiers", &kinds.notifiers)
            .finish()
    }
}
