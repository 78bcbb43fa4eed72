//! SIGKILL at every place that a run of retraining passes, whatever it finds: a new cause, or a job that
//! was blessed, was rejected, was lost, or that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};

use mloop_core::episode::EpisodeOutcome;
use mloop_core::run::RunKind;
use mloop_orchestrators::points;
use mloop_testkit::camera::Camera;
use mloop_testkit::small::SmallWorld;

use crate::end::Seen;
use crate::points::{RETRAIN, finish, kill_at, kill_orphan};
use crate::world::{
    Bases, MANY, bases, edit, ended_with, eventually, in_parallel, mark, start, until_done,
};

const RETRAINING: &str = "retrain_config.yaml";

/// A run of retraining that is to be killed.
struct Case<'a> {
    /// What it finds.
    name: &'static str,
    base: &'a SmallWorld,
    /// What is set otherwise in a copy of the base.
    prepare: fn(&SmallWorld),
    codes: &'static [i32],
    /// What is compared with.
    before: Seen,
    /// What must stand in the end.
    check: fn(&Seen, &Seen, &str),
}

impl Case<'_> {
    fn world(&self) -> SmallWorld {
        let world = self.base.fork().expect("a copy");
        (self.prepare)(&world);
        world
    }

    /// Every place that a run passes which nobody kills: `name`, then `name@2` and so on.
    fn places(&self) -> Vec<String> {
        let world = self.world();
        let trace = world.folder().join("trace");
        let program = world.program(RETRAIN.0, RETRAIN.1).expect("built");
        let finished = program.env("MLOOP_FAILPOINT_TRACE", &trace).run().expect("runs");
        ended_with(&finished, self.codes);
        let trace = std::fs::read_to_string(trace).expect("built with its fail points");
        let mut passed = BTreeMap::new();
        let mut place = |point: &str| {
            let times = passed.entry(point.to_owned()).or_insert(0);
            *times += 1;
            if *times == 1 { point.to_owned() } else { format!("{point}@{times}") }
        };
        // Beside them stand those of leases, and of the job, which has started meanwhile.
        let of_records = |point: &&str| {
            points::RETRAINING_POINTS.contains(point) || mloop_ledger::FAILPOINTS.contains(point)
        };
        trace.lines().filter(of_records).map(&mut place).collect()
    }
}

