//! What belongs to a window, and what a window that cannot be counted says.

use chrono::TimeDelta;
use mloop_core::counts::OutcomeCounts;
use mloop_core::profile::{ColumnCounts, InputFile};
use mloop_core::{ModelName, Sha256Digest};
use mloop_platform::{PlatformError, ProfileRequest, SourceRegistry, TrafficLimit};
use serde_json::json;

use crate::fixture::{Disk, Shot, lines, noon, request, shot, shots};

#[tokio::test]
async fn every_count_of_a_window_is_what_was_sent() {
    let disk = Disk::new();
    let sent = shots(100);
    disk.capture("00-00-000-a.jsonl", lines(&sent[..60]));
    disk.capture("01-00-000-b.jsonl", lines(&sent[60..]));
    let profile = disk.profile().await.profile;

    let count = |check: &dyn Fn(&Shot) -> bool| sent.iter().filter(|s| check(s)).count() as u64;
    assert_eq!((profile.rows, profile.mixed, profile.quarantined), (100, 0, 0));
    let classes: Vec<u64> = (0..3).map(|class| count(&|s| s.class == class)).collect();
    assert_eq!(profile.overall.confusion.unlabelled, classes);
    let ColumnCounts::Categorical(predictions) = &profile.columns["prediction"] else { panic!() };
    assert_eq!((&predictions.categories, predictions.unseen), (&classes, 0));
    let ColumnCounts::Numeric(brightness) = &profile.columns["brightness"] else { panic!() };
    assert_eq!(brightness.bins[0], count(&|s| s.brightness < 0.25));
    assert_eq!(brightness.above, count(&|s| s.brightness > 1.0));
    let ColumnCounts::Numeric(confidence) = &profile.columns["confidence"] else { panic!() };
    assert_eq!(confidence.bins[2], count(&|s| s.confidence >= 0.9));
    let sites = &profile.groups[0];
    let rows = |counts: Option<&OutcomeCounts>| counts.map(|counts| counts.confusion.rows());
    let named = [rows(sites.values.get(&0)), rows(sites.values.get(&1))];
    assert_eq!((sites.values.len(), named), (2, [Some(25); 2]), "north and south");
    let others = [rows(sites.other.as_ref()), rows(sites.missing.as_ref())];
    assert_eq!(others, [Some(25); 2]);
    let ColumnCounts::Vector(embedding) = &profile.columns["embedding"] else { panic!() };
    assert_eq!((embedding.rows, embedding.missing, embedding.unfit), (100, 0, 0));
    assert_eq!(profile.duplicates, 0);
    assert_eq!(profile.latency.count(), 100);
    assert_eq!(profile.latency.within_objective(), count(&|s| s.latency <= 5_000));
}

#[tokio::test]
async fn only_the_windows_own_rows_count_and_its_files_are_named() {
    let disk = Disk::new();
    let mut sent = shots(4);
    sent[0].time = noon() - TimeDelta::nanoseconds(1);
    sent[1].time = noon();
    sent[2].time = noon() + TimeDelta::hours(1) - TimeDelta::nanoseconds(1);
    sent[3].time = noon() + TimeDelta::hours(1);
    let content = lines(&sent);
    disk.capture("b.jsonl", &content);
    disk.capture("a.jsonl", "");
    disk.labels(noon() + TimeDelta::hours(2), "l.jsonl", &[("request-1", "boot")]);
    disk.labels(noon() - TimeDelta::hours(1), "early.jsonl", &[("request-2", "boot")]);
    let stored = disk.profile().await;
    assert_eq!((stored.profile.rows, stored.profile.overall.labelled_rows()), (2, 1));
    let hour = "shop/AllTraffic/2026/03/01/12";
    let inputs: Vec<_> =
        stored.inputs.iter().map(|InputFile { path, size }| (path, *size)).collect();
    let (label, capture) = (inputs[0].1, content.len() as u64);
    let expected = [
        (&"labels/2026/03/01/14/l.jsonl".to_owned(), label),
        (&format!("{hour}/a.jsonl"), 0),
        (&format!("{hour}/b.jsonl"), capture),
    ];
    assert_eq!(inputs, expected);
    assert!(label > 0);
}

#[tokio::test]
async fn an_empty_hour_is_a_profile_without_rows() {
    let disk = Disk::new();
    let stored = disk.profile().await;
    assert_eq!((stored.profile.rows, stored.inputs.len()), (0, 0));
    let limit = TrafficLimit { rows: 10, bytes: 1000 };
    let traffic =
        disk.source().traffic.labelled(&request().window, request().as_of, limit).await.unwrap();
    assert_eq!(traffic, mloop_platform::LabelledTraffic::default());
}

