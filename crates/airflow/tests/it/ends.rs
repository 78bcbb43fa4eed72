//! How jobs end, and what is told of it.

use mloop_core::job::JobStatus;
use mloop_platform::PlatformError;
use serde_json::{Value, json};

use crate::bench::{Bench, job};

fn finished(exit_code: i32, result: Value) -> JobStatus {
    JobStatus::Finished { exit_code, result }
}

#[tokio::test]
async fn every_end_is_told_with_its_last_line() {
    let bench = Bench::get().await;
    let submitter = bench.submitter(&bench.dag);
    let rejected = json!({"outcome": "rejected", "note": "$(touch x) 'é\" \\"});
    let refused = json!({"outcome": "error", "error": {"message": "m", "exit_code": 21}});
    let mut table = vec![];
    for (name, code, line) in [
        ("blessed", 0, json!({"outcome": "blessed", "version": {"number": 2}})),
        ("rejected", 10, rejected),
        ("inconclusive", 11, json!({"outcome": "inconclusive"})),
        ("refused", 21, refused),
    ] {
        table.push((job(name, &format!("{code} {line}")), finished(code, line)));
    }
    table.push((job("no line", "10 ended"), JobStatus::of_exit_code(10, None)));
    table.push((job("killed", "killed"), JobStatus::of_exit_code(-9, None)));
    for (spec, _) in &table {
        submitter.submit_training_job(spec).await.expect("submitted");
    }
    for (spec, expected) in &table {
        let status = bench.end(submitter.as_ref(), &spec.job_id).await;
        assert_eq!(status, *expected, "{}", spec.cause.reasons[0]);
        let again = submitter.submit_training_job(spec).await.expect("submitted again");
        assert_eq!(again.adopted, !expected.is_interrupted(), "{}", spec.cause.reasons[0]);
    }
}

/// A DAG of somebody else's, which leaves what Airflow itself keeps.
#[tokio::test]
async fn a_dag_with_a_plain_operator_tells_successes() {
    let bench = Bench::get().await;
    let submitter = bench.submitter(&bench.named("plain"));
    let line = json!({"outcome": "blessed"});
    let [blessed, refused, skipped] =
        [job("blessed", &format!("0 {line}")), job("refused", "20 x"), job("skipped", "10 x")];
    for spec in [&blessed, &refused, &skipped] {
        submitter.submit_training_job(spec).await.expect("submitted");
    }
    assert_eq!(bench.end(submitter.as_ref(), &blessed.job_id).await, finished(0, line));
    let status = bench.end(submitter.as_ref(), &refused.job_id).await;
    assert!(
        matches!(&status, JobStatus::Lost { reason } if reason.contains("failed")),
        "{status:?}"
    );
    let mut told = None;
    bench
        .until("the skipped job is over", async || {
            told = submitter.status(&skipped.job_id).await.err();
            told.is_some()
        })
        .await;
    let told = told.expect("an error");
    assert!(matches!(told, PlatformError::Conflict { .. }), "{told:?}");
    assert!(told.to_string().contains("`learn` (skipped) left no result"), "{told}");
}

#[tokio::test]
async fn a_paused_dag_is_told_and_takes_no_run_until_it_is_unpaused() {
    let bench = Bench::get().await;
    let dag = bench.named("paused");
    let submitter = bench.submitter(&dag);
    let spec = job("paused", "psi");
    let told = submitter.submit_training_job(&spec).await.expect_err("paused");
    assert!(matches!(told, PlatformError::Conflict { .. }), "{told:?}");
    assert!(told.to_string().contains(&format!("airflow dags unpause {dag}")), "{told}");
    assert!(matches!(submitter.probe().await, Err(PlatformError::Conflict { .. })));
    assert_eq!(bench.runs(&dag, &spec.job_id).await, []);
    assert_eq!(submitter.status(&spec.job_id).await.expect("a status"), JobStatus::Unknown);
    let pause = async |paused: bool| {
        let request = bench.request(mloop_http::Method::Patch, &dag, &[]);
        let request = request.query("update_mask", "is_paused").json(&json!({"is_paused": paused}));
        assert_eq!(bench.call(request).await.status, 200);
    };
    pause(false).await;
    assert!(!submitter.submit_training_job(&spec).await.expect("unpaused").adopted);
    let status = bench.end(submitter.as_ref(), &spec.job_id).await;
    assert_eq!(status, finished(0, json!({"outcome": "blessed"})));
    pause(true).await;
    // What is over does not need the DAG any more.
    assert!(submitter.submit_training_job(&spec).await.expect("there").adopted);
}
