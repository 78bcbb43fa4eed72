//! What every implementation of the platform contracts must do, whoever wrote it.
//!
//! Each suite is itself tested: the fake passes, and a fake that breaks a rule fails.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

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

/// What a suite complains of, for tests of suites: the message of the rule that a fake broke; none
/// when it passed.
pub async fn complaint(suite: impl Future<Output = ()>) -> Option<String> {
    let panic = AssertUnwindSafe(suite).catch_unwind().await.err()?;
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    Some(text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default())
}
