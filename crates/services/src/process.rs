//! Processes of the bench: known by more than their id, ended with all that they started.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::BenchError;

/// In the environment of each process that the bench starts, and so of most of their children.
pub(crate) const MARK: &str = "MLOOP_SERVICES_MARK";

/// How long a service may take to end by itself.
const GRACE: Duration = Duration::from_secs(15);

/// How long the system may take to end what was killed.
const KILLED: Duration = Duration::from_secs(10);

/// Between two looks at what still runs.
const PAUSE: Duration = Duration::from_millis(50);

/// How a process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// SIGTERM to it and all its children, since some servers leave theirs behind.
    Everybody,
    /// SIGINT to it alone: it ends its children in good order (PostgreSQL).
    Leader,
}

/// A process that the bench started, the leader of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    /// Whose process it is.
    pub(crate) service: String,
    /// The name of its log.
    pub(crate) name: String,
    pub(crate) pid: i32,
    /// Boot of the machine and moment of the start: a later process with this id differs.
    pub(crate) started: String,
    /// The value of [`MARK`].
    pub(crate) mark: String,
    pub(crate) stop: Stop,
}

/// One line of the system's list of processes.
#[derive(Debug)]
struct Line {
    pid: i32,
    parent: i32,
    session: i32,
    ticks: String,
}

/// Boot and moment of the start of a process that has not ended.
pub(crate) fn started(pid: i32) -> Option<String> {
    Some(format!("{}/{}", boot(), line(pid)?.ticks))
}

fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Fields 3 (state), 4 (parent), 6 (session) and 22 (start) of `proc_pid_stat(5)`. The name in the
/// second may hold anything, parentheses included. What ended and waits to be reaped is not told.
fn line(pid: i32) -> Option<Line> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let number = |index: usize| fields.get(index)?.parse().ok();
    let ticks = (*fields.get(19)?).to_owned();
    Some(Line { pid, parent: number(1)?, session: number(3)?, ticks })
}

fn lines() -> Vec<Line> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![] };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(line).collect()
}

/// The environment that a process was started with; none for another user's, and for a moment while
/// a process becomes another program.
fn environment(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/environ")).ok().filter(|text| !text.is_empty())
}

/// Whether an environment carries a mark.
fn carries(environment: &[u8], mark: &str) -> bool {
    let wanted = format!("{MARK}={mark}");
    environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
}

