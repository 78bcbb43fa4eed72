//! References of models that were not trained here: made of traffic, kept as versions of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::report::MONITORING_FORMAT;
use mloop_core::version::{files, tags};
use mloop_core::{
    Clock, ModelVersion, ProfileSchema, RunId, Sha256Digest, Subject, VersionRef, Window,
};
use mloop_platform::{ModelRegistry, ProfileSource, Reference, Registration, SourceReference};
use serde::Serialize;

use crate::OrchestratorError;
use crate::assembling::Folder;
use crate::reference;

/// What making references speaks to.
pub struct ReferenceDeps {
    /// Has the rows.
    pub source: Arc<dyn ProfileSource>,
    /// Keeps the reference.
    pub registry: Arc<dyn ModelRegistry>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Which reference to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReference {
    /// Rows of these times; none: all rows.
    pub window: Option<Window>,
    /// The moment that counts as now; none: the clock's.
    pub as_of: Option<DateTime<Utc>>,
    /// New bins, groups and categories, though there is a reference whose could be kept. Profiles of
    /// windows compare only under one schema.
    pub rebin: bool,
}

/// A reference that was made: the last line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReferenceBuilt {
    /// [`MONITORING_FORMAT`].
    pub schema: String,
    /// The run.
    pub run_id: RunId,
    /// `reference_built`.
    pub outcome: &'static str,
    /// The version that holds it.
    pub version: VersionRef,
    /// Rows that it was counted of.
    pub rows: u64,
    /// Those of them with a label.
    pub labelled_rows: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Names of the columns that are counted.
    pub columns: Vec<String>,
    /// Groups and intersections of them.
    pub groups: Vec<String>,
}

/// Makes references of traffic, for models that came from elsewhere.
pub struct ReferenceOrchestrator {
    deps: ReferenceDeps,
    subject: Subject,
    work: PathBuf,
}

impl ReferenceOrchestrator {
    /// Puts the parts together; calls nobody. `work` is the folder in which files are put together.
    #[must_use]
    pub fn new(deps: ReferenceDeps, subject: Subject, work: PathBuf) -> Self {
        Self { deps, subject, work }
    }

    /// Makes a reference and registers it as a version that holds nothing else, and is never a
    /// candidate for deployment. Repeated over equal rows, it finds the first.
    ///
    /// # Errors
    /// When the rows are not fit for one, or traffic or registry could not be read or written.
    pub async fn run(&self, request: &BuildReference) -> Result<ReferenceBuilt, OrchestratorError> {
        let as_of = request.as_of.unwrap_or_else(|| self.deps.clock.now());
        let registry = self.deps.registry.as_ref();
        let versions = registry.versions(&self.subject.model).await?;
        let inherit = match newest(&versions) {
            Some(version) if !request.rebin => Some(self.schema_of(version).await?),
            _ => None,
        };
        let filed = match request.window {
            Some(window) => window,
            None => Window::new(as_of, as_of + TimeDelta::seconds(1)).map_err(|error| {
                OrchestratorError::invalid("dating the reference", error.to_string())
            })?,
        };
        let asked = SourceReference {
            subject: self.subject.clone(),
            window: request.window,
            filed,
            inherit,
            as_of,
        };
        let made = self.deps.source.reference(&asked).await?;
        let version = registry.register(&self.registration(&made)?).await?;
        let Reference { schema, profile } = &made;
        Ok(ReferenceBuilt {
            schema: MONITORING_FORMAT.to_owned(),
            run_id: RunId::derive(&["reference", &version.version.digest.to_string()]),
            outcome: "reference_built",
            version: version.version,
            rows: profile.rows,
            labelled_rows: profile.overall.labelled_rows(),
            quarantined: profile.quarantined,
            columns: schema.columns.iter().map(|column| column.name.clone()).collect(),
            groups: schema.groups.iter().map(mloop_core::schema::GroupSchema::name).collect(),
        })
    }

    async fn schema_of(&self, version: &ModelVersion) -> Result<ProfileSchema, OrchestratorError> {
        let registry = self.deps.registry.as_ref();
        let loaded = reference::load(registry, version, &self.subject, &self.work).await?;
        Ok(loaded.schema)
    }

    fn registration(&self, made: &Reference) -> Result<Registration, OrchestratorError> {
        let root = self.work.join("reference").join(made.profile.digest().short(20));
        let mut folder = Folder::empty(&root)?;
        folder.write_json(files::SCHEMA, &made.schema)?;
        folder.write_json(files::REFERENCE, &made.profile)?;
        let manifest = folder.manifest()?;
        folder.write_json(files::MANIFEST, &manifest)?;
        Ok(Registration {
            model: self.subject.model.clone(),
            key: key(made)?,
            folder: root,
            manifest,
            tags: BTreeMap::from([(tags::REFERENCE_ONLY.to_owned(), "true".to_owned())]),
            staging_ready: false,
        })
    }
}

/// What makes registration idempotent: the counts, whenever they were filed.
fn key(made: &Reference) -> Result<Sha256Digest, OrchestratorError> {
    let mut profile = made.profile.clone();
    let epoch = DateTime::<Utc>::UNIX_EPOCH;
    profile.window = Window::new(epoch, epoch + TimeDelta::seconds(1))
        .map_err(|error| OrchestratorError::invalid("naming the reference", error.to_string()))?;
    Ok(profile.digest())
}

/// The newest version that is a reference alone.
pub(crate) fn newest(versions: &[ModelVersion]) -> Option<&ModelVersion> {
    let is_one = |version: &&ModelVersion| {
        version.tags.get(tags::REFERENCE_ONLY).is_some_and(|value| value == "true")
    };
    versions.iter().find(is_one)
}
