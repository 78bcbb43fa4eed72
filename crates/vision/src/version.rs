//! The files of a model version: read from a folder, and held against their manifest.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use mloop_core::Manifest;
use mloop_core::version::files;

use crate::classifier::MODEL_FORMAT;
use crate::network::InvalidNetwork;
use crate::weights::InvalidWeights;

/// Deepest folder and most bytes that a version may have; more is refused as a mistake.
const MAX_DEPTH: usize = 8;
const MAX_VERSION_BYTES: u64 = 4 << 30;

/// A version that cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or folder cannot be read.
    #[error("reading the model version from {}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The folder is not a model version of a sensible size.
    #[error("{} is no model version: {problem}", path.display())]
    NotAVersion {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A needed file is missing.
    #[error("the model version has no `{0}`")]
    Missing(&'static str),
    /// The bytes are not those that the manifest lists.
    #[error(
        "the model version is damaged: `{path}` {problem}; fetch the version again, do not serve it"
    )]
    Damaged {
        /// The first file that differs.
        path: String,
        /// How it differs.
        problem: &'static str,
    },
    /// `manifest.json` or `model.json` cannot be understood.
    #[error("`{file}` of the model version cannot be read")]
    Unreadable {
        /// The file.
        file: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `model.json` was written by another program or release.
    #[error("`model.json` has format `{0}`, this release reads `{MODEL_FORMAT}`")]
    UnknownFormat(String),
    /// The weights file cannot be understood.
    #[error("`{}` of the model version cannot be read", files::WEIGHTS)]
    Weights(#[source] InvalidWeights),
    /// Description and weights do not make a network.
    #[error("`model.json` and the weights do not fit")]
    Network(#[source] InvalidNetwork),
    /// The path of a file could not stand in a manifest.
    #[error("the model version has a file with an unusable name")]
    Name(#[source] mloop_core::version::InvalidManifest),
}

/// The manifest of the files, compared with the one that came along, if any did.
pub(crate) fn verified_manifest(files: &BTreeMap<String, Vec<u8>>) -> Result<Manifest, LoadError> {
    let others = files.iter().filter(|(path, _)| *path != files::MANIFEST);
    let found = Manifest::of_bytes(others.map(|(path, bytes)| (path.as_str(), bytes.as_slice())))
        .map_err(LoadError::Name)?;
    let Some(bytes) = files.get(files::MANIFEST) else { return Ok(found) };
    let listed: Manifest = serde_json::from_slice(bytes)
        .map_err(|source| LoadError::Unreadable { file: files::MANIFEST, source })?;
    let damaged = |path: &str, problem| LoadError::Damaged { path: path.to_owned(), problem };
    for entry in listed.files() {
        match found.files().iter().find(|file| file.path == entry.path) {
            Some(file) if file == entry => {}
            Some(_) => return Err(damaged(&entry.path, "differs from manifest.json")),
            None => return Err(damaged(&entry.path, "is listed in manifest.json and missing")),
        }
    }
    match found.files().iter().find(|file| !listed.files().contains(file)) {
        Some(extra) => Err(damaged(&extra.path, "is not listed in manifest.json")),
        None => Ok(found),
    }
}

/// All files of a version's folder, by relative path.
pub(crate) fn read_version(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, LoadError> {
    let mut files = BTreeMap::new();
    read_folder(dir, dir, 0, &mut 0, &mut files)?;
    Ok(files)
}

fn read_folder(
    root: &Path,
    dir: &Path,
    depth: usize,
    total: &mut u64,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), LoadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Io { path, source }
    };
    let refuse = |problem: String| LoadError::NotAVersion { path: root.to_owned(), problem };
    if depth > MAX_DEPTH {
        return Err(refuse(format!("its folders are nested more than {MAX_DEPTH} deep")));
    }
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let metadata = std::fs::metadata(&path).map_err(io(&path))?;
        if metadata.is_dir() {
            read_folder(root, &path, depth + 1, total, files)?;
            continue;
        }
        *total += metadata.len();
        if *total > MAX_VERSION_BYTES {
            return Err(refuse(format!("it holds more than {MAX_VERSION_BYTES} bytes")));
        }
        let bytes = std::fs::read(&path).map_err(io(&path))?;
        let name = relative_name(root, &path)
            .ok_or_else(|| refuse(format!("the name of {} is not UTF-8", path.display())))?;
        files.insert(name, bytes);
    }
    Ok(())
}

/// The path below `root` with `/` between its parts, on every system.
fn relative_name(root: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> =
        path.strip_prefix(root).ok()?.iter().map(OsStr::to_str).collect();
    Some(parts?.join("/"))
}
