//! As a job of the process submitter: how it stands at each of its ends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mloop_core::SystemClock;
use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::{JobSubmitter, PlatformDeps, SubmitterRegistry};
use serde_json::{Value, json};

use super::{CONFIG, folder};

fn submitter(folder: &Path) -> Arc<dyn JobSubmitter> {
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_local::register_submitters(&mut kinds);
    let deps = PlatformDeps::new(folder.to_path_buf(), Arc::new(SystemClock));
    let program = env!("CARGO_BIN_EXE_training_main");
    let settings =
        json!({"command": [program, "--config", "training_config.yaml"], "work": "jobs"});
    kinds.build("process", "jobs", &settings, &deps).expect("built")
}

fn spec() -> JobSpec {
    serde_json::from_value(json!({
        "schema": "mloop.job/1", "job_id": "job-1",
        "subject": {"model": "halves", "target": "production"},
        "cause": {"episode": "episode-1", "attempt": 1, "reasons": [], "evidence": []},
        "champion": null, "traffic": null, "as_of": "2026-03-01T12:00:00Z",
    }))
    .expect("a job")
}

/// Waits for the job's end; gives its exit code and its last line.
async fn end_of(submitter: &dyn JobSubmitter) -> (i32, Value) {
    let began = Instant::now();
    loop {
        match submitter.status(&spec().job_id).await.expect("a status") {
            JobStatus::Finished { exit_code, result } => return (exit_code, result),
            JobStatus::Running => assert!(began.elapsed() < Duration::from_secs(120), "no end"),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_failed_job_tells_its_exit_code_and_is_not_started_again() {
    let folder = folder(CONFIG);
    std::fs::remove_file(folder.path().join("train-images")).expect("removed");
    let submitter = submitter(folder.path());
    assert!(!submitter.submit_training_job(&spec()).await.expect("submitted").adopted);
    let (code, result) = end_of(submitter.as_ref()).await;
    assert_eq!((code, &result["error"]["exit_code"]), (20, &json!(20)), "{result}");
    assert!(result["error"]["message"].to_string().contains("train-images"), "{result}");
    assert!(submitter.submit_training_job(&spec()).await.expect("a repeat").adopted);
}

#[tokio::test]
async fn a_job_that_was_stopped_is_started_again_and_ends() {
    // Long enough to be stopped in the midst of it.
    let folder = folder(&CONFIG.replace("epochs: 3", "epochs: 40"));
    let (submitter, spec) = (submitter(folder.path()), spec());
    submitter.submit_training_job(&spec).await.expect("submitted");
    let log = folder.path().join("jobs").join(spec.job_id.as_str()).join("log");
    let began = Instant::now();
    while !std::fs::read_to_string(&log).expect("a log").contains("epoch 2/40") {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not train");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    submitter.cancel(&spec.job_id).await.expect("asked");
    let (code, result) = end_of(submitter.as_ref()).await;
    assert_eq!((code, &result["error"]["exit_code"]), (143, &json!(143)), "{result}");

    assert!(!submitter.submit_training_job(&spec).await.expect("a restart").adopted);
    let (code, result) = end_of(submitter.as_ref()).await;
    assert_eq!((code, &result["outcome"]), (0, &json!("blessed")), "{result}");
    assert!(submitter.submit_training_job(&spec).await.expect("a repeat").adopted);
    let log = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(log.matches("epoch 1/40").count(), 1, "it went on from its checkpoint: {log}");
}
