//! A notifier over SMTP.

use std::sync::Arc;

use async_trait::async_trait;
use lettre::message::Mailbox;
use mloop_core::Clock;
use mloop_core::notification::Notification;
use mloop_platform::{Notifier, PlatformError};

use crate::failure::Failure;
use crate::mail::{Mail, compose};
use crate::session::{Refusal, Server};

/// Sends each message as a mail.
pub struct EmailNotifier {
    pub(crate) name: String,
    pub(crate) server: Server,
    pub(crate) from: Mailbox,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Notifier for EmailNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let write = |missed: &[Refusal]| {
            let missed = missed.iter().map(|one| format!("{}: {}", one.recipient, one.failure));
            let mail = Mail {
                notification,
                from: &self.from,
                to: &self.to,
                sent_at: self.clock.now(),
                missed: missed.collect(),
            };
            compose(&mail).map_err(|error| Failure::Refused(error.to_string()))
        };
        let doing = format!("mailing the message {}", notification.id);
        let sent = self.server.send(&self.from, &self.to, write).await;
        let missed = sent.map_err(|failure| failure.into_platform(self.server.place(), &doing))?;
        for Refusal { recipient, failure } in missed {
            let (place, error) = (self.server.place(), failure.to_string());
            tracing::error!(recipient, error, "{doing}: {place} does not take this recipient");
        }
        Ok(())
    }
}
