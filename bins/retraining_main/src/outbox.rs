//! Messages go through the outbox, so that a dead receiver loses none and delays nothing.

use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::notification::Notification;
use mloop_platform::{Notifier, Outbox, PlatformError};

/// A notifier that queues each message for all receivers.
pub(crate) struct Queued {
    outbox: Arc<dyn Outbox>,
    receivers: Vec<String>,
}

impl Queued {
    /// Queues for these receivers.
    pub(crate) fn new(outbox: Arc<dyn Outbox>, receivers: &[Arc<dyn Notifier>]) -> Self {
        let receivers = receivers.iter().map(|receiver| receiver.name().to_owned()).collect();
        Self { outbox, receivers }
    }
}

#[async_trait]
impl Notifier for Queued {
    fn name(&self) -> &str {
        "outbox"
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        self.outbox.enqueue(notification, &self.receivers).await
    }
}