#[test]
fn a_killed_retraining_is_finished_by_the_next() {
    // Orphans come to this process, so that it can see what they died of.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
    let Bases { alarmed, trained, .. } = &*bases();
    let [rejected, lost, superseded] = std::thread::scope(|scope| {
        [rejected, lost, superseded]
            .map(|make: fn(&SmallWorld) -> SmallWorld| scope.spawn(move || make(alarmed)))
            .map(|made| made.join().expect("a base"))
    });
    let case = |name, base, codes, check| Case {
        name,
        base,
        prepare: |_| {},
        codes,
        before: Seen::of(base),
        check,
    };
    let cases = [
        case("a cause", alarmed, &[0, 99], |seen, before, about| {
            seen.is_retrained_once(before, false, about);
        }),
        Case {
            before: Seen::of(alarmed),
            ..case("a blessed job", trained, &[99], |seen, before, about| {
                seen.is_retrained_once(before, false, about);
            })
        },
        Case {
            prepare: |world| edit(world, RETRAINING, "max_attempts: 3", "max_attempts: 1"),
            ..case("a rejected job", &rejected, &[99], |seen, before, about| {
                seen.is_closed_once(before, EpisodeOutcome::Rejected, about);
                // Of the end, and that no attempt is left.
                seen.told(before, 2, about);
            })
        },
        case("a lost job", &lost, &[0, 99], is_restarted),
        Case {
            // At the moment of the test any version is old.
            prepare: |world| {
                edit(world, RETRAINING, "max_model_age_days: 30", "max_model_age_days: 36500");
            },
            ..case("a job for nothing", &superseded, &[99], |seen, before, about| {
                seen.is_closed_once(before, EpisodeOutcome::Superseded, about);
                seen.told(before, 0, about);
            })
        },
    ];
    let kills: Vec<(&Case<'_>, String)> =
        cases.iter().flat_map(|case| case.places().into_iter().map(move |at| (case, at))).collect();
    let passed: BTreeSet<&str> = kills.iter().map(|(_, at)| at.as_str()).collect();
    for point in points::RETRAINING_POINTS {
        assert!(passed.contains(point), "no run passes {point}");
    }
    in_parallel(MANY, &kills, |(case, at)| {
        let (world, about) = (case.world(), format!("{}, {at}", case.name));
        kill_at(&world, RETRAIN, at);
        until_done(&world, &[&[RETRAIN.0], RETRAIN.1].concat(), case.codes);
        finish(&world, &about);
        let seen = Seen::of(&world);
        (case.check)(&seen, &case.before, &about);
        assert_eq!(seen.new_runs(&case.before, RunKind::Retraining), 1, "{about}: run records");
    });
}

/// The lost job was started again, and the second alarm is evidence once; where the kill came before
/// that was journaled, the job may have ended first.
fn is_restarted(seen: &Seen, before: &Seen, about: &str) {
    seen.is_retrained(before, about);
    seen.told(before, 0, about);
    let episode = &seen.episodes[0];
    // An intent that was killed before its call counts as a submission: it may have been one.
    assert!((2..=3).contains(&episode.job.submissions), "{about}: {:?}", episode.job);
    let evidence: BTreeSet<_> = episode.evidence.iter().collect();
    assert_eq!(evidence.len(), episode.evidence.len(), "{about}: {:?}", episode.evidence);
    let attached = ["save_episode.after_commit@3", "retraining.attached", "record_run", "recorded"];
    let attached = attached.iter().any(|place| about.contains(place));
    assert!(evidence.len() == 2 || !attached, "{about}: {:?}", episode.evidence);
}

/// Submits a job that holds at a point, and kills it there.
fn with_killed_job(base: &SmallWorld, point: &str) -> SmallWorld {
    let world = base.fork().expect("a copy");
    let command = ["retraining_main", "--config", "retrain_config.yaml"];
    let mut parent = start(&world, &command, Some(point));
    assert!(parent.wait().expect("a child").success(), "it was submitted");
    eventually(&format!("the job passes {point}"), || mark(&world).exists());
    let jobs = world.jobs_at_work();
    assert_eq!(jobs.iter().map(|job| kill_orphan(*job)).collect::<Vec<_>>(), [Some(9)]);
    std::fs::remove_file(mark(&world)).expect("the mark of the killed job");
    world
}

/// The job has ended with a version that the gate refused; nobody looked yet.
fn rejected(alarmed: &SmallWorld) -> SmallWorld {
    let world = alarmed.fork().expect("a copy");
    edit(&world, "training_config.yaml", "min_improvement: 0.0", "min_improvement: 0.99");
    ended_with(&world.retrain().expect("runs"), &[0]);
    eventually("the job ends", || world.jobs_at_work().is_empty());
    world
}

/// The job was killed, and another window has drifted since.
fn lost(alarmed: &SmallWorld) -> SmallWorld {
    let mut world = with_killed_job(alarmed, points::TRAINING_PLANNED);
    let sent = world.traffic(Camera::Cheap, 300).expect("traffic");
    let alarm = world.monitor(&sent).expect("runs");
    assert_eq!(alarm.last["outcome"], "alert", "{}", alarm.stderr);
    world
}

/// The job was killed when its version was registered, and that one serves: its cause is gone.
fn superseded(alarmed: &SmallWorld) -> SmallWorld {
    let world = with_killed_job(alarmed, points::TRAINING_REGISTERED);
    ended_with(&world.deploy().expect("runs"), &[0]);
    world
}
