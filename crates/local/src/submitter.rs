//! Training jobs as processes of this machine.
//!
//! ```text
//! {work}/{job id}/job.json      what was asked for
//! {work}/{job id}/log           its standard output and standard error
//! {work}/{job id}/process.pid   written by the job once it has detached itself
//! {work}/{job id}/process.claim locked by the job as long as it lives, so that there is one
//! {work}/{job id}/lock          held while somebody submits the job
//! {work}/{job id}/result.json   written by the job at its end, at once
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};
use mloop_core::paths::from_folder;
use mloop_platform::{BuildError, JobSubmitter, PlatformDeps, PlatformError, Spec, Submission};
use rustix::process::{Signal, kill_process_group};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::disk::{self, failed};
use crate::process::ProcessId;

/// How long a job may take to detach itself: it does so before anything else.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the pid file may be in coming after the process that was started has ended: another
/// one, left by a submitter that was killed, may have the job and be about to write it.
const GRACE: Duration = Duration::from_secs(1);

/// Settings of [`ProcessSubmitter`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessSubmitterSettings {
    /// Program and arguments, such as `[training_main, --config, training_config.yaml]`, run in
    /// the folder of the configuration file. A program without `/` is looked for beside the
    /// running one, then in `PATH`. A wrapper must `exec` its program, so that the process id stays.
    pub command: Vec<String>,
    /// Folder for what jobs need and leave; one folder in it for each job.
    pub work: PathBuf,
    /// Environment variables that the job gets beside the inherited ones. No secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl Spec<Arc<dyn JobSubmitter>, PlatformDeps> for ProcessSubmitterSettings {
    const KIND: &'static str = "process";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn JobSubmitter>, BuildError> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err(BuildError::invalid("command", "must begin with a program"));
        }
        if self.work.as_os_str().is_empty() {
            return Err(BuildError::invalid("work", "must name a folder"));
        }
        let absolute = |key: &str, path: &Path| {
            std::path::absolute(path).map_err(|error| BuildError::invalid(key, error.to_string()))
        };
        let base = absolute("command", &deps.resolve(Path::new(".")))?;
        let work = absolute("work", &deps.resolve(&self.work))?;
        let submitter = ProcessSubmitter { command: self.command, env: self.env, base, work };
        submitter.check_named_program()?;
        Ok(Arc::new(submitter))
    }
}

/// Starts jobs as processes in sessions of their own, which outlive the caller.
///
/// The program must call [`session::detach`](crate::session::detach) with the path given by
/// `--pid-file`, and write its last line to the path given by `--result-file` at once.
#[derive(Debug, Clone)]
pub struct ProcessSubmitter {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    base: PathBuf,
    work: PathBuf,
}

#[async_trait]
impl JobSubmitter for ProcessSubmitter {
    async fn probe(&self) -> Result<(), PlatformError> {
        let program = self.program();
        let found = program.is_file() || (!self.names_a_file() && in_path(&program));
        if found {
            return Ok(());
        }
        Err(PlatformError::invalid("looking for the program of jobs", missing(&program)))
    }

    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let (submitter, spec) = (self.clone(), spec.clone());
        let doing = format!("submitting {}", spec.job_id);
        let folder = self.job(&spec.job_id, &doing);
        disk::blocking(&doing, move || submitter.submit(&folder, &spec)).await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let doing = format!("asking for {job}");
        let folder = self.job(job, &doing);
        disk::blocking(&doing, move || folder.status()).await
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        let doing = format!("stopping {job}");
        let folder = self.job(job, &doing);
        disk::blocking(&doing, move || folder.cancel()).await
    }
}

impl ProcessSubmitter {
    fn job(&self, job: &JobId, doing: &str) -> JobFolder {
        JobFolder { folder: self.work.join(job.as_str()), doing: doing.to_owned() }
    }

    fn submit(&self, job: &JobFolder, spec: &JobSpec) -> Result<Submission, PlatformError> {
        disk::make_folder(&job.folder).map_err(failed(&job.doing, &job.folder))?;
        let lock = job.path("lock");
        let _held = disk::lock(&lock).map_err(failed(&job.doing, &lock))?;
        job.keep(spec)?;
        let adopted = !job.status()?.is_interrupted() || self.start(job)?;
        Ok(Submission { handle: job.folder.display().to_string(), adopted })
    }

