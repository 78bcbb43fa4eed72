//! Which versions the aliases of a model name once a deployment has its verdict.

use std::collections::BTreeMap;

use mloop_core::VersionRef;
use mloop_core::deployment::{Deployment, DeploymentVerdict};
use mloop_core::version::aliases::{CHALLENGER, CHAMPION, PREVIOUS_CHAMPION};

use crate::past;

/// What each alias is to name; none: it is to be removed. What is not in it stays as it is.
pub type Aliases = BTreeMap<&'static str, Option<VersionRef>>;

/// What a verdict makes of the aliases. `others` are the other deployments of the subject,
/// `challenger` what that alias names now.
///
/// - `champion` is what serves, `previous_champion` what served before it, if anything did.
/// - `challenger` waits for deployment: a version that serves, failed, was taken back or was given
///   up does so no longer. Another version's stays.
/// - A deployment that never touched production leaves the champions alone.
#[must_use]
pub fn after(
    deployment: &Deployment,
    verdict: DeploymentVerdict,
    others: &[Deployment],
    challenger: Option<VersionRef>,
) -> Aliases {
    let mut aliases = Aliases::new();
    match verdict {
        DeploymentVerdict::Switched => {
            aliases.insert(PREVIOUS_CHAMPION, deployment.previous);
            aliases.insert(CHAMPION, Some(deployment.version));
        }
        DeploymentVerdict::RolledBack => {
            let serving = past::newest_switched(others).map(|(one, _)| one);
            let serving = serving.filter(|one| Some(one.version) == deployment.previous);
            aliases.insert(PREVIOUS_CHAMPION, serving.and_then(|one| one.previous));
            aliases.insert(CHAMPION, deployment.previous);
        }
        DeploymentVerdict::SmokeFailed | DeploymentVerdict::Abandoned => {}
    }
    if challenger == Some(deployment.version) {
        aliases.insert(CHALLENGER, None);
    }
    aliases
}

#[cfg(test)]
mod tests {
    use mloop_core::{ModelName, Sha256Digest, Subject, TargetName};

    use super::*;

    fn reference(number: u64) -> VersionRef {
        VersionRef { number, digest: Sha256Digest::of(&number.to_be_bytes()) }
    }

    fn deployment(number: u64, previous: Option<u64>, verdict: DeploymentVerdict) -> Deployment {
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
            previous: previous.map(reference),
            opened_at: at,
            verdict: Some(verdict),
            closed_at: Some(at),
            way_back: None,
        }
    }

    #[test]
    fn aliases_follow_what_serves_and_none_names_a_version_that_is_out() {
        use DeploymentVerdict::{Abandoned, RolledBack, SmokeFailed, Switched};
        let first = || deployment(1, None, Switched);
        let second = || deployment(2, Some(1), Switched);
        let number = |named: Option<VersionRef>| named.map_or(0, |version| version.number);
        // Numbers after `champion`, `previous_champion`, `challenger`; 0: removed.
        let table = [
            ("the first", deployment(1, None, Switched), vec![], 1, vec![1, 0, 0]),
            ("a second", second(), vec![first()], 2, vec![2, 1, 0]),
            ("a third waits", second(), vec![first()], 3, vec![2, 1]),
            (
                "back to the first",
                deployment(2, Some(1), RolledBack),
                vec![first()],
                2,
                vec![1, 0, 0],
            ),
            (
                "back to the second",
                deployment(3, Some(2), RolledBack),
                vec![second(), first()],
                0,
                vec![2, 1],
            ),
            (
                "past one that was taken back",
                deployment(3, Some(1), RolledBack),
                vec![deployment(2, Some(1), RolledBack), first()],
                3,
                vec![1, 0, 0],
            ),
            (
                "a first one that did not hold",
                deployment(1, None, RolledBack),
                vec![],
                1,
                vec![0, 0, 0],
            ),
        ];
        for (name, one, others, challenger, expected) in table {
            let verdict = one.verdict.expect("one");
            let challenger = (challenger > 0).then(|| reference(challenger));
            let found = after(&one, verdict, &others, challenger);
            let order = [CHAMPION, PREVIOUS_CHAMPION, CHALLENGER];
            let found: Vec<u64> =
                order.iter().filter_map(|alias| found.get(alias)).copied().map(number).collect();
            assert_eq!(found, expected, "{name}");
        }
        for verdict in [SmokeFailed, Abandoned] {
            let one = deployment(2, Some(1), verdict);
            let found = after(&one, verdict, &[first()], Some(reference(2)));
            assert_eq!(found, Aliases::from([(CHALLENGER, None)]), "{verdict:?}");
            assert_eq!(after(&one, verdict, &[first()], Some(reference(3))), Aliases::new());
        }
    }
}
