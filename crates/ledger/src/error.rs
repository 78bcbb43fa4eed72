//! Why a call failed, before it is known what was being done.

use mloop_platform::PlatformError;

/// The databases' errors as they came, and what was found by us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("SQLite failed")]
    Sqlite(#[from] rusqlite::Error),
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The server did not answer in time; what it did is not known.
    #[cfg(feature = "postgres")]
    #[error("no answer within {seconds} seconds")]
    Late {
        /// How long it was waited.
        seconds: u64,
    },
    /// The server closed the connection, and said why.
    #[cfg(feature = "postgres")]
    #[error("the connection was closed: {0}")]
    Closed(String),
    #[error("a record is not the JSON that it should be")]
    Record(#[from] serde_json::Error),
    /// A row is not of the shape that its table should have.
    #[error("column {0} of a row has another type than it should")]
    Column(usize),
    #[error("the file or its folder cannot be used")]
    File(#[from] std::io::Error),
    /// Said already in the terms of the contract.
    #[error(transparent)]
    Refused(#[from] PlatformError),
}

impl Failure {
    /// The failure with what led to it, in one line.
    fn told(&self) -> String {
        mloop_core::error_chain(self)
    }
}

/// A record that is not what it should be: somebody else wrote it.
pub(crate) fn unreadable(failure: &Failure, doing: &str, ledger: &str) -> PlatformError {
    let problem = format!(
        "a record of {ledger} cannot be read ({}); it was written by hand or by another release: look at it, or restore a backup",
        failure.told()
    );
    PlatformError::conflict(doing, problem)
}
