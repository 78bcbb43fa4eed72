//! The record that every run of a binary leaves in the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Sha256Digest;
use crate::ids::{RunId, Subject};
use crate::window::Window;

/// Which binary ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// `monitoring_main`.
    Monitoring,
    /// `retraining_main`.
    Retraining,
    /// `deployment_main`.
    Deployment,
}

impl RunKind {
    /// As it stands in JSON and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monitoring => "monitoring",
            Self::Retraining => "retraining",
            Self::Deployment => "deployment",
        }
    }
}

/// One run. A repeat that says something else is a new revision of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Derived from what was asked.
    pub run_id: RunId,
    /// Which binary.
    pub kind: RunKind,
    /// Model and target.
    pub subject: Subject,
    /// The version that served, where there was one.
    pub version: Option<Sha256Digest>,
    /// The window examined (monitoring only).
    pub window: Option<Window>,
    /// The moment that the run took for now.
    pub as_of: DateTime<Utc>,
    /// One word, as in the last line of output.
    pub outcome: String,
    /// The whole result: report, verdicts with their evidence, or deployment.
    pub body: Value,
}

impl RunRecord {
    /// Whether its window was already so old that nobody was told: `stale` in the body.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.body["stale"] == true
    }

    /// The deployment that a run of `deployment_main` was about: `deployment` in the body.
    #[must_use]
    pub fn deployment(&self) -> Option<&str> {
        self.body["deployment"].as_str().filter(|_| self.kind == RunKind::Deployment)
    }

    /// Whether two records of one run differ in nothing but when they were made.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let timeless = |run: &Self| {
            let mut run = Self { as_of: DateTime::UNIX_EPOCH, ..run.clone() };
            if let Some(body) = run.body.as_object_mut() {
                body.remove("as_of");
                body.remove("stale");
            }
            run
        };
        timeless(self) == timeless(other)
    }

    /// Whether a repeat takes the place of a record of the same run: when it says something else,
    /// but a stale one never that of one made in time.
    #[must_use]
    pub fn replaces(&self, known: &Self) -> bool {
        match (known.is_stale(), self.is_stale()) {
            (false, true) => false,
            (true, false) => true,
            _ => !self.says_the_same(known),
        }
    }
}
