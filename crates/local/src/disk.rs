//! Files that survive a power cut, and locks between processes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mloop_platform::{PlatformError, files};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Readable and writable by the owner alone.
const PRIVATE: u32 = 0o600;

/// Longest wait for a file that another process locked. Whoever holds one of these locks writes a
/// few files and never waits for anything itself, so that a longer wait means a process that was
/// stopped, or a disk that hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two tries to lock a file.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// An error of the file system as one that a caller can act on.
pub(crate) fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> PlatformError {
    let (doing, system) = (doing.to_owned(), format!("the file system at {}", path.display()));
    move |cause| match cause.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            PlatformError::Denied { system, doing, cause: cause.into() }
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            PlatformError::invalid(doing, format!("{system}: {cause}; check the path"))
        }
        _ => PlatformError::unavailable(system, doing, cause),
    }
}

/// Runs file work on a thread that may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> Result<T, PlatformError> + Send + 'static,
) -> Result<T, PlatformError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(PlatformError::unavailable("this program", doing, cause)))
}

/// Opens a file for appending, for the owner's eyes only.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).mode(PRIVATE).open(path)
}

/// Waits for the lock of a file that it makes, for a bounded time; held until the result is dropped.
///
/// The lock of a process that died is free at once; only one that lives can be waited for in vain.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    lock_within(path, LOCK_PATIENCE)
}

fn lock_within(path: &Path, patience: Duration) -> io::Result<File> {
    let file = open_private(path)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                thread::sleep(LOCK_POLL);
            }
            Err(TryLockError::WouldBlock) => {
                let problem = format!(
                    "another process has held the lock for {patience:?}: if it was stopped, end it or let it go on"
                );
                return Err(io::Error::new(ErrorKind::TimedOut, problem));
            }
        }
    }
}

/// Makes the entries of a folder last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder with all above it, each lasting.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ if parent.as_os_str().is_empty() => Ok(()),
        _ => sync_folder(parent),
    }
}

/// Replaces a file at once, for the owner's eyes only.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    files::replace(path, bytes, files::Readers::Owner)
}

/// Replaces a file by a value as JSON.
pub(crate) fn replace_json(
    doing: &str,
    path: &Path,
    value: &impl Serialize,
) -> Result<(), PlatformError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| PlatformError::invalid(doing, error.to_string()))?;
    replace(path, &text).map_err(failed(doing, path))
}

/// Reads JSON; none when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(
    doing: &str,
    path: &Path,
) -> Result<Option<T>, PlatformError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(doing, path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let path = path.display();
        let problem = format!("{path} is damaged ({error}); look at it, restore or remove it");
        PlatformError::conflict(doing, problem)
    })
}

/// Removes a folder with all in it; none is fine.
pub(crate) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::exit_class::{Classified as _, ExitClass};

    use super::*;

    #[test]
    fn a_lock_that_is_never_given_back_is_waited_for_in_bounds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = lock(&path).expect("free");
        let (began, patience) = (Instant::now(), Duration::from_millis(50));
        let error = lock_within(&path, patience).expect_err("held");
        assert!(began.elapsed() >= patience, "it waited");
        let error = failed("writing", &path)(error);
        assert_eq!(error.exit_class(), ExitClass::Transient);
        let told = mloop_core::error_chain(&error);
        assert!(told.contains("another process has held the lock"), "{told}");
        drop(held);
        lock_within(&path, patience).expect("given back");
    }

    #[test]
    fn a_lock_that_is_given_back_meanwhile_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = lock(&path).expect("free");
        let waiting = thread::spawn({
            let path = path.clone();
            move || lock(&path).map(drop)
        });
        drop(held);
        waiting.join().expect("no panic").expect("taken");
    }
}
