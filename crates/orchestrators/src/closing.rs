//! What the state of a job means for its episode.

use mloop_core::episode::{Episode, EpisodeOutcome, JobState};
use mloop_core::job::JobStatus;
use mloop_core::version::tags;
use mloop_core::{ModelVersion, Sha256Digest, VersionRef};

/// What is to be done about an open episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Its job is on its way.
    Wait,
    /// The job never arrived: submit it, as was intended.
    Submit,
    /// The job was lost or interrupted: submit it again under its id.
    Restart {
        /// What is known of its end.
        reason: String,
    },
    /// The episode ends.
    Close {
        /// How.
        outcome: EpisodeOutcome,
        /// The version that came of it.
        version: Option<VersionRef>,
        /// One sentence.
        detail: String,
        /// Whether the job may still run, and is to be stopped.
        cancel: bool,
    },
}

/// Decides over an open episode. `versions` are those of the model in the registry; `serving` is
/// what now serves; a job may be started again `max_restarts` times.
#[must_use]
pub fn next(
    episode: &Episode,
    status: &JobStatus,
    versions: &[ModelVersion],
    serving: Option<&Sha256Digest>,
    max_restarts: u32,
) -> Next {
    if let JobStatus::Finished { exit_code, result } = status
        && !status.is_interrupted()
    {
        return finished(episode, *exit_code, result, versions);
    }
    if episode.serving.map(|version| version.digest).as_ref() != serving {
        return Next::Close {
            outcome: EpisodeOutcome::Superseded,
            version: None,
            detail: "another version serves now".to_owned(),
            cancel: true,
        };
    }
    let reason = match status {
        JobStatus::Queued | JobStatus::Running => return Next::Wait,
        JobStatus::Unknown if episode.job.state == JobState::Submitting => return Next::Submit,
        JobStatus::Unknown => "the submitter does not know the job any more".to_owned(),
        JobStatus::Lost { reason } => reason.clone(),
        JobStatus::Finished { exit_code, .. } => format!("it stopped with exit code {exit_code}"),
    };
    if episode.job.submissions <= max_restarts {
        return Next::Restart { reason };
    }
    let tries = episode.job.submissions;
    let detail =
        format!("the job was submitted {tries} times and lost each time, at last: {reason}");
    Next::Close { outcome: EpisodeOutcome::Failed, version: None, detail, cancel: false }
}

fn finished(
    episode: &Episode,
    exit_code: i32,
    result: &serde_json::Value,
    versions: &[ModelVersion],
) -> Next {
    let version = version_of(episode, result, versions);
    let said = result.get("outcome").and_then(serde_json::Value::as_str);
    let ready = version.is_some_and(ModelVersion::is_staging_ready);
    let (outcome, detail) = match (exit_code, said) {
        (0, Some("blessed")) if ready => (EpisodeOutcome::Blessed, "the gate passed".to_owned()),
        (0, Some("blessed")) => {
            let detail =
                "the job says blessed, but the registry has no version of it that is ready";
            (EpisodeOutcome::Failed, detail.to_owned())
        }
        (10, Some("rejected")) => (EpisodeOutcome::Rejected, "the gate refused it".to_owned()),
        (11, Some("inconclusive")) => {
            (EpisodeOutcome::Inconclusive, "the gate could not tell".to_owned())
        }
        _ => (EpisodeOutcome::Failed, failure(exit_code, result)),
    };
    Next::Close { outcome, version: version.map(|version| version.version), detail, cancel: false }
}

/// The version that a job left: by its tag, or, when it found its model registered already, by the
/// digest in its result.
fn version_of<'a>(
    episode: &Episode,
    result: &serde_json::Value,
    versions: &'a [ModelVersion],
) -> Option<&'a ModelVersion> {
    let job = episode.job.id.as_str();
    let tagged =
        |version: &&ModelVersion| version.tags.get(tags::JOB_ID).is_some_and(|tag| tag == job);
    let digest = result.pointer("/version/digest").and_then(serde_json::Value::as_str);
    let named = |version: &&ModelVersion| digest == Some(&version.version.digest.to_string());
    versions.iter().find(tagged).or_else(|| versions.iter().find(named))
}

