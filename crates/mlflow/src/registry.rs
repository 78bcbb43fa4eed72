//! The registry: its contract on top of the server's calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::evaluation::EvaluationReport;
use mloop_core::version::{files, tags};
use mloop_core::{Clock, Manifest, ModelName, ModelVersion, Sha256Digest, VersionRef};
use mloop_http::Service;
use mloop_platform::{ModelRegistry, PlatformError, Registration};
use serde_json::{Value, json};

use crate::api::{Operation, words};
use crate::artifacts::MLMODEL;
use crate::disk::{self, failed};
use crate::history::History;
use crate::logged::Logged;
use crate::mlmodel::mlmodel;
use crate::tags as own;

/// Versions on an MLflow tracking server.
#[derive(Clone)]
pub struct MlflowRegistry {
    service: Service,
    experiment: Option<String>,
    max_version_bytes: u64,
    clock: Arc<dyn Clock>,
}

impl MlflowRegistry {
    /// A registry on this server, whose runs go to experiments named like their models.
    #[must_use]
    pub fn new(service: Service, clock: Arc<dyn Clock>) -> Self {
        let service = service.saying(words);
        Self { service, experiment: None, max_version_bytes: u64::MAX, clock }
    }

    /// The same, fetching no version that is larger, all its files together.
    #[must_use]
    pub fn limited_to(self, max_version_bytes: u64) -> Self {
        Self { max_version_bytes, ..self }
    }

    /// The same, with all runs in this experiment.
    #[must_use]
    pub fn logging_to(self, experiment: Option<String>) -> Self {
        Self { experiment, ..self }
    }

    fn operation<'a>(&'a self, model: &'a ModelName, what: &str) -> Operation<'a> {
        let doing = format!("{what} {model} in {}", self.service.place());
        Operation { service: &self.service, model, doing }
    }

    /// Makes a version, step by step; a repeat after a kill goes on with what is there.
    async fn make(
        &self,
        operation: &Operation<'_>,
        registration: &Registration,
        inputs: &Inputs,
    ) -> Result<ModelVersion, PlatformError> {
        let Registration { folder, manifest, .. } = registration;
        check_names(operation, manifest)?;
        disk::compare(&operation.doing, folder, manifest).await?;
        let name = self.experiment.as_deref().unwrap_or(operation.model.as_str());
        let experiment = operation.experiment(name).await?;
        let run = operation.run(&experiment, inputs, self.clock.now()).await?;
        operation.log(&run, &history(registration).await).await?;
        let logged = operation.logged(&experiment, inputs, &run.id).await?;
        upload(operation, registration, &logged).await?;
        operation.finish_logged(&logged).await?;
        operation.link(&run, &logged.id).await?;
        operation.end_run(&run.id, "FINISHED", self.clock.now()).await?;
        let otherwise = match operation.create_version(inputs, &logged).await {
            Err(error) if !error.is_transient() => return Err(error),
            // The answer was lost: the version may be there all the same.
            Err(error) => error,
            Ok(()) => operation.conflict("the version that was made vanished"),
        };
        let version = operation.winner(&inputs.key).await?.ok_or(otherwise)?;
        if version.source != logged.source() {
            operation
                .mark_logged(&logged.id, &format!("version {}", version.version.number))
                .await?;
        }
        Ok(version)
    }
}

#[async_trait]
impl ModelRegistry for MlflowRegistry {
    async fn register(&self, registration: &Registration) -> Result<ModelVersion, PlatformError> {
        let operation = self.operation(&registration.model, "registering a version of");
        let inputs = Inputs::of(registration);
        let known = operation.winner(&inputs.key).await?;
        let mut version = match known {
            Some(version) => version,
            None => self.make(&operation, registration, &inputs).await?,
        };
        let tag = |key: &str| version.tags.get(key).map(String::as_str);
        // One that says otherwise was set by a person, who wants it so.
        if tag(own::GATE_PASSED) == Some("true") && tag(tags::STAGING_READY).is_none() {
            let place = operation.place_of(&version.version).await?;
            operation.verify(&place, &version.version).await?;
            operation.tag_version(version.version.number, tags::STAGING_READY, "true").await?;
            version.tags.insert(tags::STAGING_READY.to_owned(), "true".to_owned());
        }
        Ok(version)
    }

    async fn versions(&self, model: &ModelName) -> Result<Vec<ModelVersion>, PlatformError> {
        let operation = self.operation(model, "listing the versions of");
        Ok(operation.versions(None).await?.versions)
    }

    async fn fetch(&self, version: &ModelVersion, into: &Path) -> Result<Manifest, PlatformError> {
        let what = format!("fetching {} of", version.version);
        let operation = self.operation(&version.model, &what);
        let place = operation.place_of(&version.version).await?;
        let manifest = operation.manifest(&place, &version.version).await?;
        let sizes = manifest.files().iter().map(|entry| entry.size);
        let bytes = sizes.fold(0_u64, u64::saturating_add);
        if bytes > self.max_version_bytes {
            let problem = format!(
                "its files have {bytes} bytes, more than the {} of `max_version_bytes`",
                self.max_version_bytes
            );
            return Err(PlatformError::invalid(&operation.doing, problem));
        }
        for entry in manifest.files() {
            let path = into.join(&entry.path);
            let part = beside(&path);
            make_parent(&operation.doing, &path).await?;
            let taken = operation.take(&place, entry, Some(&part)).await;
            if taken.is_err() {
                // It may not be there at all.
                drop(tokio::fs::remove_file(&part).await);
            }
            taken?;
            let moved = tokio::fs::rename(&part, &path).await;
            moved.map_err(failed(&operation.doing, &path))?;
        }
        let path = into.join(files::MANIFEST);
        make_parent(&operation.doing, &path).await?;
        let written = tokio::fs::write(&path, json!(manifest).to_string()).await;
        written.map_err(failed(&operation.doing, &path))?;
        Ok(manifest)
    }

