//! The way back: production serves the version before again, asked for and verified in two steps of
//! their own, as on the way there.

use mloop_core::VersionRef;
use mloop_core::deployment::{Deployment, DeploymentVerdict, Step};
use mloop_core::failpoint::reach;
use mloop_deployer::Answer;
use serde_json::{Value, json};

use crate::cargo::cargo;
use crate::endpoint::{Before, Look, look, stranger};
use crate::journey::Journey;
use crate::progress::{PASSED, REASON};
use crate::{OrchestratorError, points, progress};

impl Journey<'_> {
    /// Writes down that the deployment goes back, so that whichever run comes next finishes that:
    /// one that touched production is rolled back, any other abandoned. Asked again, it is left as
    /// it is.
    pub(crate) async fn turn_back(&mut self) -> Result<(), OrchestratorError> {
        if self.deployment.way_back.is_some() {
            return Ok(());
        }
        let switched = self.deployment.verdict == Some(DeploymentVerdict::Switched);
        let verdict = if switched || progress::touched_production(&self.entries) {
            self.previous()?;
            DeploymentVerdict::RolledBack
        } else {
            DeploymentVerdict::Abandoned
        };
        let turned = Deployment {
            verdict: None,
            closed_at: None,
            way_back: Some(verdict),
            ..self.deployment.clone()
        };
        self.deps.journal.save_deployment(self.held.lease(), &turned).await?;
        self.deployment = turned;
        reach(points::DEPLOYMENT_TURNED);
        Ok(())
    }

    /// Asks for the version before, unless production serves it or is on its way there. What is
    /// replaced is the version that goes back, or what a late call put there.
    pub(crate) async fn submit_back(&self) -> Result<Value, OrchestratorError> {
        let previous = self.previous()?;
        let target = cargo(self.deps, self.config, previous).await?;
        let (wanted, ours) = (previous.digest, Some(self.digest()));
        let found = self.watch().describe(&self.config.production).await?;
        let is_pending = found.as_ref().is_some_and(|found| found.pending == Some(wanted));
        let from = match look(found.as_ref(), wanted, ours) {
            _ if is_pending => return Ok(json!({ "to": previous, "adopted": true })),
            Look::There => return Ok(json!({ "to": previous, "adopted": true })),
            Look::Stranger(other) if !self.came_late(other).await? => {
                return Err(stranger(&self.config.production, other, wanted));
            }
            Look::Stranger(other) => Some(other),
            _ => ours,
        };
        let permit = self.permit(points::CALLING_ROLLBACK, Some((Step::RollbackSubmitted, wanted)));
        let request = self.switch(&target, from, &permit);
        let answer = self.deps.endpoints.deployer.rollback(&request).await;
        permit.returned().await?;
        self.accept(answer, wanted, from).await?;
        Ok(json!({ "to": previous, "adopted": false }))
    }

    /// Waits until production answers with the version before, over new connections.
    pub(crate) async fn verify_back(&self) -> Result<Value, OrchestratorError> {
        let previous = self.previous()?;
        let target = cargo(self.deps, self.config, previous).await?;
        let (wanted, endpoint) = (previous.digest, &self.config.production);
        let settled = self.watch().settle(endpoint, wanted, Before::Anything).await?;
        if let Look::Failed(detail) = settled {
            let doing = format!("rolling {endpoint} back to {previous}");
            let problem = format!("the endpoint failed: {detail}; look at its platform");
            return Err(OrchestratorError::needs_person(doing, problem));
        }
        let n = self.config.verify_requests.max(1);
        let sound = |answer: &Answer| answer.digest == Some(wanted);
        self.watch().answers(endpoint, &target.probe()?, wanted, n, sound).await?;
        let reason =
            format!("{n} answers of {endpoint} over new connections came from {previous} again");
        Ok(json!({ PASSED: true, REASON: reason }))
    }

    fn previous(&self) -> Result<VersionRef, OrchestratorError> {
        self.deployment.previous.ok_or_else(|| {
            let doing = format!("rolling back {}", self.deployment.version);
            let problem = "it is the first version in production: there is none to go back to";
            OrchestratorError::invalid(doing, problem)
        })
    }
}
