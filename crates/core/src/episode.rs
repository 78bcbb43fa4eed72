//! An episode: one cause of retraining, from the first yes to its end.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::ids::{EpisodeId, JobId, RunId, Subject};
use crate::version::VersionRef;
use crate::window::Window;

/// One cause of retraining: `(model, target, digest of the serving version, attempt)`.
///
/// It opens at the first yes and closes when its job ends or another version serves; while it is
/// open, later yeses are attached to it as evidence and ask for nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Derived from the four parts.
    pub id: EpisodeId,
    /// Model and target.
    pub subject: Subject,
    /// The version that served when it opened; none before the first deployment.
    pub serving: Option<VersionRef>,
    /// From 1; a failed or rejected job makes room for the next after the cooldown.
    pub attempt: u32,
    /// When it opened.
    pub opened_at: DateTime<Utc>,
    /// One sentence for each trigger that said yes when it opened.
    pub reasons: Vec<String>,
    /// Monitoring runs that said yes, oldest first.
    pub evidence: Vec<RunId>,
    /// Labelled traffic that its job may learn from.
    pub traffic: Option<Window>,
    /// Where the first window begins that asked for it, see
    /// [`JobSpec`](crate::job::JobSpec::evidence_from).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_from: Option<DateTime<Utc>>,
    /// Its job.
    pub job: JobRecord,
    /// Whether people have been told that its job was submitted.
    pub announced: bool,
    /// How it ended; none while it is open.
    pub closed: Option<Closing>,
}

/// The job of an episode, as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Derived from the episode.
    pub id: JobId,
    /// How far it has come.
    pub state: JobState,
    /// How often it was submitted: 1, and one more for each time that it was lost.
    pub submissions: u32,
}

/// How far a job has come, as the ledger knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The intent to submit is written down; the call may or may not have gone out.
    Submitting,
    /// The submitter accepted it.
    Submitted,
    /// It ended, see [`Closing`].
    Ended,
}

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When it was noticed.
    pub at: DateTime<Utc>,
    /// How.
    pub outcome: EpisodeOutcome,
    /// The version that came of it, blessed or not.
    pub version: Option<VersionRef>,
    /// One sentence more.
    pub detail: String,
    /// Whether people know of the end, or need not: the cause is gone, or a version waits. In
    /// records of older releases nobody waits to be told.
    #[serde(default = "yes")]
    pub told: bool,
    /// Whether people have been told that no attempt follows this one, as many having failed as are
    /// allowed.
    #[serde(default)]
    pub told_last: bool,
}

fn yes() -> bool {
    true
}

/// The ways an episode ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeOutcome {
    /// The gate passed: a version waits for deployment.
    Blessed,
    /// The gate refused the new version.
    Rejected,
    /// The gate could not tell.
    Inconclusive,
    /// The job failed, or was lost too often.
    Failed,
    /// Another version serves now; the cause is gone.
    Superseded,
}

impl EpisodeOutcome {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blessed => "blessed",
            Self::Rejected => "rejected",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the cause stands and another attempt may follow after the cooldown.
    #[must_use]
    pub fn may_be_tried_again(self) -> bool {
        matches!(self, Self::Rejected | Self::Inconclusive | Self::Failed)
    }
}

impl Episode {
    /// The id of an episode.
    #[must_use]
    pub fn id_of(subject: &Subject, serving: Option<&Sha256Digest>, attempt: u32) -> EpisodeId {
        let serving = serving.map_or_else(|| "none".to_owned(), ToString::to_string);
        let attempt = attempt.to_string();
        EpisodeId::derive(&[
            subject.model.as_str(),
            subject.target.as_str(),
            serving.as_str(),
            attempt.as_str(),
        ])
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ends_of_older_releases_are_not_told_again() {
        let at = "2026-03-01T00:00:00Z";
        let old = json!({"at": at, "outcome": "rejected", "version": null, "detail": "no"});
        let closing: Closing = serde_json::from_value(old).expect("readable");
        assert_eq!((closing.told, closing.told_last), (true, false));
        assert_eq!(json!(closing.outcome), closing.outcome.as_str());
    }
}
