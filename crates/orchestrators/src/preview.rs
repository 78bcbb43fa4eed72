//! What a retraining run would do.

use chrono::{DateTime, Utc};
use mloop_core::{EpisodeId, JobId};
use serde::Serialize;

use crate::closing::Next;
use crate::plan::Plan;
use crate::retraining::{close, named};
use crate::{
    ClosedEpisode, NamedVerdict, OrchestratorError, RetrainOrchestrator, RetrainRequest, past,
};

/// What a retraining run would do at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrainPreview {
    /// The moment.
    pub as_of: DateTime<Utc>,
    /// What would follow from the decision.
    pub would: Would,
    /// Episodes that it would close, their job having ended or lost its reason.
    pub closes: Vec<ClosedEpisode>,
    /// Jobs of open episodes that it would submit, or start again.
    pub submits: Vec<JobId>,
    /// Each trigger's answer, in order.
    pub verdicts: Vec<NamedVerdict>,
}

/// A [`Plan`], as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Would {
    /// Nothing: no need.
    No,
    /// Nothing: too little is known.
    CannotTell,
    /// Nothing, for this reason.
    Hold(String),
    /// The episode has its job already.
    AddEvidenceTo(EpisodeId),
    /// A job would be submitted, the cause's attempt of this number.
    SubmitAttempt(u32),
}

impl From<Plan> for Would {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::No => Self::No,
            Plan::CannotTell => Self::CannotTell,
            Plan::Hold { reason } | Plan::GiveUp { reason, .. } => Self::Hold(reason),
            Plan::Attach { episode } => Self::AddEvidenceTo(episode),
            Plan::Open { attempt } => Self::SubmitAttempt(attempt),
        }
    }
}

impl RetrainOrchestrator {
    /// Says what [`run`](Self::run) would do at that moment, by the functions that it decides with.
    /// Reads only: takes no lease, tells nobody.
    ///
    /// # Errors
    /// When ledger, registry or submitter could not be asked.
    pub async fn preview(
        &self,
        request: &RetrainRequest,
    ) -> Result<RetrainPreview, OrchestratorError> {
        let subject = &self.config.subject;
        let as_of = request.as_of.unwrap_or_else(|| self.deps.clock.now());
        let deployments = self.deps.journal.deployments(subject).await?;
        let serving = past::serving(&deployments);
        let mut episodes = self.deps.journal.episodes(subject).await?;
        let (mut closes, mut submits) = (vec![], vec![]);
        for episode in episodes.iter_mut().filter(|episode| episode.is_open()) {
            match self.next(episode, serving).await?.0 {
                Next::Wait => {}
                Next::Submit | Next::Restart { .. } => submits.push(episode.job.id.clone()),
                Next::Close { outcome, version, detail, .. } => {
                    close(episode, as_of, outcome, version, detail.clone());
                    let episode = episode.id.clone();
                    closes.push(ClosedEpisode { episode, outcome, version, detail });
                }
            }
        }
        let judged = self.judge(as_of, serving, &episodes, &deployments).await?;
        let verdicts = named(judged.verdicts);
        Ok(RetrainPreview { as_of, would: judged.plan.into(), closes, submits, verdicts })
    }
}
