//! Other programs, run to their end or to a limit.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::{MARK, Running, Stop, end, started};
use crate::{BenchError, start};

/// Between two looks at a program.
const PAUSE: Duration = Duration::from_millis(10);

/// How long what an ended program said is waited for: a process that it left behind may hold its streams.
const REST: Duration = Duration::from_secs(1);

/// Runs a program to its end; what it says is kept. One that is late is ended with all that it started.
///
/// # Errors
/// [`BenchError::Io`] when it cannot be started; [`BenchError::Failed`] when it was late, with what it
/// said until then.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Output, BenchError> {
    let shown = shown(command);
    let io = || BenchError::io(format!("running {shown}"));
    let mark = start::random(8)?;
    command.env(MARK, &mark).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(io())?;
    let said = [Said::of(child.stdout.take()), Said::of(child.stderr.take())];
    let late = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io())? {
            break Some(status);
        }
        if Instant::now() >= late {
            break None;
        }
        thread::sleep(PAUSE);
    };
    if let Some(status) = status {
        let [stdout, stderr] = said.map(Said::all);
        return Ok(Output { status, stdout, stderr });
    }
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let (service, name) = (String::new(), shown.clone());
    let started = started(pid).unwrap_or_default();
    let ended = end(&[Running { service, name, pid, started, mark, stop: Stop::Everybody }]);
    let said = said.map(Said::all).concat();
    let seconds = limit.as_secs_f64();
    let said = String::from_utf8_lossy(&said);
    let mut text =
        format!("{shown}: not done within {seconds} s, and ended; it said:\n{}", said.trim());
    if let Err(error) = ended {
        text.push_str(&format!("\n{error}"));
    } else {
        child.wait().map_err(io())?;
    }
    Err(BenchError::Failed(text))
}

/// A program with its arguments, for people.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What comes out of a stream, as it comes.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Said {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let Some(mut stream) = stream else { return };
            let mut part = vec![0; 64 << 10];
            while let Ok(bytes @ 1..) = stream.read(&mut part) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&part[..bytes]);
            }
        });
        Self { text, reader }
    }

    fn all(self) -> Vec<u8> {
        let late = Instant::now() + REST;
        while !self.reader.is_finished() && Instant::now() < late {
            thread::sleep(PAUSE);
        }
        std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Output, BenchError> {
        run_within(Command::new("sh").args(["-c", script]), limit)
    }

    #[test]
    fn what_ends_in_time_tells_how() {
        // More than a pipe holds.
        let script = "head -c 300000 /dev/zero; echo no >&2; exit 7";
        let output = shell(script, Duration::from_secs(60)).expect("in time");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(7), 300_000));
        assert_eq!(output.stderr, b"no\n");
        let missing = run_within(&mut Command::new("/no/such/program"), Duration::from_secs(1));
        let error = missing.expect_err("nothing to start").to_string();
        assert!(error.starts_with("running /no/such/program"), "{error}");
    }

    #[test]
    fn what_is_late_is_ended_with_all_that_it_started() {
        let script = "echo $$; sleep 600 & echo $!; setsid sleep 600 & echo $!; wait";
        let began = Instant::now();
        let error = shell(script, Duration::from_millis(500)).expect_err("late").to_string();
        assert!(began.elapsed() < Duration::from_secs(14), "all listen");
        assert!(error.contains("not done within 0.5 s"), "{error}");
        let pids: Vec<i32> = error.lines().filter_map(|line| line.parse().ok()).collect();
        assert_eq!(pids.len(), 3, "{error}");
        for pid in pids {
            assert_eq!(started(pid), None, "{pid}: {error}");
        }
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let began = Instant::now();
        let output = shell("sleep 20 & echo $!", Duration::from_secs(60)).expect("in time");
        assert!(began.elapsed() < Duration::from_secs(15));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pid = text.trim().to_owned();
        assert!(Command::new("kill").arg(pid).status().expect("kill runs").success());
    }
}
