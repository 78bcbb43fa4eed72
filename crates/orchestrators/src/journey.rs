//! One version on its way: the steps of a deployment, in the order that its journal asks for.
//!
//! The steps to production stand here, those back in `back.rs`, those that end either way in
//! `ending.rs`, what may follow in `restoring.rs`.

use std::sync::{Arc, Mutex};

use mloop_core::deployment::{
    ChangeCall, Deployment, DeploymentVerdict, EndpointDescription, EndpointState, JournalEntry,
    Phase, Step,
};
use mloop_core::failpoint::reach;
use mloop_core::version::tags;
use mloop_core::{EndpointName, Sha256Digest, error_chain};
use mloop_deployer::{Answer, DeployError, DeployRequest, Invocation, SwitchRequest};
use mloop_platform::Message;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::cargo::{Cargo, cargo};
use crate::endpoint::{Before, Look, Watch, look, stranger};
use crate::lease::Held;
use crate::permit::Permit;
use crate::progress::{self, FENCE, Next, PASSED, REASON, REPORT};
use crate::smoke::{self, Asked, Observations, SmokeReport};
use crate::{DeploymentConfig, DeploymentDeps, OrchestratorError, points};

/// Tries of one golden request that gets no answer at all.
const GOLDEN_TRIES: u32 = 3;

/// A deployment under the lease.
pub(crate) struct Journey<'a> {
    pub(crate) deps: &'a DeploymentDeps,
    pub(crate) config: &'a DeploymentConfig,
    pub(crate) held: &'a Held,
    /// The version's files, once a step has needed them: a way back does without.
    cargo: OnceCell<Cargo>,
    pub(crate) deployment: Deployment,
    pub(crate) entries: Vec<JournalEntry>,
    pub(crate) undelivered: Vec<String>,
}

impl<'a> Journey<'a> {
    /// Reads the journal.
    pub(crate) async fn new(
        deps: &'a DeploymentDeps,
        config: &'a DeploymentConfig,
        held: &'a Held,
        deployment: Deployment,
    ) -> Result<Self, OrchestratorError> {
        let entries = deps.journal.entries(&deployment.id).await?;
        let cargo = OnceCell::new();
        Ok(Self { deps, config, held, cargo, deployment, entries, undelivered: vec![] })
    }

    /// The version with its files, which the first call fetches from the registry.
    async fn cargo(&self) -> Result<&Cargo, OrchestratorError> {
        let fetch = || cargo(self.deps, self.config, self.deployment.version);
        self.cargo.get_or_try_init(fetch).await
    }

    /// What the version's answers carry.
    pub(crate) fn digest(&self) -> Sha256Digest {
        self.deployment.version.digest
    }

