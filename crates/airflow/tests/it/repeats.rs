//! Acting calls, repeated with their connections cut before and after the effect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mloop_core::job::JobStatus;
use mloop_http::testing::{Asked, Fault, Relay};
use mloop_platform::{JobSubmitter, PlatformError};
use serde_json::json;

use crate::bench::{Bench, job};

/// Every way in which a call can break.
const FAULTS: [Fault; 6] = [
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::StatusAfter(503),
    Fault::StatusAfter(500),
    Fault::Silent,
    Fault::None,
];

/// Calls 20 times: the calls whose line begins like that break, once or always in turn. Each call may
/// fail, but only so that it may be tried again. Gives the number of calls that were broken.
async fn twenty_times(
    bench: &Bench,
    broken: &'static str,
    call: impl AsyncFn(&dyn JobSubmitter) -> Result<(), PlatformError>,
) -> usize {
    let mut spoilt = 0;
    for round in 0..20 {
        let (fault, once) = (FAULTS[round % FAULTS.len()], round % 2 == 0);
        let hits = std::sync::Arc::new(AtomicUsize::new(0));
        let seen = std::sync::Arc::clone(&hits);
        let relay = Relay::new(&bench.url, move |asked: &Asked| {
            let hit = asked.line.starts_with(broken);
            let earlier = if hit { seen.fetch_add(1, Ordering::Relaxed) } else { 0 };
            if hit && (earlier == 0 || !once) { fault } else { Fault::None }
        });
        let http = json!({"timeout_secs": 60});
        let submitter = bench.submitter_at(&relay.url(), &bench.dag, &http);
        // Whoever waits for an answer in vain is killed here, in the middle of the call.
        let called = tokio::time::timeout(Duration::from_secs(8), call(submitter.as_ref())).await;
        match called {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => assert!(error.is_transient(), "{fault:?}: {error:?}"),
        }
        spoilt += hits.load(Ordering::Relaxed);
    }
    spoilt
}

#[tokio::test]
async fn a_job_that_is_submitted_and_cancelled_twenty_times_is_one_run() {
    let bench = Bench::get().await;
    let spec = job("often", "wait");
    let post = Box::leak(format!("POST /api/v2/dags/{}/dagRuns", bench.dag).into_boxed_str());
    let spoilt = twenty_times(bench, post, async |submitter| {
        submitter.submit_training_job(&spec).await.map(drop)
    })
    .await;
    assert!(spoilt >= 2, "a call was broken before its effect, and one after: {spoilt}");
    let runs = bench.runs(&bench.dag, &spec.job_id).await;
    assert_eq!(runs.len(), 1, "{runs:?}");

    let submitter = bench.submitter(&bench.dag);
    bench
        .until("it runs", async || {
            submitter.status(&spec.job_id).await.expect("a status") == JobStatus::Running
        })
        .await;
    let patch = Box::leak(format!("PATCH /api/v2/dags/{}", bench.dag).into_boxed_str());
    twenty_times(bench, patch, async |submitter| submitter.cancel(&spec.job_id).await).await;
    let status = submitter.status(&spec.job_id).await.expect("a status");
    assert!(matches!(status, JobStatus::Lost { .. }), "{status:?}");
    let runs = bench.runs(&bench.dag, &spec.job_id).await;
    assert_eq!(runs, [(spec.job_id.to_string(), "failed".to_owned())]);
}

#[tokio::test]
async fn an_interrupted_job_goes_on_in_one_further_run() {
    let bench = Bench::get().await;
    let submitter = bench.submitter(&bench.dag);
    let spec = job("interrupted", "later");
    let first = submitter.submit_training_job(&spec).await.expect("submitted");
    let status = bench.end(submitter.as_ref(), &spec.job_id).await;
    assert_eq!(status, JobStatus::of_exit_code(30, None));
    let post = Box::leak(format!("POST /api/v2/dags/{}/dagRuns", bench.dag).into_boxed_str());
    twenty_times(bench, post, async |submitter| {
        submitter.submit_training_job(&spec).await.map(drop)
    })
    .await;
    let runs = bench.runs(&bench.dag, &spec.job_id).await;
    let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [spec.job_id.as_str(), &format!("{}__2", spec.job_id)]);
    let last = submitter.submit_training_job(&spec).await.expect("adopted");
    assert!(last.adopted && last.handle != first.handle, "{last:?}");
    assert!(last.handle.ends_with("__2"), "{last:?}");
    submitter.cancel(&spec.job_id).await.expect("stopped");
}

/// Eight copies at once: one starts the run, the others find it.
#[tokio::test]
async fn copies_that_submit_at_once_make_one_run() {
    let bench = Bench::get().await;
    let spec = job("at once", "psi");
    let copies: Vec<_> = (0..8)
        .map(|_| {
            let (submitter, spec) = (bench.submitter(&bench.dag), spec.clone());
            tokio::spawn(async move { submitter.submit_training_job(&spec).await })
        })
        .collect();
    let mut started = 0;
    for copy in copies {
        let submission = copy.await.expect("no panic").expect("submitted");
        started += usize::from(!submission.adopted);
    }
    assert!(started <= 1, "{started} copies say that they started it");
    assert_eq!(bench.runs(&bench.dag, &spec.job_id).await.len(), 1);
}
