//! SQLite's errors, sorted by what the caller can do.

use std::path::Path;

use mloop_platform::PlatformError;
use rusqlite::ErrorCode;

use crate::error::Failure;

/// A failure in the terms of the contract.
pub(super) fn explain(failure: Failure, doing: &str, path: &Path) -> PlatformError {
    let file = path.display();
    match failure {
        Failure::Refused(error) => error,
        Failure::Sqlite(error) => from_sqlite(error, doing, path),
        Failure::File(error) if is_about_the_path(&error) => PlatformError::invalid(
            doing,
            format!(
                "the ledger {file} cannot be used ({error}); check that its folder exists, is on a working disk and may be written by this user"
            ),
        ),
        Failure::File(error) => {
            PlatformError::unavailable(format!("the ledger {file}"), doing, error)
        }
        other => crate::error::unreadable(&other, doing, &format!("the ledger {file}")),
    }
}

/// Whether another path or other rights are needed; a full disk, for one, may have room later.
fn is_about_the_path(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::PermissionDenied
            | Kind::NotFound
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::ReadOnlyFilesystem
            | Kind::InvalidInput
            | Kind::InvalidFilename
            | Kind::AlreadyExists
    )
}

fn from_sqlite(error: rusqlite::Error, doing: &str, path: &Path) -> PlatformError {
    let file = path.display();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => PlatformError::unavailable(format!("the ledger {file}"), doing, error),
        Some(ErrorCode::NotADatabase) => PlatformError::conflict(
            doing,
            format!(
                "{file} is not a SQLite file, or its beginning was overwritten; check the path, or move the file away and restore a backup"
            ),
        ),
        Some(ErrorCode::DatabaseCorrupt) => PlatformError::conflict(
            doing,
            format!(
                "the ledger {file} is damaged ({error}); stop all runs, keep a copy of it with its -wal file, then restore a backup or salvage it with `sqlite3 {file} .recover`"
            ),
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            PlatformError::invalid(
                doing,
                format!(
                    "the ledger {file} cannot be opened for writing ({error}); give this user the right to write the file and its folder"
                ),
            )
        }
        _ => PlatformError::conflict(
            doing,
            format!(
                "the ledger {file} is not as this release left it ({error}); compare it with a backup, and do not change it by hand"
            ),
        ),
    }
}
