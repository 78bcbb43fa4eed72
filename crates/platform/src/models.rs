//! Where versions of models are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use mloop_core::{Manifest, ModelName, ModelVersion, Sha256Digest, VersionRef};

use crate::PlatformError;

/// A version to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The model.
    pub model: ModelName,
    /// Digest of everything the version was made from; registering a key again finds the first.
    pub key: Sha256Digest,
    /// Folder with the version's files, manifest included.
    pub folder: PathBuf,
    /// What the files amount to.
    pub manifest: Manifest,
    /// Tags, without `staging_ready` and `mloop.key`, which the registry sets.
    pub tags: BTreeMap<String, String>,
    /// Whether the gate passed. `staging_ready=true` is set last, and only after the files were
    /// read back and found equal to the manifest.
    pub staging_ready: bool,
}

/// Keeps versions of models.
///
/// # Contract
/// - Versions are immutable and numbered from 1, ascending; a number is never used twice.
/// - [`register`](Self::register) is idempotent by its key: repeated, raced or resumed after a kill,
///   there is one version, complete.
/// - [`fetch`](Self::fetch) gives bytes whose digest is the version's, or an error.
/// - An alias names one version or none; setting it again moves it, and removing it touches no
///   other.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait ModelRegistry: Send + Sync {
    /// Stores a version, or finds it by its key.
    ///
    /// # Errors
    /// [`PlatformError`]; then no version is marked ready.
    async fn register(&self, registration: &Registration) -> Result<ModelVersion, PlatformError>;

    /// All versions of a model, newest first; none when the model is unknown.
    ///
    /// # Errors
    /// When the registry could not be asked.
    async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, PlatformError>;

    /// Puts a version's files, manifest included, into a folder (made if need be) after comparing
    /// their digests.
    ///
    /// # Errors
    /// [`PlatformError::Conflict`] when the bytes are not those that were registered.
    async fn fetch(&self, version: &ModelVersion, into: &Path) -> Result<Manifest, PlatformError>;

    /// The version that an alias names.
    ///
    /// # Errors
    /// When the registry could not be asked.
    async fn alias(
        &self,
        model: &ModelName,
        alias: &str,
    ) -> Result<Option<VersionRef>, PlatformError>;

    /// Makes an alias name a version.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] when there is no such version.
    async fn set_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: &VersionRef,
    ) -> Result<(), PlatformError>;

    /// Makes an alias name nothing; one that names nothing already is fine, whether the model or
    /// the alias was ever known.
    ///
    /// # Errors
    /// When the registry could not be written.
    async fn remove_alias(&self, model: &ModelName, alias: &str) -> Result<(), PlatformError>;
}
