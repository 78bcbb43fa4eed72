//! What serves, on disk, so that the next start serves it too.
//!
//! `endpoints.json` says which version each endpoint serves; `models/{digest}/` holds the files of
//! those versions and of the ones before them. A version is complete before it gets that name, and
//! has it before `endpoints.json` mentions it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mloop_core::{EndpointName, Sha256Digest};
use serde::{Deserialize, Serialize};

use crate::model::{LoadedModel, ModelError};

const ENDPOINTS: &str = "endpoints.json";
const SCHEMA: &str = "mloop.endpoints/1";
const MODELS: &str = "models";
const LOCK: &str = "lock";
/// Ending of what is being written: never read, removed at the next start.
const UNFINISHED: &str = "part";

/// Most bytes and deepest folder of a version that is copied; more is a mistake of the caller.
const MAX_VERSION_BYTES: u64 = 4 << 30;
const MAX_DEPTH: usize = 8;

/// What an endpoint serves and what it served before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assignment {
    pub(crate) digest: Sha256Digest,
    pub(crate) version: Option<u64>,
    pub(crate) previous: Option<Sha256Digest>,
}

pub(crate) type Assignments = BTreeMap<EndpointName, Assignment>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    schema: String,
    endpoints: Assignments,
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another server has it.
    #[error("another server uses the state folder {}: stop it, or give this one its own", .0.display())]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// `endpoints.json` was not written by this release's server, or was changed by hand.
    #[error(
        "{} cannot be understood: restore it, or move it away to start without endpoints",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: serde_json::Error,
    },
    /// `endpoints.json` was written by another release.
    #[error("{} has schema `{schema}`, this release reads `{SCHEMA}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        schema: String,
    },
}

/// Why a version could not be taken into the state folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{} is no model version: {problem}", folder.display())]
    NotAVersion { folder: PathBuf, problem: String },
    #[error("reading the version from {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

/// The state folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the folder where there is none, locks it, and removes what a killed server left
    /// unfinished.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let models = dir.join(MODELS);
        fs::create_dir_all(&models).map_err(failed("making", &models))?;
        let path = dir.join(LOCK);
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(failed("opening", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("locking", &path)(source)),
        }
        let store = Self { dir: dir.to_owned(), _lock: lock };
        store.remove_models(|name| name.ends_with(UNFINISHED))?;
        Ok(store)
    }

    pub(crate) fn read(&self) -> Result<Assignments, StoreError> {
        let path = self.dir.join(ENDPOINTS);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(failed("reading", &path)(source)),
        };
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Content { path: path.clone(), source })?;
        if content.schema != SCHEMA {
            return Err(StoreError::Schema { path, schema: content.schema });
        }
        Ok(content.endpoints)
    }

    /// Replaces `endpoints.json`; when this returns, a power cut does not undo it.
    pub(crate) fn write(&self, endpoints: &Assignments) -> Result<(), StoreError> {
        let content = Content { schema: SCHEMA.to_owned(), endpoints: endpoints.clone() };
        let bytes = serde_json::to_vec_pretty(&content).expect("names are string keys");
        replace_file(&self.dir.join(ENDPOINTS), &bytes)
    }

    /// Removes the versions that no endpoint serves or served before.
    pub(crate) fn tidy(&self, endpoints: &Assignments) -> Result<(), StoreError> {
        let of = |assignment: &Assignment| [Some(assignment.digest), assignment.previous];
        let digests = endpoints.values().flat_map(of).flatten();
        let needed: BTreeSet<String> = digests.map(|digest| digest.to_string()).collect();
        self.remove_models(|name| !needed.contains(name))
    }

    /// The version as this store holds it.
    pub(crate) fn load(&self, digest: Sha256Digest) -> Result<LoadedModel, ModelError> {
        LoadedModel::load(&self.folder(digest), Some(digest))
    }

    /// Copies a version into the store and loads it from the copy, so that what is verified is what
    /// the next start will read. A sound copy that is there already is used. Blocks.
    pub(crate) fn keep(
        &self,
        source: &Path,
        digest: Sha256Digest,
    ) -> Result<LoadedModel, KeepError> {
        let folder = self.folder(digest);
        if folder.is_dir() {
            match self.load(digest) {
                Ok(model) => return Ok(model),
                Err(error) => tracing::warn!(
                    error = mloop_core::error_chain(&error),
                    "the kept copy of a version is damaged and is made again"
                ),
            }
        }
        let unfinished = folder.with_extension(UNFINISHED);
        remove_folder(&unfinished)?;
        let copied = copy_folder(source, source, &unfinished, 0, &mut 0)
            .and_then(|()| Ok(LoadedModel::load(&unfinished, Some(digest))?));
        let model = match copied {
            Ok(model) => model,
            Err(error) => {
                remove_folder(&unfinished)?;
                return Err(error);
            }
        };
        remove_folder(&folder)?;
        fs::rename(&unfinished, &folder).map_err(failed("renaming", &unfinished))?;
        sync_folder(&self.dir.join(MODELS))?;
        Ok(model)
    }

    fn folder(&self, digest: Sha256Digest) -> PathBuf {
        self.dir.join(MODELS).join(digest.to_string())
    }

    fn remove_models(&self, unwanted: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let models = self.dir.join(MODELS);
        for entry in fs::read_dir(&models).map_err(failed("listing", &models))? {
            let path = entry.map_err(failed("listing", &models))?.path();
            let name = path.file_name().and_then(OsStr::to_str);
            if name.is_some_and(&unwanted) {
                remove_folder(&path)?;
            }
        }
        Ok(())
    }
}

/// Replaces a file by one that is complete and on disk before it gets the name.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = File::create(&unfinished).map_err(failed("creating", &unfinished))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing", &unfinished))?;
    fs::rename(&unfinished, path).map_err(failed("renaming", &unfinished))?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("syncing", folder))
}

fn remove_folder(folder: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

fn copy_folder(
    root: &Path,
    from: &Path,
    to: &Path,
    depth: usize,
    total: &mut u64,
) -> Result<(), KeepError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| KeepError::Read { path, source }
    };
    let refuse = |problem| Err(KeepError::NotAVersion { folder: root.to_owned(), problem });
    if depth > MAX_DEPTH {
        return refuse(format!("its folders are nested more than {MAX_DEPTH} deep"));
    }
    fs::create_dir_all(to).map_err(failed("making", to))?;
    for entry in fs::read_dir(from).map_err(unreadable(from))? {
        let entry = entry.map_err(unreadable(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
        if metadata.is_dir() {
            copy_folder(root, &path, &target, depth + 1, total)?;
            continue;
        }
        *total += metadata.len();
        if !metadata.is_file() || *total > MAX_VERSION_BYTES {
            return refuse(format!("{} is no file or too large", path.display()));
        }
        copy_file(&path, &target)?;
    }
    Ok(sync_folder(to)?)
}

fn copy_file(path: &Path, target: &Path) -> Result<(), KeepError> {
    let unreadable = |source| KeepError::Read { path: path.to_owned(), source };
    let mut reader = File::open(path).map_err(unreadable)?;
    let mut writer = File::create(target).map_err(failed("creating", target))?;
    io::copy(&mut reader, &mut writer)
        .and_then(|_| writer.sync_all())
        .map_err(failed("writing", target))?;
    Ok(())
}
