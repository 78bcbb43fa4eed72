//! How far a deployment has come, and what follows: a function of its record and its journal alone.

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::VersionRef;
use mloop_core::deployment::{
    ChangeCall, Deployment, DeploymentVerdict, JournalEntry, Phase, Step,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::smoke::SmokeReport;

/// Key under which the outcome of a step carries one sentence.
pub const REASON: &str = "reason";

/// Key under which the outcome of a step carries the report of the smoke tests.
pub const REPORT: &str = "report";

/// Key under which the outcome of a step says whether it went well; absent: it did.
pub const PASSED: &str = "passed";

/// Key under which every entry carries the fencing number of the run that wrote it, for people.
pub const FENCE: &str = "fence";

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This step.
    Do(Step),
    /// Nothing but to write down the verdict.
    Conclude(DeploymentVerdict),
}

/// The verdict that a deployment is on its way to: the one that was asked for; else failed tests
/// never reach production, and a switch that did not hold is a rollback.
#[must_use]
pub fn fate(deployment: &Deployment, entries: &[JournalEntry]) -> DeploymentVerdict {
    if let Some(asked) = deployment.way_back {
        asked
    } else if failed(entries, Step::StagingVerified) || failed(entries, Step::SmokePassed) {
        DeploymentVerdict::SmokeFailed
    } else if failed(entries, Step::ProductionVerified) {
        DeploymentVerdict::RolledBack
    } else {
        DeploymentVerdict::Switched
    }
}

/// The steps to a verdict, from the first one on. The way back begins where the way forward was left,
/// however far that had come; where nothing served before, there is nothing to go back to.
fn way(deployment: &Deployment, fate: DeploymentVerdict) -> impl Iterator<Item = Step> {
    let first_version = deployment.previous.is_none();
    let steps: &[Step] = match fate {
        DeploymentVerdict::Switched | DeploymentVerdict::SmokeFailed => &Step::FORWARD,
        DeploymentVerdict::RolledBack | DeploymentVerdict::Abandoned => &Step::BACK,
    };
    let is_left_out = move |step: &Step| match (fate, step) {
        (
            DeploymentVerdict::SmokeFailed,
            Step::SmokePassed | Step::ProductionSubmitted | Step::ProductionVerified,
        )
        | (DeploymentVerdict::Abandoned, Step::RollbackSubmitted | Step::RollbackVerified) => true,
        (_, Step::RollbackSubmitted | Step::RollbackVerified) => first_version,
        _ => false,
    };
    steps.iter().copied().filter(move |step| !is_left_out(step))
}

/// What follows in a deployment with this journal.
#[must_use]
pub fn next(deployment: &Deployment, entries: &[JournalEntry]) -> Next {
    let fate = fate(deployment, entries);
    let open = way(deployment, fate).find(|step| outcome(entries, *step).is_none());
    open.map_or(Next::Conclude(fate), Next::Do)
}

/// The outcome of a step, where it is known.
#[must_use]
pub fn outcome(entries: &[JournalEntry], step: Step) -> Option<&Value> {
    let mut of_step = entries.iter().filter(|entry| entry.step == step);
    of_step.find(|entry| entry.phase == Phase::Outcome).map(|entry| &entry.detail)
}

/// The smoke tests of a deployment, where they ran.
#[must_use]
pub fn smoke_report(entries: &[JournalEntry]) -> Option<SmokeReport> {
    let steps = [Step::SmokePassed, Step::StagingVerified];
    let reports = steps.iter().filter_map(|step| outcome(entries, *step)?.get(REPORT));
    reports.filter_map(|report| SmokeReport::deserialize(report).ok()).next()
}

/// Whether production was, or may have been, asked to serve the version.
#[must_use]
pub fn touched_production(entries: &[JournalEntry]) -> bool {
    entries.iter().any(|entry| entry.step == Step::ProductionSubmitted)
}

