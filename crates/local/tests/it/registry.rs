//! Versions in a folder: one for a key whatever happens, and never a damaged one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mloop_core::version::{aliases, files, tags};
use mloop_core::{Manifest, ModelName, ModelVersion, Sha256Digest};
use mloop_local::{DirectoryRegistry, REGISTRY_POINTS};
use mloop_platform::conformance::{check_registry, samples};
use mloop_platform::{ModelRegistry as _, PlatformError, Registration};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{deps, eventually, example};

/// A folder with a registry and with files to be registered.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn registry(&self) -> DirectoryRegistry {
        DirectoryRegistry::new(self.path("registry"), deps(self.0.path()).clock)
    }

    /// Files of a version whose content depends on its name.
    fn candidate(&self, name: &str) -> Registration {
        let contents = [(files::WEIGHTS, name), (files::SCHEMA, "{}")];
        let folder = self.path(name);
        for (path, text) in contents {
            write(&folder.join(path), text);
        }
        let manifest = Manifest::of_bytes(contents.map(|(path, text)| (path, text.as_bytes())));
        let manifest = manifest.expect("plain paths");
        write(&folder.join(files::MANIFEST), &serde_json::to_string(&manifest).expect("JSON"));
        let (key, tags) = (manifest.digest(), BTreeMap::new());
        Registration { model: model(), key, folder, manifest, tags, staging_ready: true }
    }

    /// A process that registers it.
    fn registering(&self, registration: &Registration) -> Command {
        let mut command = Command::new(example("register_version"));
        command.arg(self.path("registry")).arg(model().as_str()).arg(&registration.folder);
        command.stdout(Stdio::piped());
        command
    }

    fn shelf(&self, name: &str) -> PathBuf {
        self.path("registry").join(model().as_str()).join(name)
    }

    async fn versions(&self) -> Vec<ModelVersion> {
        self.registry().versions(&model()).await.expect("a list")
    }

    /// Kills a registration at a point.
    fn kill_at(&self, point: &str, registration: &Registration) {
        let mark = self.path("mark");
        let mut command = self.registering(registration);
        command.env("MLOOP_FAILPOINT", point).env("MLOOP_FAILPOINT_MARK", &mark);
        let mut child = command.spawn().expect("started");
        eventually(point, || mark.exists());
        child.kill().expect("killed");
        assert!(child.wait().expect("ended").code().is_none(), "{point}: the kill came too late");
        fs::remove_file(mark).expect("removed");
    }
}

fn model() -> ModelName {
    samples::subject("production").model
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_registry_keeps_its_contract() {
    let place = Place::new();
    check_registry(&place.registry(), &place.path("work")).await;
}

#[tokio::test]
async fn what_a_kill_leaves_is_completed_by_the_repeat() {
    for point in REGISTRY_POINTS {
        let place = Place::new();
        let wanted = place.candidate("weights");
        place.kill_at(point, &wanted);
        let left = place.versions().await;
        let told = ["registry.complete", "registry.verified", "registry.ready"].contains(&point);
        assert_eq!(left.len(), usize::from(told), "{point}");
        let ready = left.iter().any(ModelVersion::is_staging_ready);
        assert_eq!(ready, point == "registry.ready", "{point}");
        for version in &left {
            place.registry().fetch(version, &place.path("early")).await.expect(point);
        }

        let version = place.registry().register(&wanted).await.expect(point);
        assert_eq!(version.version.number, 1, "{point}");
        assert!(version.is_staging_ready(), "{point}");
        assert_eq!(place.versions().await, std::slice::from_ref(&version), "{point}");
        let fetched = place.registry().fetch(&version, &place.path("fetched")).await.expect(point);
        assert_eq!(fetched, wanted.manifest, "{point}");
        assert_eq!(names(&place.shelf("versions")), ["1"], "{point}");
        assert_eq!(names(&place.shelf("")), ["lock", "tags.json", "versions"], "{point}");
    }
}

#[tokio::test]
async fn another_key_after_a_kill_gets_a_number_of_its_own() {
    for point in REGISTRY_POINTS {
        let place = Place::new();
        let (killed, next) = (place.candidate("killed"), place.candidate("next"));
        place.kill_at(point, &killed);
        let next = place.registry().register(&next).await.expect(point);
        let killed = place.registry().register(&killed).await.expect(point);
        assert_ne!(next.version.number, killed.version.number, "{point}");
        for version in [&next, &killed] {
            let into = place.path("fetched").join(version.version.number.to_string());
            let fetched = place.registry().fetch(version, &into).await.expect(point);
            assert_eq!(fetched.digest(), version.version.digest, "{point}");
        }
        assert_eq!(place.versions().await.len(), 2, "{point}");
    }
}

#[tokio::test]
async fn eight_processes_make_one_version() {
    let place = Place::new();
    let wanted = place.candidate("weights");
    let started: Vec<_> =
        (0..8).map(|_| place.registering(&wanted).spawn().expect("started")).collect();
    for child in started {
        let output = child.wait_with_output().expect("ended");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
    }
    assert_eq!(place.versions().await.len(), 1);
    assert_eq!(names(&place.shelf("versions")), ["1"]);
}

#[tokio::test]
async fn a_flipped_byte_is_never_handed_out() {
    let place = Place::new();
    let version = place.registry().register(&place.candidate("weights")).await.expect("stored");
    let damaged = Path::new(&version.source).join(files::WEIGHTS);
    let mut bytes = fs::read(&damaged).expect("read");
    bytes[0] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    let into = place.path("fetched");
    let error = place.registry().fetch(&version, &into).await.expect_err("damaged");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains(&damaged.display().to_string()), "{error}");
    assert!(!into.join(files::WEIGHTS).exists() && !into.join(files::MANIFEST).exists());
}

