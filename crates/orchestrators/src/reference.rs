//! The reference that came with a version, fetched and checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mloop_core::version::{FileEntry, files};
use mloop_core::{Manifest, ModelVersion, Profile, ProfileSchema, Sha256Digest, Subject};
use mloop_platform::ModelRegistry;
use serde::de::DeserializeOwned;

use crate::OrchestratorError;

/// The frozen bins of a version and what its traffic should look like.
#[derive(Clone)]
pub(crate) struct LoadedReference {
    pub(crate) schema: ProfileSchema,
    pub(crate) profile: Profile,
}

/// Reads a version's reference, from the folder where an earlier run left it or anew from the
/// registry.
pub(crate) async fn load(
    registry: &dyn ModelRegistry,
    version: &ModelVersion,
    subject: &Subject,
    work: &Path,
) -> Result<LoadedReference, OrchestratorError> {
    let wanted = [files::SCHEMA, files::REFERENCE];
    let folder = fetched(registry, version, work, Some(&wanted)).await?;
    let schema: ProfileSchema = read_json(&folder.join(files::SCHEMA))?;
    let profile: Profile = read_json(&folder.join(files::REFERENCE))?;
    check(&schema, &profile, version, subject)?;
    Ok(LoadedReference { schema, profile })
}

/// The folder with a version's files; asks the registry only if `wanted` (none: all of them) are
/// not there intact.
pub(crate) async fn fetched(
    registry: &dyn ModelRegistry,
    version: &ModelVersion,
    work: &Path,
    wanted: Option<&[&str]>,
) -> Result<PathBuf, OrchestratorError> {
    let versions = work.join("versions");
    let folder = versions.join(version.version.digest.short(20));
    if !is_intact(&folder, &version.version.digest, wanted) {
        registry.fetch(version, &folder).await?;
        sweep(&versions, &folder);
    }
    Ok(folder)
}

/// Versions that were fetched longer ago, and are not the one at hand, no longer serve anywhere as a
/// rule; one that does is fetched again.
const UNUSED: Duration = Duration::from_secs(35 * 24 * 3600);

/// Removes versions that were fetched long ago; what cannot be removed hinders nobody.
fn sweep(versions: &Path, kept: &Path) {
    let entries = std::fs::read_dir(versions).into_iter().flatten().flatten();
    for folder in entries.map(|entry| entry.path()).filter(|path| path != kept) {
        let fetched = std::fs::metadata(&folder).and_then(|metadata| metadata.modified());
        let is_old = fetched.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNUSED));
        if is_old && std::fs::remove_dir_all(&folder).is_ok() {
            tracing::info!(folder = %folder.display(), "removed a version fetched long ago");
        }
    }
}

/// Whether files lie in a folder with the bytes that the version's manifest names.
fn is_intact(folder: &Path, digest: &Sha256Digest, wanted: Option<&[&str]>) -> bool {
    let Ok(manifest) = read_json::<Manifest>(&folder.join(files::MANIFEST)) else { return false };
    let named = |path: &str| wanted.is_none_or(|wanted| wanted.contains(&path));
    let mut checked = manifest.files().iter().filter(|entry| named(&entry.path));
    let count = manifest.files().iter().filter(|entry| named(&entry.path)).count();
    let complete = wanted.is_none_or(|wanted| wanted.len() == count);
    let intact = |entry: &FileEntry| {
        let bytes = std::fs::read(folder.join(&entry.path));
        bytes.is_ok_and(|bytes| entry.sha256 == Sha256Digest::of(&bytes))
    };
    manifest.digest() == *digest && complete && checked.all(intact)
}

/// Removes what is not the version's, such as the half of a file that a killed run was fetching: whoever
/// loads the version would take it for damaged, at every repeat. The caller must be alone in the folder:
/// by its lease, or since the folder is its job's.
pub(crate) fn remove_unlisted(folder: &Path) -> Result<(), OrchestratorError> {
    let manifest: Manifest = read_json(&folder.join(files::MANIFEST))?;
    let listed = manifest.files().iter().map(|entry| folder.join(&entry.path));
    let listed: BTreeSet<PathBuf> = listed.chain([folder.join(files::MANIFEST)]).collect();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |cause| OrchestratorError::io("looking through", &folder)(cause);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(path);
            } else if !listed.contains(&path) {
                tracing::warn!(path = %path.display(), "not a file of the version; removing it");
                std::fs::remove_file(&path).map_err(OrchestratorError::io("removing", &path))?;
            }
        }
    }
    Ok(())
}

/// Reads a JSON file of mloop's own making.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, OrchestratorError> {
    let bytes = std::fs::read(path).map_err(OrchestratorError::io("reading", path))?;
    serde_json::from_slice(&bytes)
        .map_err(OrchestratorError::damaged(format!("the file {}", path.display())))
}

fn check(
    schema: &ProfileSchema,
    profile: &Profile,
    version: &ModelVersion,
    subject: &Subject,
) -> Result<(), OrchestratorError> {
    let doing = format!("reading the reference of {} {}", subject.model, version.version);
    let described = &profile.key.subject.model;
    if schema.model != subject.model || *described != subject.model {
        let problem = format!(
            "it is a reference of the model `{}`, not of `{}`; name the right model, or register the version with its own reference",
            if schema.model == subject.model { described } else { &schema.model },
            subject.model
        );
        return Err(OrchestratorError::invalid(doing, problem));
    }
    if let Err(error) = schema.validate() {
        return Err(OrchestratorError::invalid(doing, error.to_string()));
    }
    if profile.schema != schema.digest() {
        let problem = "the profile was counted under another schema than the one beside it; build the reference again";
        return Err(OrchestratorError::invalid(doing, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fetched_long_ago_are_removed() {
        let work = tempfile::tempdir().expect("a folder");
        let path = |name: &str| work.path().join(name);
        for (name, days) in [("current", 100), ("old", 36), ("recent", 34)] {
            std::fs::create_dir(path(name)).expect("made");
            std::fs::write(path(name).join(files::WEIGHTS), "weights").expect("written");
            let folder = std::fs::File::open(path(name)).expect("there");
            let now = folder.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            folder.set_modified(now - Duration::from_secs(days * 24 * 3600)).expect("set");
        }
        sweep(work.path(), &path("current"));
        let left = ["current", "old", "recent"].map(|name| path(name).exists());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn what_a_killed_fetch_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("reference")).expect("made");
        let listed = [(files::WEIGHTS, "weights"), (files::SCHEMA, "{}")];
        let manifest = Manifest::of_bytes(listed.map(|(name, text)| (name, text.as_bytes())));
        let manifest = serde_json::to_string(&manifest.expect("plain paths")).expect("json");
        let left = ["model.safetensors.17.part", "reference/schema.json.17.part"];
        let all = listed.into_iter().chain(left.map(|name| (name, "half")));
        for (name, text) in all.chain([(files::MANIFEST, manifest.as_str())]) {
            std::fs::write(path(name), text).expect("written");
        }
        remove_unlisted(folder.path()).expect("cleared");
        for name in [files::WEIGHTS, files::SCHEMA, files::MANIFEST] {
            assert!(path(name).is_file(), "{name}");
        }
        assert_eq!(left.map(|name| path(name).exists()), [false, false]);
        remove_unlisted(folder.path()).expect("nothing is left");
    }
}
