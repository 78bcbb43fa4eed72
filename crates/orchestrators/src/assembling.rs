//! The version that a training leaves: its files in one folder, and what the registry is told of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use mloop_core::evaluation::GateVerdict;
use mloop_core::job::JobSpec;
use mloop_core::profile::ProfileKey;
use mloop_core::version::{FileEntry, files, tags};
use mloop_core::{Manifest, ProfileSchema, Sha256Digest, Subject, Window};
use mloop_platform::{Reference, ReferenceRequest, Registration};
use serde::Serialize;

use crate::OrchestratorError;
use crate::evaluation::{Evaluation, Rival};
use crate::reference::read_json;
use crate::training::{TrainingConfig, TrainingDeps};

/// The files that a trainer makes.
pub(crate) const MODEL_FILES: [&str; 4] =
    [files::MODEL, files::WEIGHTS, files::TRAINING_CONFIG, files::METRICS];

/// What a version is made of.
pub(crate) struct Parts<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) key: Sha256Digest,
    /// Folder of the trained model.
    pub(crate) model: PathBuf,
    pub(crate) champion: Option<Rival>,
    pub(crate) evaluation: Evaluation,
}

/// Puts versions together.
pub(crate) struct Assembly<'a> {
    pub(crate) deps: &'a TrainingDeps,
    pub(crate) config: &'a TrainingConfig,
}

impl Assembly<'_> {
    /// Puts all files of the version into one folder and describes them.
    pub(crate) async fn assemble(
        &self,
        folder: &Path,
        parts: Parts<'_>,
    ) -> Result<Registration, OrchestratorError> {
        let mut written = Folder::empty(folder)?;
        for name in MODEL_FILES {
            written.copy(name, &parts.model.join(name))?;
        }
        let model_digest = written.manifest()?.digest();
        let report = parts.evaluation.report;
        let verdict = report.verdict;
        written.write_json(files::EVALUATION, &report)?;
        let request = self.reference_request(
            parts.job,
            model_digest,
            parts.champion.as_ref(),
            report.classes,
            parts.evaluation.reference_rows,
        )?;
        let Reference { schema, profile } = self.deps.builder.reference(&request).await?;
        written.write_json(files::SCHEMA, &schema)?;
        written.write_json(files::REFERENCE, &profile)?;
        if let Some(rival) = &parts.champion {
            written.copy(files::ANCHOR, &anchor_of(&rival.folder))?;
        }
        let golden = self.deps.training.evaluator.golden(&parts.model, self.config.golden_cases);
        written.write(files::GOLDEN, &lines(&golden.await?)?)?;
        let manifest = written.manifest()?;
        written.write_json(files::MANIFEST, &manifest)?;
        Ok(Registration {
            model: parts.job.subject.model.clone(),
            key: parts.key,
            folder: written.root,
            manifest,
            tags: BTreeMap::from([
                (tags::JOB_ID.to_owned(), parts.job.job_id.to_string()),
                (tags::VERDICT.to_owned(), verdict.as_str().to_owned()),
            ]),
            staging_ready: verdict == GateVerdict::Blessed,
        })
    }

    fn reference_request(
        &self,
        job: &JobSpec,
        model_digest: Sha256Digest,
        champion: Option<&Rival>,
        classes: Vec<String>,
        rows: Vec<mloop_platform::ProfileRow>,
    ) -> Result<ReferenceRequest, OrchestratorError> {
        let inherit: Option<ProfileSchema> = match champion {
            Some(rival) if !self.config.rebin => {
                Some(read_json(&rival.folder.join(files::SCHEMA))?)
            }
            _ => None,
        };
        // The moment of the job rather than of the clock: equal jobs make equal files.
        let window =
            Window::new(job.as_of, job.as_of + TimeDelta::seconds(1)).map_err(|error| {
                OrchestratorError::invalid("dating the reference", error.to_string())
            })?;
        let subject: Subject = job.subject.clone();
        Ok(ReferenceRequest {
            key: ProfileKey { subject, version: model_digest },
            window,
            inherit,
            classes,
            latency_objective_micros: self.config.latency_objective_micros,
            rows,
        })
    }
}

/// The oldest reference that the version before carries: its anchor, or its own if it was first.
fn anchor_of(folder: &Path) -> PathBuf {
    let anchor = folder.join(files::ANCHOR);
    if anchor.is_file() { anchor } else { folder.join(files::REFERENCE) }
}

fn lines(items: &[impl Serialize]) -> Result<Vec<u8>, OrchestratorError> {
    let mut text = String::new();
    for item in items {
        let line =
            serde_json::to_string(item).map_err(OrchestratorError::damaged("a golden case"))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// A version's folder while it is filled.
pub(crate) struct Folder {
    root: PathBuf,
    files: Vec<FileEntry>,
}

impl Folder {
    /// One without files; those of an earlier try are removed.
    pub(crate) fn empty(root: &Path) -> Result<Self, OrchestratorError> {
        if root.exists() {
            std::fs::remove_dir_all(root).map_err(OrchestratorError::io("clearing", root))?;
        }
        Ok(Self { root: root.to_owned(), files: vec![] })
    }

    fn copy(&mut self, name: &str, from: &Path) -> Result<(), OrchestratorError> {
        let bytes = std::fs::read(from).map_err(OrchestratorError::io("reading", from))?;
        self.write(name, &bytes)
    }

    pub(crate) fn write_json(
        &mut self,
        name: &str,
        value: &impl Serialize,
    ) -> Result<(), OrchestratorError> {
        let text = mloop_core::canonical_json(value)
            .map_err(OrchestratorError::damaged(format!("the content of {name}")))?;
        self.write(name, text.as_bytes())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), OrchestratorError> {
        let path = self.root.join(name);
        let parent = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(parent).map_err(OrchestratorError::io("making", parent))?;
        std::fs::write(&path, bytes).map_err(OrchestratorError::io("writing", &path))?;
        let (size, sha256) = (bytes.len() as u64, Sha256Digest::of(bytes));
        self.files.push(FileEntry { path: name.to_owned(), size, sha256 });
        Ok(())
    }

    pub(crate) fn manifest(&self) -> Result<Manifest, OrchestratorError> {
        Manifest::new(self.files.clone()).map_err(|error| {
            OrchestratorError::invalid("listing the version's files", error.to_string())
        })
    }
}
