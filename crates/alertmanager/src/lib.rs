//! Alertmanager: each message is an alert (API v2).
//!
//! Labels identify an alert, annotations describe it. A monitoring alert has the same labels as long
//! as it lasts, so that the next bad window prolongs it rather than starting another; a message about
//! a job or a deployment is an alert of its own. Posting an alert again changes nothing.

mod alert;
mod notifier;

use mloop_platform::NotifierRegistry;
pub use notifier::{AlertmanagerNotifier, AlertmanagerSettings};

/// Registers every kind of this crate.
pub fn register_builtin(registry: &mut NotifierRegistry) {
    registry.register::<AlertmanagerSettings>();
}
