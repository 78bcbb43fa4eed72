//! A database that runs the flows, away from the asynchronous threads.

use std::sync::Arc;

use mloop_platform::{Ledger, PlatformError};

use crate::error::Failure;
use crate::session::Session;

/// One database, used by one call at a time.
pub(crate) trait Store: Send + Sync + 'static {
    /// Looks whether this release can use the ledger, and changes nothing.
    fn probe(&self) -> Result<(), Failure>;

    /// Reads. A ledger that does not exist has nothing, and is not made by being asked.
    fn reading<T: Default>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure>;

    /// Writes in one transaction, passing the fail points of the call.
    fn writing<T>(
        &self,
        point: &'static str,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure>;

    /// A failure in the terms of the contract.
    fn explain(&self, failure: Failure, doing: &str) -> PlatformError;
}

/// The four views of a store.
pub(crate) struct Views<S>(Arc<S>);

impl<S: Store> Views<S> {
    pub(crate) fn of(store: &Arc<S>) -> Ledger {
        let view = Arc::new(Self(store.clone()));
        Ledger { journal: view.clone(), leases: view.clone(), profiles: view.clone(), outbox: view }
    }

    pub(crate) async fn look(&self) -> Result<(), PlatformError> {
        detached(&self.0, "checking the ledger".to_owned(), S::probe).await
    }

    pub(crate) async fn read<T, F>(&self, doing: String, work: F) -> Result<T, PlatformError>
    where
        T: Default + Send + 'static,
        F: FnOnce(&mut dyn Session) -> Result<T, Failure> + Send + 'static,
    {
        detached(&self.0, doing, |store| store.reading(work)).await
    }

    pub(crate) async fn write<T, F>(
        &self,
        point: &'static str,
        doing: String,
        work: F,
    ) -> Result<T, PlatformError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Session) -> Result<T, Failure> + Send + 'static,
    {
        detached(&self.0, doing, move |store| store.writing(point, work)).await
    }
}

/// Runs blocking work of a store away from the asynchronous threads.
pub(crate) async fn detached<S: Store, T: Send + 'static>(
    store: &Arc<S>,
    doing: String,
    work: impl FnOnce(&S) -> Result<T, Failure> + Send + 'static,
) -> Result<T, PlatformError> {
    let (store, name) = (store.clone(), doing.clone());
    let task = tokio::task::spawn_blocking(move || {
        work(&store).map_err(|failure| store.explain(failure, &name))
    });
    task.await.unwrap_or_else(|ended| match ended.try_into_panic() {
        // A bug stays a bug: it is not made into an error that looks like a busy ledger.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(stopped) => Err(PlatformError::unavailable("the runtime", doing, stopped)),
    })
}
