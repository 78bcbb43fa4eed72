//! Messages of earlier runs: of one that was killed before it told anybody, or for a receiver that was
//! dead.

use std::sync::Arc;

use mloop_core::Subject;
use mloop_orchestrators::deliver_waiting;
use mloop_platform::{Notifier, Outbox};

/// What waits, and who is to get it.
pub(crate) struct Late {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) subject: Subject,
    pub(crate) notifiers: Vec<Arc<dyn Notifier>>,
}

impl Late {
    /// Delivers what waits; what cannot be delivered waits on.
    pub(crate) async fn deliver(&self) {
        deliver_waiting(self.outbox.as_ref(), &self.subject, &self.notifiers).await;
    }
}
