//! Retraining: the past, judged; one job for one cause.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::deployment::Deployment;
use mloop_core::episode::{Closing, Episode, EpisodeOutcome, JobState};
use mloop_core::failpoint::reach;
use mloop_core::history::{History, Serving, Verdict};
use mloop_core::job::JobSpec;
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::{Clock, EpisodeId, JobId, ModelVersion, RunId, Sha256Digest, Subject, VersionRef};
use mloop_platform::{
    JobSubmitter, Journal, Leases, Message, ModelRegistry, Notifier, Outbox, RunQuery,
};
use mloop_trigger::{Decision, Policy, Trigger};

use crate::cause::{attach, job_of, open};
use crate::closing::{self, Next};
use crate::lease::Held;
use crate::plan::{Limits, Plan, plan};
use crate::waiting::deliver_waiting;
use crate::{
    ClosedEpisode, LeaseConfig, NamedVerdict, OrchestratorError, RETRAINING_FORMAT, RetrainOutcome,
    RetrainResult, Stopping, past, points,
};

/// Monitoring runs that are read at most.
const MAX_RUNS: u32 = 10_000;

/// What retraining speaks to.
pub struct RetrainDeps {
    /// The past, and what was done about it.
    pub journal: Arc<dyn Journal>,
    /// Keeps two runs apart.
    pub leases: Arc<dyn Leases>,
    /// Where finished jobs leave their versions.
    pub registry: Arc<dyn ModelRegistry>,
    /// Runs jobs.
    pub submitter: Arc<dyn JobSubmitter>,
    /// Messages on their way.
    pub outbox: Arc<dyn Outbox>,
    /// Who is told of each submitted job, of one that ended without a version to deploy, and when no
    /// attempt is left; once each.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// What is asked, in order.
    pub triggers: Vec<Box<dyn Trigger>>,
    /// Makes one decision of the answers.
    pub policy: Box<dyn Policy>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What retraining is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrainConfig {
    /// Model and target.
    pub subject: Subject,
    /// Digest of the whole configuration: another one makes another run.
    pub config_digest: Sha256Digest,
    /// How often and how soon a cause is tried again.
    pub limits: Limits,
    /// How often a lost job is started again.
    pub max_restarts: u32,
    /// How far back triggers look.
    pub lookback: TimeDelta,
    /// How far before its decision the traffic of a job may begin.
    pub traffic_lookback: TimeDelta,
    /// The lease.
    pub lease: LeaseConfig,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetrainRequest {
    /// The moment that counts as now; none: the clock's. A repeat under the same moment is the same
    /// run.
    pub as_of: Option<DateTime<Utc>>,
}

/// Decides whether a model is to be trained again, and has it done.
pub struct RetrainOrchestrator {
    pub(crate) deps: RetrainDeps,
    pub(crate) config: RetrainConfig,
    stopping: Stopping,
}

/// What the past says, and what follows from it.
pub(crate) struct Judged {
    history: History,
    pub(crate) verdicts: Vec<(String, Verdict)>,
    decision: Decision,
    pub(crate) plan: Plan,
}

/// One run on its way.
pub(crate) struct Run<'a> {
    pub(crate) held: &'a Held,
    pub(crate) as_of: DateTime<Utc>,
    submitted: Option<(EpisodeId, JobId)>,
    closed: Vec<ClosedEpisode>,
}

/// What a run came to: the outcome, why, and the episode with its job.
type Done = (RetrainOutcome, String, Option<(EpisodeId, JobId)>);

impl Run<'_> {
    /// What a run comes to that asks for nothing new.
    fn quiet(&self, outcome: RetrainOutcome, reason: String) -> Done {
        match self.submitted.clone() {
            // A job that an earlier run had left half submitted is on its way now.
            Some(about) => (RetrainOutcome::Submitted, reason, Some(about)),
            None => (outcome, reason, None),
        }
    }
}

impl RetrainOrchestrator {
    /// Puts the parts together; calls nobody.
    #[must_use]
    pub fn new(deps: RetrainDeps, config: RetrainConfig) -> Self {
        Self { deps, config, stopping: Stopping::never() }
    }

    /// Ends a run early, its lease given back, when that is asked for.
    #[must_use]
    pub fn stopping_at(self, stopping: Stopping) -> Self {
        Self { stopping, ..self }
    }

