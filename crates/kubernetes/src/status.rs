//! What Job and pods say of a job.

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use mloop_core::job::JobStatus;
use serde_json::Value;

use crate::jobs::called;
use crate::manifest::{CONTAINER, QUEUE};

/// What a Job says by itself.
#[derive(Debug, PartialEq)]
pub(crate) enum Phase {
    /// It has not ended: this is how it stands.
    Open(JobStatus),
    /// It succeeded.
    Complete,
    /// It failed, for this reason and with this message.
    Failed(String, String),
    /// Somebody deletes it.
    Deleted,
}

/// How a Job stands.
pub(crate) fn phase(job: &Job) -> Phase {
    if job.metadata.deletion_timestamp.is_some() {
        return Phase::Deleted;
    }
    if condition(job, "Complete").is_some() {
        return Phase::Complete;
    }
    if let Some(failed) = condition(job, "Failed") {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        return Phase::Failed(text(&failed.reason), text(&failed.message));
    }
    if is_suspended(job) {
        // Its pods, where it had any, are being stopped.
        return Phase::Open(JobStatus::Queued);
    }
    let status = job.status.as_ref();
    // `ready` is there since 1.24; a pod that is not ready waits for a node or for its image.
    let counted = status.and_then(|status| status.ready.or(status.active)).unwrap_or_default();
    Phase::Open(if counted > 0 { JobStatus::Running } else { JobStatus::Queued })
}

fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true)
}

/// For people: why an open Job has no pods and will get none until somebody lets it; none where nobody
/// holds it.
pub(crate) fn held(job: &Job) -> Option<String> {
    if !is_suspended(job) || !matches!(phase(job), Phase::Open(_)) {
        return None;
    }
    let labels = job.metadata.labels.as_ref();
    Some(match labels.and_then(|labels| labels.get(QUEUE)) {
        Some(queue) => format!(
            "it is suspended until Kueue admits it from its queue `{queue}`; `kubectl get workloads` says what \
             it waits for"
        ),
        None => "it is suspended and in no queue of Kueue: it waits until somebody sets `suspend` to false"
            .to_owned(),
    })
}

fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// How a job stands by its Job, with the pods of that.
pub(crate) fn of(job: &Job, pods: &[Pod]) -> JobStatus {
    match phase(job) {
        Phase::Open(status) => status,
        Phase::Deleted => {
            JobStatus::Lost { reason: format!("the Job `{}` is being deleted", called(job)) }
        }
        Phase::Complete => match last_end(job, pods, Some(0)) {
            Some(ended) => end(ended),
            None => JobStatus::of_exit_code(0, None),
        },
        Phase::Failed(reason, message) => match last_end(job, pods, None) {
            Some(ended) => end(ended),
            None => match told_exit_code(&reason, &message) {
                Some(exit_code) => JobStatus::of_exit_code(exit_code, None),
                None => {
                    let reason = format!("the Job `{}` failed: {reason}: {message}", called(job));
                    JobStatus::Lost { reason }
                }
            },
        },
    }
}

/// The newest end of the training among the pods of a Job, with this exit code if one is named.
fn last_end<'a>(
    job: &Job,
    pods: &'a [Pod],
    exit_code: Option<i32>,
) -> Option<&'a ContainerStateTerminated> {
    let uid = job.metadata.uid.as_deref()?;
    let owned = pods.iter().filter(|pod| {
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        owners.iter().any(|owner| owner.uid == uid)
    });
    let ends = owned.filter_map(|pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let training = containers.iter().find(|container| container.name == CONTAINER)?;
        training.state.as_ref()?.terminated.as_ref()
    });
    let wanted = ends.filter(|end| exit_code.is_none_or(|code| end.exit_code == code));
    wanted.max_by_key(|end| end.finished_at.as_ref().map(|at| at.0))
}

fn end(ended: &ContainerStateTerminated) -> JobStatus {
    let line = ended.message.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let line = line.filter(Value::is_object);
    match JobStatus::of_exit_code(ended.exit_code, line) {
        JobStatus::Lost { reason } => match ended.reason.as_deref() {
            Some(why) if why != "Error" => JobStatus::Lost { reason: format!("{reason}, {why}") },
            _ => JobStatus::Lost { reason },
        },
        status => status,
    }
}

