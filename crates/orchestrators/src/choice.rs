//! Which version a deployment run is about.

use mloop_core::deployment::{Deployment, DeploymentVerdict};
use mloop_core::{DeploymentId, ModelVersion};

use crate::past;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// A version by number; none: the newest candidate.
    pub version: Option<u64>,
    /// Deploy that version although an earlier deployment of it has a verdict.
    pub again: bool,
    /// Whether a new deployment may be begun, or only one that is there be carried on.
    pub may_begin: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Nothing waits.
    Nothing,
    /// Carry on with a deployment under way.
    Resume(Deployment),
    /// This deployment has its verdict already.
    Done(Deployment),
    /// Begin a deployment of this version.
    Begin {
        /// The version.
        version: ModelVersion,
        /// From 1.
        attempt: u32,
    },
}

/// Chooses, newest first. `deployments` are all of the subject, `versions` all of the model.
///
/// Candidates are versions that are ready for staging, newer than the one that serves, and were
/// never deployed. Without a version, only what is under way, or may begin, is chosen: that an earlier
/// deployment has its verdict is no answer to somebody who did not ask for it by its number.
///
/// # Errors
/// One sentence on why the wish makes no sense as things stand.
pub fn choose(
    wish: Wish,
    versions: &[ModelVersion],
    deployments: &[Deployment],
) -> Result<Choice, String> {
    if wish.again && wish.version.is_none() {
        return Err("--again needs --version: name the version to deploy again".to_owned());
    }
    // A way back comes before anything else that is under way.
    let order = |one: &&Deployment| (one.way_back.is_some(), one.opened_at, one.attempt);
    let open = deployments.iter().filter(|one| one.is_open()).max_by_key(order);
    match (open, wish.version) {
        (Some(open), None) => Ok(Choice::Resume(open.clone())),
        (Some(open), Some(number)) if open.version.number == number => {
            Ok(Choice::Resume(open.clone()))
        }
        (Some(open), Some(number)) if open.way_back.is_some() => Err(format!(
            "{} is being taken back; finish that with `run` before version {number}",
            open.version
        )),
        (Some(open), Some(number)) => Err(format!(
            "a deployment of {} is under way; finish it with `run`, or end it with `rollback --version {}`, before version {number}",
            open.version, open.version.number
        )),
        (None, Some(number)) => named(number, wish, versions, deployments),
        (None, None) if wish.may_begin => Ok(newest(versions, deployments)),
        (None, None) => Ok(Choice::Nothing),
    }
}

fn named(
    number: u64,
    wish: Wish,
    versions: &[ModelVersion],
    deployments: &[Deployment],
) -> Result<Choice, String> {
    let before = deployments.iter().filter(|one| one.version.number == number);
    let before = before.max_by_key(|one| one.attempt);
    if let Some(before) = before
        && !(wish.again && wish.may_begin)
    {
        return Ok(Choice::Done(before.clone()));
    }
    let version = versions.iter().find(|version| version.version.number == number);
    let version = version.ok_or_else(|| format!("the registry has no version {number}"))?;
    if !version.is_staging_ready() {
        return Err(format!("{} did not pass the gate (no staging_ready tag)", version.version));
    }
    if !wish.may_begin {
        return Err(format!("no deployment of {} was begun; run `deploy` first", version.version));
    }
    let serving = past::serving(deployments);
    if serving.is_some_and(|serving| serving.version.digest == version.version.digest) {
        return Err(format!("{} serves already", version.version));
    }
    let attempt = before.map_or(1, |before| before.attempt + 1);
    Ok(Choice::Begin { version: version.clone(), attempt })
}

fn newest(versions: &[ModelVersion], deployments: &[Deployment]) -> Choice {
    let serving = past::serving(deployments).map_or(0, |serving| serving.version.number);
    let deployed = |version: &ModelVersion| {
        deployments.iter().any(|one| one.version.digest == version.version.digest)
    };
    versions
        .iter()
        .filter(|version| version.version.number > serving && version.is_staging_ready())
        .filter(|version| !deployed(version))
        .max_by_key(|version| version.version.number)
        .map_or(Choice::Nothing, |version| Choice::Begin { version: version.clone(), attempt: 1 })
}