    async fn alias(
        &self,
        model: &ModelName,
        alias: &str,
    ) -> Result<Option<VersionRef>, PlatformError> {
        self.operation(model, &format!("reading the alias `{alias}` of")).aliased(alias).await
    }

    async fn set_alias(
        &self,
        model: &ModelName,
        alias: &str,
        version: &VersionRef,
    ) -> Result<(), PlatformError> {
        let operation = self.operation(model, &format!("setting the alias `{alias}` of"));
        operation.set_alias(alias, version).await
    }

    async fn remove_alias(&self, model: &ModelName, alias: &str) -> Result<(), PlatformError> {
        self.operation(model, &format!("removing the alias `{alias}` of")).remove_alias(alias).await
    }
}

impl Operation<'_> {
    /// The version of a key, if there is one; those that lost a race against it are marked.
    async fn winner(&self, key: &Sha256Digest) -> Result<Option<ModelVersion>, PlatformError> {
        let sorted = self.versions(Some(key)).await?;
        for (number, winner) in sorted.unmarked {
            self.tag_version(number, own::DUPLICATE_OF, &winner.to_string()).await?;
        }
        Ok(sorted.versions.into_iter().next())
    }
}

/// What a registration is found again by, and what is written down about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inputs {
    pub(crate) key: Sha256Digest,
    pub(crate) digest: Sha256Digest,
    pub(crate) gate_passed: bool,
    /// Given tags, without those that the registry sets itself.
    given: BTreeMap<String, String>,
}

impl Inputs {
    fn of(registration: &Registration) -> Self {
        let reserved =
            [tags::STAGING_READY, tags::KEY, own::DIGEST, own::GATE_PASSED, own::DUPLICATE_OF];
        let mut given = registration.tags.clone();
        given.retain(|key, _| !reserved.contains(&key.as_str()));
        let digest = registration.manifest.digest();
        Self { key: registration.key, digest, gate_passed: registration.staging_ready, given }
    }

    /// All tags of a creating call; those of a version say whether the gate passed.
    pub(crate) fn tags(&self, gate_passed: Option<bool>) -> Vec<Value> {
        let mut all = self.given.clone();
        all.insert(tags::KEY.to_owned(), self.key.to_string());
        all.insert(own::DIGEST.to_owned(), self.digest.to_string());
        if let Some(passed) = gate_passed {
            all.insert(own::GATE_PASSED.to_owned(), passed.to_string());
        }
        all.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    }

    /// Finds runs and logged models of the same key and the same bytes: a place is only ever written
    /// with the files of one manifest.
    pub(crate) fn filter(&self) -> String {
        let (key, digest) = (self.key, self.digest);
        format!("tags.`{}` = '{key}' and tags.`{}` = '{digest}'", tags::KEY, own::DIGEST)
    }
}

/// Names that a version's files cannot have on the server.
fn check_names(operation: &Operation<'_>, manifest: &Manifest) -> Result<(), PlatformError> {
    let taken = |path: &str| path == MLMODEL || path == files::MANIFEST;
    match manifest.files().iter().find(|entry| taken(&entry.path)) {
        None => Ok(()),
        Some(entry) => {
            let problem = format!("`{}` may not be among the version's files", entry.path);
            Err(PlatformError::invalid(&operation.doing, problem))
        }
    }
}

async fn history(registration: &Registration) -> History {
    let Registration { folder, manifest, .. } = registration;
    let config: Option<Value> = disk::json(folder, manifest, files::TRAINING_CONFIG).await;
    let metrics: Option<Value> = disk::json(folder, manifest, files::METRICS).await;
    let evaluation: Option<EvaluationReport> =
        disk::json(folder, manifest, files::EVALUATION).await;
    History::of(config.as_ref(), metrics.as_ref(), evaluation)
}

/// Brings all files into the place of a logged model; those that a killed registration left whole
/// stay.
async fn upload(
    operation: &Operation<'_>,
    registration: &Registration,
    logged: &Logged,
) -> Result<(), PlatformError> {
    let Registration { folder, manifest, .. } = registration;
    let place = &logged.place;
    for entry in manifest.files() {
        if logged.is_new || !operation.holds(place, entry, None).await? {
            operation.put_file(place, &entry.path, &folder.join(&entry.path)).await?;
        }
    }
    let model: Option<Value> = disk::json(folder, manifest, files::MODEL).await;
    let described = mlmodel(logged, manifest, model.as_ref());
    for (name, bytes) in
        [(files::MANIFEST, json!(manifest).to_string().into_bytes()), (MLMODEL, described)]
    {
        if logged.is_new || operation.read(place, name).await?.as_ref() != Some(&bytes) {
            operation.put_bytes(place, name, bytes).await?;
        }
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

async fn make_parent(doing: &str, path: &Path) -> Result<(), PlatformError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    tokio::fs::create_dir_all(parent).await.map_err(failed(doing, parent))
}
