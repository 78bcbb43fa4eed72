//! Retraining over the fakes: what people are told, and how often.

use std::sync::Arc;

use mloop_core::job::JobStatus;
use mloop_core::notification::Notification;
use mloop_core::version::tags;
use mloop_orchestrators::{RetrainOutcome, RetrainRequest};
use mloop_platform::fakes::ScriptedSubmitter;
use mloop_platform::{Journal as _, MockJobSubmitter, MockNotifier, Notifier, Submission};
use serde_json::json;

use crate::retraining::{drifted, run, running, telling};
use crate::world::subject;

#[tokio::test]
async fn people_are_told_once_of_one_job() {
    let world = drifted().await;
    let mut submitter = MockJobSubmitter::new();
    submitter
        .expect_submit_training_job()
        .withf(|spec| spec.cause.attempt == 1 && spec.champion.is_some())
        .once()
        .returning(|_| Ok(Submission { handle: "job".to_owned(), adopted: false }));
    submitter.expect_status().once().returning(|_| Ok(JobStatus::Running));
    let submitter = Arc::new(submitter);

    let mut first = MockNotifier::new();
    first.expect_name().return_const("people".to_owned());
    first.expect_parts().returning(Vec::new);
    first
        .expect_notify()
        .withf(|told| told.title.contains("Retraining") && told.text.contains("drift"))
        .once()
        .returning(|_| Ok(()));
    let flow = telling(&world, submitter.clone(), Arc::new(first));
    let result = flow.run(&RetrainRequest::default()).await.expect("a result");
    assert_eq!(result.outcome, RetrainOutcome::Submitted);

    let mut second = MockNotifier::new();
    second.expect_name().return_const("people".to_owned());
    second.expect_parts().returning(Vec::new);
    second.expect_notify().never();
    world.hours_pass(1);
    let flow = telling(&world, submitter, Arc::new(second));
    let result = flow.run(&RetrainRequest::default()).await.expect("a result");
    assert_eq!(result.outcome, RetrainOutcome::Adopted);
}

/// A notifier that must be told so often what this says.
fn told(times: usize, expected: fn(&Notification) -> bool) -> Arc<dyn Notifier> {
    let mut mock = MockNotifier::new();
    mock.expect_name().return_const("people".to_owned());
    mock.expect_parts().returning(Vec::new);
    mock.expect_notify().withf(expected).times(times).returning(|_| Ok(()));
    Arc::new(mock)
}

#[tokio::test]
async fn people_are_told_once_of_an_attempt_that_left_nothing_to_deploy() {
    type Says = fn(&Notification) -> bool;
    let done = |exit_code, outcome: &str| JobStatus::Finished {
        exit_code,
        result: json!({ "outcome": outcome }),
    };
    let table: [(JobStatus, usize, Says); 5] = [
        (done(10, "rejected"), 1, |one| one.title.contains("its version was rejected")),
        (done(11, "inconclusive"), 1, |one| one.title.contains("could not be told")),
        (done(1, "error"), 1, |one| one.text.contains("failed with exit code 1")),
        (done(0, "blessed"), 0, |_| false),
        (JobStatus::Running, 0, |_| false),
    ];
    for (status, times, expected) in table {
        let world = drifted().await;
        let submitter = running();
        let job = run(&world, &submitter).await.job_id.expect("a job");
        if times == 0 {
            let second = world.add_version("two");
            world.registry.set_tag(&second, tags::JOB_ID, job.as_str());
        }
        submitter.set_status(&job, status.clone());
        for times in [times, 0] {
            world.hours_pass(1);
            let flow = telling(&world, submitter.clone(), told(times, expected));
            let result = flow.run(&RetrainRequest::default()).await.expect("a result");
            assert_eq!(result.notification_failures, Vec::<String>::new(), "{status:?}");
        }
    }
}

#[tokio::test]
async fn who_could_not_be_told_of_an_end_is_told_by_the_next_run() {
    let world = drifted().await;
    let rejected = JobStatus::Finished { exit_code: 10, result: json!({"outcome": "rejected"}) };
    let submitter = Arc::new(ScriptedSubmitter::new([rejected]));
    run(&world, &submitter).await;
    world.people.fail_next(1);
    let mut told = vec![];
    for _ in 0..3 {
        world.hours_pass(1);
        let result = run(&world, &submitter).await;
        told.push((result.notification_failures.len(), world.people.messages().len()));
    }
    assert_eq!(told, [(1, 1), (0, 2), (0, 2)]);
}

#[tokio::test]
async fn people_are_told_once_that_no_attempt_is_left() {
    let world = drifted().await;
    let rejected = JobStatus::Finished { exit_code: 10, result: json!({"outcome": "rejected"}) };
    let submitter = Arc::new(ScriptedSubmitter::new([rejected]));
    run(&world, &submitter).await;
    for _ in 0..2 {
        world.hours_pass(7);
        run(&world, &submitter).await;
    }
    let closed = world.ledger.episodes(&subject()).await.expect("episodes");
    assert_eq!(closed.iter().filter(|one| !one.is_open()).count(), 1);
    for times in [2, 0] {
        world.hours_pass(1);
        // Of the end of the second attempt, and that it was the last.
        let expected: fn(&Notification) -> bool = |one| {
            one.title.contains("its version was rejected")
                || one.title.contains("a person is needed")
                    && one.text.contains("raise max_attempts")
        };
        let flow = telling(&world, submitter.clone(), told(times, expected));
        let result = flow.run(&RetrainRequest::default()).await.expect("a result");
        assert_eq!(result.outcome, RetrainOutcome::Held);
    }
    let last = world.ledger.episodes(&subject()).await.expect("episodes").remove(0);
    assert!(last.closed.is_some_and(|closing| closing.told && closing.told_last));
}
