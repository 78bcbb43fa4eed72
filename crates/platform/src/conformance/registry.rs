//! The rules of model registries.

use std::collections::BTreeMap;
use std::path::Path;

use mloop_core::version::{aliases, files, tags};
use mloop_core::{Manifest, ModelName, ModelVersion, Sha256Digest, VersionRef};

use super::samples;
use crate::{ModelRegistry, PlatformError, Registration};

/// Registers versions of the model `fashion`, which must not exist before. `work` is an empty
/// folder for the files of the suite.
///
/// # Panics
/// With the broken rule.
pub async fn check_registry(registry: &dyn ModelRegistry, work: &Path) {
    check_registry_of(registry, samples::subject("production").model, work).await;
}

/// The same with another model, for a registry that outlives a run of the tests.
///
/// # Panics
/// With the broken rule.
pub async fn check_registry_of(registry: &dyn ModelRegistry, model: ModelName, work: &Path) {
    let none = registry.versions(&model).await.expect("an unknown model is an answer");
    assert_eq!(none, [], "nothing is registered yet");

    let first = a_key_is_registered_once(registry, &model, work).await;
    let second = registration(work, &model, "second", true);
    let second = registry.register(&second).await.expect("a second version");
    assert!(second.version.number > first.version.number, "numbers ascend: {second:?}");
    assert!(second.is_staging_ready(), "the gate passed");
    let both = registry.versions(&model).await.expect("a list");
    assert_eq!(both, [second.clone(), first.clone()], "newest first, each once");

    files_come_back_as_they_went(registry, &first, work).await;
    damage_is_never_blessed(registry, &model, work).await;
    aliases_name_versions(registry, [&first, &second]).await;
    aliases_can_be_removed(registry, [&first, &second]).await;
}

async fn a_key_is_registered_once(
    registry: &dyn ModelRegistry,
    model: &ModelName,
    work: &Path,
) -> ModelVersion {
    let request = registration(work, model, "first", false);
    let race = futures::future::join(registry.register(&request), registry.register(&request));
    let (one, other) = race.await;
    let (one, other) = (one.expect("a version"), other.expect("the same, raced"));
    let again = registry.register(&request).await.expect("the same, repeated");
    assert_eq!((&other, &again), (&one, &one), "one key is one version");
    assert_eq!(one.version.digest, request.manifest.digest(), "its digest is the manifest's");
    assert!(!one.is_staging_ready(), "the gate did not pass");
    assert_eq!(one.tags.get("origin").map(String::as_str), Some("suite"), "given tags are kept");
    let key = one.tags.get(tags::KEY).cloned();
    assert_eq!(key, Some(request.key.to_string()), "the key is a tag");
    one
}

async fn files_come_back_as_they_went(
    registry: &dyn ModelRegistry,
    version: &ModelVersion,
    work: &Path,
) {
    let folder = work.join("fetched/deep");
    for _ in 0..2 {
        let manifest = registry.fetch(version, &folder).await.expect("the files");
        assert_eq!(manifest.digest(), version.version.digest, "the manifest is the version's");
        for entry in manifest.files() {
            let bytes = std::fs::read(folder.join(&entry.path)).expect("a fetched file");
            assert_eq!(Sha256Digest::of(&bytes), entry.sha256, "{} came back whole", entry.path);
        }
        let text = std::fs::read(folder.join(files::MANIFEST)).expect("the manifest comes along");
        assert_eq!(serde_json::from_slice::<Manifest>(&text).expect("a manifest"), manifest);
    }
}

async fn damage_is_never_blessed(registry: &dyn ModelRegistry, model: &ModelName, work: &Path) {
    let before = registry.versions(model).await.expect("a list");
    let damaged = registration(work, model, "damaged", true);
    std::fs::write(damaged.folder.join(files::WEIGHTS), "flipped").expect("the work folder");
    registry.register(&damaged).await.expect_err("files that are not the manifest's");
    let ready = |versions: &[ModelVersion]| -> Vec<VersionRef> {
        versions.iter().filter(|v| v.is_staging_ready()).map(|v| v.version).collect()
    };
    let after = registry.versions(model).await.expect("a list");
    assert_eq!(ready(&after), ready(&before), "damaged files are not marked ready");
}

