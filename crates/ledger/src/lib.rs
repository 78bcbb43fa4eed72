//! The ledger: the one memory of the loop, in a SQLite file for one host, or in a PostgreSQL database
//! for several.
//!
//! It holds runs with their findings, episodes with their jobs, versions, deployments with their
//! journal, leases, profiles and messages on their way. What is written and decided stands once
//! (`journal`, `leases`, `profiles`, `outbox`), over a small trait (`session`) that both databases
//! implement. Each call is one transaction, is on disk when it returns, and checks the lease that it is
//! made under in that same transaction. Leases expire by the database's own clock.
//!
//! - **SQLite**: several processes may use one file at once. A call that writes begins with the write
//!   lock (`BEGIN IMMEDIATE`; write-ahead log, `synchronous=FULL`). Network file systems are refused:
//!   their locks cannot be trusted, and without locks two runs damage the file.
//! - **PostgreSQL** (feature `postgres`): the tables stand in the schema `mloop`. A call that decides on
//!   what it reads first takes an advisory lock on its lease, run, version or profile.
//!
//! Nothing is opened before the first call, and reading a ledger that does not exist yet finds
//! nothing and leaves nothing behind.
//!
//! ```
//! # tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
//! use std::time::Duration;
//! let folder = tempfile::tempdir().expect("a folder");
//! let ledger = mloop_ledger::SqliteLedger::new(folder.path().join("ledger.sqlite")).ledger();
//! let lease = ledger.leases.acquire("deployment/fashion", "run-1", Duration::from_secs(60)).await?;
//! assert_eq!(lease.fence, 1);
//! # Ok::<(), mloop_platform::PlatformError>(()) }).expect("a lease");
//! ```

mod error;
mod journal;
mod leases;
mod migrate;
mod outbox;
#[cfg(feature = "postgres")]
mod postgres;
mod profiles;
mod session;
mod sqlite;
mod store;
mod value;

#[cfg(test)]
mod tests;

use mloop_platform::LedgerRegistry;

pub use migrate::SCHEMA_VERSION;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresLedger, PostgresSettings, Tls};
pub use sqlite::{Probe, SqliteLedger, SqliteSettings, probe};

/// The points at which a test can kill a process that writes (see [`mloop_core::failpoint`]): of
/// each call that writes a record, just before and just after its transaction is committed.
pub const FAILPOINTS: [&str; 22] = [
    "ledger.record_run.before_commit",
    "ledger.record_run.after_commit",
    "ledger.save_episode.before_commit",
    "ledger.save_episode.after_commit",
    "ledger.record_version.before_commit",
    "ledger.record_version.after_commit",
    "ledger.save_deployment.before_commit",
    "ledger.save_deployment.after_commit",
    "ledger.append.before_commit",
    "ledger.append.after_commit",
    "ledger.save_call.before_commit",
    "ledger.save_call.after_commit",
    "ledger.put.before_commit",
    "ledger.put.after_commit",
    "ledger.merge_days.before_commit",
    "ledger.merge_days.after_commit",
    "ledger.enqueue.before_commit",
    "ledger.enqueue.after_commit",
    "ledger.delivered.before_commit",
    "ledger.delivered.after_commit",
    "ledger.not_delivered.before_commit",
    "ledger.not_delivered.after_commit",
];

/// Every kind of ledger that is compiled in.
pub fn register_builtin(registry: &mut LedgerRegistry) {
    register_sqlite(registry);
    #[cfg(feature = "postgres")]
    register_postgres(registry);
}

/// Kind `sqlite`.
pub fn register_sqlite(registry: &mut LedgerRegistry) {
    registry.register::<SqliteSettings>();
}

/// Kind `postgres`.
#[cfg(feature = "postgres")]
pub fn register_postgres(registry: &mut LedgerRegistry) {
    registry.register::<PostgresSettings>();
}