    /// Closes finished jobs, asks the triggers, and submits at most one job: one for one cause,
    /// however often it is called. A repeat of a recorded run changes nothing.
    ///
    /// # Errors
    /// [`PlatformError::LeaseHeld`](mloop_platform::PlatformError::LeaseHeld) when another run is at
    /// work; else when ledger, registry or submitter failed. Killed or failed anywhere, the next
    /// run goes on from there.
    pub async fn run(&self, request: &RetrainRequest) -> Result<RetrainResult, OrchestratorError> {
        let as_of = request.as_of.unwrap_or_else(|| self.deps.clock.now());
        let id = self.run_id(as_of);
        let name = format!("retraining/{}", self.config.subject);
        let (leases, lease) = (&self.deps.leases, &self.config.lease);
        let held = Held::acquire(leases, &name, &id, lease, &self.stopping).await?;
        let result = held.guard(self.under_lease(&held, id, as_of)).await;
        held.release().await;
        result
    }

    /// Which run this is that takes `as_of` for now: the same for each repeat.
    #[must_use]
    pub fn run_id(&self, as_of: DateTime<Utc>) -> RunId {
        let subject = &self.config.subject;
        RunId::derive(&[
            RunKind::Retraining.as_str(),
            subject.model.as_str(),
            subject.target.as_str(),
            &as_of.to_rfc3339(),
            &self.config.config_digest.to_string(),
        ])
    }

    async fn under_lease(
        &self,
        held: &Held,
        id: RunId,
        as_of: DateTime<Utc>,
    ) -> Result<RetrainResult, OrchestratorError> {
        let subject = &self.config.subject;
        if let Some(record) = self.deps.journal.run(&id).await? {
            let what = format!("the result of {id}");
            return serde_json::from_value(record.body).map_err(OrchestratorError::damaged(what));
        }
        let deployments = self.deps.journal.deployments(subject).await?;
        let serving = past::serving(&deployments);
        let mut episodes = self.deps.journal.episodes(subject).await?;
        let mut run = Run { held, as_of, submitted: None, closed: vec![] };
        self.follow_up(&mut run, &mut episodes, serving).await?;

        let judged = self.judge(as_of, serving, &episodes, &deployments).await?;
        let Judged { history, verdicts, decision, plan } = judged;
        let (outcome, reason, about) =
            self.act(&mut run, plan, &decision, &history, episodes).await?;
        let (episode, job_id) = about.unzip();
        let outbox = self.deps.outbox.as_ref();
        let undelivered = deliver_waiting(outbox, subject, &self.deps.notifiers).await;
        let result = RetrainResult {
            schema: RETRAINING_FORMAT.to_owned(),
            run_id: id,
            outcome,
            reason,
            as_of,
            serving: serving.map(|serving| serving.version),
            episode,
            job_id,
            verdicts: named(verdicts),
            closed: run.closed,
            notification_failures: undelivered,
        };
        self.record(&result).await?;
        Ok(result)
    }

    /// Asks the triggers, makes one decision, and plans for it; changes nothing.
    pub(crate) async fn judge(
        &self,
        as_of: DateTime<Utc>,
        serving: Option<Serving>,
        episodes: &[Episode],
        deployments: &[Deployment],
    ) -> Result<Judged, OrchestratorError> {
        let history = self.history(as_of, serving, episodes).await?;
        let triggers = self.deps.triggers.iter();
        let verdicts: Vec<(String, Verdict)> =
            triggers.map(|trigger| (trigger.name().to_owned(), trigger.check(&history))).collect();
        let decision = self.deps.policy.decide(&history, &verdicts);
        let digest = serving.map(|serving| serving.version.digest);
        let limits = self.config.limits;
        let plan = plan(&decision, digest.as_ref(), episodes, deployments, limits, as_of);
        Ok(Judged { history, verdicts, decision, plan })
    }

    /// What is to be done about an open episode's job, and the versions that decided; changes
    /// nothing.
    pub(crate) async fn next(
        &self,
        episode: &Episode,
        serving: Option<Serving>,
    ) -> Result<(Next, Vec<ModelVersion>), OrchestratorError> {
        let status = self.deps.submitter.status(&episode.job.id).await?;
        let versions = self.deps.registry.versions(&self.config.subject.model).await?;
        let (digest, max) = (serving.map(|one| one.version.digest), self.config.max_restarts);
        Ok((closing::next(episode, &status, &versions, digest.as_ref(), max), versions))
    }