async fn aliases_name_versions(registry: &dyn ModelRegistry, versions: [&ModelVersion; 2]) {
    let model = &versions[0].model;
    let champion = async || registry.alias(model, aliases::CHAMPION).await.expect("an answer");
    assert_eq!(champion().await, None, "an alias that was never set");
    for version in [versions[0], versions[1], versions[1]] {
        let set = registry.set_alias(model, aliases::CHAMPION, &version.version).await;
        set.expect("an alias of a known version");
        assert_eq!(champion().await, Some(version.version), "the alias follows");
    }
    let missing = VersionRef { number: 999, digest: Sha256Digest::of(b"missing") };
    let refusal = registry.set_alias(model, aliases::CHAMPION, &missing).await;
    let refusal = refusal.expect_err("an alias of a version that does not exist");
    assert!(matches!(refusal, PlatformError::Invalid { .. }), "{refusal:?}");
    assert_eq!(champion().await, Some(versions[1].version), "a refusal changes nothing");
}

async fn aliases_can_be_removed(registry: &dyn ModelRegistry, versions: [&ModelVersion; 2]) {
    let model = &versions[0].model;
    let named = async |alias| registry.alias(model, alias).await.expect("an answer");
    let (kept, removed) = (aliases::CHAMPION, aliases::CHALLENGER);
    for (alias, version) in [(kept, versions[1]), (removed, versions[0])] {
        let set = registry.set_alias(model, alias, &version.version).await;
        set.expect("an alias of a known version");
    }
    for _ in 0..2 {
        registry.remove_alias(model, removed).await.expect("removed, or gone already");
        assert_eq!(named(removed).await, None, "a removed alias names nothing");
        assert_eq!(named(kept).await, Some(versions[1].version), "another alias stays");
    }
    let never = registry.remove_alias(model, aliases::PREVIOUS_CHAMPION).await;
    never.expect("an alias that was never set is gone already");
    let unknown = ModelName::new("never-registered").expect("a name");
    let gone = registry.remove_alias(&unknown, removed).await;
    gone.expect("a model that was never registered has no alias");
    let set = registry.set_alias(model, removed, &versions[1].version).await;
    set.expect("a removed alias can be set again");
    assert_eq!(named(removed).await, Some(versions[1].version), "it names the version");
}

fn registration(work: &Path, model: &ModelName, name: &str, staging_ready: bool) -> Registration {
    let folder = work.join(name);
    let contents = [(files::WEIGHTS, name), (files::SCHEMA, "{}")];
    for (path, text) in contents {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the work folder");
        std::fs::write(path, text).expect("the work folder");
    }
    let manifest = Manifest::of_bytes(contents.map(|(path, text)| (path, text.as_bytes())));
    let manifest = manifest.expect("plain paths");
    let text = serde_json::to_string(&manifest).expect("json");
    std::fs::write(folder.join(files::MANIFEST), text).expect("the work folder");
    Registration {
        model: model.clone(),
        key: Sha256Digest::of(name.as_bytes()),
        folder,
        manifest,
        tags: BTreeMap::from([("origin".to_owned(), "suite".to_owned())]),
        staging_ready,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mloop_core::FixedClock;

    use super::*;
    use crate::fakes::{InMemoryModelRegistry, RegistryFault};

    async fn run(fault: Option<RegistryFault>) {
        let clock = Arc::new(FixedClock(samples::day_one()));
        let fake = match fault {
            None => InMemoryModelRegistry::new(clock),
            Some(fault) => InMemoryModelRegistry::with_fault(clock, fault),
        };
        let work = tempfile::tempdir().expect("a folder");
        check_registry(&fake, work.path()).await;
    }

    #[tokio::test]
    async fn the_fake_passes() {
        run(None).await;
    }

    #[tokio::test]
    #[should_panic(expected = "one key is one version")]
    async fn a_second_version_of_one_key_is_caught() {
        run(Some(RegistryFault::RegistersTwice)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "files that are not the manifest's")]
    async fn blessed_damage_is_caught() {
        run(Some(RegistryFault::BlessesDamage)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "came back whole")]
    async fn damaged_files_are_caught() {
        run(Some(RegistryFault::ServesDamage)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "an alias of a version that does not exist")]
    async fn an_alias_of_nothing_is_caught() {
        run(Some(RegistryFault::AliasesAnything)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a removed alias names nothing")]
    async fn an_alias_that_stays_is_caught() {
        run(Some(RegistryFault::KeepsAliases)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "another alias stays")]
    async fn too_many_removed_aliases_are_caught() {
        run(Some(RegistryFault::RemovesAllAliases)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "removed, or gone already")]
    async fn a_refused_repeat_of_a_removal_is_caught() {
        run(Some(RegistryFault::MissesAliases)).await;
    }
}
