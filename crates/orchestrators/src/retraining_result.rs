//! What a retraining run came to: the last line of output, and its record in the ledger.

use chrono::{DateTime, Utc};
use mloop_core::episode::EpisodeOutcome;
use mloop_core::history::Verdict;
use mloop_core::{EpisodeId, JobId, RunId, VersionRef};
use serde::{Deserialize, Serialize};

/// Version of the result's format.
pub const RETRAINING_FORMAT: &str = "mloop.retraining/1";

/// What a retraining run came to, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrainOutcome {
    /// A job was submitted.
    Submitted,
    /// The cause has its job already.
    Adopted,
    /// No need.
    No,
    /// Held back.
    Held,
    /// Too little is known.
    CannotTell,
}

impl RetrainOutcome {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Adopted => "adopted",
            Self::No => "no",
            Self::Held => "held",
            Self::CannotTell => "cannot_tell",
        }
    }

    /// Whether the cause has a job: exit code 0, else 99.
    #[must_use]
    pub fn has_job(self) -> bool {
        matches!(self, Self::Submitted | Self::Adopted)
    }
}

/// What a retraining run came to: the last line of output, and its record in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrainResult {
    /// [`RETRAINING_FORMAT`].
    pub schema: String,
    /// The run.
    pub run_id: RunId,
    /// In one word.
    pub outcome: RetrainOutcome,
    /// Why, for people.
    pub reason: String,
    /// The moment that the run took for now.
    pub as_of: DateTime<Utc>,
    /// The version that serves.
    pub serving: Option<VersionRef>,
    /// The episode that was opened or added to.
    pub episode: Option<EpisodeId>,
    /// Its job.
    pub job_id: Option<JobId>,
    /// Each trigger's answer, in order.
    pub verdicts: Vec<NamedVerdict>,
    /// Episodes whose job was found at its end.
    pub closed: Vec<ClosedEpisode>,
    /// Messages that could not be delivered; the next run tries again.
    pub notification_failures: Vec<String>,
}

/// A trigger's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedVerdict {
    /// The trigger's name.
    pub trigger: String,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// An episode that this run closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedEpisode {
    /// Which.
    pub episode: EpisodeId,
    /// How it ended.
    pub outcome: EpisodeOutcome,
    /// What came of it.
    pub version: Option<VersionRef>,
    /// One sentence.
    pub detail: String,
}