    async fn history(
        &self,
        as_of: DateTime<Utc>,
        serving: Option<Serving>,
        episodes: &[Episode],
    ) -> Result<History, OrchestratorError> {
        let subject = &self.config.subject;
        let oldest = as_of.checked_sub_signed(self.config.lookback);
        let oldest = oldest.unwrap_or(DateTime::<Utc>::MIN_UTC);
        let query = RunQuery {
            kind: RunKind::Monitoring,
            subject: subject.clone(),
            // A window is judged once it has ended, so that older runs are about older windows.
            since: Some(oldest),
            limit: MAX_RUNS,
        };
        let mut runs = self.deps.journal.runs(&query).await?;
        runs.retain(|run| run.window.is_some_and(|window| window.end() > oldest));
        past::history(subject, as_of, &runs, serving, episodes)
    }

    /// Looks after the jobs of open episodes: closes what ended, starts again what was lost,
    /// finishes what an earlier run left half done.
    async fn follow_up(
        &self,
        run: &mut Run<'_>,
        episodes: &mut [Episode],
        serving: Option<Serving>,
    ) -> Result<(), OrchestratorError> {
        // Of ends that an older release could not tell.
        for episode in episodes.iter_mut().filter(|episode| !episode.is_open()) {
            if let Some(message) = self.tell_end(episode) {
                self.save(run, episode, &[message]).await?;
            }
        }
        for episode in episodes.iter_mut().filter(|episode| episode.is_open()) {
            run.held.keep().await?;
            let (next, versions) = self.next(episode, serving).await?;
            match next {
                Next::Wait => self.submitted(run, episode).await?,
                Next::Submit => self.submit(run, episode).await?,
                Next::Restart { reason } => {
                    tracing::warn!(job = %episode.job.id, reason, "starting the job again");
                    episode.job.submissions += 1;
                    episode.job.state = JobState::Submitting;
                    self.submit(run, episode).await?;
                }
                Next::Close { outcome, version, detail, cancel } => {
                    if cancel {
                        self.deps.submitter.cancel(&episode.job.id).await?;
                        reach(points::RETRAINING_CANCELLED);
                    }
                    let found = versions.iter().find(|known| Some(known.version) == version);
                    if let Some(version) = found {
                        let cause = Some(episode.id.clone());
                        self.deps.journal.record_version(version, cause).await?;
                    }
                    reach(points::RETRAINING_CLOSING);
                    // A job may end before a killed run is repeated: people hear of it all the same.
                    let submission = match outcome {
                        EpisodeOutcome::Superseded => None,
                        _ => self.announce(episode),
                    };
                    close(episode, run.as_of, outcome, version, detail.clone());
                    let messages: Vec<Message> =
                        submission.into_iter().chain(self.tell_end(episode)).collect();
                    self.save(run, episode, &messages).await?;
                    reach(points::RETRAINING_CLOSED);
                    let episode = episode.id.clone();
                    run.closed.push(ClosedEpisode { episode, outcome, version, detail });
                }
            }
        }
        Ok(())
    }

    /// Journals the intent, submits, journals the acceptance together with what people are told.
    async fn submit(
        &self,
        run: &mut Run<'_>,
        episode: &mut Episode,
    ) -> Result<(), OrchestratorError> {
        run.held.renew().await?;
        self.deps.journal.save_episode(run.held.lease(), episode).await?;
        reach(points::RETRAINING_INTENT);
        let spec = self.spec(episode).await?;
        let submission = self.deps.submitter.submit_training_job(&spec).await?;
        tracing::info!(
            job = %spec.job_id,
            handle = submission.handle,
            adopted = submission.adopted,
            "submitted"
        );
        reach(points::RETRAINING_CALLED);
        run.submitted = Some((episode.id.clone(), episode.job.id.clone()));
        self.submitted(run, episode).await
    }

    /// What follows once the job is known to have been accepted; nothing when it was done before.
    async fn submitted(
        &self,
        run: &mut Run<'_>,
        episode: &mut Episode,
    ) -> Result<(), OrchestratorError> {
        let message = self.announce(episode);
        if episode.job.state == JobState::Submitting || message.is_some() {
            episode.job.state = JobState::Submitted;
            self.save(run, episode, message.as_slice()).await?;
            reach(points::RETRAINING_OUTCOME);
        }
        Ok(())
    }

