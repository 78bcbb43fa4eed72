//! Messages of earlier runs: of one that was killed before it told anybody, or for a receiver that was
//! dead.

use std::sync::Arc;

use mloop_core::Subject;
use mloop_orchestrators::{ReporterFailure, deliver_waiting};
use mloop_platform::{Notifier, Outbox};

/// What waits, and who is to get it.
pub(crate) struct Late {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) subject: Subject,
    pub(crate) notifiers: Vec<Arc<dyn Notifier>>,
}

impl Late {
    /// Delivers what waits; what cannot be delivered waits on, and is told.
    pub(crate) async fn deliver(&self) -> Vec<ReporterFailure> {
        let outbox = self.outbox.as_ref();
        let undelivered = deliver_waiting(outbox, &self.subject, &self.notifiers).await;
        let told = |error| ReporterFailure { reporter: "outbox".to_owned(), error };
        undelivered.into_iter().map(told).collect()
    }
}
