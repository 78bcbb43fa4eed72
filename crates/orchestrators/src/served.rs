//! What served when, by the verified switch times of the ledger: a window is judged by what served
//! in it, whatever serves now.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::deployment::{Deployment, DeploymentVerdict, JournalEntry, Step};
use mloop_core::{Sha256Digest, Subject, VersionRef, Window};
use mloop_platform::{Journal, PlatformError, ServedSpan};
use serde_json::Value;

use crate::progress::{PASSED, outcome, verified_at};

/// The versions that served, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Served {
    turns: Vec<Turn>,
    /// Deployments that may have touched production, without a verified switch to their version.
    tries: Vec<Try>,
}

/// A version's time in production.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    version: VersionRef,
    /// Since its deployment, or the way back to it, was opened: from then on it may have answered.
    opened: DateTime<Utc>,
    /// Since its switch was verified.
    from: DateTime<Utc>,
    /// Until the switch to the next was verified; none: it serves now.
    until: Option<DateTime<Utc>>,
}

/// A version that may have answered for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Try {
    version: VersionRef,
    opened: DateTime<Utc>,
    /// None: it is under way.
    closed: Option<DateTime<Utc>>,
}

/// Reads what served from the ledger. Of deployments that were switched, and of those that never
/// touched production, the record suffices; of others the journal has the times.
pub(crate) async fn served(
    journal: &dyn Journal,
    subject: &Subject,
) -> Result<Served, PlatformError> {
    let mut read = vec![];
    for deployment in journal.deployments(subject).await? {
        let entries = match deployment.verdict {
            None | Some(DeploymentVerdict::RolledBack) => journal.entries(&deployment.id).await?,
            Some(_) => vec![],
        };
        read.push((deployment, entries));
    }
    Ok(Served::of(&read))
}

impl Served {
    /// Puts the switches of all deployments, there and back, into their order.
    fn of(deployments: &[(Deployment, Vec<JournalEntry>)]) -> Self {
        let all = deployments.iter().flat_map(|(one, entries)| switches(one, entries));
        let mut switches: Vec<_> = all.collect();
        switches.sort_by_key(|(at, opened, ..)| (*at, *opened));
        let ends = switches.iter().skip(1).map(|(at, ..)| Some(*at)).chain([None]);
        let turn = |((from, opened, version), until): (&Switch, _)| {
            version.map(|version| Turn { version, opened: *opened, from: *from, until })
        };
        let turns = switches.iter().zip(ends).filter_map(turn).collect();
        let tried =
            |one: &&Deployment| matches!(one.verdict, None | Some(DeploymentVerdict::RolledBack));
        let tries = deployments.iter().map(|(one, _)| one).filter(tried).map(|one| Try {
            version: one.version,
            opened: one.opened_at,
            closed: one.closed_at,
        });
        Self { turns, tries: tries.collect() }
    }

    /// All versions that may have answered in a window: those that served in it, and those whose
    /// deployment was under way, since a server switches a while before the switch is verified.
    pub(crate) fn answering_in(&self, window: Window) -> BTreeSet<Sha256Digest> {
        let turns = self.turns.iter().map(|turn| (turn.version, turn.opened, turn.until));
        let tries = self.tries.iter().map(|one| (one.version, one.opened, one.closed));
        let within = |(_, from, until): &(VersionRef, DateTime<Utc>, Option<DateTime<Utc>>)| {
            *from < window.end() && until.is_none_or(|until| until > window.start())
        };
        turns.chain(tries).filter(within).map(|(version, ..)| version.digest).collect()
    }

    /// The times in which one version alone answered: since its switch was verified, until the next
    /// deployment that may have touched production was opened.
    pub(crate) fn spans(&self) -> Vec<ServedSpan> {
        let unsure = |turn: &Turn| {
            let turns = self.turns.iter().map(|next| (next.opened, Some(next.from)));
            let tries = self.tries.iter().map(|one| (one.opened, one.closed));
            let mut found: Vec<_> =
                turns.chain(tries).filter(|(opened, _)| *opened >= turn.from).collect();
            found.sort_unstable();
            found
        };
        let mut spans = vec![];
        for turn in &self.turns {
            let (version, mut from) = (turn.version.digest, Some(turn.from));
            for (opened, closed) in unsure(turn) {
                let Some(sure) = from.filter(|from| turn.until.is_none_or(|until| *from < until))
                else {
                    break;
                };
                if opened > sure {
                    let until = turn.until.map_or(opened, |until| until.min(opened));
                    spans.push(ServedSpan { from: sure, until: Some(until), version });
                }
                from = closed.map(|closed| closed.max(sure));
            }
            if let Some(from) = from.filter(|from| turn.until.is_none_or(|until| *from < until)) {
                spans.push(ServedSpan { from, until: turn.until, version });
            }
        }
        spans
    }

