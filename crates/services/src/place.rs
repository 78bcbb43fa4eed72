//! Where things are.

use std::path::{Path, PathBuf};

use crate::BenchError;

/// Names another file than the default one.
pub(crate) const FILE_VARIABLE: &str = "MLOOP_SERVICES";

/// The root of the workspace. Checkouts may share a target folder, so that a program may have been
/// built in another one than cargo works in now.
pub(crate) fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let now = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let found = now.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    found.or(built.ancestors().nth(2)).unwrap_or(built).to_path_buf()
}

/// The file that says where each service is. It does not follow `CARGO_TARGET_DIR`, so that
/// whoever builds elsewhere finds the same bench.
pub(crate) fn file() -> PathBuf {
    std::env::var_os(FILE_VARIABLE)
        .map_or_else(|| root().join("target/services/services.json"), PathBuf::from)
}

/// Where downloads and installations are kept between checkouts.
pub(crate) fn cache() -> Result<PathBuf, BenchError> {
    if let Some(folder) = std::env::var_os("MLOOP_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    match std::env::var_os("HOME") {
        Some(home) => Ok(Path::new(&home).join(".cache/mloop")),
        None => Err(BenchError::Failed("neither MLOOP_CACHE nor HOME is set".to_owned())),
    }
}

/// What the repository has for the bench: lock files and the two receivers.
pub(crate) fn sources() -> PathBuf {
    root().join("tests/services")
}

/// Makes a folder with its parents.
pub(crate) fn make(folder: &Path) -> Result<(), BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::io(format!("making {}", folder.display())))
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub(crate) fn clear(folder: &Path) -> Result<(), BenchError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::io(format!("removing {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Writes a text file.
pub(crate) fn write(file: &Path, text: &str) -> Result<(), BenchError> {
    std::fs::write(file, text).map_err(BenchError::io(format!("writing {}", file.display())))
}
