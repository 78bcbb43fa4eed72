//! The journey of a version to production: its steps, its journal and its verdict.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{DeploymentId, Subject};
use crate::version::VersionRef;

/// A step of a deployment. Each begins with an intent in the journal and ends with an outcome; a
/// killed run is taken up at the first step without an outcome.
///
/// The steps [forward](Self::FORWARD) lead to the version's verdict; those [back](Self::BACK) undo
/// what the former did. [`ProductionRestored`](Self::ProductionRestored) is none of them: it follows a
/// verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The version was chosen.
    Planned,
    /// The staging endpoint serves the version, its digest read back.
    StagingVerified,
    /// The smoke tests passed.
    SmokePassed,
    /// Production was asked to serve the version.
    ProductionSubmitted,
    /// Production answers with the version's digest, over many connections.
    ProductionVerified,
    /// The aliases of the registry follow.
    AliasMoved,
    /// The staging endpoint is gone (or kept, where the configuration says so).
    StagingRemoved,
    /// People were told.
    Notified,
    /// Production was asked to serve the version before.
    RollbackSubmitted,
    /// Production answers with the digest of the version before, over many connections.
    RollbackVerified,
    /// The aliases of the registry follow back.
    RollbackAliasMoved,
    /// The staging endpoint is gone (or kept, where the configuration says so).
    RollbackStagingRemoved,
    /// People were told of the way back.
    RollbackNotified,
    /// A call for this deployment came after its end, and production serves again what it should.
    ProductionRestored,
}

impl Step {
    /// All steps: those forward, those back, and what may follow. The ledger keeps their positions, so
    /// that a new one comes last.
    pub const ALL: [Self; 14] = [
        Self::Planned,
        Self::StagingVerified,
        Self::SmokePassed,
        Self::ProductionSubmitted,
        Self::ProductionVerified,
        Self::AliasMoved,
        Self::StagingRemoved,
        Self::Notified,
        Self::RollbackSubmitted,
        Self::RollbackVerified,
        Self::RollbackAliasMoved,
        Self::RollbackStagingRemoved,
        Self::RollbackNotified,
        Self::ProductionRestored,
    ];

    /// The way to production, in order.
    pub const FORWARD: [Self; 8] = [
        Self::Planned,
        Self::StagingVerified,
        Self::SmokePassed,
        Self::ProductionSubmitted,
        Self::ProductionVerified,
        Self::AliasMoved,
        Self::StagingRemoved,
        Self::Notified,
    ];

    /// The way back, in order.
    pub const BACK: [Self; 5] = [
        Self::RollbackSubmitted,
        Self::RollbackVerified,
        Self::RollbackAliasMoved,
        Self::RollbackStagingRemoved,
        Self::RollbackNotified,
    ];

    /// As it stands in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::StagingVerified => "staging_verified",
            Self::SmokePassed => "smoke_passed",
            Self::ProductionSubmitted => "production_submitted",
            Self::ProductionVerified => "production_verified",
            Self::AliasMoved => "alias_moved",
            Self::StagingRemoved => "staging_removed",
            Self::Notified => "notified",
            Self::RollbackSubmitted => "rollback_submitted",
            Self::RollbackVerified => "rollback_verified",
            Self::RollbackAliasMoved => "rollback_alias_moved",
            Self::RollbackStagingRemoved => "rollback_staging_removed",
            Self::RollbackNotified => "rollback_notified",
            Self::ProductionRestored => "production_restored",
        }
    }
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentVerdict {
    /// The version serves, verified.
    Switched,
    /// The smoke tests failed; production was never touched.
    SmokeFailed,
    /// Production went, or was taken, back to the version before.
    RolledBack,
    /// It was ended on request before production was touched.
    Abandoned,
}

impl DeploymentVerdict {
    /// As it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::SmokeFailed => "smoke_failed",
            Self::RolledBack => "rolled_back",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One journey of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Derived from subject, version and attempt.
    pub id: DeploymentId,
    /// Model and target.
    pub subject: Subject,
    /// The version.
    pub version: VersionRef,
    /// When the registry made the version.
    pub version_created_at: DateTime<Utc>,
    /// From 1; more only by `--again`.
    pub attempt: u32,
    /// What served before; the way back.
    pub previous: Option<VersionRef>,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// How it ended; none while under way.
    pub verdict: Option<DeploymentVerdict>,
    /// When the verdict fell: for `switched` the verified switch time, for `rolled_back` that of
    /// the way back.
    pub closed_at: Option<DateTime<Utc>>,
    /// The verdict that a way back leads to, once one was asked for. It is written in the moment in
    /// which a deployment that had been switched loses that verdict, so that whoever comes next
    /// finishes the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<DeploymentVerdict>,
}

