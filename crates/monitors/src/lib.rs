//! The monitors: arithmetic over a window's profile and its reference.
//!
//! | kind | monitor | asks |
//! |---|---|---|
//! | `data_quality` | [`DataQualityMonitor`] | are the data whole? Judges `broken`, nobody else does |
//! | `drift` | [`DriftMonitor`] | do columns and predictions look as they did? |
//! | `fairness` | [`FairnessMonitor`] | are groups treated alike? |
//! | `latency` | [`LatencyMonitor`] | are answers in time? |
//! | `performance` | [`PerformanceMonitor`] | are the answers right, where labels are in? |
//!
//! One rule holds for all: something has `drifted` when its whole interval lies outside the tolerance;
//! when the interval only touches it, the window is `ok`; when there are too few rows to find out, it
//! is `insufficient_data`, which is never `ok`.

mod data_quality;
mod drift;
mod estimated;
mod fairness;
mod finding;
mod latency;
mod moved;
mod performance;
mod settings;
#[cfg(test)]
mod testing;

pub use data_quality::{DataQualityConfig, DataQualityMonitor};
pub use drift::{DriftConfig, DriftMonitor};
pub use fairness::{FairnessConfig, FairnessMonitor};
pub use latency::{LatencyConfig, LatencyMonitor};
use mloop_monitor::MonitorRegistry;
pub use performance::{PerformanceConfig, PerformanceMonitor};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut MonitorRegistry) {
    registry.register::<DataQualityConfig>();
    registry.register::<DriftConfig>();
    registry.register::<FairnessConfig>();
    registry.register::<LatencyConfig>();
    registry.register::<PerformanceConfig>();
}
