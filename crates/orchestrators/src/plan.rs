//! What a retraining decision leads to, given what was already done about its cause.

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::deployment::{Deployment, DeploymentVerdict};
use mloop_core::episode::{Episode, EpisodeOutcome};
use mloop_core::{EpisodeId, Sha256Digest, VersionRef};
use mloop_trigger::Decision;

/// How often and how soon a cause may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time between the end of a failed attempt and the next.
    pub cooldown: TimeDelta,
    /// Failed attempts after which only a person goes on.
    pub max_attempts: u32,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: no trigger asks for it.
    No,
    /// Nothing: no trigger asks for it, and one could not tell.
    CannotTell,
    /// Nothing, although a trigger may ask for it.
    Hold {
        /// Why, one sentence.
        reason: String,
    },
    /// Nothing, although a trigger asks for it: as many attempts failed as are allowed.
    GiveUp {
        /// The last of them.
        episode: EpisodeId,
        /// Why, one sentence.
        reason: String,
    },
    /// The cause has its job already: what was seen becomes evidence of it.
    Attach {
        /// The open episode.
        episode: EpisodeId,
    },
    /// A new episode, with its one job.
    Open {
        /// Its attempt, from 1.
        attempt: u32,
    },
}

/// Plans for a decision. `episodes` and `deployments` are those of the subject, `serving` what now
/// serves; an attempt counts as failed when its job failed or was refused by the gate, or when its
/// version did not stay in production.
#[must_use]
pub fn plan(
    decision: &Decision,
    serving: Option<&Sha256Digest>,
    episodes: &[Episode],
    deployments: &[Deployment],
    limits: Limits,
    as_of: DateTime<Utc>,
) -> Plan {
    match decision {
        Decision::No => return Plan::No,
        Decision::CannotTell => return Plan::CannotTell,
        Decision::Held { reason } => return Plan::Hold { reason: reason.clone() },
        Decision::Retrain(_) => {}
    }
    let of_cause: Vec<&Episode> = episodes
        .iter()
        .filter(|episode| episode.serving.map(|version| version.digest).as_ref() == serving)
        .collect();
    if let Some(open) = of_cause.iter().find(|episode| episode.is_open()) {
        return Plan::Attach { episode: open.id.clone() };
    }
    let mut failures = vec![];
    for episode in &of_cause {
        match end_of(episode, deployments) {
            End::Waits(version) => {
                let reason = format!("{version} passed the gate and waits for deployment");
                return Plan::Hold { reason };
            }
            End::Failed(at) => failures.push((at, *episode)),
            End::Harmless => {}
        }
    }
    hold(&failures, limits, as_of).unwrap_or_else(|| Plan::Open {
        attempt: of_cause.iter().map(|episode| episode.attempt).max().unwrap_or(0) + 1,
    })
}

fn hold(
    failures: &[(DateTime<Utc>, &Episode)],
    limits: Limits,
    as_of: DateTime<Utc>,
) -> Option<Plan> {
    let (newest, last) = *failures.iter().max_by_key(|(at, episode)| (*at, episode.attempt))?;
    if failures.len() >= limits.max_attempts as usize {
        let reason = format!(
            "{} attempts for this cause failed, as many as are allowed; find out why, then raise max_attempts or deploy another version",
            failures.len()
        );
        return Some(Plan::GiveUp { episode: last.id.clone(), reason });
    }
    let ready = newest.checked_add_signed(limits.cooldown)?;
    (as_of < ready).then(|| Plan::Hold {
        reason: format!("the last attempt failed; the cooldown ends at {}", ready.to_rfc3339()),
    })
}

enum End {
    Waits(VersionRef),
    Failed(DateTime<Utc>),
    Harmless,
}

fn end_of(episode: &Episode, deployments: &[Deployment]) -> End {
    let Some(closing) = &episode.closed else { return End::Harmless };
    match (closing.outcome, closing.version) {
        (EpisodeOutcome::Superseded, _) => End::Harmless,
        (EpisodeOutcome::Blessed, Some(version)) => fate_of(version, closing.at, deployments),
        _ => End::Failed(closing.at),
    }
}

