//! Messages of earlier runs: of one that was killed before it told anybody, or for a receiver that was
//! dead.

use std::sync::Arc;

use mloop_core::{Subject, error_chain};
use mloop_platform::{Notifier, Outbox, deliver_pending};

/// Sends what waits about a subject; what cannot be delivered waits on, and is told of in the log.
pub async fn deliver_waiting(
    outbox: &dyn Outbox,
    subject: &Subject,
    notifiers: &[Arc<dyn Notifier>],
) {
    for (receiver, error) in deliver_pending(outbox, subject, notifiers).await {
        let error = error_chain(&error);
        tracing::warn!(receiver, error, "not told yet; the next run tries again");
    }
}
