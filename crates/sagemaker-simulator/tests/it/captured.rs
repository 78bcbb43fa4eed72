//! What an endpoint with data capture answers can be read as monitoring and training read it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::{CaptureRecord, GroundTruth, hour_folder};
use mloop_core::{Clock as _, SystemClock, Window};
use mloop_deployer::Invocation;
use mloop_platform::{PlatformDeps, Sources, Spec as _, TrafficLimit};
use mloop_profiler::CaptureFilesSettings;
use mloop_s3::testing::TestBucket;
use serde_json::{Value, json};

use crate::common::{
    KEYS, PATIENCE, World, deploy, digest, in_production, name, settled, sound, world_with,
};

fn source(world: &World) -> Sources {
    let settings = json!({
        "path": format!("s3://{}/captured", world.bucket),
        "labels": format!("s3://{}/labels", world.bucket),
        "s3": {"region": "us-east-1", "endpoint_url": world.s3_url},
        "endpoint": "production",
        "variant": "primary",
    });
    let mut settings: CaptureFilesSettings = serde_json::from_value(settings).expect("settings");
    settings.s3 = settings.s3.map(|s3| s3.with_keys(KEYS));
    let deps = PlatformDeps::new(world.folder.path().to_owned(), Arc::new(SystemClock));
    settings.build("source".to_owned(), &deps).expect("a source")
}

/// Labels of one class, arrived.
async fn label(bucket: &TestBucket, ids: &[String], at: DateTime<Utc>) {
    let lines = ids.iter().map(|id| GroundTruth::new(id, "bag").to_line() + "\n");
    let key = format!("labels/{}/labels.jsonl", hour_folder(at));
    bucket.put(&key, lines.collect::<String>()).await;
}

#[tokio::test]
async fn production_is_captured_and_read_as_training_reads_it() {
    let world = world_with(|settings| settings.capture_every = Duration::from_secs(3600)).await;
    let bucket = TestBucket::of(&world.s3_url, &world.bucket);
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

    // As at SageMaker, a request is captured some time after its answer.
    assert_eq!(bucket.read_all("captured").await, []);
    world.simulator.write_captured().await.expect("written");
    // The requests of staging are no traffic.
    assert_eq!(bucket.read_all("captured/staging").await, []);
    let all = bucket.read_all("captured/production/primary").await;
    let texts = all.iter().map(|(_, content)| std::str::from_utf8(content).expect("text"));
    let lines: Vec<&str> = texts.flat_map(str::lines).collect();
    let records: Vec<_> =
        lines.iter().map(|line| CaptureRecord::parse(line).expect("whole")).collect();
    assert_eq!(records.len(), 5);
    let answer = records[0].answer().expect("an answer");
    assert_eq!(answer.model_digest, digest(&version));
    let raw: Value = serde_json::from_str(lines[0]).expect("JSON");
    // As SageMaker writes it where a configuration lists no content types.
    assert_eq!(raw["captureData"]["endpointOutput"]["encoding"], json!("BASE64"));

    label(&bucket, &ids[1..], SystemClock.now()).await;
    let as_of = SystemClock.now() + TimeDelta::seconds(2);
    let window = Window::new(began - TimeDelta::seconds(1), as_of).expect("a window");
    let limit = TrafficLimit { rows: 100, bytes: 1 << 20 };
    let read = source(&world).traffic.labelled(&window, as_of, limit).await.expect("read");
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

#[tokio::test]
async fn what_is_captured_is_written_in_time_and_kept_while_it_cannot_be() {
    let every = Duration::from_millis(50);
    let world = world_with(|settings| settings.capture_every = every).await;
    let mut settings = world.settings();
    let later = format!("{}-later", world.bucket);
    settings["data_capture"]["destination"] = json!(format!("s3://{later}/captured/"));
    let platform = crate::common::deployer(&settings);
    in_production(&platform, &world.candidate(1)).await;
    let answer = platform.client.invoke(&name("production"), &sound()).await.expect("answered");
    assert_eq!(answer.status, 200, "{answer:?}");
    let refusal = world.simulator.write_captured().await.expect_err("no such bucket").to_string();
    assert!(refusal.contains("NoSuchBucket"), "{refusal}");

    let bucket = TestBucket::create(&world.s3_url, &later).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    let captured = loop {
        let captured = bucket.read_all("captured/production/primary").await;
        if !captured.is_empty() {
            break captured;
        }
        assert!(tokio::time::Instant::now() < end, "nothing is written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let [(_, content)] = captured.as_slice() else { panic!("one file: {captured:?}") };
    // The requests by which the switch was verified are none that the simulator was asked here.
    assert_eq!(content.iter().filter(|byte| **byte == b'\n').count(), 1);
}
