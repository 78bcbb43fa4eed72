//! The submitter keeps its contract, and jobs really run.

use std::sync::Arc;
use std::time::Duration;

use mloop_core::exit_class::{Classified, ExitClass};
use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::conformance::{check_submitter, samples};
use mloop_platform::{JobSubmitter, PlatformError};
use serde_json::{Value, json};

use crate::common::{KEYS, PATIENCE, World, image, s3, world, world_with};

/// Leaves the arguments, the job file and the checkpoints that it found as its result, and ends with
/// the exit code that its environment asks for.
const TRAIN: &str = r#"
    set -e
    while [ $# -gt 0 ]; do
      case $1 in --job-file) job=$2;; --result-file) result=$2;; esac; shift
    done
    tries=$(cat $ML/checkpoints/tries 2>/dev/null || echo 0)
    echo $((tries + 1)) > $ML/checkpoints/tries
    grep -q job_id "$job"
    if [ "$tries" -lt "$INTERRUPTED" ]; then
      printf '{"outcome": "failed", "error": {"exit_code": 30}}' > "$result"; exit 30
    fi
    printf '{"outcome": "%s", "tries": %d}' "$OUTCOME" $((tries + 1)) > "$result"
    exit "$CODE"
"#;

pub(crate) fn settings(world: &World, command: &[&str], environment: &Value) -> Value {
    json!({
        "connection": world.settings()["connection"],
        "role_arn": "arn:aws:iam::123456789012:role/mloop",
        "image": image(),
        "command": command,
        "jobs": format!("s3://{}/jobs", world.bucket),
        "instance_type": "ml.m5.xlarge",
        "max_restarts": 2,
        "environment": environment,
    })
}

pub(crate) fn submitter(settings: &Value) -> Arc<dyn JobSubmitter> {
    let settings = serde_json::from_value(settings.clone()).expect("settings");
    mloop_sagemaker::testing::submitter(settings, KEYS)
}

/// A submitter whose jobs run [`TRAIN`].
fn training(world: &World, outcome: &str, code: u32, interrupted: u32) -> Arc<dyn JobSubmitter> {
    // A program in the image; an argument has 256 characters at most.
    let program = world.folder.path().join("train.sh");
    std::fs::write(&program, format!("#!/bin/sh\n{TRAIN}")).expect("written");
    let program = program.display().to_string();
    let environment = json!({
        "OUTCOME": outcome,
        "CODE": code.to_string(),
        "INTERRUPTED": interrupted.to_string(),
        // The simulator replaces the image's paths in arguments and in the environment.
        "ML": "/opt/ml",
    });
    submitter(&settings(world, &["/bin/sh", &program], &environment))
}

async fn running_jobs() -> World {
    world_with(|settings| settings.run_jobs = true).await
}

