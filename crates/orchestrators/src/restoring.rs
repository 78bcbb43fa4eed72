//! What follows a call that came too late.
//!
//! A run can be stopped between its last look and its call, lose its lease, and go on when other runs
//! have long ended its deployment. Platforms check no fencing number, so that the call has its effect
//! where the platform does not compare either. The journal tells of which deployments such calls may
//! come; here they are noticed, told and undone. What they do not explain was done by a person, and is
//! left to one.

use mloop_core::deployment::{Deployment, EndpointDescription, Step};
use mloop_core::notification::{Notification, Severity, Topic};
use mloop_core::{Sha256Digest, VersionRef, error_chain};
use mloop_deployer::Answer;
use serde_json::{Value, json};

use crate::cargo::cargo;
use crate::choice::Choice;
use crate::endpoint::{Before, Look};
use crate::journey::Journey;
use crate::lease::Held;
use crate::waiting::to_all;
use crate::{
    DeploymentDeps, DeploymentOrchestrator, DeploymentStatus, OrchestratorError, Standing, past,
    points, progress,
};

/// What was put back, and who could not be told.
pub(crate) struct Restored {
    pub(crate) reason: String,
    pub(crate) undelivered: Vec<String>,
}

impl DeploymentOrchestrator {
    /// Holds production against the ledger, unless a deployment is under way, whose own steps do so.
    /// What a late call put there gives way to what should serve. A platform that does not answer keeps
    /// no run from its outcome: the next one looks again.
    ///
    /// # Errors
    /// [`OrchestratorError::NeedsPerson`] when production serves what nothing explains; else
    /// [`OrchestratorError`].
    pub(crate) async fn reconcile(
        &self,
        held: &Held,
        choice: &Choice,
        deployments: &[Deployment],
    ) -> Result<Option<Restored>, OrchestratorError> {
        let production = &self.config.production;
        let Some(serving) = past::serving(deployments).map(|serving| serving.version) else {
            return Ok(None);
        };
        if deployments.iter().any(Deployment::is_open) {
            return Ok(None);
        }
        let found = match self.deps.endpoints.deployer.describe(production).await {
            Ok(found) => found.as_ref().and_then(EndpointDescription::leads_to),
            Err(error) if error.is_transient() => {
                tracing::warn!(error = error_chain(&error), "production was not looked at");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let late = match found {
            Some(digest) if digest == serving.digest => return Ok(None),
            Some(digest) => {
                late_call(&self.deps, deployments, digest).await?.map(|late| (late, digest))
            }
            // The next switch makes it anew.
            None if *choice != Choice::Nothing => return Ok(None),
            None => None,
        };
        // With nothing under way, to go on is to go back.
        let back = match choice {
            Choice::Resume(deployment) => deployment.previous,
            _ => None,
        };
        match late {
            // It is where it is to go back to, or is replaced on the way there.
            _ if found.is_some() && found == back.map(|version| version.digest) => Ok(None),
            Some(_) if back.is_some() => Ok(None),
            Some((late, found)) => self.restore(held, late, found, serving).await.map(Some),
            None => {
                let has = found.map_or("nothing".to_owned(), |digest| digest.short(12));
                let problem = format!(
                    "by the ledger {serving} serves, {production} has {has}, and no call of mloop explains \
                     that; find out who changed it, put {serving} back, or go back with `rollback`"
                );
                Err(OrchestratorError::needs_person("looking at production", problem))
            }
        }
    }

    async fn restore(
        &self,
        held: &Held,
        late: Deployment,
        found: Sha256Digest,
        serving: VersionRef,
    ) -> Result<Restored, OrchestratorError> {
        let version = late.version;
        tracing::warn!(%version, %serving, "a late call of its deployment changed production");
        let message = message(&late, found, serving, self.deps.clock.now());
        let message = to_all(&self.deps.notifiers, message);
        let mut journey = Journey::new(&self.deps, &self.config, held, late).await?;
        journey.step_telling(Step::ProductionRestored, vec![message]).await?;
        let reason = format!(
            "production serves {serving} again; a run that was overtaken had asked for another version after \
             the end of the deployment of {version}"
        );
        Ok(Restored { reason, undelivered: journey.undelivered })
    }

    /// What an overtaken run ends with: that it was overtaken or, when production is not as the ledger
    /// says, which its last call may have caused, that a person should look.
    pub(crate) async fn overtaken(&self, error: OrchestratorError) -> OrchestratorError {
        match self.status().await {
            Ok(DeploymentStatus { outcome: Standing::Inconsistent, reason, .. }) => {
                let doing = "changing production as a run that was overtaken meanwhile";
                OrchestratorError::needs_person(doing, reason)
            }
            Ok(_) => error,
            Err(problem) => {
                let problem = error_chain(&problem);
                tracing::warn!(
                    problem,
                    "what this run changed before it was overtaken is not known"
                );
                error
            }
        }
    }
}

impl Journey<'_> {
    /// Brings production back to what should serve, from what a late call of this deployment put there.
    pub(crate) async fn restore(&self) -> Result<Value, OrchestratorError> {
        let endpoint = &self.config.production;
        let deployments = self.deps.journal.deployments(&self.config.subject).await?;
        let serving = past::serving(&deployments).map(|serving| serving.version);
        let found = self.watch().describe(endpoint).await?;
        let found = found.as_ref().and_then(EndpointDescription::leads_to);
        let (Some(serving), Some(found)) = (serving, found) else { return Ok(json!({})) };
        let target = cargo(self.deps, self.config, serving).await?;
        let (wanted, before) = (serving.digest, Some(found));
        // Platforms make one change at a time.
        if self.settled(wanted, before).await? != Look::There {
            let change = Some((Step::ProductionRestored, wanted));
            let permit = self.permit(points::CALLING_RESTORE, change);
            let request = self.switch(&target, before, &permit);
            let answer = self.deps.endpoints.deployer.switch_to_production(&request).await;
            permit.returned().await?;
            self.accept(answer, wanted, before).await?;
            let seen = self.settled(wanted, before).await?;
            if seen != Look::There {
                let doing = format!("bringing {endpoint} back to {serving}");
                let problem = format!("it did not come about ({seen:?}); look at its platform");
                return Err(OrchestratorError::needs_person(doing, problem));
            }
        }
        let n = self.config.verify_requests.max(1);
        let sound = |answer: &Answer| answer.digest == Some(wanted);
        self.watch().answers(endpoint, &target.probe()?, wanted, n, sound).await?;
        Ok(json!({ "found": found, "restored": serving }))
    }

    async fn settled(
        &self,
        wanted: Sha256Digest,
        before: Option<Sha256Digest>,
    ) -> Result<Look, OrchestratorError> {
        self.watch().settle(&self.config.production, wanted, Before::Exactly(before)).await
    }

    /// Whether a late call explains that production serves this version.
    pub(crate) async fn came_late(&self, digest: Sha256Digest) -> Result<bool, OrchestratorError> {
        let deployments = self.deps.journal.deployments(&self.config.subject).await?;
        Ok(late_call(self.deps, &deployments, digest).await?.is_some())
    }
}

/// The ended deployment for which production may have been asked too late to serve this version.
pub(crate) async fn late_call(
    deps: &DeploymentDeps,
    deployments: &[Deployment],
    digest: Sha256Digest,
) -> Result<Option<Deployment>, OrchestratorError> {
    let Some(subject) = deployments.first().map(|one| &one.subject) else { return Ok(None) };
    let (journal, now) = (deps.journal.as_ref(), deps.clock.now());
    let calls = journal.unreturned_calls(subject).await?;
    for call in calls.iter().filter(|call| call.asks == digest) {
        let of_call = |one: &&Deployment| one.id == call.deployment && !one.is_open();
        let Some(ended) = deployments.iter().find(of_call) else { continue };
        if progress::may_come_late(call, &journal.entries(&ended.id).await?, now) {
            return Ok(Some(ended.clone()));
        }
    }
    Ok(None)
}

fn message(
    late: &Deployment,
    found: Sha256Digest,
    serving: VersionRef,
    at: chrono::DateTime<chrono::Utc>,
) -> Notification {
    let (version, subject) = (late.version, late.subject.clone());
    let text = format!(
        "Production was asked for {} by a run of the deployment of {version} that had been stopped for \
         long, and went on when others had ended that deployment. By the ledger {serving} serves, and \
         production is brought back to it.",
        found.short(12)
    );
    Notification {
        id: format!("{}-restored", late.id),
        topic: Topic::Deployment,
        severity: Severity::Critical,
        title: format!("{subject}: a call came too late, production goes back to {serving}"),
        subject,
        text,
        at,
    }
}
