//! The folder of a version on this machine.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use mloop_core::Manifest;
use mloop_core::digest::PartialDigest;
use mloop_core::version::FileEntry;
use mloop_platform::PlatformError;
use serde::de::DeserializeOwned;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// Largest JSON file that is read for what a run shows.
const MAX_JSON_BYTES: u64 = 32 << 20;

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

/// Compares all files of a folder with their manifest.
pub(crate) async fn compare(
    doing: &str,
    folder: &Path,
    manifest: &Manifest,
) -> Result<(), PlatformError> {
    let (task, folder, manifest) = (doing.to_owned(), folder.to_owned(), manifest.clone());
    let work = move || {
        manifest.files().iter().try_for_each(|entry| {
            let path = folder.join(&entry.path);
            match is_entry(&path, entry) {
                Ok(true) => Ok(()),
                Ok(false) => Err(PlatformError::conflict(
                    &task,
                    format!("{} is not the file of the manifest: damaged?", path.display()),
                )),
                Err(error) => Err(failed(&task, &path)(error)),
            }
        })
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|cause| Err(PlatformError::unavailable("this program", doing, cause)))
}

fn is_entry(path: &Path, entry: &FileEntry) -> io::Result<bool> {
    let file = File::open(path)?;
    if file.metadata()?.len() != entry.size {
        return Ok(false);
    }
    // Never more than the manifest says, should the file grow meanwhile.
    let mut reader = file.take(entry.size);
    let (mut digest, mut chunk) = (PartialDigest::default(), vec![0; CHUNK]);
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(digest.finish() == entry.sha256),
            length => digest.add(&chunk[..length]),
        }
    }
}

/// A JSON file of a version, for what a run shows of it. One that is missing is none; one that cannot
/// be understood as well, with a word in the log: another trainer may have written it in its own way.
pub(crate) async fn json<T: DeserializeOwned>(
    folder: &Path,
    manifest: &Manifest,
    name: &str,
) -> Option<T> {
    let entry = manifest.files().iter().find(|entry| entry.path == name)?;
    let path: PathBuf = folder.join(name);
    let problem = if entry.size > MAX_JSON_BYTES {
        format!("it is larger than {MAX_JSON_BYTES} bytes")
    } else {
        match tokio::fs::read(&path).await.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    };
    tracing::warn!(file = name, problem, "the MLflow run will not show what is in this file");
    None
}
