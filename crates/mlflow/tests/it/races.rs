//! Many at once: one version that counts.

use mloop_core::version::{files, tags};
use mloop_core::{ModelVersion, Sha256Digest};
use mloop_platform::{ModelRegistry as _, Registration};

use crate::server::{Bare, tag};
use crate::{Place, registry, url};

/// Tries until the server's database is free.
async fn register(url: &str, registration: &Registration) -> ModelVersion {
    for _ in 0..20 {
        match registry(url).register(registration).await {
            Ok(version) => return version,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    panic!("twenty tries did not do");
}

/// Registers all at once, each with a client of its own as a process would.
async fn race(all: Vec<Registration>) -> Vec<ModelVersion> {
    let url = url();
    let tasks: Vec<_> = all
        .into_iter()
        .map(|registration| {
            let url = url.clone();
            tokio::spawn(async move { register(&url, &registration).await })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.expect("it ended"));
    }
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_at_once_make_one_version_that_counts() {
    let place = Place::new("race");
    let metrics =
        r#"{"kept_epoch": 2, "epochs": [{"epoch": 1, "loss": null}, {"epoch": 2, "loss": 1}]}"#;
    let config = r#"{"trainer": "cv", "settings": {"seed": 1, "classes": ["a", "b"]}}"#;
    let files =
        [(files::WEIGHTS, "weights"), (files::METRICS, metrics), (files::TRAINING_CONFIG, config)];
    let wanted = place.with("weights", &files);
    let versions = race(vec![wanted.clone(); 8]).await;
    let first = versions[0].version;
    assert!(versions.iter().all(|version| version.version == first), "{versions:?}");
    let listed = registry(&url()).versions(&place.model).await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].is_staging_ready() && listed[0].version == first);
    let fetched = registry(&url()).fetch(&listed[0], &place.path("fetched")).await;
    assert_eq!(fetched.expect("the files"), wanted.manifest);

    // What the race left over is marked, and can never be a candidate.
    let all = Bare::at(&url()).versions(&place.model).await;
    let winner = first.number.to_string();
    for version in all.iter().filter(|version| version["version"] != winner.as_str()) {
        assert_eq!(tag(&version["tags"], "duplicate_of"), Some(winner.as_str()), "{version}");
        assert_eq!(tag(&version["tags"], tags::STAGING_READY), None, "{version}");
    }

    // So are runs and logged models that nobody uses.
    let (runs, models) = Bare::at(&url()).runs_and_models(&place.model).await;
    let source = listed[0].source.trim_start_matches("models:/");
    for model in models.iter().filter(|model| model["info"]["model_id"] != source) {
        assert!(tag(&model["info"]["tags"], "duplicate_of").is_some(), "{model:#}");
    }
    assert!(runs.iter().any(|run| tag(&run["data"]["tags"], "duplicate_of").is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn other_bytes_of_the_same_key_neither_count_nor_spoil_the_first() {
    let place = Place::new("bytes");
    let of = |text: &str| {
        let files = [(files::WEIGHTS, text), (files::SCHEMA, "{}")];
        Registration { key: Sha256Digest::of(b"same"), ..place.with(text, &files) }
    };
    let all = ["one", "two", "three", "four"].map(of);
    let versions = race(all.to_vec()).await;
    let first = &versions[0];
    assert!(versions.iter().all(|version| version.version == first.version), "{versions:?}");
    let manifest = registry(&url()).fetch(first, &place.path("fetched")).await.expect("the files");
    assert!(all.iter().any(|one| one.manifest == manifest), "the files of one of them");
    assert_eq!(manifest.digest(), first.version.digest);
}
