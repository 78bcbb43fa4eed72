//! Training jobs that the submitter `process` started: they outlive it, and so would outlive a test.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Process ids of the jobs that run, by the submitter's folder.
#[must_use]
pub fn at_work(work: &Path) -> Vec<i32> {
    let folders = std::fs::read_dir(work).into_iter().flatten().flatten();
    folders.filter_map(|folder| running(&folder.path().join("process.pid"))).collect()
}

/// Kills the jobs that run.
pub fn end(work: &Path) {
    for pid in at_work(work).into_iter().filter_map(Pid::from_raw) {
        // One that ended meanwhile is what is wanted.
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}

/// The process of a pid file, if it is a job of this file: ids are given again, command lines tell.
fn running(pid_file: &Path) -> Option<i32> {
    let text = std::fs::read(pid_file).ok()?;
    let pid = serde_json::from_slice::<Value>(&text).ok()?["pid"].as_i64()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let path = pid_file.canonicalize().ok()?;
    let mut words = command.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    let of_this_file = words.any(|word| word.canonicalize().is_ok_and(|word| word == path));
    of_this_file.then(|| i32::try_from(pid).ok())?
}
