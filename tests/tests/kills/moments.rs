//! SIGKILL at moments that chance chose, the same in every run of the tests, each shown to have
//! landed before the exit.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use mloop_core::run::RunKind;
use mloop_testkit::small::SmallWorld;

use crate::end::Seen;
use crate::points::{RETRAIN, finish, kill_orphan};
use crate::world::{
    Bases, Command, DEPLOY, FEW, ROLLBACK, TRAIN, bases, eventually, in_parallel, kill, start,
    until_done,
};

/// Kills that must land before the exit, for each binary.
const KILLS: u64 = 20;

/// The way back is the same binary as the way forward, so half as many are enough.
const KILLS_OF_ROLLBACK: u64 = 10;

/// Draws for one kill. One that came after the exit is drawn anew.
const DRAWS: u32 = 12;

/// A run beside others takes longer than the one that was measured: moments are drawn up to this many
/// thousandths of its duration.
const LATEST: u32 = 1500;

/// Moments of a run (xorshift, Marsaglia 2003).
struct Moments {
    state: u64,
    typical: Duration,
}

impl Moments {
    fn new(seed: u64, typical: Duration) -> Self {
        let mut moments = Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, typical };
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
        let thousandths = u32::try_from((self.state >> 33) % u64::from(LATEST)).unwrap_or(0);
        self.typical * thousandths / 1000
    }
}

/// Lands so many kills in runs that typically take so long, and checks each. `kill` starts a run in a
/// copy of the base, kills it after a while, and tells whether that landed before the exit.
fn land(
    kills: u64,
    base: &SmallWorld,
    typical: Duration,
    kill: impl Fn(&SmallWorld, Duration) -> bool + Sync,
    check: impl Fn(&SmallWorld, &str) + Sync,
) {
    let numbers: Vec<u64> = (0..kills).collect();
    in_parallel(FEW, &numbers, |number| {
        let mut moments = Moments::new(*number, typical);
        for _ in 0..DRAWS {
            let delay = moments.draw();
            let world = base.fork().expect("a copy");
            if kill(&world, delay) {
                let about = format!("kill {number}, after {delay:?} of {typical:?}");
                return check(&world, &about);
            }
        }
        panic!("kill {number}: all {DRAWS} moments came after the exit; {typical:?} are typical");
    });
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

#[test]
fn a_deployment_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { ready, .. } = &*bases();
    let (base, command) = (Seen::of(ready), words(DEPLOY));
    land(
        KILLS,
        ready,
        typical(ready, &command, 0),
        |world, delay| kill_after(world, &command, delay),
        |world, about| {
            let last = until_done(world, &command, &[0]);
            assert_eq!(last["outcome"], "switched", "{about}: {last}");
            Seen::of(world).is_deployed_once(&base, about);
        },
    );
}

#[test]
fn a_rollback_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { switched, .. } = &*bases();
    let (base, command) = (Seen::of(switched), words(ROLLBACK));
    land(
        KILLS_OF_ROLLBACK,
        switched,
        typical(switched, &command, 13),
        |world, delay| kill_after(world, &command, delay),
        |world, about| {
            let last = until_done(world, &command, &[13]);
            assert_eq!(last["outcome"], "rolled_back", "{about}: {last}");
            Seen::of(world).is_rolled_back_once(&base, about);
        },
    );
}

#[test]
fn a_decision_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { alarmed, .. } = &*bases();
    let (before, command) = (Seen::of(alarmed), words(RETRAIN));
    land(
        KILLS,
        alarmed,
        typical(alarmed, &command, 0),
        |world, delay| kill_after(world, &command, delay),
        |world, about| {
            until_done(world, &command, &[0, 99]);
            finish(world, about);
            let seen = Seen::of(world);
            // A start that was cut off before the job had its lock counts as one.
            seen.is_retrained_once(&before, true, about);
            assert_eq!(seen.new_runs(&before, RunKind::Retraining), 1, "{about}: run records");
        },
    );
}

#[test]
fn a_training_killed_at_any_moment_is_finished_by_the_next() {
    let Bases { empty, .. } = &*bases();
    let command = words(TRAIN);
    land(
        KILLS,
        empty,
        typical(empty, &command, 0),
        |world, delay| kill_after(world, &command, delay),
        |world, about| {
            let last = until_done(world, &command, &[0]);
            assert_eq!(last["outcome"], "blessed", "{about}: {last}");
            Seen::of(world).has_one_version_more(&[], about);
        },
    );
}

#[test]
fn a_job_killed_at_any_moment_is_finished_by_its_next_start() {
    // Orphans come to this process, so that it can see what they died of.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux");
    let Bases { alarmed, .. } = &*bases();
    let (before, command) = (Seen::of(alarmed), words(RETRAIN));
    land(
        KILLS,
        alarmed,
        typical_job(alarmed, &command),
        |world, delay| {
            until_done(world, &command, &[0]);
            std::thread::sleep(delay);
            world.jobs_at_work().first().copied().and_then(kill_orphan) == Some(9)
        },
        |world, about| {
            finish(world, about);
            let seen = Seen::of(world);
            seen.is_retrained_once(&before, true, about);
        },
    );
}

/// How long a job takes once it was submitted.
fn typical_job(alarmed: &SmallWorld, command: &[&str]) -> Duration {
    let world = alarmed.fork().expect("a copy");
    until_done(&world, command, &[0]);
    let began = Instant::now();
    eventually("the job ends", || world.jobs_at_work().is_empty());
    began.elapsed()
}
