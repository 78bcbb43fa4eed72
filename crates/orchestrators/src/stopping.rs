//! The caller wants a flow to end: at its next safe point, or when its grace is over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

/// Tells a flow that its caller wants it to end. Cheap to clone.
///
/// A flow ends between two steps or two looks at a platform, where every repeat takes it up. One
/// that comes to no such point within the grace, since a platform does not answer, is broken off as
/// a kill would break it off; either way it gives its lease back.
#[derive(Debug, Clone)]
pub struct Stopping {
    raised: watch::Receiver<bool>,
    grace: Duration,
}

impl Stopping {
    /// Nobody ever stops the flow.
    #[must_use]
    pub fn never() -> Self {
        Self { raised: watch::channel(false).1, grace: Duration::MAX }
    }

    /// Stops the flow once `signal` has come: at its next safe point, at the latest after `grace`.
    /// To be called within a runtime.
    #[must_use]
    pub fn when(signal: impl Future<Output = ()> + Send + 'static, grace: Duration) -> Self {
        let (sender, raised) = watch::channel(false);
        tokio::spawn(async move {
            signal.await;
            sender.send_replace(true);
            // Whoever asks later is still told.
            sender.closed().await;
        });
        Self { raised, grace }
    }

    pub(crate) fn is_raised(&self) -> bool {
        *self.raised.borrow()
    }

    async fn raised(&self) {
        let mut raised = self.raised.clone();
        if raised.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits; shorter once the flow is to end.
    pub(crate) async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.raised() => {}
        }
    }

    /// Waits until the flow is to end and has had its grace.
    pub(crate) async fn grace_is_over(&self) {
        self.raised().await;
        sleep(self.grace).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_pause_ends_with_the_signal_and_the_grace_begins_there() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let stopping = Stopping::when(async move { drop(receiver.await) }, Duration::ZERO);
        assert!(!stopping.is_raised());
        stopping.pause(Duration::from_millis(1)).await;
        assert!(!stopping.is_raised(), "a pause is no signal");
        sender.send(()).expect("somebody waits");
        let began = Instant::now();
        stopping.pause(LONG).await;
        stopping.grace_is_over().await;
        assert!(began.elapsed() < LONG && stopping.is_raised());
    }

    #[tokio::test]
    async fn nobody_stops_what_is_never_stopped() {
        let never = Stopping::never();
        let waited = timeout(Duration::from_millis(5), never.grace_is_over()).await;
        assert!(waited.is_err() && !never.is_raised());
        never.pause(Duration::from_millis(1)).await;
    }
}