#[tokio::test]
async fn answers_of_other_versions_are_counted_apart_and_nowhere_else() {
    let disk = Disk::new();
    let mut sent = shots(12);
    let before = Sha256Digest::of(b"the version before");
    for other in &mut sent[..3] {
        other.version = before;
    }
    for stranger in &mut sent[10..] {
        stranger.version = Sha256Digest::of(b"nobody knows");
    }
    disk.capture("a.jsonl", lines(&sent));
    disk.labels(
        noon(),
        "l.jsonl",
        &[("request-0", "a class of that version"), ("request-5", "bag")],
    );
    // What is known to have served in the window is told apart from what nobody knows; the version
    // that is counted is its own, whoever names it.
    for (others, other_version, mixed) in
        [(vec![], 0, 5), (vec![before], 3, 2), (vec![before, request().key.version], 3, 2)]
    {
        let request = ProfileRequest { others: others.into_iter().collect(), ..request() };
        let profile = disk.source().profiles.profile(&request).await.unwrap().profile;
        assert_eq!((profile.rows, profile.quarantined), (7, 0));
        assert_eq!((profile.other_version, profile.mixed), (other_version, mixed));
        assert_eq!((profile.latency.count(), profile.columns["brightness"].rows()), (7, 7));
    }
}

#[tokio::test]
async fn of_one_id_the_first_by_time_counts_wherever_it_stands() {
    let disk = Disk::new();
    let first = Shot { class: 0, ..shot(1) };
    let again = Shot { id: first.id.clone(), class: 2, ..shot(9) };
    disk.capture("a.jsonl", lines([&again, &first]));
    disk.capture("b.jsonl", lines([&again, &shot(20)]));
    for partitions in [1, 2, 7] {
        let source = disk.source_with(json!({"partitions": partitions}));
        let profile = source.profiles.profile(&request()).await.unwrap().profile;
        assert_eq!((profile.rows, profile.duplicates), (2, 2));
        assert_eq!(profile.overall.confusion.unlabelled, [1, 0, 1]);
    }
}

#[tokio::test]
async fn a_source_that_is_there_no_more_says_what_to_do() {
    let disk = Disk::new();
    for (key, path) in [("path", "captrue"), ("labels", "lables")] {
        let folder = disk.root.path().join(path);
        std::fs::create_dir(&folder).unwrap();
        let source = disk.source_with(json!({key: path}));
        std::fs::remove_dir(&folder).unwrap();
        let error = source.profiles.profile(&request()).await.unwrap_err();
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path) && text.contains("correct the path"), "{text}");
    }
}

#[tokio::test]
async fn a_reference_of_another_model_is_refused() {
    let mut other = request();
    other.schema.model = ModelName::new("flowers").unwrap();
    let error = Disk::new().failure(&other).await;
    assert!(error.to_string().contains("of the model `flowers`, not of `fashion`"), "{error}");
    let mut broken = request();
    broken.schema.classes.clear();
    assert!(matches!(Disk::new().failure(&broken).await, PlatformError::Invalid { .. }));
}

#[tokio::test]
async fn too_many_files_are_refused_rather_than_half_read() {
    let disk = Disk::new();
    disk.capture("a.jsonl", shot(1).line());
    disk.capture("b.jsonl", shot(2).line());
    let source = disk.source_with(json!({"max_files": 1}));
    let error = source.profiles.profile(&request()).await.unwrap_err();
    assert!(error.to_string().contains("raise it or take a shorter window"), "{error}");
}

#[tokio::test]
async fn sorts_spill_and_labels_that_do_not_fit_into_memory_say_so() {
    let disk = Disk::new();
    // Wide enough that a mebibyte does not hold the rows.
    let long = |n: u32| Shot { id: format!("{n:0>200}"), ..shot(n % 3600) };
    disk.capture("a.jsonl", lines(&(0..8000).map(long).collect::<Vec<_>>()));
    let small = disk.source_with(json!({"memory_mb": 1, "partitions": 1}));
    let error = small.profiles.profile(&request()).await.unwrap_err();
    assert!(error.to_string().contains("raise `memory_mb`"), "{error}");
    let enough = disk.source_with(json!({"memory_mb": 64, "partitions": 1}));
    assert_eq!(enough.profiles.profile(&request()).await.unwrap().profile.rows, 8000);
}

#[test]
fn settings_are_checked_by_key() {
    let disk = Disk::new();
    let mut registry = SourceRegistry::new("source");
    mloop_profiler::register_builtin(&mut registry);
    for (settings, expected) in [
        (json!({"path": "x"}), "missing field `endpoint`"),
        (json!({"path": "x", "endpoint": "e", "lables": "y"}), "unknown field `lables`"),
        (json!({"path": "x", "endpoint": "a/b"}), "not a valid name"),
        (json!({"path": "x", "endpoint": "e", "partitions": 0}), "nonzero"),
        (json!({"path": "x", "endpoint": "e", "max_files": 5_000_000_000u64}), "at most"),
        (json!({"path": "x", "endpoint": "e"}), "there is no folder /"),
        (json!({"path": "capture", "endpoint": "e", "labels": "x"}), "there is no folder /"),
    ] {
        let error = registry.build("capture_files", "s", &settings, &disk.deps());
        let text = error.err().expect("refused").to_string();
        assert!(text.contains(expected), "{text}");
    }
}
