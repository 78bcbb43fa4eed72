//! What people are told.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::Subject;

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Someone should look today.
    Warning,
    /// Someone should look now.
    Critical,
}

/// What a message is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The state of a model in production: the next window says it again, or that it is over. Also
    /// what a message without a topic is taken for.
    #[default]
    Monitoring,
    /// A training job, once.
    Retraining,
    /// A version's journey to production, once.
    Deployment,
}

impl Topic {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monitoring => "monitoring",
            Self::Retraining => "retraining",
            Self::Deployment => "deployment",
        }
    }
}

impl Severity {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One message, the same for every receiver. No secret may stand in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Stable across repeats, so that receivers can drop a second delivery.
    pub id: String,
    /// What it is about.
    #[serde(default)]
    pub topic: Topic,
    /// How loud.
    pub severity: Severity,
    /// Model and target.
    pub subject: Subject,
    /// One line.
    pub title: String,
    /// A few lines of plain text.
    pub text: String,
    /// When what it tells of happened.
    pub at: DateTime<Utc>,
}
