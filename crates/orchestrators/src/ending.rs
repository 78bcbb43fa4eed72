//! What ends a deployment, whichever way it went: aliases, the staging endpoint, people.

use mloop_core::VersionRef;
use mloop_core::deployment::{Deployment, DeploymentVerdict, EndpointDescription};
use mloop_core::notification::{Notification, Severity, Topic};
use mloop_core::version::aliases;
use mloop_platform::Message;
use serde_json::{Value, json};

use crate::journey::Journey;
use crate::waiting::{deliver_waiting, to_all};
use crate::{OrchestratorError, points, progress};

impl Journey<'_> {
    /// Makes the aliases name what they are to name under the verdict to come.
    pub(crate) async fn move_aliases(&self) -> Result<Value, OrchestratorError> {
        let (model, registry) = (&self.config.subject.model, &self.deps.registry);
        let deployments = self.deps.journal.deployments(&self.config.subject).await?;
        let others: Vec<Deployment> =
            deployments.into_iter().filter(|one| one.id != self.deployment.id).collect();
        let champion = registry.alias(model, aliases::CHAMPION).await?;
        let challenger = registry.alias(model, aliases::CHALLENGER).await?;
        let wanted = crate::aliases::after(&self.deployment, self.fate(), &others, challenger);
        self.about_to(points::CALLING_ALIASES).await?;
        for (alias, version) in &wanted {
            match version {
                Some(version) => registry.set_alias(model, alias, version).await?,
                None => registry.remove_alias(model, alias).await?,
            }
        }
        Ok(json!({ "champion_before": champion, "aliases": wanted }))
    }

    pub(crate) async fn remove_staging(&self) -> Result<Value, OrchestratorError> {
        if !self.config.keep_staging {
            self.about_to(points::CALLING_REMOVE).await?;
            self.deps.endpoints.janitor.remove_endpoint(&self.config.staging).await?;
        }
        Ok(json!({ "kept": self.config.keep_staging }))
    }

    /// The message of the verdict to come.
    pub(crate) fn notice(&self) -> Message {
        let verdict = self.fate();
        let reason = progress::reason(&self.entries, Some(verdict), self.deployment.previous);
        let notice = message(&self.deployment, verdict, &reason, self.deps.clock.now());
        to_all(&self.deps.notifiers, notice)
    }

    /// Sends what waits; what cannot be delivered now stays queued.
    pub(crate) async fn deliver(&mut self) {
        let (outbox, subject) = (self.deps.outbox.as_ref(), &self.deployment.subject);
        let undelivered = deliver_waiting(outbox, subject, &self.deps.notifiers).await;
        self.undelivered.extend(undelivered);
    }
}

/// The version at a staging endpoint that no deployment needs any more: each of that version has its
/// verdict, and none of any other is under way. A version that no deployment knows was put there by
/// somebody else, and is theirs.
pub(crate) fn leftover(
    staging: Option<&EndpointDescription>,
    deployments: &[Deployment],
) -> Option<VersionRef> {
    let digest = staging?.leads_to()?;
    if deployments.iter().any(Deployment::is_open) {
        return None;
    }
    deployments.iter().map(|one| one.version).find(|version| version.digest == digest)
}

fn message(
    deployment: &Deployment,
    verdict: DeploymentVerdict,
    reason: &str,
    at: chrono::DateTime<chrono::Utc>,
) -> Notification {
    let (version, subject) = (deployment.version, deployment.subject.clone());
    let previous = deployment.previous.map_or("nothing".to_owned(), |one| one.to_string());
    let (severity, title) = match verdict {
        DeploymentVerdict::Switched => {
            (Severity::Info, format!("{subject}: {version} serves all traffic"))
        }
        DeploymentVerdict::SmokeFailed => {
            (Severity::Warning, format!("{subject}: {version} failed its smoke tests"))
        }
        DeploymentVerdict::RolledBack => {
            (Severity::Critical, format!("{subject}: {version} was rolled back"))
        }
        DeploymentVerdict::Abandoned => {
            (Severity::Warning, format!("{subject}: the deployment of {version} was ended"))
        }
    };
    let id = format!("{}-{}", deployment.id, verdict.as_str());
    let text = format!("{reason}\nBefore it: {previous}");
    let topic = Topic::Deployment;
    Notification { id, topic, severity, subject, title, text, at }
}

#[cfg(test)]
mod tests {
    use mloop_core::deployment::EndpointState;
    use mloop_core::{ModelName, Sha256Digest, Subject, TargetName};

    use super::*;

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn deployment(number: u64, verdict: Option<DeploymentVerdict>) -> Deployment {
        let subject = Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        };
        let at = "2026-03-01T00:00:00Z".parse().expect("a moment");
        Deployment {
            id: Deployment::id_of(&subject, &reference(number), 1),
            subject,
            version: reference(number),
            version_created_at: at,
            attempt: 1,
            previous: None,
            opened_at: at,
            verdict,
            closed_at: verdict.map(|_| at),
            way_back: None,
        }
    }

    #[test]
    fn staging_is_left_over_when_its_deployment_is_concluded_and_none_is_under_way() {
        use DeploymentVerdict::{SmokeFailed, Switched};
        let serves = |number: Option<u64>, pending: Option<u64>| {
            let digest = |number: u64| reference(number).digest;
            Some(EndpointDescription {
                state: EndpointState::InService,
                configured: number.map(digest),
                pending: pending.map(digest),
                detail: String::new(),
            })
        };
        let concluded = [deployment(1, Some(Switched)), deployment(2, Some(SmokeFailed))];
        let open = [deployment(2, Some(SmokeFailed)), deployment(3, None)];
        let table = [
            ("gone", None, &concluded, None),
            ("failed", serves(Some(2), None), &concluded, Some(2)),
            ("on its way there", serves(None, Some(1)), &concluded, Some(1)),
            ("a stranger's", serves(Some(9), None), &concluded, None),
            ("about to be replaced", serves(Some(2), None), &open, None),
            ("empty", serves(None, None), &concluded, None),
        ];
        for (name, found, deployments, expected) in table {
            let found = leftover(found.as_ref(), deployments);
            assert_eq!(found.map(|version| version.number), expected, "{name}");
        }
    }
}