    /// Starts the job and waits until it has detached itself. True when another process, left by a
    /// submitter that was killed, turned out to run it.
    fn start(&self, job: &JobFolder) -> Result<bool, PlatformError> {
        // The old pid file stays: a process that has the job already may replace it at any moment.
        let before = job.process()?;
        let result = job.path("result.json");
        match std::fs::remove_file(&result) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&job.doing, &result)(error));
            }
            _ => {}
        }
        let mut child = self.spawn(job)?;
        let detached = job.wait_until_detached(&mut child, before.as_ref());
        // A child that nobody waits for would stay as a zombie for as long as this process lives.
        thread::spawn(move || child.wait());
        detached
    }

    fn spawn(&self, job: &JobFolder) -> Result<Child, PlatformError> {
        let path = job.path("log");
        let log = disk::open_private(&path).map_err(failed(&job.doing, &path))?;
        let also = log.try_clone().map_err(failed(&job.doing, &path))?;
        let program = self.program();
        let mut command = Command::new(&program);
        command.args(&self.command[1..]).envs(&self.env).current_dir(&self.base);
        command.arg("--job-file").arg(job.path("job.json"));
        command.arg("--result-file").arg(job.path("result.json"));
        command.arg("--own-session").arg("--pid-file").arg(job.path("process.pid"));
        command.stdin(Stdio::null()).stdout(log).stderr(also);
        command.spawn().map_err(|error| {
            PlatformError::invalid(&job.doing, format!("{} ({error})", missing(&program)))
        })
    }

    /// Whether the program is named by its path, and not looked for.
    fn names_a_file(&self) -> bool {
        self.command[0].contains('/')
    }

    fn check_named_program(&self) -> Result<(), BuildError> {
        let program = self.program();
        if self.names_a_file() && !program.is_file() {
            let problem = format!("there is no program {}; correct the path", program.display());
            return Err(BuildError::invalid("command[0]", problem));
        }
        Ok(())
    }

    fn program(&self) -> PathBuf {
        let named = Path::new(&self.command[0]);
        if self.names_a_file() {
            return from_folder(&self.base, named);
        }
        let own = std::env::current_exe().ok();
        let beside = own.map(|own| own.with_file_name(named));
        beside.filter(|path| path.is_file()).unwrap_or_else(|| named.to_path_buf())
    }
}

fn missing(program: &Path) -> String {
    let program = program.display();
    format!("{program} cannot be started; check `command` of the job submitter")
}

/// Whether a folder of `PATH` holds a program.
#[expect(clippy::disallowed_methods, reason = "the system looks there too when it starts a job")]
fn in_path(program: &Path) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The folder of one job.
struct JobFolder {
    folder: PathBuf,
    doing: String,
}

impl JobFolder {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Keeps what is asked for, or compares it with what was.
    fn keep(&self, spec: &JobSpec) -> Result<(), PlatformError> {
        let path = self.path("job.json");
        match disk::read_json::<JobSpec>(&self.doing, &path)? {
            Some(known) if known == *spec => Ok(()),
            Some(_) => {
                let problem = format!("{} asks for something else under this id", path.display());
                Err(PlatformError::conflict(&self.doing, problem))
            }
            None => disk::replace_json(&self.doing, &path, spec),
        }
    }

    fn process(&self) -> Result<Option<ProcessId>, PlatformError> {
        disk::read_json(&self.doing, &self.path("process.pid"))
    }

    /// Waits until a pid file other than `before` is there; true when it is not the child's.
    fn wait_until_detached(
        &self,
        child: &mut Child,
        before: Option<&ProcessId>,
    ) -> Result<bool, PlatformError> {
        let began = Instant::now();
        let mut ended = None;
        loop {
            if ended.is_none() {
                // Asked before looking for the files, which it writes before it ends.
                let status = child.try_wait().ok().flatten();
                ended = status.map(|status| (status, Instant::now()));
            }
            if let Some(process) = self.process()?.filter(|now| Some(now) != before) {
                return Ok(process.pid != child.id());
            }
            if let Some((status, since)) = ended {
                let left = self.status()?;
                if matches!(left, JobStatus::Finished { .. }) && !left.is_interrupted() {
                    return Ok(false);
                }
                if since.elapsed() > GRACE {
                    return Err(self.broken(&format!("it ended ({status}) before it had begun")));
                }
            } else if began.elapsed() > PATIENCE {
                // It is ours, and has not even begun.
                drop(child.kill());
                return Err(self.broken("it did not write its pid file in time and was ended"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn status(&self) -> Result<JobStatus, PlatformError> {
        if !self.path("job.json").exists() {
            return Ok(JobStatus::Unknown);
        }
        // Asked before looking for the result, which a job writes before it ends.
        let process = self.process()?;
        let alive = process.as_ref().is_some_and(ProcessId::is_alive);
        let path = self.path("result.json");
        if let Some(result) = disk::read_json::<Value>(&self.doing, &path)? {
            let Some(finished) = JobStatus::of_last_line(result) else {
                let problem = format!("{} is no result of a training", path.display());
                return Err(PlatformError::conflict(&self.doing, problem));
            };
            // A process that saves its state and ends still has the job until it is gone. So has
            // one for which another was started, which left this result and touched nothing else.
            let waits = alive && finished.is_interrupted();
            return Ok(if waits { JobStatus::Running } else { finished });
        }
        let log = self.path("log");
        Ok(match process {
            Some(_) if alive => JobStatus::Running,
            Some(ProcessId { pid, .. }) => JobStatus::Lost {
                reason: format!("process {pid} is gone without a result; see {}", log.display()),
            },
            None => JobStatus::Lost { reason: "it was never started".to_owned() },
        })
    }

    fn cancel(&self) -> Result<(), PlatformError> {
        let Some(process) = self.process()?.filter(ProcessId::is_alive) else { return Ok(()) };
        let Some(group) = process.raw() else { return Ok(()) };
        match kill_process_group(group, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(PlatformError::Denied {
                system: format!("process {}", process.pid),
                doing: self.doing.clone(),
                cause: std::io::Error::from(error).into(),
            }),
        }
    }

    fn broken(&self, what: &str) -> PlatformError {
        let problem = format!("{what}; see {}", self.path("log").display());
        PlatformError::invalid(&self.doing, problem)
    }
}
