//! Opening the file: its place, its rights, its settings.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mloop_platform::PlatformError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::Failure;
use crate::migrate::{MIGRATIONS, SCHEMA_VERSION, check, migrate};

use super::filesystem::refuse_network;
use super::session::{BEGINNING, SqliteSession};

/// How long a call waits for other processes before it gives up as busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a look at a ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The file.
    pub path: PathBuf,
    /// Its schema version; none when there is no file yet, which the first write makes.
    pub schema_version: Option<u32>,
}

/// Looks whether a ledger can be used, and changes nothing: the file system is local, the file, if it
/// is there, is a ledger, and this release may write it.
///
/// # Errors
/// [`PlatformError`], as every call of the ledger would give it.
pub fn probe(path: &Path) -> Result<Probe, PlatformError> {
    let doing = "checking the ledger";
    let look = || -> Result<Probe, Failure> {
        if let Some(folder) = nearest_folder(path) {
            refuse_network(folder, doing)?;
        }
        let schema_version = if path.try_exists()? {
            // Not as a read-only connection: that one would leave its -wal and -shm files behind.
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "query_only", true)?;
            if connection.is_readonly("main")? {
                let problem = format!("this user may not write {}", path.display());
                return Err(PlatformError::invalid(doing, problem).into());
            }
            Some(check(&mut SqliteSession(&connection), MIGRATIONS, doing)?.version)
        } else {
            None
        };
        Ok(Probe { path: path.to_owned(), schema_version })
    };
    look().map_err(|failure| super::error::explain(failure, doing, path))
}

/// Opens a ledger for reading and writing; makes the file and its folders, readable by their owner
/// alone, where they are missing.
pub(crate) fn open(path: &Path, patience: Duration) -> Result<Connection, Failure> {
    let doing = "opening the ledger";
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    refuse_network(nearest_folder(path).unwrap_or(Path::new(".")), doing)?;
    // SQLite would make the file by the umask; its -wal and -shm files take the rights of this one.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(patience)?;
    let level = check(&mut SqliteSession(&connection), MIGRATIONS, doing)?;
    use_write_ahead_log(&connection, patience)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if level.version < SCHEMA_VERSION {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        migrate(&mut SqliteSession(&transaction), BEGINNING, MIGRATIONS, doing)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Switching the mode needs the file alone, and SQLite does not always wait for that by itself.
fn use_write_ahead_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        let switched: rusqlite::Result<String> =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        let busy = switched.as_ref().err().and_then(rusqlite::Error::sqlite_error_code)
            == Some(rusqlite::ErrorCode::DatabaseBusy);
        if !busy || begun.elapsed() > patience {
            return switched.map(|_| ());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The nearest folder above a path that exists.
fn nearest_folder(path: &Path) -> Option<&Path> {
    let above = path.ancestors().skip(1);
    above
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .find(|folder| folder.is_dir())
}
