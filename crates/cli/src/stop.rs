//! SIGTERM and SIGINT, as something that can be waited for and asked.

use tokio::sync::watch;

/// Tells that the caller wants the run to end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Raises a [`Stop`].
#[derive(Debug)]
pub(crate) struct StopSender(watch::Sender<bool>);

impl Stop {
    pub(crate) fn new() -> (StopSender, Self) {
        let (sender, receiver) = watch::channel(false);
        (StopSender(sender), Self(receiver))
    }

    /// Whether the run should end.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the run should end; for ever, when nobody can say so any more.
    pub async fn raised(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl StopSender {
    pub(crate) fn raise(&self) {
        self.0.send_replace(true);
    }
}

/// Raises the stop at the first SIGTERM or SIGINT.
pub(crate) async fn listen(sender: StopSender) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be handled here: SIGTERM will kill without saving");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::warn!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::warn!("SIGINT: stopping"),
    }
    sender.raise();
    // The sender lives on, so that whoever asks later is still told.
    sender.0.closed().await;
}
