//! Checkpoints: sets of files that are committed whole or not at all.
//!
//! A set is written into a folder of its own, flushed to disk with a manifest of its digests, and
//! only then renamed to its name. What a kill leaves half-written keeps its temporary name, and
//! what a failing disk leaves torn does not fit its manifest; both are passed over and removed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mloop_core::{Manifest, Sha256Digest, failpoint};
use serde::{Deserialize, Serialize};

use super::fit::EpochMetrics;
use crate::weights::{self, Weights};

/// Sets that are kept: the last, and the one before it should the last turn out torn.
const KEPT: usize = 2;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const WEIGHTS: &str = "weights.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMIZER: &str = "optimizer.bpk";
const PREFIX: &str = "step-";
const TEMPORARY: &str = "writing";

/// Where a run stands; with weights and optimizer, all that is needed to go on as if never
/// interrupted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Digest of all inputs of the run; another run's checkpoint is not taken up.
    pub(super) key: Sha256Digest,
    /// Steps done, of all epochs.
    pub(super) step: usize,
    /// Sum over the images of the epoch so far of the loss of their batch.
    pub(super) loss_sum: f64,
    /// Images of the epoch so far.
    pub(super) images: usize,
    /// Epochs done.
    pub(super) history: Vec<EpochMetrics>,
    /// Lowest validation loss that counted as an improvement, and its epoch.
    pub(super) best: Option<(f64, usize)>,
    /// Whether training ended early.
    pub(super) stopped_early: bool,
}

/// A checkpoint in memory.
pub(super) struct Checkpoint {
    pub(super) state: State,
    pub(super) weights: Weights,
    pub(super) best: Option<Weights>,
    pub(super) optimizer: Vec<u8>,
}

/// The folder of a run's checkpoints.
pub(super) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Opens the folder and reads the newest whole checkpoint of the run; whatever else lies in
    /// it, torn or of another run, is removed.
    pub(super) fn open(
        folder: &Path,
        key: &Sha256Digest,
    ) -> io::Result<(Self, Option<Checkpoint>)> {
        fs::create_dir_all(folder)?;
        let this = Self { folder: folder.to_owned() };
        drop(fs::remove_dir_all(folder.join(TEMPORARY)));
        let mut newest = None;
        for path in this.sets()?.into_iter().rev() {
            match read(&path) {
                Some(checkpoint) if checkpoint.state.key == *key => {
                    if newest.is_none() {
                        newest = Some(checkpoint);
                    }
                }
                Some(_) => {
                    tracing::info!(path = %path.display(), "a checkpoint of other inputs is removed");
                    fs::remove_dir_all(&path)?;
                }
                None => {
                    tracing::warn!(path = %path.display(), "a torn checkpoint is removed");
                    fs::remove_dir_all(&path)?;
                }
            }
        }
        Ok((this, newest))
    }

    /// Commits a checkpoint; when this returns it survives a power cut.
    pub(super) fn save(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        failpoint::reach("training.checkpoint.before");
        let target = self.folder.join(format!("{PREFIX}{:010}", checkpoint.state.step));
        if !target.exists() {
            let writing = self.folder.join(TEMPORARY);
            drop(fs::remove_dir_all(&writing));
            write_folder(&writing, &contents(checkpoint)?)?;
            fs::rename(&writing, &target)?;
            File::open(&self.folder)?.sync_all()?;
            let sets = self.sets()?;
            for old in &sets[..sets.len().saturating_sub(KEPT)] {
                fs::remove_dir_all(old)?;
            }
        }
        failpoint::reach("training.checkpoint.after");
        Ok(())
    }

    /// Folders of committed checkpoints, oldest first.
    fn sets(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.starts_with(PREFIX) {
                found.push(path);
            }
        }
        // Steps are written with leading zeros, so that names sort as numbers do.
        found.sort();
        Ok(found)
    }
}

fn contents(checkpoint: &Checkpoint) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::from([
        (STATE.to_owned(), serde_json::to_vec_pretty(&checkpoint.state)?),
        (WEIGHTS.to_owned(), weights::encode(&checkpoint.weights)),
        (OPTIMIZER.to_owned(), checkpoint.optimizer.clone()),
    ]);
    if let Some(best) = &checkpoint.best {
        files.insert(BEST.to_owned(), weights::encode(best));
    }
    let manifest = manifest(&files).ok_or_else(|| io::Error::other("a file name is unusable"))?;
    files.insert(MANIFEST.to_owned(), serde_json::to_vec_pretty(&manifest)?);
    Ok(files)
}

fn manifest(files: &BTreeMap<String, Vec<u8>>) -> Option<Manifest> {
    let others = files.iter().filter(|(name, _)| *name != MANIFEST);
    Manifest::of_bytes(others.map(|(name, bytes)| (name.as_str(), bytes.as_slice()))).ok()
}

/// Writes files into a new folder and flushes them and the folder to disk.
pub(crate) fn write_folder(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, bytes) in files {
        let mut file = File::create(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    File::open(folder)?.sync_all()
}

/// A checkpoint that fits its manifest, else none.
fn read(folder: &Path) -> Option<Checkpoint> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        files.insert(path.file_name()?.to_str()?.to_owned(), fs::read(&path).ok()?);
    }
    let listed: Manifest = serde_json::from_slice(files.get(MANIFEST)?).ok()?;
    if manifest(&files)? != listed {
        return None;
    }
    let best = match files.get(BEST) {
        Some(bytes) => Some(weights::decode(bytes).ok()?),
        None => None,
    };
    Some(Checkpoint {
        state: serde_json::from_slice(files.get(STATE)?).ok()?,
        weights: weights::decode(files.get(WEIGHTS)?).ok()?,
        best,
        optimizer: files.remove(OPTIMIZER)?,
    })
}
