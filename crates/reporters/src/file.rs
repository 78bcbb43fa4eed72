//! Files that are there completely or not at all.

use std::path::Path;

use mloop_platform::files::{Readers, replace, replaceable};
use mloop_reporter::ReporterError;

/// Writes a file whole or not at all, folders made if need be.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ReporterError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder);
    written.and_then(|()| replace(path, bytes, Readers::Anybody)).map_err(refused(path))
}

/// Looks whether files could be written to a folder, and makes none.
pub(crate) fn probe(folder: &Path) -> Result<bool, ReporterError> {
    let any = folder.join("report");
    replaceable(&any).map(|()| true).map_err(refused(folder))
}

fn refused(path: &Path) -> impl FnOnce(std::io::Error) -> ReporterError {
    let doing = format!("writing {}; check that its folder can be written", path.display());
    move |cause| ReporterError::Refused { doing, cause: cause.into() }
}
