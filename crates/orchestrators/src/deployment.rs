//! Deployment: a version's journey to production, step by step, each step journaled.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mloop_core::deployment::{Deployment, DeploymentVerdict, Step};
use mloop_core::failpoint::reach;
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::{
    Clock, DeploymentId, EndpointName, ModelVersion, RunId, Sha256Digest, Subject, error_chain,
};
use mloop_deployer::Endpoints;
use mloop_platform::{Journal, Leases, ModelRegistry, Notifier, Outbox, PlatformError};

use crate::choice::{Choice, Wish, choose, choose_rollback};
use crate::ending::leftover;
use crate::journey::Journey;
use crate::lease::Held;
use crate::restoring::Restored;
use crate::smoke::SmokeConfig;
use crate::task::check_order;
use crate::{
    DeploymentOutcome, DeploymentResult, LeaseConfig, OrchestratorError, Stopping, Task, past,
    points, progress,
};

/// What deployment speaks to.
pub struct DeploymentDeps {
    /// Deployments and their journals.
    pub journal: Arc<dyn Journal>,
    /// Keeps two runs apart.
    pub leases: Arc<dyn Leases>,
    /// Messages on their way.
    pub outbox: Arc<dyn Outbox>,
    /// Versions and aliases.
    pub registry: Arc<dyn ModelRegistry>,
    /// The platform that serves.
    pub endpoints: Endpoints,
    /// Who is told.
    pub notifiers: Vec<Arc<dyn Notifier>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What deployment is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentConfig {
    /// Model and target.
    pub subject: Subject,
    /// Digest of the whole configuration: another one makes another run.
    pub config_digest: Sha256Digest,
    /// The staging endpoint.
    pub staging: EndpointName,
    /// The production endpoint.
    pub production: EndpointName,
    /// Whether the staging endpoint stays afterwards.
    pub keep_staging: bool,
    /// Folder in which versions are kept while they are deployed.
    pub work: PathBuf,
    /// What the smoke tests ask.
    pub smoke: SmokeConfig,
    /// Answers over new connections that must all carry the version's digest.
    pub verify_requests: u32,
    /// Longest time that an endpoint may take to change.
    pub patience: Duration,
    /// Pause between two looks at an endpoint.
    pub poll: Duration,
    /// The lease.
    pub lease: LeaseConfig,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeploymentRequest {
    /// A version by number; none: the newest candidate, or the deployment under way.
    pub version: Option<u64>,
    /// Deploy that version although an earlier deployment of it has a verdict.
    pub again: bool,
    /// The moment that counts as now; none: the clock's. A repeat under the same moment is the same
    /// run.
    pub as_of: Option<DateTime<Utc>>,
}

/// Brings versions to production, and back.
pub struct DeploymentOrchestrator {
    pub(crate) deps: DeploymentDeps,
    pub(crate) config: DeploymentConfig,
    stopping: Stopping,
}

impl DeploymentOrchestrator {
    /// Puts the parts together; calls nobody.
    #[must_use]
    pub fn new(deps: DeploymentDeps, config: DeploymentConfig) -> Self {
        Self { deps, config, stopping: Stopping::never() }
    }

    /// Ends a run early, its lease given back, when that is asked for.
    #[must_use]
    pub fn stopping_at(self, stopping: Stopping) -> Self {
        Self { stopping, ..self }
    }

    /// Chooses a version and brings it to the staging endpoint.
    ///
    /// # Errors
    /// [`OrchestratorError`]; run again to go on.
    pub async fn deploy(
        &self,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        self.perform(Task::Deploy, request).await
    }

    /// Tests the staging endpoint of the deployment under way.
    ///
    /// # Errors
    /// [`OrchestratorError::Invalid`] before `deploy`; else [`OrchestratorError`].
    pub async fn smoke_test(
        &self,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        self.perform(Task::SmokeTest, request).await
    }

    /// Gives all traffic to the version whose smoke tests passed, and verifies that it answers.
    ///
    /// # Errors
    /// [`OrchestratorError::Invalid`] before the smoke tests passed; else [`OrchestratorError`].
    pub async fn switch_to_production(
        &self,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        self.perform(Task::Switch, request).await
    }

    /// All steps in order.
    ///
    /// # Errors
    /// [`OrchestratorError`]; run again to go on.
    pub async fn run(
        &self,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        self.perform(Task::Run, request).await
    }

    /// Gives all traffic back to the version before, verified in the same way. A repeat changes
    /// nothing.
    ///
    /// # Errors
    /// [`OrchestratorError::Invalid`] when there is no way back; else [`OrchestratorError`].
    pub async fn rollback(
        &self,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        self.perform(Task::Rollback, request).await
    }

    /// Does one task; any of them first finishes a way back that is under way.
    ///
    /// # Errors
    /// As the method of the task says.
    pub async fn perform(
        &self,
        task: Task,
        request: &DeploymentRequest,
    ) -> Result<DeploymentResult, OrchestratorError> {
        let as_of = request.as_of.unwrap_or_else(|| self.deps.clock.now());
        let run = self.run_id(task, request, as_of);
        let name = format!("deployment/{}", self.config.subject);
        let (leases, lease) = (&self.deps.leases, &self.config.lease);
        let held = Held::acquire(leases, &name, &run, lease, &self.stopping).await?;
        let result = held.guard(self.under_lease(&held, task, request, &run, as_of)).await;
        held.release().await;
        match result {
            Err(OrchestratorError::Platform(error @ PlatformError::LeaseLost { .. })) => {
                Err(self.overtaken(error.into()).await)
            }
            result => result,
        }
    }

    /// Which run a task is that takes `as_of` for now: the same for each repeat.
    #[must_use]
    pub fn run_id(&self, task: Task, request: &DeploymentRequest, as_of: DateTime<Utc>) -> RunId {
        let subject = &self.config.subject;
        let version = request.version.map_or("newest".to_owned(), |number| number.to_string());
        RunId::derive(&[
            RunKind::Deployment.as_str(),
            task.as_str(),
            subject.model.as_str(),
            subject.target.as_str(),
            &version,
            if request.again { "again" } else { "" },
            &as_of.to_rfc3339(),
            &self.config.config_digest.to_string(),
        ])
    }

    async fn under_lease(
        &self,
        held: &Held,
        task: Task,
        request: &DeploymentRequest,
        run: &RunId,
        as_of: DateTime<Utc>,
    ) -> Result<DeploymentResult, OrchestratorError> {
        if let Some(record) = self.deps.journal.run(run).await? {
            let what = format!("the result of {run}");
            return serde_json::from_value(record.body).map_err(OrchestratorError::damaged(what));
        }
        let deployments = self.deps.journal.deployments(&self.config.subject).await?;
        let choice = self.choose(task, request, &deployments).await?;
        let restored = self.reconcile(held, &choice, &deployments).await?;
        let (result, is_new) = match choice {
            Choice::Nothing => {
                self.sweep(held, &deployments).await?;
                self.nothing(run, task, &deployments, restored).await?
            }
            Choice::Done(deployment) => {
                self.sweep(held, &deployments).await?;
                // A run that was killed after the verdict left no record: this repeat leaves it.
                let is_new = !self.was_told_of(&deployment).await?;
                (self.concluded(run, &deployment).await?, is_new)
            }
            Choice::Resume(deployment) => {
                (self.travel(held, task, run, deployment, &deployments).await?, true)
            }
            Choice::Begin { version, attempt } => {
                let deployment = self.begin(held, &version, attempt, &deployments).await?;
                (self.travel(held, task, run, deployment, &deployments).await?, true)
            }
        };
        // Where nothing was done, a later task of this very run may still do something.
        if is_new {
            self.record(&result, as_of).await?;
        }
        Ok(result)
    }

    async fn choose(
        &self,
        task: Task,
        request: &DeploymentRequest,
        deployments: &[Deployment],
    ) -> Result<Choice, OrchestratorError> {
        let subject = &self.config.subject;
        let chosen = if task == Task::Rollback {
            let untouched = untouched(self.deps.journal.as_ref(), deployments).await?;
            choose_rollback(request.version, deployments, &untouched)
        } else {
            let versions = self.deps.registry.versions(&subject.model).await?;
            let DeploymentRequest { version, again, .. } = *request;
            choose(Wish { version, again, may_begin: task.may_begin() }, &versions, deployments)
        };
        let doing = format!("{} of {subject}", task.as_str());
        chosen.map_err(|problem| OrchestratorError::invalid(doing, problem))
    }

    /// Nothing is under way, and nothing is to begin: the verdict that a killed run left untold, or
    /// else what was put back, or that there is nothing to do; and whether that is to be recorded.
    async fn nothing(
        &self,
        run: &RunId,
        task: Task,
        deployments: &[Deployment],
        restored: Option<Restored>,
    ) -> Result<(DeploymentResult, bool), OrchestratorError> {
        let newest = deployments.iter().max_by_key(|one| (one.opened_at, one.attempt));
        // What was given up on request was told to whoever asked, or is when they ask again.
        let untold = newest.filter(|one| one.verdict != Some(DeploymentVerdict::Abandoned));
        if let Some(deployment) = untold
            && !self.was_told_of(deployment).await?
        {
            return Ok((self.concluded(run, deployment).await?, true));
        }
        if let Some(Restored { reason, undelivered }) = restored {
            let nothing = DeploymentResult::nothing(run, reason);
            return Ok((DeploymentResult { notification_failures: undelivered, ..nothing }, true));
        }
        let reason = if task.may_begin() {
            "no version is ready for staging, newer than the one that serves, and untried"
                .to_owned()
        } else {
            "no deployment is under way; `deploy` begins one".to_owned()
        };
        Ok((DeploymentResult::nothing(run, reason), task.may_begin()))
    }

    /// Whether a run has recorded the verdict of a deployment.
    async fn was_told_of(&self, deployment: &Deployment) -> Result<bool, OrchestratorError> {
        let Some(verdict) = deployment.verdict else { return Ok(false) };
        let outcome = DeploymentOutcome::of(verdict);
        Ok(self.deps.journal.was_told(&deployment.id, outcome.as_str()).await?)
    }

    /// Removes what a copy that had been stopped for long, and went on when its deployment was over,
    /// may have brought up in staging for nothing. A platform that does not answer keeps no run from
    /// its outcome: the next one looks again.
    async fn sweep(
        &self,
        held: &Held,
        deployments: &[Deployment],
    ) -> Result<(), OrchestratorError> {
        let staging = &self.config.staging;
        if self.config.keep_staging || deployments.is_empty() {
            return Ok(());
        }
        let found = match self.deps.endpoints.deployer.describe(staging).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "staging was not looked at");
                return Ok(());
            }
        };
        let Some(version) = leftover(found.as_ref(), deployments) else { return Ok(()) };
        tracing::warn!(%staging, %version, "its deployment is concluded; removing it");
        held.renew().await?;
        if let Err(error) = self.deps.endpoints.janitor.remove_endpoint(staging).await {
            tracing::warn!(error = error_chain(&error), "not removed; the next run tries again");
        }
        Ok(())
    }

    async fn begin(
        &self,
        held: &Held,
        version: &ModelVersion,
        attempt: u32,
        deployments: &[Deployment],
    ) -> Result<Deployment, OrchestratorError> {
        let subject = self.config.subject.clone();
        let deployment = Deployment {
            id: Deployment::id_of(&subject, &version.version, attempt),
            version: version.version,
            version_created_at: version.created_at,
            attempt,
            previous: past::serving(deployments).map(|serving| serving.version),
            opened_at: self.deps.clock.now(),
            verdict: None,
            closed_at: None,
            way_back: None,
            subject,
        };
        self.deps.journal.save_deployment(held.lease(), &deployment).await?;
        Ok(deployment)
    }

    async fn travel(
        &self,
        held: &Held,
        task: Task,
        run: &RunId,
        deployment: Deployment,
        deployments: &[Deployment],
    ) -> Result<DeploymentResult, OrchestratorError> {
        let mut journey = Journey::new(&self.deps, &self.config, held, deployment).await?;
        if task == Task::Rollback {
            journey.turn_back().await?;
        }
        match journey.deployment.way_back {
            Some(DeploymentVerdict::RolledBack) => {
                self.abandon_others(held, &journey.deployment.id, deployments).await?;
            }
            Some(_) => {}
            None => check_order(task, &journey.deployment, &journey.entries)?,
        }
        journey.advance(task.until()).await?;
        let Journey { deployment, entries, undelivered, .. } = journey;
        let result = DeploymentResult::about(run, &deployment, &entries, task.under_way());
        Ok(DeploymentResult { notification_failures: undelivered, ..result })
    }

    /// Ends what is under way toward a production that is about to be taken back. None of it has
    /// touched production: a rollback is refused as long as another switch is under way.
    async fn abandon_others(
        &self,
        held: &Held,
        meant: &DeploymentId,
        deployments: &[Deployment],
    ) -> Result<(), OrchestratorError> {
        for open in deployments.iter().filter(|one| one.is_open() && one.id != *meant) {
            let mut other = Journey::new(&self.deps, &self.config, held, open.clone()).await?;
            other.turn_back().await?;
            other.advance(Step::Notified).await?;
        }
        Ok(())
    }

    async fn concluded(
        &self,
        run: &RunId,
        deployment: &Deployment,
    ) -> Result<DeploymentResult, OrchestratorError> {
        let entries = self.deps.journal.entries(&deployment.id).await?;
        Ok(DeploymentResult::about(run, deployment, &entries, DeploymentOutcome::Staged))
    }

    async fn record(
        &self,
        result: &DeploymentResult,
        as_of: DateTime<Utc>,
    ) -> Result<(), OrchestratorError> {
        let record = RunRecord {
            run_id: result.run_id.clone(),
            kind: RunKind::Deployment,
            subject: self.config.subject.clone(),
            version: result.version.map(|version| version.digest),
            window: None,
            as_of,
            outcome: result.outcome.as_str().to_owned(),
            body: serde_json::to_value(result)
                .map_err(OrchestratorError::damaged("the deployment result"))?,
        };
        self.deps.journal.record_run(&record).await?;
        reach(points::DEPLOYMENT_RECORDED);
        Ok(())
    }
}

/// The deployments under way that never touched production.
///
/// # Errors
/// When the journal cannot be read.
pub async fn untouched(
    journal: &dyn Journal,
    deployments: &[Deployment],
) -> Result<Vec<DeploymentId>, OrchestratorError> {
    let mut found = vec![];
    for open in deployments.iter().filter(|one| one.is_open()) {
        if !progress::touched_production(&journal.entries(&open.id).await?) {
            found.push(open.id.clone());
        }
    }
    Ok(found)
}