async fn ended(submitter: &dyn JobSubmitter, spec: &JobSpec) -> JobStatus {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = submitter.status(&spec.job_id).await.expect("a status");
        if !matches!(status, JobStatus::Queued | JobStatus::Running) {
            return status;
        }
        assert!(tokio::time::Instant::now() < end, "it does not end: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_submitter_keeps_its_contract() {
    // Jobs that live for as long as the suite takes.
    let world = world_with(|settings| {
        settings.delays.starting_job = Duration::from_secs(60);
    })
    .await;
    check_submitter(submitter(&settings(&world, &["training_main"], &json!({}))).as_ref()).await;
    assert_eq!(world.effects("CreateTrainingJob"), 2);
}

#[tokio::test]
async fn a_job_runs_and_its_last_line_comes_back() {
    for (outcome, code) in [("blessed", 0), ("rejected", 10), ("inconclusive", 11)] {
        let world = running_jobs().await;
        let submitter = training(&world, outcome, code, 0);
        let spec = samples::job("a job");
        let submitted = submitter.submit_training_job(&spec).await.expect("submitted");
        assert!(!submitted.adopted);
        let status = ended(submitter.as_ref(), &spec).await;
        let result = json!({"outcome": outcome, "tries": 1});
        let exit_code = i32::try_from(code).expect("a code");
        assert_eq!(status, JobStatus::Finished { exit_code, result }, "{outcome}");
        let again = submitter.submit_training_job(&spec).await.expect("a repeat");
        assert!(again.adopted && again.handle == submitted.handle, "{again:?}");
        assert_eq!(world.effects("CreateTrainingJob"), 1);
    }
}

#[tokio::test]
async fn an_interrupted_job_is_started_again_and_finds_its_checkpoints() {
    let world = running_jobs().await;
    let submitter = training(&world, "blessed", 0, 1);
    let spec = samples::job("a job");
    let first = submitter.submit_training_job(&spec).await.expect("submitted");
    let status = ended(submitter.as_ref(), &spec).await;
    assert!(status.is_interrupted(), "{status:?}");
    let second = submitter.submit_training_job(&spec).await.expect("again");
    assert!(!second.adopted);
    assert_eq!(second.handle, format!("{}-r1", first.handle));
    let JobStatus::Finished { exit_code: 0, result } = ended(submitter.as_ref(), &spec).await
    else {
        panic!("it did not finish");
    };
    assert_eq!(result["tries"], json!(2), "the second found what the first saved");
    // Another content under this id is refused, however many attempts there were.
    let other = JobSpec { as_of: spec.as_of + chrono::TimeDelta::seconds(1), ..spec.clone() };
    let refusal = submitter.submit_training_job(&other).await.expect_err("other content");
    assert!(matches!(refusal, PlatformError::Conflict { .. }), "{refusal:?}");
}

#[tokio::test]
async fn a_job_that_is_always_interrupted_ends_with_a_person() {
    let world = running_jobs().await;
    let submitter = training(&world, "blessed", 0, 99);
    let spec = samples::job("a job");
    for _ in 0..3 {
        let submitted = submitter.submit_training_job(&spec).await.expect("started");
        assert!(!submitted.adopted, "{submitted:?}");
        assert!(ended(submitter.as_ref(), &spec).await.is_interrupted());
    }
    let error = submitter.submit_training_job(&spec).await.expect_err("enough");
    assert_eq!(error.exit_class(), ExitClass::NeedsPerson, "{error}");
    assert_eq!(world.effects("CreateTrainingJob"), 3);
}

#[tokio::test]
async fn a_stopped_job_gets_sigterm_and_can_go_on() {
    let world = running_jobs().await;
    let folder = world.folder.path();
    let (started, program) = (folder.join("started"), folder.join("train.sh"));
    let script = format!(
        "#!/bin/sh\ntrap 'printf \"{{\\\"error\\\": {{\\\"exit_code\\\": 143}}}}\" > \
         /opt/ml/output/data/result.json; exit 143' TERM\ntouch {}\nwhile :; do sleep 0.02; done\n",
        started.display()
    );
    std::fs::write(&program, script.replace("/opt/ml", "$ML")).expect("written");
    let program = program.display().to_string();
    let environment = json!({"ML": "/opt/ml"});
    let submitter = submitter(&settings(&world, &["/bin/sh", &program], &environment));
    let spec = samples::job("a job");
    submitter.submit_training_job(&spec).await.expect("submitted");
    let end = tokio::time::Instant::now() + PATIENCE;
    while !started.exists() {
        assert!(tokio::time::Instant::now() < end, "it does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    submitter.cancel(&spec.job_id).await.expect("asked to stop");
    let status = ended(submitter.as_ref(), &spec).await;
    assert!(matches!(status, JobStatus::Finished { exit_code: 143, .. }), "{status:?}");
    submitter.cancel(&spec.job_id).await.expect("what has ended is fine");
    let again = submitter.submit_training_job(&spec).await.expect("again");
    assert!(!again.adopted && again.handle.ends_with("-r1"), "{again:?}");
    submitter.cancel(&spec.job_id).await.expect("asked to stop");
}

#[tokio::test]
async fn a_job_that_leaves_nothing_is_lost_or_told_by_its_exit_code() {
    let world = running_jobs().await;
    for (reason, code) in [
        ("CapacityError: Unable to provision requested ML compute capacity.", None),
        ("AlgorithmError: , exit code: 20", Some(20)),
    ] {
        world.fault(json!({"fault": "job_ends", "status": "Failed", "reason": reason}));
        let submitter = training(&world, "blessed", 0, 0);
        let spec = samples::job(reason);
        submitter.submit_training_job(&spec).await.expect("submitted");
        match (ended(submitter.as_ref(), &spec).await, code) {
            (JobStatus::Lost { reason: told }, None) => assert!(told.contains(reason), "{told}"),
            (JobStatus::Finished { exit_code, .. }, Some(code)) => assert_eq!(exit_code, code),
            (status, _) => panic!("{reason}: {status:?}"),
        }
    }
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_twenty_times_starts_one_job() {
    let world = world_with(|settings| {
        settings.delays.starting_job = Duration::from_secs(60);
    })
    .await;
    let settings = settings(&world, &["training_main"], &json!({}));
    let spec = samples::job("a job");
    for _ in 0..20 {
        world.fault(json!({"fault": "lose_answer", "operation": "CreateTrainingJob"}));
        let submitted = submitter(&settings).submit_training_job(&spec).await.expect("found");
        assert_eq!(submitted.handle, spec.job_id.to_string());
    }
    assert_eq!(world.effects("CreateTrainingJob"), 1);
    let objects = s3(&world.s3_url).list_objects_v2().bucket(&world.bucket).send().await;
    assert_eq!(objects.expect("a list").key_count(), Some(1), "one job file");
    // Refused credentials and a service that is away are told as that.
    for (fault, class) in [
        (
            json!({"fault": "error", "operation": "DescribeTrainingJob", "status": 400,
                "code": "ExpiredTokenException", "message": "no"}),
            ExitClass::Credentials,
        ),
        (
            json!({"fault": "throttle", "operation": "DescribeTrainingJob", "times": 4}),
            ExitClass::Transient,
        ),
        (
            json!({"fault": "lose_request", "operation": "DescribeTrainingJob", "times": 4}),
            ExitClass::Transient,
        ),
    ] {
        world.fault(fault.clone());
        let error = submitter(&settings).status(&spec.job_id).await.expect_err("a fault");
        assert_eq!(error.exit_class(), class, "{fault}: {error}");
    }
}

#[tokio::test]
async fn jobs_without_an_image_to_run_complete_without_a_result() {
    let world = world().await;
    let submitter = submitter(&settings(&world, &["training_main"], &json!({})));
    let spec = samples::job("a job");
    submitter.submit_training_job(&spec).await.expect("submitted");
    let end = tokio::time::Instant::now() + PATIENCE;
    let error = loop {
        match submitter.status(&spec.job_id).await {
            Ok(JobStatus::Queued | JobStatus::Running) => {
                assert!(tokio::time::Instant::now() < end, "it does not end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(status) => panic!("{status:?}"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("result.json"), "{error}");
    assert_eq!(error.exit_class(), ExitClass::NeedsPerson);
}
