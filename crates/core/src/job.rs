//! Training jobs: what is asked for, and how it stands.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ids::{EpisodeId, JobId, RunId, Subject};
use crate::version::VersionRef;
use crate::window::Window;

/// Version of the job file's format.
pub const JOB_FORMAT: &str = "mloop.job/1";

/// Exit codes of a training that was interrupted and goes on when its job is submitted again:
/// transient trouble, another process at the same job, and a stop with its state saved.
pub const RESUMABLE_EXIT_CODES: [i32; 3] = [30, 31, 143];

/// What a training job is asked to do: the job file that `training_main` reads. It holds all that
/// the job needs to know of the loop, since it may run where no ledger can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// [`JOB_FORMAT`].
    pub schema: String,
    /// Derived from the episode: a repeated submission finds the first.
    pub job_id: JobId,
    /// Model and target.
    pub subject: Subject,
    /// Why.
    pub cause: Cause,
    /// The version in production, which the new one must beat.
    pub champion: Option<VersionRef>,
    /// Labelled production traffic to learn from: long enough that late labels have come.
    pub traffic: Option<Window>,
    /// Where the first window begins that asked for it: nothing older is learnt from as long as
    /// enough labels have come since; none: no window did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_from: Option<DateTime<Utc>>,
    /// The moment of the decision.
    pub as_of: DateTime<Utc>,
}

/// Why a job was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// The episode.
    pub episode: EpisodeId,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// One sentence for each trigger that said yes.
    pub reasons: Vec<String>,
    /// The monitoring runs that showed it.
    pub evidence: Vec<RunId>,
}

/// How a job stands at the system that runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum JobStatus {
    /// That system has no job of this id.
    Unknown,
    /// Accepted, waiting for a place.
    Queued,
    /// Running.
    Running,
    /// Ended and left its result.
    Finished {
        /// Exit code of `training_main`.
        exit_code: i32,
        /// Its last line.
        result: Value,
    },
    /// Ended without a result: killed, or its machine was lost. Submitting again restarts it.
    Lost {
        /// What is known of its end.
        reason: String,
    },
}

impl JobStatus {
    /// Whether the job ended before it was done, so that submitting it again starts it again:
    /// lost, or ended with one of [`RESUMABLE_EXIT_CODES`].
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Lost { .. } => true,
            Self::Finished { exit_code, .. } => RESUMABLE_EXIT_CODES.contains(exit_code),
            Self::Unknown | Self::Queued | Self::Running => false,
        }
    }

    /// The end that a last line of `training_main` tells; none when it tells none. The exit code is
    /// `error.exit_code` there, else that of `outcome`.
    #[must_use]
    pub fn of_last_line(line: Value) -> Option<Self> {
        let exit_code = match line["error"]["exit_code"].as_i64() {
            Some(code) => i32::try_from(code).ok()?,
            None => VERDICTS.iter().find(|(_, outcome)| line["outcome"] == *outcome)?.0,
        };
        Some(Self::Finished { exit_code, result: line })
    }

    /// The end that an exit code of `training_main` tells, with its last line where that is left.
    /// Deaths by signal (negative, or above 128 as shells tell them) leave no result.
    #[must_use]
    pub fn of_exit_code(exit_code: i32, line: Option<Value>) -> Self {
        let resumable = RESUMABLE_EXIT_CODES.contains(&exit_code);
        if !(0..=128).contains(&exit_code) && !resumable {
            return Self::Lost { reason: format!("it was killed (exit code {exit_code})") };
        }
        let verdict = VERDICTS.iter().find(|(code, _)| *code == exit_code);
        let result = line.unwrap_or_else(|| match verdict {
            Some((_, outcome)) => json!({ "outcome": outcome }),
            None => {
                let message = "its last line is not left; its log says more";
                json!({"outcome": "error", "error": {"message": message, "exit_code": exit_code}})
            }
        });
        Self::Finished { exit_code, result }
    }
}

/// Exit codes of `training_main` that are verdicts of the gate, with their `outcome`.
const VERDICTS: [(i32, &str); 3] = [(0, "blessed"), (10, "rejected"), (11, "inconclusive")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_tells_its_exit_code() {
        let code = |line: Value| match JobStatus::of_last_line(line)? {
            JobStatus::Finished { exit_code, .. } => Some(exit_code),
            _ => None,
        };
        assert_eq!(code(json!({"outcome": "blessed"})), Some(0));
        assert_eq!(code(json!({"outcome": "rejected"})), Some(10));
        assert_eq!(code(json!({"outcome": "inconclusive", "error": null})), Some(11));
        assert_eq!(code(json!({"outcome": "error", "error": {"exit_code": 21}})), Some(21));
        for neither in [json!({"outcome": "error"}), json!("blessed"), Value::Null] {
            assert_eq!(code(neither.clone()), None, "{neither}");
        }
    }

    #[test]
    fn an_exit_code_tells_what_a_lost_line_would_have() {
        for (code, outcome) in VERDICTS {
            let told = JobStatus::of_exit_code(code, None);
            assert_eq!(Some(told.clone()), JobStatus::of_last_line(json!({ "outcome": outcome })));
            let line = json!({"outcome": outcome, "job_id": "job-1"});
            let with_line = JobStatus::of_exit_code(code, Some(line.clone()));
            assert_eq!(with_line, JobStatus::Finished { exit_code: code, result: line });
        }
        for (code, interrupted, lost) in [
            (20, false, false),
            (30, true, false),
            (31, true, false),
            (143, true, false),
            (137, true, true),
            (-9, true, true),
        ] {
            let told = JobStatus::of_exit_code(code, None);
            assert_eq!(told.is_interrupted(), interrupted, "{code}");
            assert_eq!(matches!(told, JobStatus::Lost { .. }), lost, "{code}");
        }
    }
}
