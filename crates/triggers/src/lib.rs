//! The triggers: pure decisions over the recent past.
//!
//! | kind | trigger | says yes when |
//! |---|---|---|
//! | `drift` | [`DriftTrigger`] | enough of the newest windows drifted |
//! | `performance` | [`PerformanceTrigger`] | enough of the newest windows performed too badly |
//! | `time` | [`TimeTrigger`] | the model, or the last job, is old |
//! | `volume` | [`VolumeTrigger`] | enough new traffic was seen |
//!
//! [`Combination`] makes one decision of them.

mod combination;
mod drift;
mod findings;
mod performance;
#[cfg(test)]
mod testing;
mod time;
mod volume;

pub use combination::{Combination, Mode};
pub use drift::{DriftTrigger, DriftTriggerConfig};
use mloop_trigger::TriggerRegistry;
pub use performance::{PerformanceTrigger, PerformanceTriggerConfig};
pub use time::{TimeTrigger, TimeTriggerConfig};
pub use volume::{VolumeTrigger, VolumeTriggerConfig};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut TriggerRegistry) {
    registry.register::<DriftTriggerConfig>();
    registry.register::<PerformanceTriggerConfig>();
    registry.register::<TimeTriggerConfig>();
    registry.register::<VolumeTriggerConfig>();
}
