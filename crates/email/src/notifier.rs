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
#[derive(Clone)]
pub struct EmailNotifier {
    pub(crate) name: String,
    pub(crate) server: Arc<Server>,
    pub(crate) from: Mailbox,
    /// Whom the mail names.
    pub(crate) to: Vec<Mailbox>,
    /// The one of them that it is handed in for, where it is not all.
    pub(crate) only: Option<Mailbox>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Notifier for EmailNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let write = |missed: &[Refusal]| {
            let mail = Mail {
                notification,
                from: &self.from,
                to: &self.to,
                sent_at: self.clock.now(),
                missed: missed.iter().map(Refusal::to_string).collect(),
            };
            compose(&mail).map_err(|error| Failure::Refused(error.to_string()))
        };
        let doing = format!("mailing the message {}", notification.id);
        let recipients = self.only.as_ref().map_or(&self.to[..], std::slice::from_ref);
        let sent = self.server.send(&self.from, recipients, write).await;
        let place = self.server.place();
        let missed = sent.map_err(|failure| failure.into_platform(place.clone(), &doing))?;
        if missed.is_empty() {
            return Ok(());
        }
        // Also who was refused for good: a relay may be mended within the time that messages wait.
        let said: Vec<String> = missed.iter().map(Refusal::to_string).collect();
        Err(PlatformError::Partly {
            system: place,
            doing,
            missed: missed.iter().map(|one| self.name_of(&one.recipient)).collect(),
            cause: said.join(", ").into(),
        })
    }

    /// The recipients, also where one alone is left of several: mail may wait for it from before.
    fn parts(&self) -> Vec<Arc<dyn Notifier>> {
        if self.only.is_some() {
            return vec![];
        }
        let part = |recipient: &Mailbox| -> Arc<dyn Notifier> {
            let name = self.name_of(recipient.email.as_ref());
            Arc::new(Self { name, only: Some(recipient.clone()), ..self.clone() })
        };
        self.to.iter().map(part).collect()
    }
}

impl EmailNotifier {
    /// What one recipient is called in the outbox.
    fn name_of(&self, recipient: &str) -> String {
        format!("{} <{recipient}>", self.name)
    }
}