#[tokio::test]
async fn a_version_damaged_before_its_blessing_is_never_ready() {
    let place = Place::new();
    let wanted = place.candidate("weights");
    place.kill_at("registry.complete", &wanted);
    fs::write(place.shelf("versions/1").join(files::WEIGHTS), "weighty").expect("written");
    let error = place.registry().register(&wanted).await.expect_err("damaged");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(!place.versions().await[0].is_staging_ready());
}

#[tokio::test]
async fn manifests_that_lead_out_of_the_folder_are_refused() {
    for path in ["../../../../escaped", "/tmp/escaped", "reference/../../escaped", ""] {
        let place = Place::new();
        let version = place.registry().register(&place.candidate("weights")).await.expect("stored");
        let hostile = json!({"files": [{
            "path": path, "size": 7, "sha256": Sha256Digest::of(b"weights"),
        }]});
        let manifest = Path::new(&version.source).join(files::MANIFEST);
        fs::write(&manifest, hostile.to_string()).expect("written");
        let into = place.path("a/b/c/d/fetched");
        let error = place.registry().fetch(&version, &into).await.expect_err("hostile");
        assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains(&manifest.display().to_string()), "{error}");
        assert!(!into.exists() && !place.path("a").exists(), "nothing was written");
    }
}

#[tokio::test]
async fn a_number_is_never_used_twice() {
    let place = Place::new();
    for (name, number) in [("one", 1), ("two", 2)] {
        let version = place.registry().register(&place.candidate(name)).await.expect("stored");
        assert_eq!(version.version.number, number);
    }
    // An index from a backup made before the second version.
    let path = place.shelf("tags.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    index.as_object_mut().expect("an index").remove("2");
    fs::write(&path, index.to_string()).expect("written");
    let third = place.registry().register(&place.candidate("three")).await.expect("stored");
    assert_eq!(third.version.number, 3);
}

#[tokio::test]
async fn only_the_registry_says_that_a_version_is_ready() {
    let place = Place::new();
    let tags = BTreeMap::from([(tags::STAGING_READY.to_owned(), "true".to_owned())]);
    let asked = Registration { staging_ready: false, tags, ..place.candidate("weights") };
    let version = place.registry().register(&asked).await.expect("stored");
    assert!(!version.is_staging_ready(), "{:?}", version.tags);
}

#[tokio::test]
async fn aliases_outlive_the_process_and_damage_is_told() {
    let place = Place::new();
    let version = place.registry().register(&place.candidate("weights")).await.expect("stored");
    let set = place.registry().set_alias(&model(), aliases::CHAMPION, &version.version).await;
    set.expect("set");
    let read = async || place.registry().alias(&model(), aliases::CHAMPION).await;
    assert_eq!(read().await.expect("read"), Some(version.version));
    for name in ["aliases.json", "tags.json"] {
        fs::write(place.shelf(name), "{\"half").expect("written");
    }
    let aliases = read().await.map(drop).expect_err("damaged");
    let versions = place.registry().versions(&model()).await.map(drop).expect_err("damaged");
    let register = place.registry().register(&place.candidate("next")).await.map(drop);
    for error in [aliases, versions, register.expect_err("damaged")] {
        assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}

#[tokio::test]
async fn a_file_in_the_way_is_told() {
    let place = Place::new();
    fs::write(place.path("registry"), "not a folder").expect("written");
    let error = place.registry().register(&place.candidate("weights")).await.expect_err("no place");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("check the path"), "{error}");
}