/// Longest time after its announcement that a call may come. It comes late when its process was stopped
/// in the moment between the last look and the call and goes on later: one that a person stopped, or on a
/// machine that was suspended or moved. Whatever starts runs ends them within hours; so what changes
/// production a day later is more likely a person, and is left to one.
pub const LATEST_CALL: TimeDelta = TimeDelta::hours(24);

/// Whether a call may come, or may have come, when nobody counts on it any more: it never returned to the
/// run that was about to make it, which may have been stopped just before, not longer than
/// [`LATEST_CALL`] ago. Each such call is made once at most, so that there is none left once production was
/// restored after it; `entries` are those of its deployment.
#[must_use]
pub fn may_come_late(call: &ChangeCall, entries: &[JournalEntry], now: DateTime<Utc>) -> bool {
    call.returned_at.is_none()
        && now.signed_duration_since(call.announced_at) <= LATEST_CALL
        && outcome(entries, Step::ProductionRestored).is_none()
}

/// When production was seen to serve what the verdict says, where that was looked at.
#[must_use]
pub fn verified_at(entries: &[JournalEntry], verdict: DeploymentVerdict) -> Option<DateTime<Utc>> {
    let step = match verdict {
        DeploymentVerdict::Switched => Step::ProductionVerified,
        DeploymentVerdict::RolledBack => Step::RollbackVerified,
        DeploymentVerdict::SmokeFailed | DeploymentVerdict::Abandoned => return None,
    };
    let verified = |entry: &&JournalEntry| entry.step == step && entry.phase == Phase::Outcome;
    entries.iter().find(verified).map(|entry| entry.at)
}

/// What decided, for people: the sentence of the step that failed; of an end that no failed step
/// explains, that it was asked for and what serves now (`previous`); else the sentence of the newest
/// step.
#[must_use]
pub fn reason(
    entries: &[JournalEntry],
    verdict: Option<DeploymentVerdict>,
    previous: Option<VersionRef>,
) -> String {
    let said = |step| Some(outcome(entries, step)?.get(REASON)?.as_str()?.to_owned());
    let failed = Step::ALL.into_iter().find(|step| failed(entries, *step)).and_then(said);
    let serves = previous.map_or("nothing".to_owned(), |version| version.to_string());
    let asked = match verdict {
        Some(DeploymentVerdict::RolledBack) => {
            Some(format!("rolled back on request; production answers with {serves}"))
        }
        Some(DeploymentVerdict::Abandoned) => {
            Some(format!("ended on request before production was touched, which serves {serves}"))
        }
        _ => None,
    };
    let newest = || Step::ALL.into_iter().rev().find_map(said);
    failed.or(asked).or_else(newest).unwrap_or_else(|| "begun".to_owned())
}

fn failed(entries: &[JournalEntry], step: Step) -> bool {
    outcome(entries, step).and_then(|detail| detail.get(PASSED)) == Some(&Value::Bool(false))
}

#[cfg(test)]
mod tests {
    use mloop_core::DeploymentId;
    use serde_json::json;

    use super::*;