    /// Goes on to the end of `until`; once the tests failed, the switch was undone, or the way back
    /// was asked for, to the end.
    pub(crate) async fn advance(&mut self, until: Step) -> Result<(), OrchestratorError> {
        while self.deployment.verdict.is_none() {
            match progress::next(&self.deployment, &self.entries) {
                Next::Conclude(verdict) => self.conclude(verdict).await?,
                Next::Do(step) => {
                    if step > until && self.fate() == DeploymentVerdict::Switched {
                        return Ok(());
                    }
                    self.step(step).await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn step(&mut self, step: Step) -> Result<(), OrchestratorError> {
        self.step_telling(step, vec![]).await
    }

    /// Takes a step whose intent people are told of: the messages are queued with it.
    pub(crate) async fn step_telling(
        &mut self,
        step: Step,
        messages: Vec<Message>,
    ) -> Result<(), OrchestratorError> {
        tracing::info!(step = step.as_str(), version = %self.deployment.version, "deploying");
        let [intent, called, outcome] = points::of_step(step);
        self.held.renew().await?;
        let plan =
            json!({ "version": self.deployment.version, "previous": self.deployment.previous });
        self.append(step, Phase::Intent, plan, &messages).await?;
        reach(intent);
        if !messages.is_empty() {
            self.deliver().await;
        }
        let (detail, messages) = match step {
            Step::Notified | Step::RollbackNotified => {
                let notice = self.notice();
                (json!({ "receivers": notice.receivers }), vec![notice])
            }
            step => (self.act(step).await?, vec![]),
        };
        reach(called);
        self.append(step, Phase::Outcome, detail, &messages).await?;
        reach(outcome);
        if !messages.is_empty() {
            self.deliver().await;
        }
        Ok(())
    }

    async fn act(&self, step: Step) -> Result<Value, OrchestratorError> {
        match step {
            Step::Planned => self.plan().await,
            Step::StagingVerified => self.stage().await,
            Step::SmokePassed => self.smoke().await,
            Step::ProductionSubmitted => self.submit().await,
            Step::ProductionVerified => self.verify().await,
            Step::RollbackSubmitted => self.submit_back().await,
            Step::RollbackVerified => self.verify_back().await,
            Step::AliasMoved | Step::RollbackAliasMoved => self.move_aliases().await,
            Step::StagingRemoved | Step::RollbackStagingRemoved => self.remove_staging().await,
            Step::Notified | Step::RollbackNotified => Ok(json!({})),
            Step::ProductionRestored => self.restore().await,
        }
    }

    pub(crate) fn fate(&self) -> DeploymentVerdict {
        progress::fate(&self.deployment, &self.entries)
    }

    /// Directly before a remote change that needs no preparation, as [`Self::permit`] for the others:
    /// whoever was overtaken meanwhile makes none. What is left is the moment between this look and the
    /// call.
    pub(crate) async fn about_to(&self, call: &'static str) -> Result<(), OrchestratorError> {
        self.held.renew().await?;
        reach(call);
        Ok(())
    }

    /// The permission to change an endpoint. A change of production, in this step to the version of this
    /// digest, is announced with it: a call that never returned may come late.
    pub(crate) fn permit(
        &self,
        point: &'static str,
        change: Option<(Step, Sha256Digest)>,
    ) -> Arc<Permit> {
        let call = change.map(|(step, asks)| ChangeCall {
            deployment: self.deployment.id.clone(),
            step,
            fence: self.held.lease().fence,
            asks,
            announced_at: self.deps.clock.now(),
            returned_at: None,
        });
        Arc::new(Permit {
            held: self.held.clone(),
            journal: Arc::clone(&self.deps.journal),
            clock: Arc::clone(&self.deps.clock),
            point,
            call,
            asked: Mutex::default(),
        })
    }

    async fn append(
        &mut self,
        step: Step,
        phase: Phase,
        detail: Value,
        messages: &[Message],
    ) -> Result<(), OrchestratorError> {
        let known = |entry: &JournalEntry| entry.step == step && entry.phase == phase;
        if self.entries.iter().any(known) {
            return Ok(());
        }
        let (at, deployment) = (self.deps.clock.now(), self.deployment.id.clone());
        let mut entry = JournalEntry { deployment, step, phase, at, detail };
        entry.detail[FENCE] = json!(self.held.lease().fence);
        self.deps.journal.append_with(self.held.lease(), &entry, messages).await?;
        self.entries.push(entry);
        Ok(())
    }

    async fn conclude(&mut self, verdict: DeploymentVerdict) -> Result<(), OrchestratorError> {
        let verified = progress::verified_at(&self.entries, verdict);
        let at = verified.unwrap_or_else(|| self.deps.clock.now());
        let closed =
            Deployment { verdict: Some(verdict), closed_at: Some(at), ..self.deployment.clone() };
        self.deps.journal.save_deployment(self.held.lease(), &closed).await?;
        self.deployment = closed;
        reach(points::DEPLOYMENT_CONCLUDED);
        Ok(())
    }

    /// Ties the version to the episode that it came of.
    async fn plan(&self) -> Result<Value, OrchestratorError> {
        let version = &self.cargo().await?.version;
        let job = version.tags.get(tags::JOB_ID);
        let episodes = self.deps.journal.episodes(&self.config.subject).await?;
        let cause =
            episodes.into_iter().find(|one| Some(one.job.id.as_str()) == job.map(String::as_str));
        let episode = cause.map(|episode| episode.id);
        self.deps.journal.record_version(version, episode.clone()).await?;
        Ok(
            json!({ "episode": episode, "staging": self.config.staging, "production": self.config.production }),
        )
    }

    /// Brings up the staging endpoint. A version that its platform refuses, or that never comes up,
    /// failed before the first test.
    async fn stage(&self) -> Result<Value, OrchestratorError> {
        let (endpoint, wanted) = (&self.config.staging, self.digest());
        let cargo = self.cargo().await?;
        let found = self.watch().describe(endpoint).await?;
        let configured = found.as_ref().filter(|one| one.state != EndpointState::Failed);
        if configured.and_then(EndpointDescription::leads_to) != Some(wanted) {
            let permit = self.permit(points::CALLING_DEPLOY, None);
            let request = DeployRequest {
                endpoint: endpoint.clone(),
                version: cargo.version.clone(),
                folder: cargo.folder.clone(),
                permission: permit.clone(),
            };
            let answer = self.deps.endpoints.deployer.deploy_model(&request).await;
            permit.returned().await?;
            match answer {
                Ok(()) => {}
                Err(DeployError::Refused { problem, .. }) => return Ok(not_staged(&problem)),
                Err(error) => return Err(error.into()),
            }
        }
        if let Look::Failed(detail) =
            self.watch().settle(endpoint, wanted, Before::Anything).await?
        {
            return Ok(not_staged(&detail));
        }
        self.watch()
            .answers(endpoint, &cargo.probe()?, wanted, 1, |answer| answer.digest == Some(wanted))
            .await?;
        Ok(json!({ REASON: format!("{endpoint} serves {}", self.deployment.version) }))
    }

    async fn smoke(&self) -> Result<Value, OrchestratorError> {
        let observations = self.observe().await?;
        let report = smoke::judge(&observations, &self.config.smoke);
        let reason = if report.passed {
            format!("all {} smoke tests passed", report.checks.len())
        } else {
            report.failures()
        };
        Ok(json!({ PASSED: report.passed, REASON: reason, REPORT: report }))
    }

    async fn observe(&self) -> Result<Observations, OrchestratorError> {
        let mut seen = Observations::default();
        let mut sound = vec![];
        let cargo = self.cargo().await?;
        for case in &cargo.golden {
            let invocation = cargo.sound(case)?;
            seen.golden.push((case.clone(), self.ask_patiently(&invocation).await?));
            sound.push(invocation);
        }
        let Some(first) = sound.first() else { return Ok(seen) };
        for (name, invocation) in smoke::bad_inputs(first) {
            seen.bad.push((name, self.ask_patiently(&invocation).await?));
        }
        let config = self.config.smoke;
        let total = config.warmup_requests + config.latency_requests;
        for (count, invocation) in (0..total).zip(sound.iter().cycle()) {
            let asked = self.ask(invocation).await?;
            if count >= config.warmup_requests {
                // Their bodies tell nothing more, and there may be many.
                seen.measured.push(asked.map(|answer| Answer { body: vec![], ..answer }));
            }
        }
        Ok(seen)
    }

    /// Asks staging once; an endpoint that does not answer is an observation.
    async fn ask(&self, invocation: &Invocation) -> Result<Asked, OrchestratorError> {
        self.held.keep().await?;
        match self.deps.endpoints.client.invoke(&self.config.staging, invocation).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) if error.is_transient() => Ok(Err(error_chain(&error))),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks staging until it answers, a few times: a lost connection says nothing of the version.
    async fn ask_patiently(&self, invocation: &Invocation) -> Result<Asked, OrchestratorError> {
        for _ in 1..GOLDEN_TRIES {
            if let Ok(answer) = self.ask(invocation).await? {
                return Ok(Ok(answer));
            }
            self.held.pause(self.config.poll).await;
        }
        self.held.keep().await?;
        let answer = self.deps.endpoints.client.invoke(&self.config.staging, invocation).await?;
        Ok(Ok(answer))
    }

    /// Asks for the switch, unless it was asked for before.
    async fn submit(&self) -> Result<Value, OrchestratorError> {
        let (wanted, before) = (self.digest(), self.before());
        let endpoint = &self.config.production;
        let cargo = self.cargo().await?;
        if self.was_asked(endpoint, wanted, before).await? {
            return Ok(json!({ "adopted": true }));
        }
        let change = Some((Step::ProductionSubmitted, wanted));
        let permit = self.permit(points::CALLING_SWITCH, change);
        let request = self.switch(cargo, before, &permit);
        let answer = self.deps.endpoints.deployer.switch_to_production(&request).await;
        permit.returned().await?;
        self.accept(answer, wanted, before).await?;
        Ok(json!({ "adopted": false }))
    }

    /// Takes an answer to a change of production; one that was lost is replaced by a look.
    pub(crate) async fn accept(
        &self,
        answer: Result<(), DeployError>,
        wanted: Sha256Digest,
        before: Option<Sha256Digest>,
    ) -> Result<(), OrchestratorError> {
        match answer {
            Err(error) if error.is_transient() => {
                tracing::warn!(error = error_chain(&error), "no answer; looking at the endpoint");
                if self.was_asked(&self.config.production, wanted, before).await? {
                    return Ok(());
                }
                Err(error.into())
            }
            other => Ok(other?),
        }
    }

    /// Whether an endpoint serves `wanted` or is on its way there.
    async fn was_asked(
        &self,
        endpoint: &EndpointName,
        wanted: Sha256Digest,
        before: Option<Sha256Digest>,
    ) -> Result<bool, OrchestratorError> {
        let found = self.watch().describe(endpoint).await?;
        match look(found.as_ref(), wanted, before) {
            Look::Stranger(digest) => Err(stranger(endpoint, digest, wanted)),
            Look::There => Ok(true),
            _ => Ok(found.is_some_and(|found| found.pending == Some(wanted))),
        }
    }

    /// Waits until production answers with the version, over new connections.
    async fn verify(&self) -> Result<Value, OrchestratorError> {
        let (wanted, endpoint) = (self.digest(), &self.config.production);
        match self.watch().settle(endpoint, wanted, Before::Exactly(self.before())).await? {
            Look::Before => return Ok(undone("the platform went back to the version before")),
            Look::Failed(detail) => {
                let doing = format!("switching {endpoint} to {}", self.deployment.version);
                let problem = format!(
                    "the endpoint failed: {detail}; run `rollback` to go back to the version before"
                );
                return Err(OrchestratorError::needs_person(doing, problem));
            }
            _ => {}
        }
        let n = self.config.verify_requests.max(1);
        let sound = |answer: &Answer| answer.status == 200 && answer.digest == Some(wanted);
        let probe = self.cargo().await?.probe()?;
        let Err(error) = self.watch().answers(endpoint, &probe, wanted, n, sound).await else {
            let reason = format!(
                "{n} answers of {endpoint} over new connections came from {}",
                self.deployment.version
            );
            return Ok(json!({ PASSED: true, REASON: reason, "verified_by": "digest" }));
        };
        self.give_up(error).await
    }

    /// Production is set to the version and does not answer as it should: the way back follows, if
    /// a version served before.
    async fn give_up(&self, error: OrchestratorError) -> Result<Value, OrchestratorError> {
        if !matches!(error, OrchestratorError::NotYet { .. }) {
            return Err(error);
        }
        let found = self.watch().describe(&self.config.production).await?;
        let there = look(found.as_ref(), self.digest(), self.before());
        match (there, self.deployment.previous) {
            (Look::Before, _) => Ok(undone("the platform went back to the version before")),
            (Look::There, Some(previous)) => {
                let error = error_chain(&error);
                tracing::error!(error, "production does not answer as it should; going back");
                Ok(undone(&format!("{error}; so production goes back to {previous}")))
            }
            _ => Err(error),
        }
    }

    pub(crate) fn watch(&self) -> Watch<'a> {
        let (patience, poll) = (self.config.patience, self.config.poll);
        Watch { endpoints: &self.deps.endpoints, held: self.held, patience, poll }
    }

    fn before(&self) -> Option<Sha256Digest> {
        self.deployment.previous.map(|version| version.digest)
    }

    pub(crate) fn switch(
        &self,
        cargo: &Cargo,
        current: Option<Sha256Digest>,
        permit: &Arc<Permit>,
    ) -> SwitchRequest {
        SwitchRequest {
            endpoint: self.config.production.clone(),
            version: cargo.version.clone(),
            folder: cargo.folder.clone(),
            current,
            permission: permit.clone(),
        }
    }
}

fn not_staged(problem: &str) -> Value {
    let reason = format!("staging did not come up: {problem}");
    let report = SmokeReport::of(vec![smoke::check("staging".to_owned(), Err(reason.clone()))]);
    json!({ PASSED: false, REASON: reason, REPORT: report })
}

fn undone(reason: &str) -> Value {
    json!({ PASSED: false, REASON: reason })
}
