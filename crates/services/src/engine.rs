//! Starting several services at once: each is told when it answers, and if one does not, all end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::BenchError;
use crate::health::Probe;
use crate::process::{self, MARK, Running, Stop, started};
use crate::record::Record;
use crate::start::random;

/// Between two questions to a service that is starting.
const PAUSE: Duration = Duration::from_millis(100);

/// Lines of a log that are shown when its service fails.
const TAIL: usize = 30;

/// How to start one service.
pub(crate) struct Launch {
    pub(crate) tasks: Vec<Task>,
    pub(crate) probe: Probe,
    /// How long it may take until it answers.
    pub(crate) deadline: Duration,
    /// What the file says of it once it answers.
    pub(crate) entry: Value,
}

/// One process of a service.
pub(crate) struct Task {
    /// The name of its log.
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    pub(crate) stop: Stop,
}

/// Prepares a service: installs it, writes its configuration. Called on a thread of its own.
pub(crate) type Prepare<'a> = Box<dyn FnOnce() -> Result<Launch, BenchError> + Send + 'a>;

/// What all the threads share.
pub(crate) struct Engine<'a> {
    pub(crate) file: &'a Path,
    pub(crate) record: Mutex<Record>,
    pub(crate) tell: &'a (dyn Fn(&str) + Sync),
    /// Set from outside: give up.
    pub(crate) interrupted: &'a AtomicBool,
    /// Set as soon as one service failed: the others need not go on.
    pub(crate) failed: AtomicBool,
}

/// The folder of the logs.
pub(crate) fn logs(file: &Path) -> PathBuf {
    file.with_file_name("logs")
}

impl Engine<'_> {
    /// Starts services, all at the same time.
    ///
    /// # Errors
    /// What each said that failed; then nothing that was started here is left running.
    pub(crate) fn start_all(&self, services: Vec<(&str, Prepare<'_>)>) -> Result<(), BenchError> {
        let names: Vec<&str> = services.iter().map(|(name, _)| *name).collect();
        let problems: Vec<String> = std::thread::scope(|scope| {
            let one = |(name, prepare)| scope.spawn(move || self.start(name, prepare));
            let threads: Vec<ScopedJoinHandle<_>> = services.into_iter().map(one).collect();
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(outcome) => outcome.err().map(|error| error.to_string()),
                Err(_) => Some("a thread of the bench panicked".to_owned()),
            });
            ended.flatten().collect()
        });
        if self.interrupted.load(Ordering::Relaxed) {
            self.end(&names)?;
            return Err(BenchError::Failed("interrupted; what was started is stopped".to_owned()));
        }
        if problems.is_empty() {
            return Ok(());
        }
        self.end(&names)?;
        Err(BenchError::Failed(problems.join("\n")))
    }

    /// Ends services and forgets them.
    pub(crate) fn end(&self, names: &[&str]) -> Result<(), BenchError> {
        let mut record = self.record();
        let processes: Vec<Running> = names.iter().flat_map(|name| record.of(name)).collect();
        process::end(&processes)?;
        names.iter().for_each(|name| record.forget(name));
        record.write(self.file)
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        // A thread that panicked left a record that is complete: each change is one statement.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, name: &str, prepare: Prepare<'_>) -> Result<(), BenchError> {
        let outcome = self.try_start(name, prepare);
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome.map_err(|error| BenchError::Failed(format!("{name}: {error}")))
    }

    fn try_start(&self, name: &str, prepare: Prepare<'_>) -> Result<(), BenchError> {
        let began = Instant::now();
        let launch = prepare()?;
        let mut children = vec![];
        for task in launch.tasks {
            children.push((task.name, self.spawn(name, task)?));
        }
        if !self.answers(&launch.probe, launch.deadline, &mut children)? {
            return Ok(());
        }
        let mut record = self.record();
        if !launch.entry.is_null() {
            record.entries.insert(name.to_owned(), launch.entry);
        }
        record.write(self.file)?;
        let seconds = began.elapsed().as_secs_f64();
        (self.tell)(&format!("{name:<13} ready in {seconds:5.1} s  {}", launch.probe.address()));
        Ok(())
    }

    /// Starts a process in a session of its own, with its streams on its own log.
    fn spawn(&self, service: &str, task: Task) -> Result<Child, BenchError> {
        let Task { name, command, stop } = task;
        let folder = logs(self.file);
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(BenchError::io(log.display().to_string()))?;
        let errors = output.try_clone().map_err(BenchError::io(log.display().to_string()))?;
        let mark = random(16)?;
        // `setsid` becomes the program: the id is the program's. (A call of `setsid` between fork
        // and exec would need unsafe code.)
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args()).env(MARK, &mark);
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            detached.current_dir(folder);
        }
        let shown = command.get_program().display().to_string();
        // The lock is held from before the start until the file knows of it.
        let mut record = self.record();
        let child = detached.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.map_err(BenchError::io(format!("starting {shown} by setsid")))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let started = started(pid).unwrap_or_default();
        let (service, name) = (service.to_owned(), name.to_owned());
        record.processes.push(Running { service, name, pid, started, mark, stop });
        record.write(self.file)?;
        Ok(child)
    }

    /// Waits until the service answers; false when there is no use in waiting any more, since
    /// another failed, which is told, or somebody interrupted.
    fn answers(
        &self,
        probe: &Probe,
        deadline: Duration,
        children: &mut [(&'static str, Child)],
    ) -> Result<bool, BenchError> {
        let began = Instant::now();
        loop {
            let answer = probe.ask();
            for (name, child) in children.iter_mut() {
                let ended = child.try_wait().map_err(BenchError::io("waiting for a service"))?;
                if let Some(status) = ended {
                    return Err(self.told(name, &format!("ended before it answered: {status}")));
                }
            }
            let Err(reason) = answer else { return Ok(true) };
            if self.failed.load(Ordering::Relaxed) || self.interrupted.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if began.elapsed() > deadline {
                let seconds = deadline.as_secs();
                let name = children.first().map_or("", |(name, _)| *name);
                return Err(self.told(name, &format!("no answer within {seconds} s: {reason}")));
            }
            sleep(PAUSE);
        }
    }

    /// A problem with the end of the log that may explain it.
    fn told(&self, name: &str, problem: &str) -> BenchError {
        let log = logs(self.file).join(format!("{name}.log"));
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n  | ");
        BenchError::Failed(format!("{problem}\n  the end of {}:\n  | {tail}", log.display()))
    }
}

#[cfg(test)]
mod tests;
