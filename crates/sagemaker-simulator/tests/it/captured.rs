//! What an endpoint with data capture answers can be read as monitoring and training read it.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::{CaptureRecord, GroundTruth, hour_folder};
use mloop_core::{Clock as _, SystemClock, Window};
use mloop_deployer::Invocation;
use mloop_platform::{PlatformDeps, SourceRegistry, Sources, TrafficLimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{deploy, digest, in_production, name, settled, sound, world_with};

fn source(folder: &TempDir) -> Sources {
    let mut kinds = SourceRegistry::new("source");
    mloop_profiler::register_builtin(&mut kinds);
    let deps = PlatformDeps::new(folder.path().to_owned(), Arc::new(SystemClock));
    let settings = json!({"path": "captured", "labels": "labels", "endpoint": "production",
        "variant": "primary"});
    kinds.build("capture_files", "source", &settings, &deps).expect("settings")
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files(path) } else { vec![path] }
        })
        .collect()
}

/// Labels of one class, arrived.
fn label(folder: &TempDir, ids: &[String], at: DateTime<Utc>) {
    let hour = folder.path().join("labels").join(hour_folder(at));
    std::fs::create_dir_all(&hour).expect("made");
    let lines = ids.iter().map(|id| GroundTruth::new(id, "bag").to_line() + "\n");
    std::fs::write(hour.join("labels.jsonl"), lines.collect::<String>()).expect("written");
}

#[tokio::test]
async fn production_is_captured_and_read_as_training_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let captured = folder.path().join("captured");
    let world = world_with(|settings| settings.capture = Some(captured.clone())).await;
    let version = world.candidate(1);
    let platform = world.deployer();
    in_production(&platform, &version).await;
    platform.deployer.deploy_model(&deploy(&version)).await.expect("deployed");
    settled(&platform, "staging").await;

    let began = SystemClock.now();
    let ids: Vec<String> = (0..5).map(|number| format!("case-{number}")).collect();
    for id in &ids {
        let asked = Invocation {
            inference_id: Some(id.clone()),
            custom_attributes: Some("site=north".to_owned()),
            ..sound()
        };
        for endpoint in ["production", "staging"] {
            let answer = platform.client.invoke(&name(endpoint), &asked).await.expect("answered");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    // What the container refuses is no answer of the model.
    let bad = Invocation { body: b"no image".to_vec(), ..sound() };
    let refused = platform.client.invoke(&name("production"), &bad).await.expect("answered");
    assert_eq!(refused.status, 400);

    // The requests of staging are no traffic.
    assert!(!captured.join("staging").exists());
    let all = files(captured.join("production/primary"));
    let texts = all.iter().map(|path| std::fs::read_to_string(path).expect("text"));
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let records: Vec<_> =
        lines.iter().map(|line| CaptureRecord::parse(line).expect("whole")).collect();
    assert_eq!(records.len(), 5);
    let answer = records[0].answer().expect("an answer");
    assert_eq!(answer.model_digest, digest(&version));
    let raw: Value = serde_json::from_str(&lines[0]).expect("JSON");
    // As SageMaker writes it where a configuration lists no content types.
    assert_eq!(raw["captureData"]["endpointOutput"]["encoding"], json!("BASE64"));

    label(&folder, &ids[1..], SystemClock.now());
    let as_of = SystemClock.now() + TimeDelta::seconds(2);
    let window = Window::new(began - TimeDelta::seconds(1), as_of).expect("a window");
    let limit = TrafficLimit { rows: 100, bytes: 1 << 20 };
    let read = source(&folder).traffic.labelled(&window, as_of, limit).await.expect("read");
    let found: Vec<&str> = read.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(
        (found, read.unlabelled, read.quarantined),
        (vec!["case-1", "case-2", "case-3", "case-4"], 1, 0)
    );
    let row = &read.rows[0];
    assert_eq!(
        (row.body.as_slice(), row.content_type.as_str()),
        (&*sound().body, "application/json")
    );
    assert_eq!(row.attributes["site"], "north");
}
