//! The ledger in a PostgreSQL database: one connection, used by one call at a time.

use std::sync::{Arc, Mutex, PoisonError};

use mloop_core::failpoint;
use mloop_platform::{Ledger, PlatformError};

use crate::error::Failure;
use crate::session::Session;
use crate::store::{Store, Views};

mod connection;
mod error;
mod session;
mod settings;
mod tls;

use connection::{Access, Connection};
use settings::Server;

pub use settings::{PostgresSettings, Tls};

/// A ledger in the schema `mloop` of a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresLedger {
    store: Arc<Database>,
}

struct Database {
    server: Server,
    connection: Mutex<Option<Connection>>,
}

impl PostgresLedger {
    /// A ledger on that server; the first call connects.
    fn new(server: Server) -> Self {
        Self { store: Arc::new(Database { server, connection: Mutex::default() }) }
    }

    /// Its four views.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Views::of(&self.store)
    }
}

impl Database {
    /// A connection on which a transaction has begun, the ledger being made and migrated where that is
    /// asked for; none when there is no ledger to read.
    ///
    /// A connection that was closed while nobody used it (a restart, a fail-over, a firewall) is
    /// replaced once: nothing was under way on it.
    fn begun(
        &self,
        known: Option<Connection>,
        access: Access,
    ) -> Result<(Connection, bool), Failure> {
        if let Some(mut known) = known {
            match known.begin(access) {
                Err(failure) if error::is_cut(&failure) => {
                    tracing::debug!(server = %self.server, "the connection was closed; a new one is made");
                }
                other => return Ok((known, other?)),
            }
        }
        let mut fresh = Connection::open(&self.server)?;
        let begun = fresh.begin(access)?;
        Ok((fresh, begun))
    }

    /// Runs one transaction. Only a connection that is known to be in order is kept.
    fn transaction<T>(
        &self,
        access: Access,
        point: Option<&str>,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        // After a panic the slot is empty, and the server has rolled back.
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut connection, begun) = self.begun(slot.take(), access)?;
        if !begun {
            *slot = Some(connection);
            return Ok(None);
        }
        let worked = work(&mut connection);
        let Ok(value) = worked else {
            if connection.finish("ROLLBACK").is_ok() {
                *slot = Some(connection);
            }
            return worked.map(Some);
        };
        let reach = |moment: &str| {
            if let Some(point) = point {
                failpoint::reach(&format!("ledger.{point}.{moment}"));
            }
        };
        reach("before_commit");
        connection.finish("COMMIT")?;
        reach("after_commit");
        *slot = Some(connection);
        Ok(Some(value))
    }
}

impl Store for Database {
    fn probe(&self) -> Result<(), Failure> {
        self.transaction(Access::Look, None, |_| Ok(()))?;
        Ok(())
    }

    fn reading<T: Default>(
        &self,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        Ok(self.transaction(Access::Read, None, work)?.unwrap_or_default())
    }

    fn writing<T>(
        &self,
        point: &'static str,
        work: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let written = self.transaction(Access::Write, Some(point), work)?;
        written.ok_or_else(|| vanished().into())
    }

    fn explain(&self, failure: Failure, doing: &str) -> PlatformError {
        error::explain(failure, doing, &self.server)
    }
}

/// Writing makes the ledger, so that there is one.
fn vanished() -> PlatformError {
    PlatformError::conflict("writing", "the ledger vanished while it was opened; look who drops it")
}
