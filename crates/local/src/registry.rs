//! A model registry in a folder.
//!
//! ```text
//! {path}/{model}/tags.json         numbers, digests, tags: replaced at once, so never half written
//! {path}/{model}/aliases.json      alias → version
//! {path}/{model}/versions/{n}/     the files and manifest.json, never changed
//! {path}/{model}/staging/          files on their way, of a registration under way or killed
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use mloop_core::failpoint::reach;
use mloop_core::version::{files, tags};
use mloop_core::{Clock, Manifest, ModelName, ModelVersion, Sha256Digest, VersionRef};
use mloop_platform::{BuildError, ModelRegistry, PlatformDeps, PlatformError, Registration, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::{self, failed};

/// Places between the durable steps of a registration at which a test can kill it, in order.
pub const POINTS: [&str; 7] = [
    "registry.locked",
    "registry.staged",
    "registry.reserved",
    "registry.moved",
    "registry.complete",
    "registry.verified",
    "registry.ready",
];

/// Settings of [`DirectoryRegistry`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRegistrySettings {
    /// The folder; made at the first registration.
    pub path: PathBuf,
}

impl Spec<Arc<dyn ModelRegistry>, PlatformDeps> for DirectoryRegistrySettings {
    const KIND: &'static str = "directory";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn ModelRegistry>, BuildError> {
        if self.path.as_os_str().is_empty() {
            return Err(BuildError::invalid("path", "must name a folder"));
        }
        let root = std::path::absolute(deps.resolve(&self.path))
            .map_err(|error| BuildError::invalid("path", error.to_string()))?;
        Ok(Arc::new(DirectoryRegistry::new(root, deps.clock.clone())))
    }
}

/// Versions in a folder of the local disk, shared by the processes of one machine.
#[derive(Clone)]
pub struct DirectoryRegistry {
    root: PathBuf,
    clock: Arc<dyn Clock>,
}

/// All versions of one model by number, those with a reserved number included.
type Index = BTreeMap<u64, Record>;
type Aliases = BTreeMap<String, VersionRef>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    digest: Sha256Digest,
    key: Sha256Digest,
    created_at: DateTime<Utc>,
    /// Whether the files are in their place; before that nobody is told of the version.
    complete: bool,
    /// Whether the gate passed, so that `staging_ready` is due.
    blessed: bool,
    tags: BTreeMap<String, String>,
}

/// The folder of one model.
struct Shelf {
    model: ModelName,
    folder: PathBuf,
    doing: String,
}

impl DirectoryRegistry {
    /// A registry in this folder, which need not exist.
    #[must_use]
    pub fn new(root: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { root, clock }
    }

    /// Runs work on the folder of a model where it may block.
    async fn on_shelf<T: Send + 'static>(
        &self,
        model: &ModelName,
        doing: String,
        work: impl FnOnce(&Shelf) -> Result<T, PlatformError> + Send + 'static,
    ) -> Result<T, PlatformError> {
        let folder = self.root.join(model.as_str());
        let shelf = Shelf { model: model.clone(), folder, doing: doing.clone() };
        disk::blocking(&doing, move || work(&shelf)).await
    }
}

#[async_trait]
impl ModelRegistry for DirectoryRegistry {
    async fn register(&self, registration: &Registration) -> Result<ModelVersion, PlatformError> {
        let (model, now) = (&registration.model, self.clock.now());
        let doing = format!("registering a version of {model} in {}", self.root.display());
        let registration = registration.clone();
        self.on_shelf(model, doing, move |shelf| shelf.register(&registration, now)).await
    }

    async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, PlatformError> {
        let doing = format!("listing the versions of {model} in {}", self.root.display());
        let list = |shelf: &Shelf| {
            let index = shelf.index()?;
            let known = index.into_iter().rev().filter(|(_, record)| record.complete);
            Ok(known.map(|(number, record)| shelf.version(number, record)).collect())
        };
        self.on_shelf(model, doing, list).await
    }

    async fn fetch(&self, version: &ModelVersion, into: &Path) -> Result<Manifest, PlatformError> {
        let doing =
            format!("fetching {} {} from {}", version.model, version.version, self.root.display());
        let (wanted, into) = (version.version, into.to_path_buf());
        self.on_shelf(&version.model, doing, move |shelf| shelf.fetch(wanted, &into)).await
    }

    async fn alias(
        &self,
        model: &ModelName,
        alias: &str,
    ) -> Result<Option<VersionRef>, PlatformError> {
        let doing = format!("reading the alias `{alias}` of {model} in {}", self.root.display());
        let alias = alias.to_owned();
        let read = move |shelf: &Shelf| Ok(shelf.aliases()?.get(&alias).copied());
        self.on_shelf(model, doing, read).await
    }

