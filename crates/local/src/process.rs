//! Which process a process id once named.

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// A process, told apart from a later one that got the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    /// The id.
    pub(crate) pid: u32,
    /// Boot of the machine and moment of the start in ticks since; none where `/proc` does not tell.
    pub(crate) started: Option<String>,
}

impl ProcessId {
    /// The process that calls.
    pub(crate) fn own() -> Self {
        let pid = std::process::id();
        Self { pid, started: started(pid) }
    }

    /// Whether this very process still runs. One that ended and waits to be reaped does not.
    pub(crate) fn is_alive(&self) -> bool {
        match &self.started {
            Some(then) => started(self.pid).as_ref() == Some(then),
            None => self.raw().is_some_and(|pid| test_kill_process(pid).is_ok()),
        }
    }

    /// For signals.
    pub(crate) fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// When a process began: fields 3 (state) and 22 (start time) of `proc_pid_stat(5)`.
///
/// None where `/proc` is missing, or shows another process namespace than this process lives in.
fn started(pid: u32) -> Option<String> {
    let own = std::fs::read_link("/proc/self").ok()?;
    if own.to_str()?.parse() != Ok(std::process::id()) {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = fields_from_state(&stat)?;
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let ticks = fields.nth(18)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{ticks}", boot.trim()))
}

/// The session of the process that calls: field 6 of `proc_pid_stat(5)`, 0 where its leader belongs
/// to an outer process namespace.
pub(crate) fn own_session() -> Option<u32> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    fields_from_state(&stat)?.nth(3)?.parse().ok()
}

/// The fields of a `stat` file from the third on: the name in the second may hold anything,
/// parentheses included.
fn fields_from_state(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let own = ProcessId::own();
        assert!(own.is_alive());
        let reused = ProcessId { started: Some("another boot/1".to_owned()), ..own };
        assert!(!reused.is_alive(), "the id was given to another process");
    }
}
