//! Prometheus: what a monitoring run says, to a textfile or a Pushgateway; and latencies, by the query
//! API. Feature `client` has what speaks to a server.

#[cfg(feature = "client")]
mod connection;
mod encode;
mod families;
#[cfg(feature = "client")]
mod latency;
#[cfg(feature = "client")]
mod pushgateway;
#[cfg(feature = "client")]
mod query;
mod reporter;

pub use encode::encode;
pub use families::families;
use mloop_reporter::ReporterRegistry;
pub use reporter::{PrometheusConfig, PrometheusReporter};

#[cfg(feature = "client")]
pub use latency::{PrometheusLatency, PrometheusLatencyConfig, Unit};
#[cfg(feature = "client")]
pub use pushgateway::{PushgatewayConfig, PushgatewayReporter};

/// Registers the kinds of reporters.
pub fn register_builtin(registry: &mut ReporterRegistry) {
    registry.register::<PrometheusConfig>();
    #[cfg(feature = "client")]
    registry.register::<PushgatewayConfig>();
}

/// Registers the kinds of latency sources.
#[cfg(feature = "client")]
pub fn register_latency_sources(registry: &mut mloop_platform::LatencySourceRegistry) {
    registry.register::<PrometheusLatencyConfig>();
}