    async fn set_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: &VersionRef,
    ) -> Result<(), PlatformError> {
        let doing = format!("setting the alias `{alias}` of {model} in {}", self.root.display());
        let (alias, version) = (alias.to_owned(), *version);
        self.on_shelf(model, doing, move |shelf| shelf.set_alias(alias, version)).await
    }

    async fn remove_alias(&self, model: &ModelName, alias: &str) -> Result<(), PlatformError> {
        let doing = format!("removing the alias `{alias}` of {model} in {}", self.root.display());
        let alias = alias.to_owned();
        self.on_shelf(model, doing, move |shelf| shelf.remove_alias(&alias)).await
    }
}

impl Shelf {
    fn register(
        &self,
        registration: &Registration,
        now: DateTime<Utc>,
    ) -> Result<ModelVersion, PlatformError> {
        disk::make_folder(&self.folder).map_err(failed(&self.doing, &self.folder))?;
        let lock = self.folder.join("lock");
        let _held = disk::lock(&lock).map_err(failed(&self.doing, &lock))?;
        reach("registry.locked");
        let mut index = self.index()?;
        let number = match index.iter().find(|(_, record)| record.key == registration.key) {
            Some((number, _)) => *number,
            None => self.next_number(&index)?,
        };
        if !index.get(&number).is_some_and(|record| record.complete) {
            self.place(&mut index, number, registration, now)?;
        }
        self.bless(&mut index, number)?;
        let record = index.remove(&number).ok_or_else(|| {
            PlatformError::conflict(&self.doing, format!("version {number} vanished"))
        })?;
        Ok(self.version(number, record))
    }

    /// Puts the files of a version into their place. What a killed registration left is used when
    /// it is whole, else replaced: nobody was told of it.
    fn place(
        &self,
        index: &mut Index,
        number: u64,
        registration: &Registration,
        now: DateTime<Utc>,
    ) -> Result<(), PlatformError> {
        let target = self.files_of(number);
        let moved =
            index.get(&number).is_some_and(|known| self.verify(number, known.digest).is_ok());
        if !moved {
            let staging = self.folder.join("staging");
            disk::remove_folder(&staging).map_err(failed(&self.doing, &staging))?;
            let staged = self.copy(&registration.manifest, &registration.folder, &staging);
            if staged.is_err() {
                disk::remove_folder(&staging).map_err(failed(&self.doing, &staging))?;
            }
            staged?;
            reach("registry.staged");
            index.insert(number, Record::reserved(registration, now));
            self.save_index(index)?;
            reach("registry.reserved");
            disk::remove_folder(&target).map_err(failed(&self.doing, &target))?;
            let versions = self.folder.join("versions");
            disk::make_folder(&versions)
                .and_then(|()| fs::rename(&staging, &target))
                .and_then(|()| disk::sync_folder(&versions))
                .and_then(|()| disk::sync_folder(&self.folder))
                .map_err(failed(&self.doing, &target))?;
            reach("registry.moved");
        }
        if let Some(record) = index.get_mut(&number) {
            record.complete = true;
        }
        self.save_index(index)?;
        reach("registry.complete");
        Ok(())
    }

    /// Marks a version ready whose gate passed, after reading its files back.
    fn bless(&self, index: &mut Index, number: u64) -> Result<(), PlatformError> {
        let Some(record) = index.get_mut(&number) else { return Ok(()) };
        if !record.blessed || record.tags.contains_key(tags::STAGING_READY) {
            return Ok(());
        }
        self.verify(number, record.digest)?;
        reach("registry.verified");
        record.tags.insert(tags::STAGING_READY.to_owned(), "true".to_owned());
        self.save_index(index)?;
        reach("registry.ready");
        Ok(())
    }

