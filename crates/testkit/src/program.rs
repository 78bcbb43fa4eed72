//! Running one of the binaries as a DAG would: exit code, last line, time and memory.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::KitError;

/// The folder that this build puts its binaries into.
///
/// # Errors
/// When the path of this very program cannot be found out.
pub fn folder() -> Result<PathBuf, KitError> {
    let own = std::env::current_exe().map_err(KitError::io("finding this program"))?;
    let mut folder = own.parent().unwrap_or(Path::new(".")).to_path_buf();
    // Test programs lie one folder deeper.
    if folder.file_name() == Some(OsStr::new("deps")) {
        folder.pop();
    }
    Ok(folder)
}

/// Where a binary of this build lies.
///
/// # Errors
/// [`KitError::NotBuilt`].
pub fn path(name: &str) -> Result<PathBuf, KitError> {
    let path = folder()?.join(name);
    if path.exists() { Ok(path) } else { Err(KitError::NotBuilt(path)) }
}

/// A binary with its arguments.
#[derive(Debug)]
pub struct Program {
    name: String,
    command: Command,
}

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// The last line of standard output as JSON; `null` when it is none.
    pub last: Value,
    /// From start to end.
    pub wall: Duration,
    /// Largest resident memory that was seen, KiB.
    pub peak_kib: u64,
}

impl Program {
    /// A binary of this build.
    ///
    /// # Errors
    /// [`KitError::NotBuilt`].
    pub fn new<S: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self, KitError> {
        let mut command = Command::new(path(name)?);
        command.args(arguments).stdin(Stdio::null());
        Ok(Self { name: name.to_owned(), command })
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in a folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it with its streams piped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut self) -> Result<Child, KitError> {
        let doing = format!("starting {}", self.name);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().map_err(KitError::io(doing))
    }

    /// Starts it with both streams at the end of a file, so that no full pipe can hold it up.
    ///
    /// # Errors
    /// When the file cannot be opened or it cannot be started.
    pub fn start_logging(mut self, log: &Path) -> Result<Child, KitError> {
        let doing = format!("starting {}, logging to {}", self.name, log.display());
        let open = || {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(KitError::io(doing.clone()))?;
        self.command.stdout(out).stderr(err);
        self.command.spawn().map_err(KitError::io(doing))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub fn run(self) -> Result<Finished, KitError> {
        self.run_showing(|_| {})
    }

    /// Runs it to its end, handing on each line of standard error as it comes.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub fn run_showing(self, show: impl Fn(&str) + Send + Sync) -> Result<Finished, KitError> {
        let doing = format!("waiting for {}", self.name);
        let began = Instant::now();
        let mut child = self.start()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (status, peak_kib, stdout, stderr) = thread::scope(|scope| {
            let out = scope.spawn(|| read_lines(out, |_| {}));
            let err = scope.spawn(|| read_lines(err, &show));
            let mut peak = 0;
            let status = loop {
                peak = peak.max(resident_peak_kib(child.id()));
                match child.try_wait() {
                    Ok(Some(status)) => break Ok(status),
                    Ok(None) => thread::sleep(Duration::from_millis(5)),
                    Err(error) => break Err(error),
                }
            };
            let text =
                |reader: thread::ScopedJoinHandle<'_, String>| reader.join().unwrap_or_default();
            (status, peak, text(out), text(err))
        });
        let status = status.map_err(KitError::io(doing))?;
        let last = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Ok(Finished {
            code: status.code(),
            last: last.unwrap_or(Value::Null),
            stdout,
            stderr,
            wall: began.elapsed(),
            peak_kib,
        })
    }
}

fn read_lines(stream: Option<impl std::io::Read>, show: impl Fn(&str)) -> String {
    let mut text = String::new();
    let Some(stream) = stream else { return text };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        show(&line);
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Largest resident memory of a process so far, KiB: `VmHWM` on Linux; 0 elsewhere and once it is
/// gone.
#[must_use]
pub fn resident_peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
