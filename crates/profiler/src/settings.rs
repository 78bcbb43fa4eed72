//! Settings of the kind `capture_files`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_core::EndpointName;
use mloop_platform::{BuildError, PlatformDeps, Sources, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::engine::Engine;
use crate::source::CaptureFiles;

/// Captured traffic as files on a local disk, in SageMaker's layout:
/// `{path}/{endpoint}/{variant}/yyyy/mm/dd/hh/*.jsonl`, and labels as
/// `{labels}/yyyy/mm/dd/hh/*.jsonl`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureFilesSettings {
    /// Root folder of the capture files; relative paths start at the configuration's folder.
    pub path: PathBuf,
    /// The endpoint whose traffic is read.
    pub endpoint: EndpointName,
    /// The endpoint's variant.
    #[serde(default = "all_traffic")]
    pub variant: EndpointName,
    /// Root folder of the ground-truth files, by hour of the label's arrival; none: no labels.
    #[serde(default)]
    pub labels: Option<PathBuf>,
    /// Most files of one kind that a window may have; more are refused rather than half read.
    #[serde(default = "max_files")]
    pub max_files: NonZeroUsize,
    /// Longest line in bytes; a longer one is quarantined without being held in memory.
    /// The default, 32 MiB, fits a request and an answer of 6 MiB each in Base64.
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: NonZeroUsize,
    /// Memory of joins and sorts in MiB; sorts spill to disk beyond it.
    #[serde(default = "memory_mb")]
    pub memory_mb: NonZeroUsize,
    /// Parts that files are read and counted in at once; by default as many as there are
    /// processors. The result is the same for any number.
    #[serde(default)]
    pub partitions: Option<NonZeroUsize>,
}

fn all_traffic() -> EndpointName {
    EndpointName::new("AllTraffic").expect("letters are a valid name")
}

pub(crate) fn max_files() -> NonZeroUsize {
    const { NonZeroUsize::new(100_000).expect("not zero") }
}

pub(crate) fn max_line_bytes() -> NonZeroUsize {
    const { NonZeroUsize::new(32 << 20).expect("not zero") }
}

/// Memory of joins and sorts unless set, MiB.
pub(crate) const MEMORY_MB: NonZeroUsize = const { NonZeroUsize::new(1024).expect("not zero") };

pub(crate) fn memory_mb() -> NonZeroUsize {
    MEMORY_MB
}

/// As many parts as there are processors, unless set.
pub(crate) fn partitions(set: Option<NonZeroUsize>) -> usize {
    set.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

impl Spec<Sources, PlatformDeps> for CaptureFilesSettings {
    const KIND: &'static str = "capture_files";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Sources, BuildError> {
        if u32::try_from(self.max_files.get()).is_err() {
            return Err(BuildError::invalid("max_files", "must be at most 4294967295"));
        }
        is_there("path", &deps.resolve(&self.path))?;
        if let Some(labels) = &self.labels {
            is_there("labels", &deps.resolve(labels))?;
        }
        let source = Arc::new(CaptureFiles::new(&self, deps));
        Ok(Sources { profiles: Arc::clone(&source) as _, traffic: source })
    }
}

/// A mistyped folder would look like traffic that stopped, or like labels that never come.
pub(crate) fn is_there(key: &str, folder: &Path) -> Result<(), BuildError> {
    if folder.is_dir() {
        return Ok(());
    }
    let problem = format!(
        "there is no folder {}; correct the path, or create the folder if nothing was written yet",
        folder.display()
    );
    Err(BuildError::invalid(key, problem))
}

impl CaptureFilesSettings {
    pub(crate) fn engine(&self) -> Engine {
        Engine { partitions: partitions(self.partitions), memory_mb: self.memory_mb.get() }
    }
}
