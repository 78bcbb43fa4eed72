//! How things stand: what the ledger says, and what the platform shows.

use chrono::{DateTime, Utc};
use mloop_core::deployment::{Deployment, EndpointDescription, JournalEntry};
use mloop_core::history::Serving;
use mloop_core::{Sha256Digest, Subject, VersionRef};
use serde::Serialize;

use crate::ending::leftover;
use crate::restoring::late_call;
use crate::{DEPLOYMENT_FORMAT, DeploymentOrchestrator, OrchestratorError, past};

/// How things stand, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Production serves what the ledger says, and nothing is under way.
    Consistent,
    /// A deployment, or a way back, is under way: `run` goes on with it.
    UnderWay,
    /// As `consistent`, but the staging endpoint serves a version whose deployment is concluded:
    /// `run` removes it.
    StagingLeft,
    /// Production serves, or is about to serve, something else than the ledger says: a person must look,
    /// unless `reason` says that `run` puts it right.
    Inconsistent,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentStatus {
    /// [`DEPLOYMENT_FORMAT`].
    pub schema: String,
    /// In one word.
    pub outcome: Standing,
    /// For people: what that word rests on.
    pub reason: String,
    /// Model and target.
    pub subject: Subject,
    /// What serves, by the ledger.
    pub serving: Option<VersionRef>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// The production endpoint, as its platform tells.
    pub production: Option<EndpointDescription>,
    /// The staging endpoint, as its platform tells.
    pub staging: Option<EndpointDescription>,
    /// Whether ledger and platform agree on what serves.
    pub consistent: bool,
    /// The deployment under way, else the newest.
    pub newest: Option<Deployment>,
    /// Its journal.
    pub journal: Vec<JournalEntry>,
}

impl DeploymentOrchestrator {
    /// How things stand; changes nothing and takes no lease.
    ///
    /// # Errors
    /// When ledger or platform cannot be read.
    pub async fn status(&self) -> Result<DeploymentStatus, OrchestratorError> {
        let subject = self.config.subject.clone();
        let deployments = self.deps.journal.deployments(&subject).await?;
        let serving = past::serving(&deployments);
        let deployer = &self.deps.endpoints.deployer;
        let production = deployer.describe(&self.config.production).await?;
        let staging = deployer.describe(&self.config.staging).await?;
        let left = match self.config.keep_staging {
            true => None,
            false => leftover(staging.as_ref(), &deployments),
        };
        let there = production.as_ref().and_then(EndpointDescription::leads_to);
        let (outcome, mut reason) = standing(serving, production.as_ref(), &deployments, left);
        if outcome == Standing::Inconsistent
            && let Some(late) = self.late(there, &deployments).await?
        {
            reason.push_str(&late);
        }
        let newest = deployments.into_iter().max_by_key(|one| (one.is_open(), order(one)));
        let journal = match &newest {
            Some(newest) => self.deps.journal.entries(&newest.id).await?,
            None => vec![],
        };
        Ok(DeploymentStatus {
            schema: DEPLOYMENT_FORMAT.to_owned(),
            outcome,
            reason,
            subject,
            serving: serving.map(|serving| serving.version),
            since: serving.map(|serving| serving.since),
            consistent: there == serving.map(|serving| serving.version.digest),
            production,
            staging,
            newest,
            journal,
        })
    }

    /// How a late call explains what production has, if one does.
    async fn late(
        &self,
        there: Option<Sha256Digest>,
        deployments: &[Deployment],
    ) -> Result<Option<String>, OrchestratorError> {
        let Some(digest) = there.filter(|_| !deployments.iter().any(Deployment::is_open)) else {
            return Ok(None);
        };
        let late = late_call(&self.deps, deployments, digest).await?;
        Ok(late.map(|late| {
            format!(
                ": a run of the deployment of {} asked for it when that was over; `run` puts it right",
                late.version
            )
        }))
    }
}

fn order(deployment: &Deployment) -> (DateTime<Utc>, u32) {
    (deployment.opened_at, deployment.attempt)
}

