//! Messages are queued with what they tell of, and sent from there: those of this run, and those of
//! earlier ones that were killed before they told anybody or whose receiver was dead.

use std::sync::Arc;

use mloop_core::notification::Notification;
use mloop_core::{Subject, error_chain};
use mloop_platform::{Message, Notifier, Outbox, deliver_pending};

/// Sends what waits about a subject; what cannot be delivered waits on, and is told of in the log. Gives
/// who could not be told, and why.
pub async fn deliver_waiting(
    outbox: &dyn Outbox,
    subject: &Subject,
    notifiers: &[Arc<dyn Notifier>],
) -> Vec<String> {
    let mut undelivered = vec![];
    for (receiver, error) in deliver_pending(outbox, subject, notifiers).await {
        let error = error_chain(&error);
        tracing::warn!(receiver, error, "not told yet; the next run tries again");
        undelivered.push(format!("{receiver}: {error}"));
    }
    undelivered
}

/// A message for everybody.
pub(crate) fn to_all(notifiers: &[Arc<dyn Notifier>], notification: Notification) -> Message {
    let receivers = notifiers.iter().map(|notifier| notifier.name().to_owned()).collect();
    Message { notification, receivers }
}
