//! Settings of the kind `capture_files`.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use mloop_core::EndpointName;
use mloop_platform::{BuildError, PlatformDeps, Sources, Spec};
use mloop_s3::{Place, S3Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::engine::Engine;
use crate::files::Root;
use crate::source::CaptureFiles;

/// Captured traffic as files on a local disk or in S3, in SageMaker's layout:
/// `{path}/{endpoint}/{variant}/yyyy/mm/dd/hh/*.jsonl`, and labels as
/// `{labels}/yyyy/mm/dd/hh/*.jsonl`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureFilesSettings {
    /// Root of the capture files: a folder, relative ones starting at the configuration's, or a place in S3,
    /// `s3://bucket/prefix`, such as the destination of SageMaker's data capture.
    pub path: String,
    /// The endpoint whose traffic is read.
    pub endpoint: EndpointName,
    /// The endpoint's variant.
    #[serde(default = "all_traffic")]
    pub variant: EndpointName,
    /// Root of the ground-truth files, by hour of the label's arrival: a folder or a place in S3; none: no
    /// labels.
    #[serde(default)]
    pub labels: Option<String>,
    /// How S3 is spoken to, for places in it.
    #[serde(default)]
    pub s3: Option<S3Settings>,
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
    /// processors. The result is the same for any number. Many small objects in S3 are read faster in more
    /// parts, since each one is waited for.
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
        let labels = self.labels.as_deref().map(|labels| ("labels", labels));
        let (root, labels) = roots(("path", &self.path), labels, self.s3.as_ref(), deps)?;
        let source = Arc::new(CaptureFiles::new(&self, root, labels));
        Ok(Sources { profiles: Arc::clone(&source) as _, traffic: source })
    }
}

/// The places of traffic and labels, each with its key.
pub(crate) fn roots(
    path: (&str, &str),
    labels: Option<(&str, &str)>,
    s3: Option<&S3Settings>,
    deps: &PlatformDeps,
) -> Result<(Root, Option<Root>), BuildError> {
    let root = root(path, s3, deps)?;
    let labels = labels.map(|labels| self::root(labels, s3, deps)).transpose()?;
    let in_s3 = |root: &Root| matches!(root, Root::Bucket(_));
    if s3.is_some() && !in_s3(&root) && !labels.as_ref().is_some_and(in_s3) {
        let problem =
            "no place is one in S3, `s3://bucket/prefix`; make one of them so, or leave this out";
        return Err(BuildError::invalid("s3", problem));
    }
    Ok((root, labels))
}

fn root(
    (key, text): (&str, &str),
    s3: Option<&S3Settings>,
    deps: &PlatformDeps,
) -> Result<Root, BuildError> {
    if !text.starts_with(Place::SCHEME) {
        let folder = deps.resolve(Path::new(text));
        return is_there(key, &folder).map(|()| Root::Folder(folder));
    }
    let Some(s3) = s3 else {
        let problem = format!(
            "`{key}` is a place in S3: say at least in which region, as `s3: {{region: eu-central-1}}`"
        );
        return Err(BuildError::invalid("s3", problem));
    };
    s3.bucket(key, text, deps).map(Root::Bucket)
}

/// A mistyped folder would look like traffic that stopped, or like labels that never come.
fn is_there(key: &str, folder: &Path) -> Result<(), BuildError> {
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
