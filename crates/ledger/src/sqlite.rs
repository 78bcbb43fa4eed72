//! The ledger in a SQLite file: one connection, used by one call at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mloop_core::failpoint;
use mloop_platform::{BuildError, Ledger, PlatformDeps, PlatformError, Spec};
use rusqlite::{Connection, TransactionBehavior};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Failure;
use crate::session::Session;
use crate::store::{Store, Views, detached};

mod error;
mod filesystem;
mod open;
mod session;

pub use open::{Probe, probe};
pub(crate) use session::SqliteSession;

#[cfg(test)]
pub(crate) use session::BEGINNING;

/// Settings of a ledger of kind `sqlite`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteSettings {
    /// The file, on a local disk; a relative path starts at the configuration's folder. It and its
    /// folder are made at the first write, readable by their owner alone.
    pub path: PathBuf,
}

impl Spec<Ledger, PlatformDeps> for SqliteSettings {
    const KIND: &'static str = "sqlite";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Ledger, BuildError> {
        if self.path.file_name().is_none() {
            return Err(BuildError::invalid("path", "must name a file, such as ledger.sqlite"));
        }
        Ok(SqliteLedger::new(deps.resolve(&self.path)).ledger())
    }
}

/// A ledger in a SQLite file.
#[derive(Clone)]
pub struct SqliteLedger {
    store: Arc<File>,
}

struct File {
    path: PathBuf,
    /// How long a call waits for other processes before it gives up as busy.
    patience: Duration,
    connection: Mutex<Option<Connection>>,
}

impl SqliteLedger {
    /// A ledger at that path; the first call opens it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_patience(path, open::PATIENCE)
    }

    /// The same, giving up on a ledger that others keep busy after another time than ten seconds.
    #[must_use]
    pub fn with_patience(path: impl Into<PathBuf>, patience: Duration) -> Self {
        let (path, connection) = (path.into(), Mutex::default());
        Self { store: Arc::new(File { path, patience, connection }) }
    }

    /// Opens a ledger now, making and migrating it where needed.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] for a network file system, missing rights, or a ledger that needs
    /// a newer release; [`PlatformError::Conflict`] for a file that is damaged or no ledger.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, PlatformError> {
        let ledger = Self::new(path);
        let open = |store: &File| store.with(|_| Ok(()));
        detached(&ledger.store, "opening the ledger".to_owned(), open).await?;
        Ok(ledger)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// Its four views.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Views::of(&self.store)
    }
}

impl File {
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // A call that panicked rolled its transaction back.
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match slot.take() {
            Some(connection) => connection,
            None => open::open(&self.path, self.patience)?,
        };
        work(slot.insert(connection))
    }
}

impl Store for File {
    fn probe(&self) -> Result<(), Failure> {
        probe(&self.path)?;
        Ok(())
    }

    fn reading<T: Default>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self.path.try_exists()? {
            true => self.with(|connection| work(&mut SqliteSession(connection))),
            false => Ok(T::default()),
        }
    }

    fn writing<T>(
        &self,
        point: &'static str,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with(|connection| {
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = work(&mut SqliteSession(&transaction))?;
            failpoint::reach(&format!("ledger.{point}.before_commit"));
            transaction.commit()?;
            failpoint::reach(&format!("ledger.{point}.after_commit"));
            Ok(value)
        })
    }

    fn explain(&self, failure: Failure, doing: &str) -> PlatformError {
        error::explain(failure, doing, &self.path)
    }
}
