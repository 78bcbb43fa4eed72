//! The rules of job submitters.

use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};

use super::samples;
use crate::{JobSubmitter, PlatformError};

/// Submits a job twice and a stranger under its id. Jobs of the submitter must live, or leave a
/// result, for as long as the suite takes.
///
/// # Panics
/// With the broken rule.
pub async fn check_submitter(submitter: &dyn JobSubmitter) {
    let nobody = JobId::derive(&["conformance", "nobody"]);
    let unknown = submitter.status(&nobody).await.expect("an unknown job is an answer");
    assert_eq!(unknown, JobStatus::Unknown, "there is no such job");
    submitter.cancel(&nobody).await.expect("an unknown job is as good as stopped");

    let spec = samples::job("conformance");
    let first = submitter.submit_training_job(&spec).await.expect("a first submission");
    assert!(!first.adopted, "the job was not there before");
    assert!(!first.handle.is_empty(), "people need a name for the job");
    let status = submitter.status(&spec.job_id).await.expect("a status");
    assert_ne!(status, JobStatus::Unknown, "a submitted job is known");
    let again = submitter.submit_training_job(&spec).await.expect("a repeat");
    assert!(again.adopted, "a repeat starts nothing and adopts the job: {again:?}");
    assert_eq!(again.handle, first.handle, "it is the same job");

    let other = JobSpec { as_of: spec.as_of + chrono::TimeDelta::seconds(1), ..spec.clone() };
    let refusal = submitter.submit_training_job(&other).await.expect_err("other content");
    assert!(matches!(refusal, PlatformError::Conflict { .. }), "{refusal:?}");

    let second = samples::job("conformance, a second job");
    let separate = submitter.submit_training_job(&second).await.expect("another job");
    assert!(!separate.adopted, "jobs of other ids are other jobs");
    for job in [&spec.job_id, &spec.job_id, &second.job_id] {
        submitter.cancel(job).await.expect("asked to stop, also twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{ScriptedSubmitter, SubmitterFault};

    #[tokio::test]
    async fn the_fake_passes() {
        let fake = ScriptedSubmitter::new([JobStatus::Queued, JobStatus::Running]);
        check_submitter(&fake).await;
        assert_eq!((fake.calls(), fake.starts(), fake.cancelled().len()), (4, 2, 2));
    }

    #[tokio::test]
    async fn the_fake_restarts_an_interrupted_job_only() {
        let ended = |exit_code| JobStatus::Finished { exit_code, result: serde_json::json!({}) };
        for (status, adopted) in
            [(ended(30), false), (ended(143), false), (ended(0), true), (ended(20), true)]
        {
            let fake = ScriptedSubmitter::new([status.clone()]);
            let spec = samples::job("a job");
            fake.submit_training_job(&spec).await.expect("a first submission");
            assert_eq!(fake.status(&spec.job_id).await.expect("a status"), status);
            let again = fake.submit_training_job(&spec).await.expect("a repeat");
            assert_eq!(again.adopted, adopted, "{status:?}");
        }
    }

    #[tokio::test]
    async fn the_fake_restarts_a_lost_job_and_follows_its_script() {
        let lost = JobStatus::Lost { reason: "killed".to_owned() };
        let fake = ScriptedSubmitter::new([JobStatus::Running, lost.clone()]);
        let spec = samples::job("a job");
        fake.set_fault(Some(SubmitterFault::AnswerLost));
        fake.submit_training_job(&spec).await.expect_err("the answer was lost");
        assert!(fake.submit_training_job(&spec).await.expect("a repeat").adopted);
        for expected in [&JobStatus::Running, &lost, &lost] {
            assert_eq!(fake.status(&spec.job_id).await.expect("a status"), *expected);
        }
        assert!(!fake.submit_training_job(&spec).await.expect("a restart").adopted);
        assert_eq!(fake.status(&spec.job_id).await.expect("a status"), JobStatus::Running);
        assert_eq!((fake.calls(), fake.starts()), (3, 2));
    }

    #[tokio::test]
    #[should_panic(expected = "a repeat starts nothing")]
    async fn a_second_start_is_caught() {
        let fake = ScriptedSubmitter::new([]);
        fake.set_fault(Some(SubmitterFault::StartsTwice));
        check_submitter(&fake).await;
    }

    #[tokio::test]
    #[should_panic(expected = "other content")]
    async fn a_stranger_under_a_known_id_is_caught() {
        let fake = ScriptedSubmitter::new([]);
        fake.set_fault(Some(SubmitterFault::AdoptsAnything));
        check_submitter(&fake).await;
    }
}
