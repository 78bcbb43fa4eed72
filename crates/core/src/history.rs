//! What triggers decide over: the recent past of one subject, from the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::ids::{RunId, Subject};
use crate::report::{MonitoringOutcome, MonitoringReport};
use crate::version::VersionRef;

/// The recent past of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Model and target.
    pub subject: Subject,
    /// The moment that counts as now.
    pub as_of: DateTime<Utc>,
    /// What serves, if anything does.
    pub serving: Option<Serving>,
    /// Reports of windows that ended by `as_of`, in the order of their ends; one a window (its newest
    /// revision), stale ones left out.
    pub reports: Vec<MonitoringReport>,
    /// When the last training job of this subject was submitted.
    pub last_job_at: Option<DateTime<Utc>>,
}

/// The version that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Which.
    pub version: VersionRef,
    /// Since its switch was verified.
    pub since: DateTime<Utc>,
    /// When it was registered, that is, how old what it knows is.
    pub created_at: DateTime<Utc>,
}

impl History {
    /// Reports about the version that serves now, newest first: what older versions did is no
    /// reason to replace this one.
    pub fn reports_of_serving(&self) -> impl Iterator<Item = &MonitoringReport> {
        let serving: Option<Sha256Digest> = self.serving.map(|serving| serving.version.digest);
        self.reports.iter().rev().filter(move |report| Some(report.version.digest) == serving)
    }

    /// Those of [`reports_of_serving`](Self::reports_of_serving) that count as evidence, each request
    /// once, newest first: a window whose data are broken says neither that traffic has drifted nor that it
    /// has not; and one that overlaps a newer one tells in part of the same requests again.
    pub fn evidence(&self) -> impl Iterator<Item = &MonitoringReport> {
        let mut newer: Option<DateTime<Utc>> = None;
        self.reports_of_serving().filter(move |report| {
            let bounds = report.window.bounds;
            let counts = report.outcome != MonitoringOutcome::Broken
                && newer.is_none_or(|start| bounds.end() <= start);
            if counts {
                newer = Some(bounds.start());
            }
            counts
        })
    }
}

/// A trigger's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Retrain.
    Yes,
    /// No need.
    No,
    /// Too little is known; never the same as no need, and never a yes.
    CannotTell,
}

/// A trigger's answer with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// One sentence with the numbers that decided.
    pub reason: String,
    /// The monitoring runs that it rests on, oldest first.
    pub evidence: Vec<RunId>,
}