    /// The version that served longest in a window, of two that served as long the later one. A
    /// window before all of them belongs to the first, since what it may hold can only be its;
    /// none: nothing ever served.
    pub(crate) fn longest_in(&self, window: Window) -> Option<VersionRef> {
        let mut times: Vec<(VersionRef, TimeDelta)> = vec![];
        for turn in &self.turns {
            let time = turn.within(window);
            match times.iter_mut().find(|(version, _)| *version == turn.version) {
                Some((_, sum)) => *sum += time,
                None => times.push((turn.version, time)),
            }
        }
        let longest = times.iter().filter(|(_, time)| !time.is_zero()).max_by_key(|one| one.1);
        longest.or(times.first()).map(|(version, _)| *version)
    }
}

impl Turn {
    /// How long of a window it served.
    fn within(&self, window: Window) -> TimeDelta {
        let end = self.until.map_or(window.end(), |until| until.min(window.end()));
        (end - self.from.max(window.start())).max(TimeDelta::zero())
    }
}

/// A verified switch: when, of a deployment that was opened when, and to what.
type Switch = (DateTime<Utc>, DateTime<Utc>, Option<VersionRef>);

/// The switches that a deployment led to: there, and back.
fn switches(deployment: &Deployment, entries: &[JournalEntry]) -> Vec<Switch> {
    let there = match deployment.verdict {
        Some(DeploymentVerdict::Switched) => deployment.closed_at,
        Some(DeploymentVerdict::SmokeFailed | DeploymentVerdict::Abandoned) => None,
        None | Some(DeploymentVerdict::RolledBack) => {
            // A switch that was looked at and did not hold never was one.
            let held = outcome(entries, Step::ProductionVerified)
                .is_some_and(|detail| detail.get(PASSED) != Some(&Value::Bool(false)));
            verified_at(entries, DeploymentVerdict::Switched).filter(|_| held)
        }
    };
    let back = match deployment.verdict {
        Some(DeploymentVerdict::RolledBack) => deployment.closed_at,
        None => verified_at(entries, DeploymentVerdict::RolledBack),
        Some(_) => None,
    };
    let opened = deployment.opened_at;
    let there = there.map(|at| (at, opened, Some(deployment.version)));
    let back = back.map(|at| (at, opened, deployment.previous));
    there.into_iter().chain(back).collect()
}

#[cfg(test)]
mod tests {
    use mloop_core::deployment::Phase;
    use mloop_core::{ModelName, Sha256Digest, TargetName};
    use serde_json::json;

    use super::*;

    /// A moment, in minutes after noon.
    fn at(minute: i64) -> DateTime<Utc> {
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a moment");
        noon + TimeDelta::minutes(minute)
    }

    fn version(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    /// A deployment with its verdict, and what its journal says of the switch there and back.
    fn deployment(
        number: u64,
        verdict: Option<(DeploymentVerdict, i64)>,
        journal: &[(Step, i64)],
    ) -> (Deployment, Vec<JournalEntry>) {
        let subject = Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        };
        let id = Deployment::id_of(&subject, &version(number), 1);
        let entry = |(step, minute): &(Step, i64)| JournalEntry {
            deployment: id.clone(),
            step: *step,
            phase: Phase::Outcome,
            at: at(*minute),
            detail: json!({ "reason": "looked at" }),
        };
        let entries = journal.iter().map(entry).collect();
        let deployment = Deployment {
            id: id.clone(),
            subject,
            version: version(number),
            version_created_at: at(-1000),
            attempt: 1,
            previous: (number > 1).then(|| version(number - 1)),
            opened_at: at(-900 + i64::try_from(number).expect("small")),
            verdict: verdict.map(|(verdict, _)| verdict),
            closed_at: verdict.map(|(_, minute)| at(minute)),
            way_back: None,
        };
        (deployment, entries)
    }