/// The exit code in the message of a Job whose pods are gone: `Container training for pod ml/x failed
/// with exit code 10 matching FailJob rule at index 0`.
fn told_exit_code(reason: &str, message: &str) -> Option<i32> {
    if reason != "PodFailurePolicy" {
        return None;
    }
    let (_, rest) = message.split_once(" exit code ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(status: &Value) -> Job {
        serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"}, "status": status}))
            .expect("a Job")
    }

    fn pod(owner: &str, at: u32, code: i32, message: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner}]},
            "status": {"containerStatuses": [{
                "name": "training", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "message": message, "reason": "Error",
                    "finishedAt": format!("2026-03-01T00:00:{at:02}Z")}},
            }]},
        }))
        .expect("a pod")
    }

    /// The status in one word.
    fn shown(status: &JobStatus) -> String {
        match status {
            JobStatus::Finished { exit_code, result } => {
                format!("{exit_code} {}", result["outcome"].as_str().unwrap_or("?"))
            }
            JobStatus::Lost { reason } => format!("lost: {reason}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn ended(kind: &str, reason: &str, message: &str) -> Job {
        job(&json!({"conditions": [
            {"type": "FailureTarget", "status": "True"},
            {"type": kind, "status": "True", "reason": reason, "message": message}]}))
    }

    #[test]
    fn open_jobs_wait_or_run() {
        for (status, expected) in [
            (json!({}), "queued"),
            (json!({"active": 1, "ready": 0}), "queued"),
            (json!({"active": 1, "ready": 1}), "running"),
            (json!({"active": 1}), "running"),
            (json!({"conditions": [{"type": "Suspended", "status": "True"}]}), "queued"),
            (json!({"active": 1, "ready": 1, "failed": 2}), "running"),
            (json!({"conditions": [{"type": "Suspended", "status": "False"}]}), "queued"),
            (json!({"conditions": [{"type": "Failed", "status": "False"}]}), "queued"),
            (json!({"conditions": [{"type": "FailureTarget", "status": "True"}]}), "queued"),
        ] {
            assert_eq!(shown(&of(&job(&status), &[])), expected, "{status}");
        }
        let mut deleted = job(&json!({"active": 1, "ready": 1}));
        deleted.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-03-01T00:00:00Z")).expect("a time");
        assert!(shown(&of(&deleted, &[])).starts_with("lost"), "{deleted:?}");
    }

    #[test]
    fn a_suspended_job_waits_and_it_is_told_for_whom() {
        let job = |suspend: bool, queue: Option<&str>, status: &Value| -> Job {
            let labels = queue.map(|queue| json!({QUEUE: queue}));
            serde_json::from_value(
                json!({"metadata": {"name": "j", "labels": labels}, "status": status,
                "spec": {"suspend": suspend, "template": {"spec": {"containers": []}}}}),
            )
            .expect("a Job")
        };
        let running = json!({"active": 1, "ready": 1});
        let ended = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let preempted = job(true, Some("nightly"), &running);
        assert_eq!(shown(&of(&preempted, &[])), "queued", "its pod is being stopped");
        for (job, expected) in [
            (preempted, Some("its queue `nightly`")),
            (job(true, None, &json!({})), Some("in no queue")),
            (job(false, Some("nightly"), &running), None),
            (job(true, Some("nightly"), &ended), None),
        ] {
            let told = held(&job);
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn ended_jobs_tell_exit_code_and_last_line() {
        let line = r#"{"outcome":"blessed","version":{"number":2}}"#;
        let policy =
            "Container training for pod ml/x failed with exit code 11 matching FailJob rule";
        let rejected = pod("u", 2, 10, r#"{"outcome":"rejected"}"#);
        let broken = pod("u", 1, 30, r#"{"outcome":"error","error":{"exit_code":30}}"#);
        let table: Vec<(Job, Vec<Pod>, &str)> = vec![
            (ended("Complete", "", ""), vec![pod("u", 2, 0, line), broken.clone()], "0 blessed"),
            (ended("Complete", "", ""), vec![], "0 blessed"),
            (
                ended("Failed", "PodFailurePolicy", policy),
                vec![broken.clone(), rejected.clone()],
                "10 rejected",
            ),
            (
                ended("Failed", "PodFailurePolicy", policy),
                vec![rejected, broken.clone()],
                "10 rejected",
            ),
            (ended("Failed", "PodFailurePolicy", policy), vec![], "11 inconclusive"),
            (
                ended("Failed", "PodFailurePolicy", policy),
                vec![pod("other", 3, 0, line)],
                "11 inconclusive",
            ),
            (ended("Failed", "BackoffLimitExceeded", "m"), vec![broken], "30 error"),
            (
                ended("Failed", "BackoffLimitExceeded", "m"),
                vec![],
                "lost: the Job `j` failed: BackoffLimitExceeded: m",
            ),
            (
                ended("Failed", "BackoffLimitExceeded", "m"),
                vec![pod("u", 1, 20, "no JSON")],
                "20 error",
            ),
            (
                ended("Failed", "BackoffLimitExceeded", "m"),
                vec![pod("u", 1, 137, "")],
                "lost: it was killed (exit code 137)",
            ),
        ];
        for (job, pods, expected) in table {
            assert_eq!(shown(&of(&job, &pods)), expected, "{pods:?}");
        }
    }
}
