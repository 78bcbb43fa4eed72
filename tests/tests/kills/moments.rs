//! SIGKILL at moments that chance chose, the same in every run of the tests, each shown to have
//! landed before the exit; and between an effect and its outcome, for which chance has too little time.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mloop_core::deployment::Step;
use mloop_core::episode::JobState;
use mloop_core::run::RunKind;
use mloop_orchestrators::points;
use mloop_testkit::small::SmallWorld;

use crate::end::Seen;
use crate::points::{RETRAIN, finish, kill_at, kill_orphan};
use crate::world::{
    Bases, Command, DEPLOY, FEW, ROLLBACK, TRAIN, bases, eventually, in_parallel, kill, mark,
    start, until_done,
};

/// Kills that must land before the exit, for each binary.
const KILLS: u64 = 20;

/// The way back is the same binary as the way forward, so half as many are enough.
const KILLS_OF_ROLLBACK: u64 = 10;

/// Draws for one kill. One that came after the exit is drawn anew, from the time before it.
const DRAWS: u32 = 12;

/// A run beside others takes longer than the one that was measured: moments are drawn up to this many
/// thousandths of its duration.
const LATEST: u32 = 1500;

/// Moments of a run (xorshift, Marsaglia 2003).
struct Moments {
    state: u64,
    latest: Duration,
}

impl Moments {
    fn new(seed: u64, typical: Duration) -> Self {
        let mut moments = Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            latest: typical * LATEST / 1000,
        };
        // Neighbouring seeds begin alike.
        for _ in 0..8 {
            moments.draw();
        }
        moments
    }

    fn draw(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let thousandths = u32::try_from((self.state >> 33) % 1000).unwrap_or(0);
        self.latest * thousandths / 1000
    }
}

/// What a kill left of the one effect that a run is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// It is there, and nobody wrote that down.
    Effect,
    Noted,
}

/// How runs are killed, and what that leaves.
struct Kill<'a> {
    base: &'a SmallWorld,
    /// How long a run typically takes.
    typical: Duration,
    /// Starts a run, kills it after a while, and tells whether that landed before the exit.
    after: &'a (dyn Fn(&SmallWorld, Duration) -> bool + Sync),
    /// Starts a run, and kills it between the effect and its outcome.
    between: &'a (dyn Fn(&SmallWorld) + Sync),
    left: fn(&Seen) -> Left,
}

/// Of so many kills one falls between the effect and its outcome, too short a moment to be left to chance,
/// and the next one right after the start.
const PLACED: u64 = 4;

/// Right after the start is at this part of a run.
const EARLY: u32 = 20;

/// Lands so many kills, each in a copy of the base, and checks each. Some come before the effect, some
/// between the effect and its outcome.
fn land(kills: u64, kill: &Kill<'_>, check: impl Fn(&SmallWorld, &str) + Sync) {
    let numbers: Vec<u64> = (0..kills).collect();
    let left = Mutex::new(vec![]);
    in_parallel(FEW, &numbers, |number| {
        let (world, about) = landed(*number, kill);
        let found = (kill.left)(&Seen::of(&world));
        let is_placed = number % PLACED == 0;
        assert!(!is_placed || found == Left::Effect, "{about} left {found:?}");
        left.lock().expect("no panic").push(found);
        check(&world, &format!("{about}, which left {found:?}"));
    });
    let left = left.into_inner().expect("no panic");
    let count = |wanted| left.iter().filter(|one| **one == wanted).count() as u64;
    assert!(count(Left::Effect) >= kills / PLACED, "{left:?}");
    assert!(count(Left::Nothing) > 0, "no kill came before the effect: {left:?}");
}

/// A world in which a run was killed, and when.
fn landed(number: u64, kill: &Kill<'_>) -> (SmallWorld, String) {
    if number.is_multiple_of(PLACED) {
        let world = kill.base.fork().expect("a copy");
        (kill.between)(&world);
        return (world, format!("kill {number}, after the effect"));
    }
    let mut moments = Moments::new(number, kill.typical);
    for draw in 0..DRAWS {
        let is_early = draw == 0 && number % PLACED == 1;
        let delay = if is_early { kill.typical / EARLY } else { moments.draw() };
        let world = kill.base.fork().expect("a copy");
        if (kill.after)(&world, delay) {
            return (world, format!("kill {number}, after {delay:?} of {:?}", kill.typical));
        }
        moments.latest = delay;
    }
    panic!(
        "kill {number}: all {DRAWS} moments came after the exit; {:?} are typical",
        kill.typical
    );
}

fn words(command: Command) -> Vec<&'static str> {
    [&[command.0], command.1].concat()
}

/// How long a command takes in a copy of this world.
fn typical(base: &SmallWorld, command: &[&str], code: i32) -> Duration {
    let world = base.fork().expect("a copy");
    let began = Instant::now();
    until_done(&world, command, &[code]);
    began.elapsed()
}

/// Starts a command, and kills it after a while; true when that landed before the exit.
fn kill_after(world: &SmallWorld, command: &[&str], delay: Duration) -> bool {
    let mut child = start(world, command, None);
    std::thread::sleep(delay);
    let status = kill(&mut child);
    assert!(status.signal() == Some(9) || status.code().is_some(), "{status}");
    status.signal() == Some(9)
}

