//! Bounded, fair use of the processor.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// Admits a bounded number of invocations, and computes few of them at one time.
///
/// Computing happens on threads of its own, never on those that accept connections, so that
/// `/ping` is answered however much there is to compute.
#[derive(Debug)]
pub(crate) struct Workers {
    queue: Arc<Semaphore>,
    processors: Arc<Semaphore>,
}

/// Leave to be one of the invocations that the server works on; given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission(
    #[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
);

impl Workers {
    pub(crate) fn new(queue: usize, processors: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { queue: semaphore(queue), processors: semaphore(processors) }
    }

    /// None when the queue is full.
    pub(crate) fn admit(&self) -> Option<Admission> {
        Arc::clone(&self.queue).try_acquire_owned().ok().map(Admission)
    }

    /// Computes, first come first served.
    ///
    /// The permits move into the work: a caller that hangs up does not make room before its work
    /// has really ended.
    ///
    /// # Errors
    /// When the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        admission: Admission,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let permit = Arc::clone(&self.processors).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let held = (admission, permit);
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(held);
            result
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_admits_nobody_until_work_has_ended() {
        let workers = Workers::new(2, 1);
        let first = workers.admit().expect("room for two");
        let second = workers.admit().expect("room for two");
        assert!(workers.admit().is_none());
        assert_eq!(workers.run(first, || 7).await.expect("no panic"), 7);
        let third = workers.admit().expect("the first has ended");
        assert!(workers.admit().is_none());
        drop((second, third));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_place_back() {
        let workers = Workers::new(1, 1);
        let admission = workers.admit().expect("empty");
        let outcome = workers.run(admission, || panic!("a bug")).await;
        assert!(outcome.expect_err("reported").is_panic());
        assert!(workers.admit().is_some());
    }
}