/// What became of a version that passed the gate, by its newest deployment.
fn fate_of(version: VersionRef, closed: DateTime<Utc>, deployments: &[Deployment]) -> End {
    let journeys = deployments.iter().filter(|one| one.version.digest == version.digest);
    let Some(newest) = journeys.max_by_key(|one| one.attempt) else { return End::Waits(version) };
    match newest.verdict {
        None => End::Waits(version),
        Some(
            DeploymentVerdict::SmokeFailed
            | DeploymentVerdict::RolledBack
            | DeploymentVerdict::Abandoned,
        ) => End::Failed(newest.closed_at.unwrap_or(closed)),
        // It served, and later what it had replaced was put back: the cause may stand again.
        Some(DeploymentVerdict::Switched) => End::Harmless,
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::episode::{Closing, JobRecord, JobState};
    use mloop_core::history::{Answer, Verdict};
    use mloop_core::{JobId, ModelName, Subject, TargetName};

    use super::*;

    const LIMITS: Limits = Limits { cooldown: TimeDelta::hours(6), max_attempts: 2 };

    fn at(hour: i64) -> DateTime<Utc> {
        let start: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a moment");
        start + TimeDelta::hours(hour)
    }

    fn version(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn subject() -> Subject {
        Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        }
    }

    /// An episode of version 1 that opened at `attempt` o'clock and closed, if so, an hour later.
    fn episode(attempt: u32, closed: Option<(EpisodeOutcome, Option<u64>)>) -> Episode {
        let serving = Some(version(1));
        let id = Episode::id_of(&subject(), Some(&version(1).digest), attempt);
        Episode {
            job: JobRecord {
                id: JobId::derive(&[id.as_str()]),
                state: JobState::Submitted,
                submissions: 1,
            },
            id,
            subject: subject(),
            serving,
            attempt,
            opened_at: at(i64::from(attempt)),
            reasons: vec![],
            evidence: vec![],
            traffic: None,
            evidence_from: None,
            announced: true,
            closed: closed.map(|(outcome, number)| Closing {
                at: at(i64::from(attempt) + 1),
                outcome,
                version: number.map(version),
                detail: String::new(),
                told: true,
                told_last: false,
            }),
        }
    }

    fn deployment(number: u64, verdict: Option<DeploymentVerdict>, closed: i64) -> Deployment {
        Deployment {
            id: Deployment::id_of(&subject(), &version(number), 1),
            subject: subject(),
            version: version(number),
            version_created_at: at(0),
            attempt: 1,
            previous: Some(version(1)),
            opened_at: at(2),
            verdict,
            closed_at: verdict.map(|_| at(closed)),
            way_back: None,
        }
    }

    fn yes() -> Decision {
        let verdict = Verdict { answer: Answer::Yes, reason: "drift".to_owned(), evidence: vec![] };
        Decision::Retrain(vec![("drift".to_owned(), verdict)])
    }

    /// `open N`, `attach`, `no`, `cannot_tell`, `hold: …` or `give up: …`.
    fn planned(
        decision: &Decision,
        episodes: &[Episode],
        deployments: &[Deployment],
        hour: i64,
    ) -> String {
        let serving = version(1).digest;
        match plan(decision, Some(&serving), episodes, deployments, LIMITS, at(hour)) {
            Plan::No => "no".to_owned(),
            Plan::CannotTell => "cannot_tell".to_owned(),
            Plan::Hold { reason } => format!("hold: {reason}"),
            Plan::GiveUp { episode: last, reason } => {
                let last = episodes.iter().find(|episode| episode.id == last).expect("one of them");
                format!("give up after {}: {reason}", last.attempt)
            }
            Plan::Attach { .. } => "attach".to_owned(),
            Plan::Open { attempt } => format!("open {attempt}"),
        }
    }

    #[test]
    fn only_a_yes_leads_to_a_job() {
        let held = Decision::Held { reason: "broken".to_owned() };
        let table = [
            (Decision::No, "no"),
            (Decision::CannotTell, "cannot_tell"),
            (held, "hold: broken"),
            (yes(), "open 1"),
        ];
        for (decision, expected) in table {
            assert_eq!(planned(&decision, &[], &[], 1), expected, "{decision:?}");
        }
    }

    #[test]
    fn what_was_done_about_the_cause_decides() {
        use DeploymentVerdict::{Abandoned, RolledBack, SmokeFailed};
        use EpisodeOutcome::{Blessed, Failed, Inconclusive, Rejected, Superseded};
        let closed = |attempt, outcome| episode(attempt, Some((outcome, None)));
        let blessed = || episode(1, Some((Blessed, Some(2))));
        let waits = "hold: v2";
        let cooldown = "hold: the last attempt failed; the cooldown";
        let table = [
            ("open", vec![episode(1, None)], vec![], 2, "attach"),
            (
                "open after a failure",
                vec![closed(1, Failed), episode(2, None)],
                vec![],
                3,
                "attach",
            ),
            ("rejected just now", vec![closed(1, Rejected)], vec![], 7, cooldown),
            ("rejected long ago", vec![closed(1, Rejected)], vec![], 8, "open 2"),
            ("cannot tell long ago", vec![closed(1, Inconclusive)], vec![], 8, "open 2"),
            (
                "failed too often",
                vec![closed(1, Failed), closed(2, Rejected)],
                vec![],
                99,
                "give up after 2: 2 attempts",
            ),
            ("superseded", vec![closed(1, Superseded)], vec![], 2, "open 2"),
            ("blessed, not deployed", vec![blessed()], vec![], 99, waits),
            ("blessed, on its way", vec![blessed()], vec![deployment(2, None, 0)], 99, waits),
            (
                "blessed, smoke failed",
                vec![blessed()],
                vec![deployment(2, Some(SmokeFailed), 10)],
                15,
                cooldown,
            ),
            (
                "blessed, abandoned on its way",
                vec![blessed()],
                vec![deployment(2, Some(Abandoned), 10)],
                15,
                cooldown,
            ),
            (
                "blessed, rolled back long ago",
                vec![blessed()],
                vec![deployment(2, Some(RolledBack), 10)],
                16,
                "open 2",
            ),
        ];
        for (name, episodes, deployments, hour, expected) in table {
            let found = planned(&yes(), &episodes, &deployments, hour);
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }

    #[test]
    fn episodes_of_another_version_are_another_cause() {
        let other = Sha256Digest::of(b"other");
        let episodes = [episode(1, None)];
        let found = plan(&yes(), Some(&other), &episodes, &[], LIMITS, at(2));
        assert_eq!(found, Plan::Open { attempt: 1 });
    }
}
