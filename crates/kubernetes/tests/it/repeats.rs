//! Acting calls, repeated with their connections cut before and after the effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mloop_http::testing::{Asked, Fault, Relay};
use mloop_platform::conformance::samples;
use mloop_platform::{JobSubmitter, PlatformError};

use crate::cluster::{Cluster, built};

/// Every way in which a call can break.
const FAULTS: [Fault; 6] = [
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::StatusAfter(503),
    Fault::StatusAfter(500),
    Fault::Silent,
    Fault::None,
];

/// Calls 20 times: calls by this method break, once or always in turn. Each may fail, but only so that
/// it may be tried again; whoever waits in vain is killed in the middle of the call.
async fn twenty_times(
    cluster: &Cluster,
    broken: &'static str,
    call: impl AsyncFn(&dyn JobSubmitter) -> Result<(), PlatformError>,
) -> usize {
    let mut spoilt = 0;
    for round in 0..20 {
        let (fault, once) = (FAULTS[round % FAULTS.len()], round % 2 == 0);
        let hits = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&hits);
        let relay = Relay::new(cluster.address(), move |asked: &Asked| {
            let hit = asked.line.starts_with(broken);
            let earlier = if hit { seen.fetch_add(1, Ordering::Relaxed) } else { 0 };
            if hit && (earlier == 0 || !once) { fault } else { Fault::None }
        });
        let submitter = built(&cluster.settings_at(&relay.url()));
        let called = tokio::time::timeout(Duration::from_secs(3), call(submitter.as_ref())).await;
        if let Ok(Err(error)) = called {
            assert!(error.is_transient(), "{fault:?}: {error:?}");
        }
        spoilt += hits.load(Ordering::Relaxed);
    }
    spoilt
}

#[tokio::test]
async fn a_job_that_is_submitted_and_cancelled_twenty_times_is_one_job() {
    let cluster = Cluster::new();
    let spec = samples::job("often");
    let submit =
        async |submitter: &dyn JobSubmitter| submitter.submit_training_job(&spec).await.map(drop);
    let spoilt = twenty_times(&cluster, "POST", submit).await;
    assert!(spoilt >= 2, "one was broken before its effect, and one after: {spoilt}");
    assert_eq!((cluster.made(), cluster.jobs().len()), (1, 1));

    let cancel = async |submitter: &dyn JobSubmitter| submitter.cancel(&spec.job_id).await;
    twenty_times(&cluster, "DELETE", cancel).await;
    assert_eq!((cluster.made(), cluster.jobs().len()), (1, 0));
}

#[tokio::test]
async fn an_interrupted_job_goes_on_in_one_further_job() {
    let cluster = Cluster::new();
    let spec = samples::job("interrupted");
    cluster.submitter().submit_training_job(&spec).await.expect("submitted");
    let first = cluster.jobs().remove(0);
    cluster.end(&first, 143, "", false);
    cluster.end(&first, 143, "", false);
    let submit =
        async |submitter: &dyn JobSubmitter| submitter.submit_training_job(&spec).await.map(drop);
    twenty_times(&cluster, "POST", submit).await;
    assert_eq!(cluster.jobs(), [first.clone(), format!("{first}-r2")]);
    assert_eq!(cluster.made(), 2);
}

#[tokio::test]
async fn copies_that_submit_at_once_make_one_job() {
    let cluster = Cluster::new();
    let copies: Vec<_> = (0..8)
        .map(|_| {
            let submitter = cluster.submitter();
            tokio::spawn(async move { submitter.submit_training_job(&samples::job("x")).await })
        })
        .collect();
    let mut started = 0;
    for copy in copies {
        let submission = copy.await.expect("no panic").expect("submitted");
        started += usize::from(!submission.adopted);
    }
    assert_eq!((started, cluster.made()), (1, 1));
}