impl Deployment {
    /// Whether it is under way: forward, or back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.verdict.is_none()
    }

    /// The id of a deployment.
    #[must_use]
    pub fn id_of(subject: &Subject, version: &VersionRef, attempt: u32) -> DeploymentId {
        let (digest, attempt) = (version.digest.to_string(), attempt.to_string());
        DeploymentId::derive(&[
            subject.model.as_str(),
            subject.target.as_str(),
            digest.as_str(),
            attempt.as_str(),
        ])
    }
}

/// Whether a journal entry was written before or after the call it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Written before: the call may or may not have gone out.
    Intent,
    /// Written after: the call is known to have had its effect.
    Outcome,
}

impl Phase {
    /// As it stands in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
        }
    }
}

/// One entry of a deployment's journal. There is at most one of each step and phase: a repeat
/// leaves the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Which step.
    pub step: Step,
    /// Before or after.
    pub phase: Phase,
    /// When.
    pub at: DateTime<Utc>,
    /// What was asked or answered: names, digests, the report of the smoke tests.
    pub detail: Value,
}

/// A call that asks a platform to change production, written down by the run that makes it: directly
/// before, and once it returned.
///
/// There is at most one of each deployment, step and run: made again by the same run, it takes the
/// place of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCall {
    /// For which deployment.
    pub deployment: DeploymentId,
    /// In which step.
    pub step: Step,
    /// The fencing number of the run.
    pub fence: u64,
    /// The digest of the version that it puts into production.
    pub asks: crate::Sha256Digest,
    /// When it was about to be made.
    pub announced_at: DateTime<Utc>,
    /// When it returned, with whatever answer, to its run, which held its lease still. None: the run may
    /// have been stopped in between, and the call may come, or have come, at any moment.
    pub returned_at: Option<DateTime<Utc>>,
}

/// What serves at an endpoint, as the platform that runs it tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointDescription {
    /// How it is.
    pub state: EndpointState,
    /// Digest of the version that it is configured to serve.
    pub configured: Option<crate::Sha256Digest>,
    /// Digest of the version that an update under way leads to.
    pub pending: Option<crate::Sha256Digest>,
    /// The platform's own words, for messages.
    pub detail: String,
}

impl EndpointDescription {
    /// Digest of the version that it serves once what is under way is done.
    #[must_use]
    pub fn leads_to(&self) -> Option<crate::Sha256Digest> {
        self.pending.or(self.configured)
    }
}

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It answers.
    InService,
    /// A change is under way.
    Changing,
    /// It does not answer and will not by itself.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_are_those_forward_those_back_and_the_one_that_follows() {
        let ways = Step::FORWARD.into_iter().chain(Step::BACK);
        let all: Vec<Step> = ways.chain([Step::ProductionRestored]).collect();
        assert_eq!(all, Step::ALL);
        for (position, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, position, "the ledger keeps positions");
            let json = serde_json::to_value(step).expect("json");
            assert_eq!(json, step.as_str());
        }
    }

    #[test]
    fn a_deployment_that_never_turned_back_reads_as_in_older_releases() {
        let subject = Subject {
            model: crate::ModelName::new("m").expect("a name"),
            target: crate::TargetName::new("t").expect("a name"),
        };
        let version = VersionRef { number: 2, digest: crate::Sha256Digest::of(b"two") };
        let at = "2026-03-01T00:00:00Z".parse().expect("a moment");
        let deployment = Deployment {
            id: Deployment::id_of(&subject, &version, 1),
            subject,
            version,
            version_created_at: at,
            attempt: 1,
            previous: None,
            opened_at: at,
            verdict: Some(DeploymentVerdict::Switched),
            closed_at: Some(at),
            way_back: None,
        };
        let written = serde_json::to_value(&deployment).expect("json");
        assert_eq!(written.get("way_back"), None);
        let read: Deployment = serde_json::from_value(written).expect("readable");
        assert_eq!(read, deployment);
        assert!(!read.is_open());
    }
}