fn failure(exit_code: i32, result: &serde_json::Value) -> String {
    let said = result.get("error").or_else(|| result.get("message"));
    let said = said.map_or(String::new(), |text| format!(": {text}"));
    format!("the job failed with exit code {exit_code}{said}; its log says more")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use mloop_core::episode::JobRecord;
    use mloop_core::{JobId, ModelName, Subject, TargetName};
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-03-01T00:00:00Z".parse().expect("a moment")
    }

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn episode(state: JobState, submissions: u32) -> Episode {
        let subject = Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        };
        let id = Episode::id_of(&subject, None, 1);
        Episode {
            job: JobRecord { id: JobId::derive(&["job"]), state, submissions },
            id,
            subject,
            serving: Some(reference(1)),
            attempt: 1,
            opened_at: now(),
            reasons: vec![],
            evidence: vec![],
            traffic: None,
            evidence_from: None,
            announced: true,
            closed: None,
        }
    }

    fn version(number: u64, tagged: &[(&str, &str)]) -> ModelVersion {
        let tag = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ModelVersion {
            model: ModelName::new("m").expect("a name"),
            version: reference(number),
            created_at: now(),
            source: "memory".to_owned(),
            tags: tagged.iter().map(tag).collect::<BTreeMap<_, _>>(),
        }
    }

    /// `wait`, `submit`, `restart`, or the outcome with the version's number.
    fn decided(episode: &Episode, status: &JobStatus, serving: u64) -> String {
        let job = JobId::derive(&["job"]);
        let versions = [
            version(3, &[(tags::JOB_ID, "another")]),
            version(2, &[(tags::JOB_ID, job.as_str()), (tags::STAGING_READY, "true")]),
        ];
        match next(episode, status, &versions, Some(&reference(serving).digest), 1) {
            Next::Wait => "wait".to_owned(),
            Next::Submit => "submit".to_owned(),
            Next::Restart { .. } => "restart".to_owned(),
            Next::Close { outcome, version, cancel, .. } => {
                let number = version.map_or(0, |version| version.number);
                format!("{outcome:?} {number}{}", if cancel { " cancel" } else { "" })
            }
        }
    }

    #[test]
    fn the_state_of_the_job_decides() {
        let done = |exit_code, outcome: &str| JobStatus::Finished {
            exit_code,
            result: json!({ "outcome": outcome }),
        };
        let lost = || JobStatus::Lost { reason: "killed".to_owned() };
        let (submitting, submitted) = (JobState::Submitting, JobState::Submitted);
        let table = [
            ("intent without a call", submitting, 1, JobStatus::Unknown, 1, "submit"),
            ("forgotten", submitted, 1, JobStatus::Unknown, 1, "restart"),
            ("queued", submitted, 1, JobStatus::Queued, 1, "wait"),
            ("arrived, not journaled", submitting, 1, JobStatus::Running, 1, "wait"),
            ("lost", submitted, 1, lost(), 1, "restart"),
            ("lost too often", submitted, 2, lost(), 1, "Failed 0"),
            ("stopped", submitted, 1, done(143, "error"), 1, "restart"),
            ("stopped too often", submitted, 2, done(143, "error"), 1, "Failed 0"),
            ("transient trouble", submitted, 1, done(30, "error"), 1, "restart"),
            ("blessed", submitted, 1, done(0, "blessed"), 1, "Blessed 2"),
            ("rejected", submitted, 1, done(10, "rejected"), 1, "Rejected 2"),
            ("inconclusive", submitted, 1, done(11, "inconclusive"), 1, "Inconclusive 2"),
            ("a bug", submitted, 1, done(1, "error"), 1, "Failed 2"),
            ("code and word differ", submitted, 1, done(0, "rejected"), 1, "Failed 2"),
            ("another serves", submitted, 1, JobStatus::Running, 9, "Superseded 0 cancel"),
            ("lost, another serves", submitted, 1, lost(), 9, "Superseded 0 cancel"),
            ("its own version serves already", submitted, 1, done(0, "blessed"), 2, "Blessed 2"),
        ];
        for (name, state, submissions, status, serving, expected) in table {
            let found = decided(&episode(state, submissions), &status, serving);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_job_that_found_its_model_registered_names_it_by_digest() {
        let result = json!({
            "outcome": "rejected",
            "version": { "number": 3, "digest": reference(3).digest },
        });
        let status = JobStatus::Finished { exit_code: 10, result };
        let versions = [version(3, &[])];
        let serving = reference(1).digest;
        let found = next(&episode(JobState::Submitted, 1), &status, &versions, Some(&serving), 1);
        let Next::Close { outcome, version, .. } = found else { panic!("{found:?}") };
        assert_eq!((outcome, version), (EpisodeOutcome::Rejected, Some(reference(3))));
    }

    #[test]
    fn blessed_without_a_ready_version_is_a_failure() {
        let status = JobStatus::Finished { exit_code: 0, result: json!({"outcome": "blessed"}) };
        let serving = reference(1).digest;
        let found = next(&episode(JobState::Submitted, 1), &status, &[], Some(&serving), 1);
        let failed = matches!(found, Next::Close { outcome: EpisodeOutcome::Failed, .. });
        assert!(failed, "{found:?}");
    }
}
