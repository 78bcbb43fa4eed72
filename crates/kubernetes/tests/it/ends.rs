//! How jobs end, and what is told of it.

use std::time::Duration;

use mloop_core::job::JobStatus;
use mloop_platform::JobSubmitter;
use mloop_platform::conformance::samples;
use serde_json::json;

use crate::cluster::{Cluster, built};

async fn status(submitter: &dyn JobSubmitter, job: &str) -> JobStatus {
    submitter.status(&samples::job(job).job_id).await.expect("a status")
}

/// Submits a job of that name; the name of its Job.
async fn submitted(cluster: &Cluster, submitter: &dyn JobSubmitter, job: &str) -> String {
    submitter.submit_training_job(&samples::job(job)).await.expect("submitted");
    let id = samples::job(job).job_id;
    cluster.jobs().into_iter().rfind(|name| name.contains(id.as_str())).expect("a Job")
}

#[tokio::test]
async fn a_job_waits_runs_and_tells_its_end() {
    let cluster = Cluster::new();
    let submitter = cluster.submitter();
    let job = submitted(&cluster, submitter.as_ref(), "a").await;
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Queued);
    cluster.run(&job);
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Running);
    let line = json!({"outcome": "blessed", "version": {"number": 2}});
    cluster.end(&job, 0, &line.to_string(), false);
    let told = status(submitter.as_ref(), "a").await;
    assert_eq!(told, JobStatus::Finished { exit_code: 0, result: line });
    assert!(submitter.submit_training_job(&samples::job("a")).await.expect("there").adopted);
    cluster.collect_pods();
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::of_exit_code(0, None));
}

#[tokio::test]
async fn what_no_further_try_changes_fails_at_once() {
    for code in [10, 11, 20, 21, 40] {
        let cluster = Cluster::new();
        let submitter = cluster.submitter();
        let job = submitted(&cluster, submitter.as_ref(), "a").await;
        let line = json!({"outcome": "x", "error": {"exit_code": code}});
        cluster.end(&job, code, &line.to_string(), false);
        let told = status(submitter.as_ref(), "a").await;
        assert_eq!(told, JobStatus::Finished { exit_code: code, result: line });
        cluster.collect_pods();
        let told = status(submitter.as_ref(), "a").await;
        assert_eq!(told, JobStatus::of_exit_code(code, None), "from the Job's own message");
        let again = submitter.submit_training_job(&samples::job("a")).await.expect("there");
        assert!(again.adopted, "{code}: nothing is started again");
    }
}

#[tokio::test]
async fn other_ends_are_tried_again_by_the_cluster_and_then_by_us() {
    let cluster = Cluster::new();
    let submitter = cluster.submitter();
    let job = submitted(&cluster, submitter.as_ref(), "a").await;
    cluster.end(&job, 143, "", true);
    cluster.end(&job, 30, "", false);
    let told = status(submitter.as_ref(), "a").await;
    assert_eq!(told, JobStatus::Queued, "a drained node counts for nothing, one try is left");
    cluster.end(&job, 30, "", false);
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::of_exit_code(30, None));
    let next = submitted(&cluster, submitter.as_ref(), "a").await;
    assert_eq!(next, format!("{job}-r2"));
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Queued);
    cluster.end(&next, 0, r#"{"outcome": "blessed"}"#, false);
    let told = status(submitter.as_ref(), "a").await;
    assert!(matches!(told, JobStatus::Finished { exit_code: 0, .. }), "{told:?}");
    assert_eq!(cluster.made(), 2);
}

#[tokio::test]
async fn a_job_that_is_killed_each_time_is_lost() {
    let cluster = Cluster::new();
    let submitter = cluster.submitter();
    let job = submitted(&cluster, submitter.as_ref(), "a").await;
    cluster.end(&job, 137, "", false);
    cluster.end(&job, 137, "", false);
    let told = status(submitter.as_ref(), "a").await;
    assert!(matches!(&told, JobStatus::Lost { reason } if reason.contains("137")), "{told:?}");
}

#[tokio::test]
async fn a_cancelled_job_is_gone_and_one_that_ended_stays() {
    let cluster = Cluster::new();
    let submitter = cluster.submitter();
    let ended = submitted(&cluster, submitter.as_ref(), "ended").await;
    cluster.end(&ended, 10, "", false);
    submitted(&cluster, submitter.as_ref(), "open").await;
    for name in ["ended", "open", "open", "never"] {
        submitter.cancel(&samples::job(name).job_id).await.expect("stopped");
    }
    assert_eq!(cluster.jobs(), [ended]);
    assert_eq!(status(submitter.as_ref(), "open").await, JobStatus::Unknown);
}

#[tokio::test]
async fn a_job_waits_while_kueue_holds_it() {
    let cluster = Cluster::new();
    cluster.install_kueue();
    let mut settings = cluster.plain_settings();
    settings["kueue"] = json!({"queue": "nightly"});
    let submitter = built(&settings);
    let job = submitted(&cluster, submitter.as_ref(), "a").await;
    assert_eq!(cluster.pods().len(), 0, "it is not admitted yet");
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Queued);
    assert!(submitter.submit_training_job(&samples::job("a")).await.expect("there").adopted);

    cluster.suspend(&job, false);
    cluster.run(&job);
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Running);
    // Preempted by one of a higher class, and admitted again.
    cluster.suspend(&job, true);
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Queued);
    assert!(submitter.submit_training_job(&samples::job("a")).await.expect("there").adopted);
    cluster.suspend(&job, false);
    cluster.end(&job, 0, r#"{"outcome": "blessed"}"#, false);
    let told = status(submitter.as_ref(), "a").await;
    assert!(matches!(told, JobStatus::Finished { exit_code: 0, .. }), "{told:?}");
    assert_eq!(cluster.made(), 1);

    // One that waits is stopped like any other.
    submitted(&cluster, submitter.as_ref(), "b").await;
    submitter.cancel(&samples::job("b").job_id).await.expect("stopped");
    assert_eq!(status(submitter.as_ref(), "b").await, JobStatus::Unknown);
    // Without a queue, a person may hold one.
    let job = submitted(&cluster, cluster.submitter().as_ref(), "c").await;
    cluster.suspend(&job, true);
    assert_eq!(status(submitter.as_ref(), "c").await, JobStatus::Queued);
}

#[tokio::test]
async fn a_job_whose_time_to_live_is_over_is_unknown_and_may_be_submitted_again() {
    let cluster = Cluster::new();
    let mut settings = cluster.plain_settings();
    settings["ttl_secs_after_finished"] = json!(86_400);
    let submitter = built(&settings);
    let job = submitted(&cluster, submitter.as_ref(), "a").await;
    let open = submitted(&cluster, submitter.as_ref(), "b").await;
    cluster.end(&job, 10, r#"{"outcome": "rejected"}"#, false);
    cluster.outlive(Duration::from_secs(3_599));
    let told = status(submitter.as_ref(), "a").await;
    assert!(matches!(told, JobStatus::Finished { exit_code: 10, .. }), "{told:?}");

    cluster.outlive(Duration::from_secs(3_600));
    assert_eq!(cluster.jobs(), [&*open], "one that has not ended lives on");
    assert_eq!(cluster.pods().len(), 1);
    assert_eq!(status(submitter.as_ref(), "a").await, JobStatus::Unknown);
    submitter.cancel(&samples::job("a").job_id).await.expect("nothing to stop");
    let again = submitted(&cluster, submitter.as_ref(), "a").await;
    assert_eq!((again, cluster.made()), (job, 3), "its name is free");
}