/// Which deployment a rollback is about.
///
/// Without a number: the newest one that touched, or may have touched, production; one that is
/// rolled back already is [`Choice::Done`], so that a repeat never goes back two versions. By its
/// number, a deployment under way that never touched production (`untouched`) can be ended too.
///
/// # Errors
/// One sentence on why there is no way back.
pub fn choose_rollback(
    number: Option<u64>,
    deployments: &[Deployment],
    untouched: &[DeploymentId],
) -> Result<Choice, String> {
    let may_serve = |one: &Deployment| {
        !matches!(one.verdict, Some(DeploymentVerdict::SmokeFailed | DeploymentVerdict::Abandoned))
            && !untouched.contains(&one.id)
    };
    let meant = deployments
        .iter()
        .filter(|one| match number {
            Some(number) => {
                one.version.number == number && one.verdict != Some(DeploymentVerdict::SmokeFailed)
            }
            None => may_serve(one),
        })
        .max_by_key(|one| (one.opened_at, one.attempt));
    let Some(meant) = meant else {
        return Err(match number {
            Some(number) => format!("version {number} was never in production"),
            None => "nothing was switched to production yet".to_owned(),
        });
    };
    match meant.verdict {
        Some(DeploymentVerdict::RolledBack | DeploymentVerdict::Abandoned) => {
            return Ok(Choice::Done(meant.clone()));
        }
        None => return Ok(Choice::Resume(meant.clone())),
        Some(_) => {}
    }
    let open = deployments.iter().find(|one| one.is_open() && may_serve(one));
    if let Some(open) = open {
        return Err(format!(
            "the switch to {} is under way; roll that one back first",
            open.version
        ));
    }
    let serving = past::newest_switched(deployments).map(|(serving, _)| serving);
    if serving.is_some_and(|serving| serving.id != meant.id) {
        return Err(format!("{} does not serve any more", meant.version));
    }
    if meant.previous.is_none() {
        return Err(format!(
            "{} is the first version in production: there is none to go back to (a deployment under way is ended by `rollback --version`)",
            meant.version
        ));
    }
    Ok(Choice::Resume(meant.clone()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta, Utc};
    use mloop_core::version::tags;
    use mloop_core::{ModelName, Sha256Digest, Subject, TargetName, VersionRef};

    use super::*;

    fn at(hour: u64) -> DateTime<Utc> {
        let start: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a moment");
        start + TimeDelta::hours(hour as i64)
    }

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn version(number: u64, ready: bool) -> ModelVersion {
        ModelVersion {
            model: ModelName::new("m").expect("a name"),
            version: reference(number),
            created_at: at(0),
            source: "memory".to_owned(),
            tags: BTreeMap::from([(tags::STAGING_READY.to_owned(), ready.to_string())]),
        }
    }

    /// The first deployment of a version, begun at the hour of its number.
    fn deployment(number: u64, verdict: Option<DeploymentVerdict>) -> Deployment {
        let subject = Subject {
            model: ModelName::new("m").expect("a name"),
            target: TargetName::new("t").expect("a name"),
        };
        Deployment {
            id: Deployment::id_of(&subject, &reference(number), 1),
            subject,
            version: reference(number),
            version_created_at: at(0),
            attempt: 1,
            previous: (number > 1).then(|| reference(number - 1)),
            opened_at: at(number),
            verdict,
            closed_at: verdict.map(|_| at(number)),
            way_back: None,
        }
    }

    fn said(choice: Result<Choice, String>) -> String {
        match choice {
            Ok(Choice::Nothing) => "nothing".to_owned(),
            Ok(Choice::Resume(one)) => format!("resume {}", one.version.number),
            Ok(Choice::Done(one)) => format!("done {}", one.version.number),
            Ok(Choice::Begin { version, attempt }) => {
                format!("begin {} attempt {attempt}", version.version.number)
            }
            Err(problem) => problem,
        }
    }

    #[test]
    fn candidates_are_ready_newer_and_untried() {
        use DeploymentVerdict::{RolledBack, SmokeFailed, Switched};
        let v = |numbers: &[(u64, bool)]| -> Vec<ModelVersion> {
            numbers.iter().map(|(number, ready)| version(*number, *ready)).collect()
        };
        let d = |journeys: &[(u64, Option<DeploymentVerdict>)]| -> Vec<Deployment> {
            journeys.iter().map(|(number, verdict)| deployment(*number, *verdict)).collect()
        };
        let table = [
            ("first", v(&[(1, true)]), d(&[]), "begin 1 attempt 1"),
            ("none ready", v(&[(1, false)]), d(&[]), "nothing"),
            ("the newest", v(&[(3, true), (2, true)]), d(&[(1, Some(Switched))]), "begin 3"),
            ("none newer", v(&[(2, true), (1, true)]), d(&[(2, Some(Switched))]), "nothing"),
            (
                "the newest failed",
                v(&[(3, true), (2, true)]),
                d(&[(1, Some(Switched)), (3, Some(SmokeFailed))]),
                "begin 2",
            ),
            (
                "rolled back",
                v(&[(2, true), (1, true)]),
                d(&[(1, Some(Switched)), (2, Some(RolledBack))]),
                "nothing",
            ),
            ("under way", v(&[(3, true), (2, true)]), d(&[(2, None)]), "resume 2"),
        ];
        let wish = Wish { version: None, again: false, may_begin: true };
        for (name, versions, deployments, expected) in table {
            let found = said(choose(wish, &versions, &deployments));
            assert!(found.starts_with(expected), "{name}: {found}");
        }
    }

    #[test]
    fn a_named_version_is_tried_again_only_when_asked() {
        let versions = [version(3, false), version(2, true), version(1, true)];
        let settled = [
            deployment(1, Some(DeploymentVerdict::Switched)),
            deployment(2, Some(DeploymentVerdict::RolledBack)),
        ];
        let table = [
            (Some(2), false, true, "done 2"),
            (Some(2), true, true, "begin 2 attempt 2"),
            (Some(2), true, false, "done 2"),
            (Some(1), true, true, "serves already"),
            (Some(3), false, true, "did not pass the gate"),
            (Some(9), false, true, "no version 9"),
            (None, true, true, "--again needs --version"),
            (None, false, false, "nothing"),
        ];
        for (number, again, may_begin, expected) in table {
            let wish = Wish { version: number, again, may_begin };
            let found = said(choose(wish, &versions, &settled));
            assert!(found.contains(expected), "{wish:?}: {found}");
        }
        let open = [deployment(2, None)];
        let wish = Wish { version: Some(1), again: false, may_begin: true };
        let found = said(choose(wish, &versions, &open));
        assert!(found.contains("under way"), "{found}");
    }

    #[test]
    fn a_way_back_is_finished_before_anything_else() {
        use DeploymentVerdict::{Abandoned, RolledBack, Switched};
        let turned =
            |number, verdict| Deployment { way_back: Some(verdict), ..deployment(number, None) };
        let versions = [version(4, true), version(3, true), version(2, true), version(1, true)];
        let journeys = [deployment(1, Some(Switched)), turned(2, RolledBack), deployment(3, None)];
        for (number, may_begin, expected) in [
            (None, true, "resume 2"),
            (None, false, "resume 2"),
            (Some(2), true, "resume 2"),
            (Some(3), true, "v2"),
            (Some(4), true, "is being taken back"),
        ] {
            let wish = Wish { version: number, again: false, may_begin };
            let found = said(choose(wish, &versions, &journeys));
            assert!(found.contains(expected), "{wish:?}: {found}");
        }
        let staged = [deployment(3, None).id];
        assert_eq!(said(choose_rollback(None, &journeys, &staged)), "resume 2");
        assert_eq!(said(choose_rollback(Some(3), &journeys, &staged)), "resume 3");
        let given_up = [deployment(1, Some(Switched)), turned(2, Abandoned)];
        let found = said(choose_rollback(Some(2), &given_up, &[deployment(2, None).id]));
        assert_eq!(found, "resume 2");
    }

    #[test]
    fn a_rollback_goes_back_once() {
        use DeploymentVerdict::{RolledBack, SmokeFailed, Switched};
        let first = || deployment(1, Some(Switched));
        let table = [
            ("nothing", None, vec![], "nothing was switched"),
            ("first", None, vec![first()], "is the first version"),
            ("second", None, vec![first(), deployment(2, Some(Switched))], "resume 2"),
            ("under way", None, vec![first(), deployment(2, None)], "resume 2"),
            ("repeated", None, vec![first(), deployment(2, Some(RolledBack))], "done 2"),
            (
                "past a failed one",
                None,
                vec![first(), deployment(2, Some(Switched)), deployment(3, Some(SmokeFailed))],
                "resume 2",
            ),
            (
                "not serving",
                Some(1),
                vec![first(), deployment(2, Some(Switched))],
                "does not serve any more",
            ),
            ("never there", Some(7), vec![first()], "version 7 was never in production"),
        ];
        for (name, number, deployments, expected) in table {
            let found = said(choose_rollback(number, &deployments, &[]));
            assert!(found.contains(expected), "{name}: {found}");
        }
    }

    #[test]
    fn a_version_in_staging_does_not_stand_in_the_way_of_a_rollback() {
        use DeploymentVerdict::{Abandoned, RolledBack, Switched};
        let journeys = |second, third| {
            [deployment(1, Some(Switched)), deployment(2, second), deployment(3, third)]
        };
        let staged = [deployment(3, None).id];
        let table = [
            ("production", None, journeys(Some(Switched), None), "resume 2"),
            ("the same by number", Some(2), journeys(Some(Switched), None), "resume 2"),
            ("what is staged", Some(3), journeys(Some(Switched), None), "resume 3"),
            ("repeated", None, journeys(Some(RolledBack), Some(Abandoned)), "done 2"),
            ("ended before", Some(3), journeys(Some(Switched), Some(Abandoned)), "done 3"),
        ];
        for (name, number, deployments, expected) in table {
            let found = said(choose_rollback(number, &deployments, &staged));
            assert!(found.contains(expected), "{name}: {found}");
        }
        let first = [deployment(1, Some(Switched)), deployment(3, None)];
        let found = said(choose_rollback(None, &first, &staged));
        assert!(found.contains("is the first version"), "{found}");
        let switching = journeys(Some(Switched), None);
        let found = said(choose_rollback(Some(2), &switching, &[]));
        assert!(found.contains("the switch to v3"), "{found}");
    }
}
