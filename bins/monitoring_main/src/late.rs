//! Messages of earlier runs: of one that was killed before it told anybody, or for a receiver that was
//! dead.

use std::sync::Arc;

use mloop_core::{Subject, error_chain};
use mloop_platform::{Notifier, Outbox, deliver_pending};

/// What waits, and who is to get it.
pub(crate) struct Late {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) subject: Subject,
    pub(crate) notifiers: Vec<Arc<dyn Notifier>>,
}

impl Late {
    /// Delivers what waits; what cannot be delivered waits on.
    pub(crate) async fn deliver(&self) {
        for (receiver, error) in
            deliver_pending(self.outbox.as_ref(), &self.subject, &self.notifiers).await
        {
            let error = error_chain(&error);
            tracing::warn!(receiver, error, "not told yet; the next run tries again");
        }
    }
}
