//! A model registry in memory, files included.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use mloop_core::version::{files, tags};
use mloop_core::{Clock, Manifest, ModelName, ModelVersion, Sha256Digest, VersionRef};

use super::lock;
use crate::{ModelRegistry, PlatformError, Registration};

/// A rule of the registry's contract to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryFault {
    /// Registering a key again makes a second version.
    RegistersTwice,
    /// Files that are not those of the manifest are marked ready.
    BlessesDamage,
    /// What was registered comes back with a byte changed.
    ServesDamage,
    /// An alias may name a version that does not exist.
    AliasesAnything,
    /// Removing an alias leaves it as it is.
    KeepsAliases,
    /// Removing an alias removes all of the model's.
    RemovesAllAliases,
    /// Removing an alias that names nothing is refused.
    MissesAliases,
}

/// Versions with their files, kept in memory.
pub struct InMemoryModelRegistry {
    clock: Arc<dyn Clock>,
    fault: Option<RegistryFault>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By model, in the order of their numbers from 1.
    versions: BTreeMap<ModelName, Vec<Stored>>,
    aliases: BTreeMap<(ModelName, String), VersionRef>,
}

struct Stored {
    key: Sha256Digest,
    version: ModelVersion,
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

impl InMemoryModelRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, fault: None, state: Mutex::default() }
    }

    /// The same, with a fault.
    #[must_use]
    pub fn with_fault(clock: Arc<dyn Clock>, fault: RegistryFault) -> Self {
        Self { clock, fault: Some(fault), state: Mutex::default() }
    }

    /// Puts a version with files given by their bytes into the registry, as if it had been
    /// registered and blessed.
    ///
    /// # Panics
    /// When a path cannot stand in a manifest.
    pub fn add(&self, model: &ModelName, contents: &[(&str, &[u8])]) -> ModelVersion {
        let manifest = Manifest::of_bytes(contents.iter().copied()).expect("plain paths");
        let files = contents.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        let registration = Registration {
            model: model.clone(),
            key: manifest.digest(),
            folder: "unused".into(),
            manifest,
            tags: BTreeMap::new(),
            staging_ready: true,
        };
        self.store(&registration, files.collect())
    }

    /// Sets a tag of a version, as a person or another program might.
    pub fn set_tag(&self, version: &ModelVersion, tag: &str, value: &str) {
        let mut state = lock(&self.state);
        let versions = state.versions.entry(version.model.clone()).or_default();
        for stored in versions.iter_mut().filter(|s| s.version.version == version.version) {
            stored.version.tags.insert(tag.to_owned(), value.to_owned());
        }
    }

    fn store(&self, registration: &Registration, files: BTreeMap<String, Vec<u8>>) -> ModelVersion {
        let mut state = lock(&self.state);
        let versions = state.versions.entry(registration.model.clone()).or_default();
        let known = versions.iter().find(|stored| stored.key == registration.key);
        if let Some(known) = known.filter(|_| self.fault != Some(RegistryFault::RegistersTwice)) {
            return known.version.clone();
        }
        let number = versions.len() as u64 + 1;
        let mut all_tags = registration.tags.clone();
        all_tags.insert(tags::KEY.to_owned(), registration.key.to_string());
        if registration.staging_ready {
            all_tags.insert(tags::STAGING_READY.to_owned(), "true".to_owned());
        }
        let version = ModelVersion {
            model: registration.model.clone(),
            version: VersionRef { number, digest: registration.manifest.digest() },
            created_at: self.clock.now(),
            source: format!("memory:{}/{number}", registration.model),
            tags: all_tags,
        };
        versions.push(Stored {
            key: registration.key,
            version: version.clone(),
            manifest: registration.manifest.clone(),
            files,
        });
        version
    }
}

/// The files of a registration, compared with its manifest.
fn read(
    registration: &Registration,
    compare: bool,
) -> Result<BTreeMap<String, Vec<u8>>, PlatformError> {
    let mut found = BTreeMap::new();
    for entry in registration.manifest.files() {
        let path = registration.folder.join(&entry.path);
        let doing = format!("registering {}", path.display());
        let bytes = std::fs::read(&path).map_err(|error| {
            PlatformError::invalid(&doing, format!("it cannot be read: {error}"))
        })?;
        if compare && Sha256Digest::of(&bytes) != entry.sha256 {
            return Err(PlatformError::conflict(doing, "its bytes are not those of the manifest"));
        }
        found.insert(entry.path.clone(), bytes);
    }
    Ok(found)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), PlatformError> {
    let path = folder.join(name);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(&path, bytes)).map_err(|error| {
        PlatformError::invalid(format!("writing {}", path.display()), error.to_string())
    })
}

#[async_trait]
impl ModelRegistry for InMemoryModelRegistry {
    async fn register(&self, registration: &Registration) -> Result<ModelVersion, PlatformError> {
        let files = read(registration, self.fault != Some(RegistryFault::BlessesDamage))?;
        Ok(self.store(registration, files))
    }

    async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, PlatformError> {
        let state = lock(&self.state);
        let known = state.versions.get(model).into_iter().flatten().rev();
        Ok(known.map(|stored| stored.version.clone()).collect())
    }

    async fn fetch(&self, version: &ModelVersion, into: &Path) -> Result<Manifest, PlatformError> {
        let doing = format!("fetching {} {}", version.model, version.version);
        let state = lock(&self.state);
        let known = state.versions.get(&version.model).into_iter().flatten();
        let stored = known.into_iter().find(|stored| stored.version.version == version.version);
        let Some(stored) = stored else {
            return Err(PlatformError::conflict(doing, "it is not in the registry"));
        };
        for (name, bytes) in &stored.files {
            let mut bytes = bytes.clone();
            if self.fault == Some(RegistryFault::ServesDamage) {
                bytes.push(b'!');
            }
            write(into, name, &bytes)?;
        }
        let manifest = serde_json::to_vec(&stored.manifest)
            .map_err(|error| PlatformError::invalid(doing, error.to_string()))?;
        write(into, files::MANIFEST, &manifest)?;
        Ok(stored.manifest.clone())
    }

    async fn alias(
        &self,
        model: &ModelName,
        alias: &str,
    ) -> Result<Option<VersionRef>, PlatformError> {
        Ok(lock(&self.state).aliases.get(&(model.clone(), alias.to_owned())).copied())
    }

    async fn set_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: &VersionRef,
    ) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        let mut known = state.versions.get(model).into_iter().flatten();
        let exists = known.any(|stored| stored.version.version == *version);
        if !exists && self.fault != Some(RegistryFault::AliasesAnything) {
            let doing = format!("setting the alias `{alias}` of {model}");
            return Err(PlatformError::invalid(doing, format!("there is no version {version}")));
        }
        state.aliases.insert((model.clone(), alias.to_owned()), *version);
        Ok(())
    }

    async fn remove_alias(&self, model: &ModelName, alias: &str) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        let key = (model.clone(), alias.to_owned());
        match self.fault {
            Some(RegistryFault::KeepsAliases) => {}
            Some(RegistryFault::RemovesAllAliases) => {
                state.aliases.retain(|(of, _), _| of != model);
            }
            Some(RegistryFault::MissesAliases) if !state.aliases.contains_key(&key) => {
                let doing = format!("removing the alias `{alias}` of {model}");
                return Err(PlatformError::invalid(doing, "there is none"));
            }
            _ => drop(state.aliases.remove(&key)),
        }
        Ok(())
    }
}