    /// Writes an episode with the messages about it, in one transaction.
    async fn save(
        &self,
        run: &Run<'_>,
        episode: &Episode,
        messages: &[Message],
    ) -> Result<(), OrchestratorError> {
        Ok(self.deps.journal.save_episode_with(run.held.lease(), episode, messages).await?)
    }

    async fn act(
        &self,
        run: &mut Run<'_>,
        what: Plan,
        decision: &Decision,
        history: &History,
        mut episodes: Vec<Episode>,
    ) -> Result<Done, OrchestratorError> {
        match what {
            Plan::No => Ok(run.quiet(RetrainOutcome::No, "no trigger asks for it".to_owned())),
            Plan::CannotTell => {
                let reason = "no trigger asks for it, and at least one cannot tell".to_owned();
                Ok(run.quiet(RetrainOutcome::CannotTell, reason))
            }
            Plan::Hold { reason } => Ok(run.quiet(RetrainOutcome::Held, reason)),
            Plan::GiveUp { episode: id, reason } => {
                self.tell_last(run, known(&mut episodes, &id), &reason).await?;
                Ok(run.quiet(RetrainOutcome::Held, reason))
            }
            Plan::Attach { episode: id } => {
                let episode = known(&mut episodes, &id);
                attach(episode, decision, history);
                self.deps.journal.save_episode(run.held.lease(), episode).await?;
                reach(points::RETRAINING_ATTACHED);
                let about = (episode.id.clone(), episode.job.id.clone());
                let outcome = match run.submitted {
                    Some(_) => RetrainOutcome::Submitted,
                    None => RetrainOutcome::Adopted,
                };
                Ok((outcome, "the cause has its job already".to_owned(), Some(about)))
            }
            Plan::Open { attempt } => {
                let mut episode = open(&self.config, attempt, decision, history);
                self.submit(run, &mut episode).await?;
                let reason = episode.reasons.join("; ");
                Ok((RetrainOutcome::Submitted, reason, Some((episode.id, episode.job.id))))
            }
        }
    }

    /// The job of an episode: the same whenever it is asked for, so only of what was known when it
    /// opened. Evidence that was attached later is about windows that ended later.
    async fn spec(&self, episode: &Episode) -> Result<JobSpec, OrchestratorError> {
        let mut evidence = vec![];
        for run in &episode.evidence {
            let record = self.deps.journal.run(run).await?;
            let window = record.and_then(|record| record.window);
            if window.is_none_or(|window| window.end() <= episode.opened_at) {
                evidence.push(run.clone());
            }
        }
        Ok(job_of(episode, evidence))
    }

    async fn record(&self, result: &RetrainResult) -> Result<(), OrchestratorError> {
        let record = RunRecord {
            run_id: result.run_id.clone(),
            kind: RunKind::Retraining,
            subject: self.config.subject.clone(),
            version: result.serving.map(|version| version.digest),
            window: None,
            as_of: result.as_of,
            outcome: result.outcome.as_str().to_owned(),
            body: serde_json::to_value(result)
                .map_err(OrchestratorError::damaged("the retraining result"))?,
        };
        self.deps.journal.record_run(&record).await?;
        reach(points::RETRAINING_RECORDED);
        Ok(())
    }
}

pub(crate) fn named(verdicts: Vec<(String, Verdict)>) -> Vec<NamedVerdict> {
    verdicts.into_iter().map(|(trigger, verdict)| NamedVerdict { trigger, verdict }).collect()
}

pub(crate) fn close(
    episode: &mut Episode,
    at: DateTime<Utc>,
    outcome: EpisodeOutcome,
    version: Option<VersionRef>,
    detail: String,
) {
    episode.job.state = JobState::Ended;
    // Of a version that waits people hear when it is deployed, of a cause that is gone nothing.
    let told = !outcome.may_be_tried_again();
    episode.closed = Some(Closing { at, outcome, version, detail, told, told_last: false });
}

/// The episode that a plan names.
fn known<'a>(episodes: &'a mut [Episode], id: &EpisodeId) -> &'a mut Episode {
    let found = episodes.iter_mut().find(|episode| episode.id == *id);
    found.expect("the plan was made of these episodes")
}
