//! Outside systems in memory, for tests: they keep the contracts (the conformance suites hold them
//! to that) and misbehave on request.

mod clock;
mod latency;
mod leases;
mod ledger;
mod notifier;
mod registry;
mod sources;
mod submitter;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use clock::SteppedClock;
pub use latency::CountedLatency;
pub use ledger::{InMemoryLedger, LedgerFault};
pub use notifier::RecordingNotifier;
pub use registry::{InMemoryModelRegistry, RegistryFault};
pub use sources::FixedSources;
pub use submitter::{ScriptedSubmitter, SubmitterFault};

/// A test that failed while it held the lock says so itself; the state is still worth reading.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