impl Running {
    /// Whether the very process that was started still runs.
    pub(crate) fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// It and all that it started and that still runs.
    ///
    /// A service's children are found by three marks, since each alone misses some: their session
    /// (a shell in a task has its own), their parents (an orphan's is gone) and the environment (a
    /// process may write over it). An id alone proves nothing: the system gives ids out again.
    fn members(&self, all: &[Line]) -> BTreeSet<i32> {
        let (mut found, mut session_is_ours) = (BTreeSet::new(), self.is_alive());
        let leaderless = self.started.starts_with(&boot()) && started(self.pid).is_none();
        for line in all {
            let in_session = line.session == self.pid;
            let ours = match environment(line.pid) {
                Some(environment) => carries(&environment, &self.mark),
                // While the leader's id is not in use again, its session is no other.
                None => in_session && leaderless,
            };
            if ours {
                found.insert(line.pid);
                session_is_ours |= in_session;
            }
        }
        if session_is_ours {
            found.extend(all.iter().filter(|line| line.session == self.pid).map(|line| line.pid));
        }
        loop {
            let children = all.iter().filter(|line| found.contains(&line.parent));
            let more: Vec<i32> =
                children.map(|line| line.pid).filter(|pid| !found.contains(pid)).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

/// Ends processes with all their children: asked first, killed when they do not listen.
///
/// # Errors
/// When something still runs after it was killed.
pub(crate) fn end(processes: &[Running]) -> Result<(), BenchError> {
    end_within(processes, GRACE)
}

fn end_within(processes: &[Running], grace: Duration) -> Result<(), BenchError> {
    // Each is asked once, those too that are started while the others are being asked.
    let mut asked = BTreeSet::new();
    let ask = |process: &Running, members: &BTreeSet<i32>| match process.stop {
        Stop::Leader if members.contains(&process.pid) => {
            if asked.insert(process.pid) {
                send(process.pid, Signal::INT);
            }
        }
        _ => {
            let new = members.iter().filter(|pid| asked.insert(**pid));
            new.for_each(|pid| send(*pid, Signal::TERM));
        }
    };
    if wait(processes, grace, ask) {
        return Ok(());
    }
    let kill = |_: &Running, members: &BTreeSet<i32>| {
        members.iter().for_each(|pid| send(*pid, Signal::KILL));
    };
    if wait(processes, KILLED, kill) {
        return Ok(());
    }
    let left: Vec<i32> = remaining(processes).into_iter().flat_map(|(_, pids)| pids).collect();
    Err(BenchError::Failed(format!("these processes do not end: {left:?}")))
}

/// The processes that still have members.
fn remaining(processes: &[Running]) -> Vec<(&Running, BTreeSet<i32>)> {
    let all = lines();
    let members = processes.iter().map(|process| (process, process.members(&all)));
    members.filter(|(_, members)| !members.is_empty()).collect()
}

/// Waits until all have ended, doing something to those that have not.
fn wait(
    processes: &[Running],
    patience: Duration,
    mut act: impl FnMut(&Running, &BTreeSet<i32>),
) -> bool {
    let (began, mut confirmed) = (Instant::now(), processes.is_empty());
    loop {
        let left = remaining(processes);
        if left.is_empty() && confirmed {
            return true;
        }
        // The system's list is not of one moment: what is just being started can be missed once.
        confirmed = left.is_empty();
        if began.elapsed() > patience {
            return false;
        }
        left.iter().for_each(|(process, members)| act(process, members));
        std::thread::sleep(PAUSE);
    }
}

/// A process that ended meanwhile needs no signal.
fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).unwrap_or(());
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A shell in a session of its own, and how the bench would know it.
    fn shell(script: &str) -> (Child, Running) {
        let mark = crate::start::random(8).expect("random");
        let mut command = Command::new("setsid");
        let child = command.args(["sh", "-c", script]).env(MARK, &mark).spawn().expect("it starts");
        let pid = i32::try_from(child.id()).expect("an id");
        let started = started(pid).expect("it runs");
        let (service, name) = ("fake".to_owned(), "fake".to_owned());
        (child, Running { service, name, pid, started, mark, stop: Stop::Everybody })
    }

    fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not come true");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn children_end_too_wherever_they_went() {
        // One in the same session, one in its own, one whose parent is gone.
        let script = "sleep 600 & setsid sleep 600 & (setsid sleep 600 &) ; wait";
        let (mut child, running) = shell(script);
        until(|| running.members(&lines()).len() == 4);
        end(std::slice::from_ref(&running)).expect("all end");
        assert!(child.wait().is_ok());
        assert!(running.members(&lines()).is_empty());
    }

    #[test]
    fn orphans_are_found_after_their_leader_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("told");
        let script = format!("sleep 600 & until [ -e {} ]; do sleep 0.01; done", told.display());
        let (mut child, running) = shell(&script);
        std::fs::write(&told, "").expect("written");
        assert!(child.wait().expect("it ends").success());
        assert!(!running.is_alive());
        assert_eq!(running.members(&lines()).len(), 1);
        end(std::slice::from_ref(&running)).expect("it ends");
        assert!(running.members(&lines()).is_empty());
    }

    #[test]
    fn what_does_not_listen_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let ready = folder.path().join("ready");
        let script =
            format!("trap '' TERM; touch {}; while :; do sleep 600; done", ready.display());
        let (mut child, running) = shell(&script);
        until(|| ready.exists());
        end_within(&[running], Duration::from_millis(200)).expect("it ends");
        let status = child.wait().expect("it ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn a_later_process_with_the_same_id_is_left_alone() {
        let (mut child, running) = shell("sleep 600");
        let earlier = Running {
            started: format!("{}/1", boot()),
            mark: "another".to_owned(),
            ..running.clone()
        };
        assert!(running.is_alive() && !earlier.is_alive());
        end(&[earlier]).expect("there is nothing to end");
        assert!(running.is_alive(), "it was not the bench's");
        end(&[running]).expect("it ends");
        assert!(child.wait().is_ok());
    }
}