    #[test]
    fn the_version_that_served_longest_in_the_window_is_judged() {
        use DeploymentVerdict::{Abandoned, RolledBack, SmokeFailed, Switched};
        let first = || deployment(1, Some((Switched, -600)), &[]);
        let second = |minute| deployment(2, Some((Switched, minute)), &[]);
        let undone = |there, back| {
            let journal = [(Step::ProductionVerified, there), (Step::RollbackVerified, back)];
            deployment(2, Some((RolledBack, back)), &journal)
        };
        let failed = |looked, back| {
            let (one, mut entries) = undone(looked, back);
            entries[0].detail = json!({ PASSED: false });
            (one, entries)
        };
        let table = [
            ("nothing ever served", vec![], None),
            ("one that serves", vec![first()], Some(1)),
            (
                "one that was switched to later",
                vec![deployment(1, Some((Switched, 90)), &[])],
                Some(1),
            ),
            ("a switch after the window", vec![second(61), first()], Some(1)),
            ("a switch at its end", vec![second(60), first()], Some(1)),
            ("a switch in its last quarter", vec![second(45), first()], Some(1)),
            ("a switch in its middle", vec![second(30), first()], Some(2)),
            ("a switch in its first quarter", vec![second(15), first()], Some(2)),
            ("a switch at its start", vec![second(0), first()], Some(2)),
            (
                "one that was tried in vain",
                vec![deployment(2, Some((SmokeFailed, 10)), &[]), first()],
                Some(1),
            ),
            (
                "one that was given up",
                vec![deployment(2, Some((Abandoned, 10)), &[]), first()],
                Some(1),
            ),
            ("there and back in ten minutes", vec![undone(25, 35), first()], Some(1)),
            ("there, and back at the end", vec![undone(5, 58), first()], Some(2)),
            ("there and back before", vec![undone(-90, -5), first()], Some(1)),
            ("there and back later", vec![undone(70, 80), first()], Some(1)),
            (
                "verified, its verdict not yet written",
                vec![deployment(2, None, &[(Step::ProductionVerified, 10)]), first()],
                Some(2),
            ),
            ("never held", vec![failed(10, 50), first()], Some(1)),
            ("not yet verified", vec![deployment(2, None, &[]), first()], Some(1)),
            (
                "the only one, taken back",
                vec![deployment(1, Some((RolledBack, 40)), &[(Step::ProductionVerified, 10)])],
                Some(1),
            ),
        ];
        let window = Window::new(at(0), at(60)).expect("an hour");
        for (name, deployments, expected) in table {
            let found = Served::of(&deployments).longest_in(window);
            assert_eq!(found.map(|version| version.number), expected, "{name}");
        }
    }

    #[test]
    fn one_version_alone_answered_but_while_another_was_coming_or_going() {
        use DeploymentVerdict::{RolledBack, Switched};
        let first = || deployment(1, Some((Switched, -600)), &[]);
        let opened = |minute, (one, entries): (Deployment, Vec<JournalEntry>)| {
            (Deployment { opened_at: at(minute), ..one }, entries)
        };
        let table = [
            ("nothing ever served", vec![], vec![]),
            ("one that serves", vec![first()], vec![(1, -600, None)]),
            (
                "a switch that took ten minutes",
                vec![opened(10, deployment(2, Some((Switched, 20)), &[])), first()],
                vec![(1, -600, Some(10)), (2, 20, None)],
            ),
            (
                "one that came to nothing",
                vec![opened(10, deployment(2, Some((RolledBack, 25)), &[])), first()],
                vec![(1, -600, Some(10)), (1, 25, None)],
            ),
            (
                "one under way",
                vec![opened(30, deployment(2, None, &[])), first()],
                vec![(1, -600, Some(30))],
            ),
        ];
        for (name, deployments, expected) in table {
            let found: Vec<_> = Served::of(&deployments).spans();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(number, from, until): (u64, i64, Option<i64>)| ServedSpan {
                    from: at(from),
                    until: until.map(at),
                    version: version(number).digest,
                })
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn whoever_may_have_answered_in_a_window_is_known() {
        use DeploymentVerdict::{Abandoned, RolledBack, SmokeFailed, Switched};
        let first = || deployment(1, Some((Switched, -600)), &[]);
        let opened = |minute, (one, entries): (Deployment, Vec<JournalEntry>)| {
            (Deployment { opened_at: at(minute), ..one }, entries)
        };
        let second = |from, minute| opened(from, deployment(2, Some((Switched, minute)), &[]));
        let back = |from, minute| opened(from, deployment(2, Some((RolledBack, minute)), &[]));
        let table = [
            ("one that serves", vec![first()], vec![1]),
            ("a switch in the window", vec![second(10, 45), first()], vec![1, 2]),
            ("a switch verified after its end", vec![second(50, 62), first()], vec![1, 2]),
            ("a switch after it", vec![second(60, 70), first()], vec![1]),
            ("a switch before it", vec![second(-30, -10), first()], vec![2]),
            ("taken back in it", vec![back(-30, 5), first()], vec![1, 2]),
            ("taken back before it", vec![back(-30, -5), first()], vec![1]),
            ("under way", vec![opened(59, deployment(2, None, &[])), first()], vec![1, 2]),
            (
                "in staging alone",
                vec![opened(5, deployment(2, Some((SmokeFailed, 9)), &[])), first()],
                vec![1],
            ),
            (
                "given up",
                vec![opened(5, deployment(2, Some((Abandoned, 9)), &[])), first()],
                vec![1],
            ),
        ];
        let window = Window::new(at(0), at(60)).expect("an hour");
        for (name, deployments, expected) in table {
            let found = Served::of(&deployments).answering_in(window);
            let expected = expected.into_iter().map(|number| version(number).digest).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
