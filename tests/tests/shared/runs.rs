//! Runs of the binaries that are killed, stopped and called again.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use mloop_testkit::program::{Finished, Program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Bound of every wait of these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The moment that a run under test takes for now; a repeat under it is the same run.
pub(crate) const AS_OF: &str = "2099-01-01T00:00:00+00:00";

/// Demands one of these exit codes.
pub(crate) fn ended_with(finished: &Finished, codes: &[i32]) {
    let expected = finished.code.is_some_and(|code| codes.contains(&code));
    assert!(expected, "ended with {:?}, not {codes:?}:\n{}", finished.code, finished.stderr);
}

/// Waits for something, for a bounded time.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process of this test.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("an id");
    kill_process(pid, signal).expect("a process that was not waited for");
}

/// Kills a child by its id, and gives the status that it died with.
pub(crate) fn kill(child: &mut Child) -> ExitStatus {
    // It fails for a child that has ended: then the status tells so.
    child.kill().unwrap_or_default();
    child.wait().expect("a child of this process")
}

/// Calls a program as a DAG does: again while it asks for that (20 s for a lease that a killed run
/// left, 30, 31), within bounds.
pub(crate) fn until_done(program: impl Fn() -> Program, codes: &[i32]) -> Value {
    let began = Instant::now();
    loop {
        let finished = program().run().expect("runs");
        let again = matches!(finished.code, Some(30 | 31)) && began.elapsed() < PATIENCE;
        if !again {
            ended_with(&finished, codes);
            return finished.last;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