    fn entry(step: Step, phase: Phase, detail: Value) -> JournalEntry {
        let at = "2026-03-01T00:00:00Z".parse().expect("a moment");
        JournalEntry { deployment: DeploymentId::derive(&["d"]), step, phase, at, detail }
    }

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: mloop_core::Sha256Digest::of(&number.to_be_bytes()) }
    }

    /// A deployment of version 2, before which version 1 served.
    fn deployment(way_back: Option<DeploymentVerdict>) -> Deployment {
        let subject = mloop_core::Subject {
            model: mloop_core::ModelName::new("m").expect("a name"),
            target: mloop_core::TargetName::new("t").expect("a name"),
        };
        let at = "2026-03-01T00:00:00Z".parse().expect("a moment");
        Deployment {
            id: Deployment::id_of(&subject, &reference(2), 1),
            subject,
            version: reference(2),
            version_created_at: at,
            attempt: 1,
            previous: Some(reference(1)),
            opened_at: at,
            verdict: None,
            closed_at: None,
            way_back,
        }
    }

    /// Outcomes of all steps forward before `until`.
    fn before(until: Step) -> Vec<JournalEntry> {
        let done = Step::FORWARD.into_iter().filter(|step| *step < until);
        done.map(|step| entry(step, Phase::Outcome, json!({}))).collect()
    }

    #[test]
    fn a_killed_deployment_is_taken_up_at_the_first_step_without_an_outcome() {
        let deployment = deployment(None);
        for step in Step::FORWARD {
            let mut entries = before(step);
            assert_eq!(next(&deployment, &entries), Next::Do(step));
            entries.push(entry(step, Phase::Intent, json!({})));
            assert_eq!(next(&deployment, &entries), Next::Do(step), "an intent is no outcome");
        }
        let all = before(Step::RollbackSubmitted);
        assert_eq!(next(&deployment, &all), Next::Conclude(DeploymentVerdict::Switched));
    }

    /// The steps from here to the end, and the verdict.
    fn rest(
        deployment: &Deployment,
        mut entries: Vec<JournalEntry>,
    ) -> (Vec<Step>, DeploymentVerdict) {
        let mut steps = vec![];
        loop {
            match next(deployment, &entries) {
                Next::Conclude(verdict) => return (steps, verdict),
                Next::Do(step) => {
                    steps.push(step);
                    entries.push(entry(step, Phase::Outcome, json!({ PASSED: true })));
                }
            }
        }
    }

    #[test]
    fn failures_lead_past_production_or_back_to_their_verdict() {
        let tidy = vec![Step::AliasMoved, Step::StagingRemoved, Step::Notified];
        let table = [
            (Step::StagingVerified, tidy.clone(), DeploymentVerdict::SmokeFailed),
            (Step::SmokePassed, tidy, DeploymentVerdict::SmokeFailed),
            (Step::ProductionVerified, Step::BACK.to_vec(), DeploymentVerdict::RolledBack),
        ];
        for (step, expected, verdict) in table {
            let mut entries = before(step);
            entries.push(entry(step, Phase::Outcome, json!({ PASSED: false, REASON: "why" })));
            assert_eq!(reason(&entries, Some(verdict), None), "why");
            assert_eq!(rest(&deployment(None), entries), (expected, verdict), "{step:?}");
        }
    }

    #[test]
    fn a_way_back_that_was_asked_for_begins_wherever_the_way_forward_was_left() {
        use DeploymentVerdict::{Abandoned, RolledBack};
        let tidy = &Step::BACK[2..];
        let table = [
            (Step::RollbackSubmitted, RolledBack, Step::BACK.as_slice()),
            (Step::ProductionVerified, RolledBack, &Step::BACK),
            (Step::ProductionSubmitted, Abandoned, tidy),
            (Step::StagingVerified, Abandoned, tidy),
        ];
        for (until, verdict, expected) in table {
            let found = rest(&deployment(Some(verdict)), before(until));
            assert_eq!(found, (expected.to_vec(), verdict), "{until:?}");
        }
        // Killed on the way back, it is taken up where it was.
        let turned = deployment(Some(RolledBack));
        let mut entries = before(Step::RollbackSubmitted);
        for step in Step::BACK {
            assert_eq!(next(&turned, &entries), Next::Do(step));
            entries.push(entry(step, Phase::Outcome, json!({})));
        }
        assert_eq!(next(&turned, &entries), Next::Conclude(RolledBack));
        // A first version that the platform itself took down: nothing served before it.
        let first = Deployment { previous: None, ..deployment(None) };
        let mut entries = before(Step::ProductionVerified);
        entries.push(entry(Step::ProductionVerified, Phase::Outcome, json!({ PASSED: false })));
        assert_eq!(rest(&first, entries), (tidy.to_vec(), RolledBack));
    }

    #[test]
    fn the_moment_of_a_verdict_is_that_of_its_verification() {
        use DeploymentVerdict::{RolledBack, SmokeFailed, Switched};
        let at = |hour: u32| format!("2026-03-01T{hour:02}:00:00Z").parse().expect("a moment");
        let verified =
            |step, phase, hour| JournalEntry { at: at(hour), ..entry(step, phase, json!({})) };
        let entries = [
            verified(Step::ProductionVerified, Phase::Intent, 1),
            verified(Step::ProductionVerified, Phase::Outcome, 2),
            verified(Step::RollbackVerified, Phase::Intent, 3),
            verified(Step::RollbackVerified, Phase::Outcome, 4),
        ];
        let found = [Switched, RolledBack, SmokeFailed].map(|one| verified_at(&entries, one));
        assert_eq!(found, [Some(at(2)), Some(at(4)), None]);
        assert_eq!(verified_at(&entries[..3], RolledBack), None);
    }

    #[test]
    fn an_end_that_was_asked_for_names_what_serves() {
        let previous = reference(1);
        let mut entries = before(Step::AliasMoved);
        entries.pop();
        let verified = json!({ PASSED: true, REASON: "production answers with v2" });
        entries.push(entry(Step::ProductionVerified, Phase::Outcome, verified));
        let table = [
            (Some(DeploymentVerdict::Switched), "production answers with v2"),
            (
                Some(DeploymentVerdict::RolledBack),
                "rolled back on request; production answers with v1",
            ),
            (Some(DeploymentVerdict::Abandoned), "ended on request before production was touched"),
        ];
        for (verdict, expected) in table {
            let found = reason(&entries, verdict, Some(previous));
            assert!(found.starts_with(expected), "{verdict:?}: {found}");
        }
    }

    #[test]
    fn a_call_that_never_returned_may_come_late_for_a_day() {
        let announced_at = "2026-03-01T00:00:00Z".parse().expect("a moment");
        let call = |returned_after: Option<i64>| ChangeCall {
            deployment: DeploymentId::derive(&["d"]),
            step: Step::ProductionSubmitted,
            fence: 1,
            asks: reference(2).digest,
            announced_at,
            returned_at: returned_after.map(|seconds| announced_at + TimeDelta::seconds(seconds)),
        };
        let restored = |phase| vec![entry(Step::ProductionRestored, phase, json!({}))];
        let another = vec![entry(Step::ProductionSubmitted, Phase::Outcome, json!({ FENCE: 2 }))];
        let day = LATEST_CALL.num_seconds();
        let table = [
            ("it returned, whatever it said", call(Some(30)), vec![], 60, false),
            (
                "it returned, and another run wrote the end",
                call(Some(30)),
                another.clone(),
                60,
                false,
            ),
            ("not back yet", call(None), vec![], 60, true),
            ("another run wrote the end", call(None), another.clone(), 60, true),
            ("just before the bound", call(None), another.clone(), day - 1, true),
            ("at the bound", call(None), another.clone(), day, true),
            ("just beyond the bound", call(None), another, day + 1, false),
            ("announced by a clock that is ahead", call(None), vec![], -60, true),
            ("being mended", call(None), restored(Phase::Intent), 60, true),
            ("mended", call(None), restored(Phase::Outcome), 60, false),
        ];
        for (name, call, entries, seconds, expected) in table {
            let now = announced_at + TimeDelta::seconds(seconds);
            assert_eq!(may_come_late(&call, &entries, now), expected, "{name}");
        }
    }

    #[test]
    fn production_is_touched_by_the_intent_to_submit() {
        assert!(!touched_production(&before(Step::ProductionSubmitted)));
        let mut entries = before(Step::ProductionSubmitted);
        entries.push(entry(Step::ProductionSubmitted, Phase::Intent, json!({})));
        assert!(touched_production(&entries));
        // Failed tests skip production; what follows them are steps that tidy up.
        let mut entries = before(Step::SmokePassed);
        entries.push(entry(Step::SmokePassed, Phase::Outcome, json!({ PASSED: false })));
        entries.push(entry(Step::AliasMoved, Phase::Outcome, json!({})));
        entries.push(entry(Step::StagingRemoved, Phase::Outcome, json!({})));
        assert!(!touched_production(&entries));
    }
}
