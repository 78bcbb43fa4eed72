//! What every implementation of the platform contracts must do, whoever wrote it.
//!
//! Each suite is itself tested: the fake passes, and a fake that breaks a rule fails.

mod latency;
mod ledger;
mod notifier;
mod registry;
pub mod samples;
mod submitter;

pub use latency::{check_latency_source, latency_request};
pub use ledger::check_ledger;
pub use notifier::{Repeats, check_notifier};
pub use registry::{check_registry, check_registry_of};
pub use submitter::check_submitter;
