//! Checks and defaults that the settings of several monitors share.

use mloop_core::{Evidence, Profile};
use mloop_monitor::{BuildError, MonitorError};

/// Confidence of intervals unless the settings say otherwise.
pub(crate) fn confidence() -> f64 {
    0.95
}

/// A number that must lie between two others, both included.
pub(crate) fn within(path: &str, value: f64, low: f64, high: f64) -> Result<(), BuildError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(BuildError::invalid(path, format!("{value} must lie between {low} and {high}")))
}

/// A confidence that gives intervals of some use.
pub(crate) fn valid_confidence(value: f64) -> Result<(), BuildError> {
    within("confidence", value, 0.5, 0.9999)
}

/// Profiles compare only when they were counted on the same bins.
pub(crate) fn comparable(evidence: &Evidence) -> Result<(), MonitorError> {
    let (wanted, name) = (evidence.schema.digest(), |profile: &Profile| profile.schema.short(12));
    if evidence.current.schema == wanted && evidence.reference.schema == wanted {
        return Ok(());
    }
    let problem = format!(
        "the window was counted under schema {}, the reference under {}, and the schema at hand is \
         {}; count the window again under the version's own schema",
        name(&evidence.current),
        name(&evidence.reference),
        wanted.short(12)
    );
    Err(MonitorError::Incomparable { problem })
}