/// The word, and the sentence behind it. While a deployment is under way, production may serve its
/// version as well as the one before.
fn standing(
    serving: Option<Serving>,
    production: Option<&EndpointDescription>,
    deployments: &[Deployment],
    left: Option<VersionRef>,
) -> (Standing, String) {
    let name =
        |version: Option<VersionRef>| version.map_or("nothing".to_owned(), |one| one.to_string());
    let digest = |version: Option<VersionRef>| version.map(|one| one.digest);
    let short =
        |found: Option<Sha256Digest>| found.map_or("nothing".to_owned(), |one| one.short(12));
    let serving = serving.map(|serving| serving.version);
    let configured = production.and_then(|one| one.configured);
    let there = production.and_then(EndpointDescription::leads_to);
    let open = deployments.iter().filter(|one| one.is_open()).max_by_key(|one| order(one));
    let expected = open.map_or(vec![digest(serving)], |open| {
        vec![digest(serving), digest(open.previous), Some(open.version.digest)]
    });
    if !expected.contains(&there) {
        let found = short(there);
        let reason = format!("by the ledger {} serves, production has {found}", name(serving));
        return (Standing::Inconsistent, reason);
    }
    if let Some(open) = open {
        let version = open.version;
        let reason = match open.way_back {
            Some(_) if configured == Some(version.digest) => {
                format!("{version} is to be taken back and still serves; `run` goes on with that")
            }
            Some(_) => format!("{version} is being taken back; `run` goes on with that"),
            None => format!("{version} is on its way to production; `run` goes on with that"),
        };
        return (Standing::UnderWay, reason);
    }
    match left {
        Some(version) => {
            let reason = format!(
                "staging still has {version}, whose deployment is concluded; `run` removes it"
            );
            (Standing::StagingLeft, reason)
        }
        None => (Standing::Consistent, format!("{} serves", name(serving))),
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::deployment::{DeploymentVerdict, EndpointState};
    use mloop_core::{ModelName, TargetName};

    use super::*;

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn deployment(number: u64, verdict: Option<DeploymentVerdict>) -> Deployment {
        let subject = Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        };
        let at = format!("2026-03-{number:02}T00:00:00Z").parse().expect("a moment");
        Deployment {
            id: Deployment::id_of(&subject, &reference(number), 1),
            subject,
            version: reference(number),
            version_created_at: at,
            attempt: 1,
            previous: (number > 1).then(|| reference(number - 1)),
            opened_at: at,
            verdict,
            closed_at: verdict.map(|_| at),
            way_back: None,
        }
    }

    #[test]
    fn ledger_and_platform_are_held_against_each_other() {
        use DeploymentVerdict::{RolledBack, Switched};
        let one = || deployment(1, Some(Switched));
        let turned = Deployment { way_back: Some(RolledBack), ..deployment(2, None) };
        // Version that production has (91: 1, and 9 on its way), deployments, version left in staging.
        let table = [
            ("nothing yet", 0, vec![], None, Standing::Consistent, "nothing serves"),
            ("at rest", 1, vec![one()], None, Standing::Consistent, "v1"),
            ("another", 9, vec![one()], None, Standing::Inconsistent, "by the ledger v1"),
            ("gone", 0, vec![one()], None, Standing::Inconsistent, "production has nothing"),
            (
                "on its way",
                1,
                vec![one(), deployment(2, None)],
                None,
                Standing::UnderWay,
                "on its way",
            ),
            (
                "there, unverified",
                2,
                vec![one(), deployment(2, None)],
                None,
                Standing::UnderWay,
                "v2",
            ),
            (
                "to go back",
                2,
                vec![one(), turned.clone()],
                None,
                Standing::UnderWay,
                "still serves",
            ),
            ("back", 1, vec![one(), turned.clone()], None, Standing::UnderWay, "being taken back"),
            (
                "about to be another",
                91,
                vec![one()],
                None,
                Standing::Inconsistent,
                "by the ledger v1",
            ),
            (
                "a stranger on the way",
                9,
                vec![one(), turned],
                None,
                Standing::Inconsistent,
                "by the ledger",
            ),
            (
                "left",
                1,
                vec![one()],
                Some(reference(2)),
                Standing::StagingLeft,
                "staging still has v2",
            ),
        ];
        for (name, serves, deployments, left, expected, said) in table {
            let production = (serves > 0).then(|| EndpointDescription {
                state: EndpointState::InService,
                configured: Some(reference(serves % 10).digest),
                pending: (serves > 9).then(|| reference(serves / 10).digest),
                detail: String::new(),
            });
            let serving = past::serving(&deployments);
            let (found, reason) = standing(serving, production.as_ref(), &deployments, left);
            assert_eq!(found, expected, "{name}: {reason}");
            assert!(reason.contains(said), "{name}: {reason}");
        }
    }
}
