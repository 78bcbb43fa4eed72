//! SIGKILL at every point of the way back: whoever comes next finishes it, and until then `status`
//! tells that it is under way.

use mloop_core::deployment::DeploymentVerdict;

use crate::end::Seen;
use crate::points::{kill_at, rollback_points};
use crate::world::{Bases, LATER, MANY, ROLLBACK, STATUS, bases, in_parallel, until_done};

/// What is called after the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The same once more.
    Repeat,
    /// What a schedule starts.
    Run,
}

#[test]
fn a_killed_rollback_is_finished_by_whichever_run_comes_next() {
    let Bases { switched, .. } = &*bases();
    let base = Seen::of(switched);
    let points = rollback_points();
    let cases: Vec<(&str, Then)> =
        points.iter().flat_map(|point| [(*point, Then::Repeat), (*point, Then::Run)]).collect();
    in_parallel(MANY, &cases, |(point, then)| {
        let about = format!("killed at {point}, then {then:?}");
        let world = switched.fork().expect("a copy");
        kill_at(&world, ROLLBACK, point);
        let seen = Seen::of(&world);
        let second = seen.deployments.iter().find(|one| one.version.number == 2);
        let second = second.expect("version 2");
        let status = until_done(&world, STATUS, &[0]);
        let turned = second.way_back.is_some();
        let expected = if turned && second.is_open() { "under_way" } else { "consistent" };
        assert_eq!(status["outcome"], expected, "{about}: {status}");
        let serving = if turned { 1 } else { 2 };
        assert_eq!(status["serving"]["number"], serving, "{about}: {status}");

        let repeat = [&[ROLLBACK.0], ROLLBACK.1].concat();
        match then {
            Then::Repeat => {
                let last = until_done(&world, &repeat, &[13]);
                assert_eq!(last["outcome"], "rolled_back", "{about}: {last}");
            }
            Then::Run if !turned => {
                // Nothing was written yet: there was no rollback.
                until_done(&world, LATER, &[99]);
                Seen::of(&world).is_untouched(&base, &about);
                until_done(&world, &repeat, &[13]);
            }
            Then::Run => {
                let told = seen.tells(DeploymentVerdict::RolledBack);
                let last = until_done(&world, LATER, if told { &[99] } else { &[13] });
                let outcome = if told { "nothing_to_deploy" } else { "rolled_back" };
                assert_eq!(last["outcome"], outcome, "{about}: {last}");
            }
        }
        Seen::of(&world).is_rolled_back_once(&base, &about);
        // All is done: a schedule finds nothing, and a repeat says the same again.
        until_done(&world, LATER, &[99]);
        until_done(&world, &repeat, &[13]);
        let status = until_done(&world, STATUS, &[0]);
        assert_eq!(status["outcome"], "consistent", "{about}: {status}");
        Seen::of(&world).is_rolled_back_once(&base, &about);
    });
}