    /// A number above all that were ever given, those included whose record was lost.
    fn next_number(&self, index: &Index) -> Result<u64, PlatformError> {
        let folder = self.folder.join("versions");
        let mut highest = index.keys().next_back().copied().unwrap_or(0);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(highest + 1),
            Err(error) => return Err(failed(&self.doing, &folder)(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed(&self.doing, &folder))?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok()).unwrap_or(0);
            highest = highest.max(number);
        }
        Ok(highest + 1)
    }

    fn fetch(&self, wanted: VersionRef, into: &Path) -> Result<Manifest, PlatformError> {
        let index = self.index()?;
        let known = index.get(&wanted.number).filter(|record| record.complete);
        if known.is_none_or(|record| record.digest != wanted.digest) {
            let problem = "there is no such version; was the registry's folder replaced?";
            return Err(PlatformError::conflict(&self.doing, problem));
        }
        let manifest = self.manifest(wanted.number, wanted.digest)?;
        self.copy(&manifest, &self.files_of(wanted.number), into)?;
        Ok(manifest)
    }

    /// Reads a version's files and compares them with its digest.
    fn verify(&self, number: u64, digest: Sha256Digest) -> Result<(), PlatformError> {
        let manifest = self.manifest(number, digest)?;
        let folder = self.files_of(number);
        let mut entries = manifest.files().iter();
        entries.try_for_each(|entry| self.read(entry, &folder).map(drop))
    }

    /// The manifest of a version, of which this is the digest.
    fn manifest(&self, number: u64, digest: Sha256Digest) -> Result<Manifest, PlatformError> {
        let path = self.files_of(number).join(files::MANIFEST);
        let found = disk::read_json::<Manifest>(&self.doing, &path)?;
        found.filter(|manifest| manifest.digest() == digest).ok_or_else(|| {
            let problem = format!("{} is missing or not the one registered", path.display());
            PlatformError::conflict(&self.doing, problem)
        })
    }

    /// Copies files with their manifest, comparing digests; each is whole or absent.
    fn copy(&self, manifest: &Manifest, from: &Path, into: &Path) -> Result<(), PlatformError> {
        let text = serde_json::to_vec(manifest)
            .map_err(|error| PlatformError::invalid(&self.doing, error.to_string()))?;
        for entry in manifest.files() {
            let bytes = self.read(entry, from)?;
            self.write(&into.join(&entry.path), &bytes)?;
        }
        self.write(&into.join(files::MANIFEST), &text)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), PlatformError> {
        path.parent()
            .map_or(Ok(()), disk::make_folder)
            .and_then(|()| disk::replace(path, bytes))
            .map_err(failed(&self.doing, path))
    }

    fn read(
        &self,
        entry: &mloop_core::version::FileEntry,
        folder: &Path,
    ) -> Result<Vec<u8>, PlatformError> {
        let path = folder.join(&entry.path);
        let size = fs::metadata(&path).map_err(failed(&self.doing, &path))?.len();
        let damaged = || {
            let problem = format!("{} is not the file of the manifest: damaged?", path.display());
            PlatformError::conflict(&self.doing, problem)
        };
        // Before reading, so that a file that grew cannot fill the memory.
        if size != entry.size {
            return Err(damaged());
        }
        let bytes = fs::read(&path).map_err(failed(&self.doing, &path))?;
        if Sha256Digest::of(&bytes) == entry.sha256 { Ok(bytes) } else { Err(damaged()) }
    }

    fn set_alias(&self, alias: String, version: VersionRef) -> Result<(), PlatformError> {
        let known = |record: &Record| record.complete && record.digest == version.digest;
        if !self.index()?.get(&version.number).is_some_and(known) {
            let problem = format!("there is no version {version}");
            return Err(PlatformError::invalid(&self.doing, problem));
        }
        let lock = self.folder.join("lock");
        let _held = disk::lock(&lock).map_err(failed(&self.doing, &lock))?;
        let mut aliases = self.aliases()?;
        if aliases.insert(alias, version) == Some(version) {
            return Ok(());
        }
        disk::replace_json(&self.doing, &self.folder.join("aliases.json"), &aliases)
    }

    fn remove_alias(&self, alias: &str) -> Result<(), PlatformError> {
        // Looked at before the lock, whose file would make the folder of a model that is not there.
        if !self.aliases()?.contains_key(alias) {
            return Ok(());
        }
        let lock = self.folder.join("lock");
        let _held = disk::lock(&lock).map_err(failed(&self.doing, &lock))?;
        let mut aliases = self.aliases()?;
        if aliases.remove(alias).is_none() {
            return Ok(());
        }
        disk::replace_json(&self.doing, &self.folder.join("aliases.json"), &aliases)
    }

    fn index(&self) -> Result<Index, PlatformError> {
        let found = disk::read_json(&self.doing, &self.folder.join("tags.json"))?;
        Ok(found.unwrap_or_default())
    }

    fn save_index(&self, index: &Index) -> Result<(), PlatformError> {
        disk::replace_json(&self.doing, &self.folder.join("tags.json"), index)
    }

    fn aliases(&self) -> Result<Aliases, PlatformError> {
        let found = disk::read_json(&self.doing, &self.folder.join("aliases.json"))?;
        Ok(found.unwrap_or_default())
    }

    fn files_of(&self, number: u64) -> PathBuf {
        self.folder.join("versions").join(number.to_string())
    }

    fn version(&self, number: u64, record: Record) -> ModelVersion {
        ModelVersion {
            model: self.model.clone(),
            version: VersionRef { number, digest: record.digest },
            created_at: record.created_at,
            source: self.files_of(number).display().to_string(),
            tags: record.tags,
        }
    }
}

impl Record {
    fn reserved(registration: &Registration, now: DateTime<Utc>) -> Self {
        let mut all_tags = registration.tags.clone();
        // Only this registry sets it, after reading the files back.
        all_tags.remove(tags::STAGING_READY);
        all_tags.insert(tags::KEY.to_owned(), registration.key.to_string());
        Self {
            digest: registration.manifest.digest(),
            key: registration.key,
            created_at: now,
            complete: false,
            blessed: registration.staging_ready,
            tags: all_tags,
        }
    }
}
