//! Image folders: `<class>/<file>.png`, `.jpg` or `.jpeg`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::collector::{Collector, Label};
use super::{DataError, Loaded, ReadOptions};

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Reads the files in the order of their names, class by class.
///
/// Hidden files are passed over; any other file in a class folder that is no image is a bad
/// record, since it may be one in a format that is not read.
pub(super) fn read(root: &Path, options: &ReadOptions) -> Result<Loaded, DataError> {
    let mut collector = Collector::new(root.display().to_string(), options);
    for (class, folder) in entries(root)? {
        if !folder.is_dir() {
            continue;
        }
        for (file, path) in entries(&folder)? {
            let id = format!("{class}/{file}");
            let extension = path.extension().and_then(OsStr::to_str);
            let extension = extension.map(str::to_ascii_lowercase).unwrap_or_default();
            if !EXTENSIONS.contains(&extension.as_str()) {
                collector.reject(&id, "not a .png, .jpg or .jpeg file");
                continue;
            }
            match std::fs::read(&path) {
                Ok(bytes) => {
                    collector.encoded(id, &bytes, Label::Name(class.clone()), BTreeMap::new());
                }
                Err(error) => collector.reject(&id, &error.to_string()),
            }
        }
    }
    collector.finish()
}

/// Visible entries of a folder, sorted by name.
fn entries(folder: &Path) -> Result<BTreeMap<String, PathBuf>, DataError> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.insert(name, entry.path());
        }
    }
    Ok(found)
}
