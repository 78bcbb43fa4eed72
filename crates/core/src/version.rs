//! A model version: its files, the digest of them, and what is known about it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::ids::ModelName;

/// Names of the files that a version is made of, relative to its folder.
pub mod files {
    /// Architecture, input shape, classes and normalisation.
    pub const MODEL: &str = "model.json";
    /// The weights, safetensors.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The training configuration that made it, as resolved.
    pub const TRAINING_CONFIG: &str = "training_config.json";
    /// Numbers of the training run, epoch by epoch.
    pub const METRICS: &str = "metrics.json";
    /// The [`EvaluationReport`](crate::evaluation::EvaluationReport).
    pub const EVALUATION: &str = "evaluation.json";
    /// The [`ProfileSchema`](crate::ProfileSchema).
    pub const SCHEMA: &str = "reference/schema.json";
    /// The reference [`Profile`](crate::Profile).
    pub const REFERENCE: &str = "reference/profile.json";
    /// The first version's reference, kept as an anchor; absent from the first version.
    pub const ANCHOR: &str = "reference/anchor.json";
    /// One [`GoldenCase`](crate::evaluation::GoldenCase) a line.
    pub const GOLDEN: &str = "golden.jsonl";
    /// The [`Manifest`](super::Manifest) of all the others; not part of itself.
    pub const MANIFEST: &str = "manifest.json";
}

/// Tags of a version.
pub mod tags {
    /// `true` once the gate passed and the files were read back and compared.
    pub const STAGING_READY: &str = "staging_ready";
    /// The job that made the version.
    pub const JOB_ID: &str = "mloop.job_id";
    /// The gate's verdict: `blessed`, `rejected` or `inconclusive`.
    pub const VERDICT: &str = "mloop.verdict";
    /// `true` for a version that holds the reference of a model that was not trained here, and nothing
    /// else.
    pub const REFERENCE_ONLY: &str = "mloop.reference_only";
    /// Digest of the inputs of the training; what makes registration idempotent.
    pub const KEY: &str = "mloop.key";
}

/// Aliases of a model.
pub mod aliases {
    /// The version in production, moved only after a verified switch.
    pub const CHAMPION: &str = "champion";
    /// The version before it.
    pub const PREVIOUS_CHAMPION: &str = "previous_champion";
    /// The newest version that waits for deployment.
    pub const CHALLENGER: &str = "challenger";
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative path with `/`, without `.` or `..`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Sha256Digest,
}

/// The canonical list of the files of a version, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Manifest {
    files: Vec<FileEntry>,
}

/// A list of files that is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot stand in a manifest: {problem}")]
pub struct InvalidManifest {
    path: String,
    problem: &'static str,
}

impl Manifest {
    /// Sorts the entries and checks their paths.
    ///
    /// # Errors
    /// [`InvalidManifest`] for a repeated path and for one that could leave the version's folder.
    pub fn new(mut files: Vec<FileEntry>) -> Result<Self, InvalidManifest> {
        files.sort();
        let fail =
            |entry: &FileEntry, problem| Err(InvalidManifest { path: entry.path.clone(), problem });
        for (index, entry) in files.iter().enumerate() {
            let parts_are_plain = entry.path.split('/').all(|part| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && !part.contains(['\\', '\0', '\n'])
            });
            if !parts_are_plain {
                return fail(entry, "it is not a plain relative path");
            }
            if index > 0 && files[index - 1].path == entry.path {
                return fail(entry, "it stands twice");
            }
        }
        Ok(Self { files })
    }

    /// The manifest of files given by their bytes.
    ///
    /// # Errors
    /// See [`Manifest::new`].
    pub fn of_bytes<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, InvalidManifest> {
        let entry = |(path, bytes): (&str, &[u8])| FileEntry {
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: Sha256Digest::of(bytes),
        };
        Self::new(files.into_iter().map(entry).collect())
    }

    /// The files, sorted by path.
    #[must_use]
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The digest of the version: SHA-256 over one line `path size sha256` for each file, in the
    /// order of their paths (by bytes).
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let line = |file: &FileEntry| format!("{}\t{}\t{}\n", file.path, file.size, file.sha256);
        let lines: String = self.files.iter().map(line).collect();
        Sha256Digest::of(format!("mloop.manifest/1\n{lines}").as_bytes())
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            files: Vec<FileEntry>,
        }
        Self::new(Raw::deserialize(deserializer)?.files).map_err(serde::de::Error::custom)
    }
}

/// A version by number and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VersionRef {
    /// The registry's number, from 1, ascending, never used twice.
    pub number: u64,
    /// [`Manifest::digest`] of its files.
    pub digest: Sha256Digest,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} ({})", self.number, self.digest.short(12))
    }
}

/// A registered version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model.
    pub model: ModelName,
    /// Number and digest.
    #[serde(flatten)]
    pub version: VersionRef,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Where the registry keeps its files: a folder or an address.
    pub source: String,
    /// [`tags`] and whatever else was given.
    pub tags: BTreeMap<String, String>,
}

impl ModelVersion {
    /// Whether the gate passed and the files were verified.
    #[must_use]
    pub fn is_staging_ready(&self) -> bool {
        self.tags.get(tags::STAGING_READY).is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_path_and_bytes_but_not_on_order() {
        let digest = |files: [(&str, &[u8]); 2]| Manifest::of_bytes(files).expect("ok").digest();
        let one = digest([("a", b"1"), ("b/c", b"2")]);
        assert_eq!(one, digest([("b/c", b"2"), ("a", b"1")]));
        assert_ne!(one, digest([("a", b"1"), ("b/c", b"3")]));
        assert_ne!(one, digest([("a", b"1"), ("b/d", b"2")]));
    }

    #[test]
    fn paths_that_could_escape_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "a\nb"] {
            assert!(Manifest::of_bytes([(path, b"".as_slice())]).is_err(), "{path:?}");
        }
        let twice = Manifest::of_bytes([("a", b"1".as_slice()), ("a", b"2")]);
        assert!(twice.expect_err("twice").to_string().contains("stands twice"));
    }
}