/// Version 2 in production, by the server and by the journal's step.
fn switched(seen: &Seen, step: Step) -> Left {
    match (seen.switches, seen.has_outcome(step)) {
        (_, true) => Left::Noted,
        (0, false) => Left::Nothing,
        (_, false) => Left::Effect,
    }
}

/// A version more than the base has. That it is there is all that a training leaves.
fn registered(seen: &Seen, before: usize) -> Left {
    if seen.versions.len() > before { Left::Effect } else { Left::Nothing }
}

#[test]
fn a_deployment_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { ready, .. } = &*bases();
    let (base, command) = (Seen::of(ready), words(DEPLOY));
    let kill = Kill {
        base: ready,
        typical: typical(ready, &command, 0),
        after: &|world, delay| kill_after(world, &command, delay),
        between: &|world| kill_at(world, DEPLOY, "deployment.production_submitted.called"),
        left: |seen| switched(seen, Step::ProductionSubmitted),
    };
    land(KILLS, &kill, |world, about| {
        let last = until_done(world, &command, &[0]);
        assert_eq!(last["outcome"], "switched", "{about}: {last}");
        Seen::of(world).is_deployed_once(&base, about);
    });
}

#[test]
fn a_rollback_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { switched: base, .. } = &*bases();
    let (before, command) = (Seen::of(base), words(ROLLBACK));
    let kill = Kill {
        base,
        typical: typical(base, &command, 13),
        after: &|world, delay| kill_after(world, &command, delay),
        between: &|world| kill_at(world, ROLLBACK, "deployment.rollback_submitted.called"),
        left: |seen| switched(seen, Step::RollbackSubmitted),
    };
    land(KILLS_OF_ROLLBACK, &kill, |world, about| {
        let last = until_done(world, &command, &[13]);
        assert_eq!(last["outcome"], "rolled_back", "{about}: {last}");
        Seen::of(world).is_rolled_back_once(&before, about);
    });
}

#[test]
fn a_decision_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { alarmed, .. } = &*bases();
    let (before, command) = (Seen::of(alarmed), words(RETRAIN));
    let kill = Kill {
        base: alarmed,
        typical: typical(alarmed, &command, 0),
        after: &|world, delay| kill_after(world, &command, delay),
        between: &|world| kill_at(world, RETRAIN, points::RETRAINING_CALLED),
        left: |seen| match seen.episodes.first().map(|episode| episode.job.state) {
            None => Left::Nothing,
            Some(JobState::Submitting) if !seen.has_job => Left::Nothing,
            Some(JobState::Submitting) => Left::Effect,
            Some(_) => Left::Noted,
        },
    };
    land(KILLS, &kill, |world, about| {
        until_done(world, &command, &[0, 99]);
        finish(world, about);
        let seen = Seen::of(world);
        // A start that was cut off before the job had its lock counts as one.
        seen.is_retrained_once(&before, true, about);
        assert_eq!(seen.new_runs(&before, RunKind::Retraining), 1, "{about}: run records");
    });
}

#[test]
fn a_training_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { empty, .. } = &*bases();
    let command = words(TRAIN);
    let kill = Kill {
        base: empty,
        typical: typical(empty, &command, 0),
        after: &|world, delay| kill_after(world, &command, delay),
        between: &|world| kill_at(world, TRAIN, points::TRAINING_REGISTERED),
        left: |seen| registered(seen, 0),
    };
    land(KILLS, &kill, |world, about| {
        let last = until_done(world, &command, &[0]);
        assert_eq!(last["outcome"], "blessed", "{about}: {last}");
        Seen::of(world).has_one_version_more(&[], about);
    });
}

#[test]
fn a_job_killed_at_any_moment_is_finished_by_its_next_start() {
    // Orphans come to this process, so that it can see what they died of.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
    let Bases { alarmed, .. } = &*bases();
    let (before, command) = (Seen::of(alarmed), words(RETRAIN));
    let kill_job =
        |world: &SmallWorld| world.jobs_at_work().first().copied().and_then(kill_orphan) == Some(9);
    let kill = Kill {
        base: alarmed,
        typical: typical_job(alarmed, &command),
        after: &|world, delay| {
            until_done(world, &command, &[0]);
            std::thread::sleep(delay);
            kill_job(world)
        },
        between: &|world| {
            let mut parent = start(world, &command, Some(points::TRAINING_REGISTERED));
            assert!(parent.wait().expect("a child").success(), "it was submitted");
            eventually("the job has registered its version", || mark(world).exists());
            assert!(kill_job(world), "the job held there");
        },
        left: |seen| registered(seen, 1),
    };
    land(KILLS, &kill, |world, about| {
        finish(world, about);
        Seen::of(world).is_retrained_once(&before, true, about);
    });
}

/// How long a job takes once it was submitted.
fn typical_job(alarmed: &SmallWorld, command: &[&str]) -> Duration {
    let world = alarmed.fork().expect("a copy");
    until_done(&world, command, &[0]);
    let began = Instant::now();
    eventually("the job ends", || world.jobs_at_work().is_empty());
    began.elapsed()
}
