//! The job: from its file, or by hand.

use std::io;
use std::path::{Path, PathBuf};

use mloop_cli::{CommonArgs, Exit, Failure};
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::{EpisodeId, JobId, Sha256Digest, Subject, Window};
use mloop_local::session::{SessionError, detach};
use mloop_orchestrators::TrainingConfig;
use mloop_platform::files::{self, Readers};
use serde_json::Value;

use crate::args::TrainingArgs;

/// A job file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobFileError {
    /// It cannot be read.
    #[error("reading the job file {}; check `--job-file`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// It cannot be written.
    #[error("writing the job file {}; check that `work` of the configuration can be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// It is no job.
    #[error("the job file {} is not what retraining_main writes; give the one that it left, or none to train by hand", path.display())]
    Format {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    /// It is another's.
    #[error("the job file {}: {problem}", path.display())]
    Other { path: PathBuf, problem: String },
}

/// What a job by hand is made of.
pub(crate) struct Inputs<'a> {
    /// The configuration.
    pub(crate) config: &'a Value,
    /// Digest of the training data; none for a look that reads none.
    pub(crate) data: Option<Sha256Digest>,
    /// Labelled traffic to learn from.
    pub(crate) traffic: Option<Window>,
}

/// The labelled traffic that the arguments name.
pub(crate) fn traffic(args: &TrainingArgs) -> Result<Option<Window>, Failure> {
    let bounds = args.traffic_start.zip(args.traffic_end);
    let window = bounds.map(|(start, end)| Window::new(start, end)).transpose();
    window.map_err(Failure::with(Exit::Config))
}

/// The job of a job file.
pub(crate) fn read(path: &Path, subject: &Subject) -> Result<JobSpec, Failure> {
    from_file(path, subject).map_err(Failure::with(Exit::Config))
}

/// A job that nobody asked for: a first version, or a retraining by hand. It is told by its
/// configuration, by its training data (`data`, a digest), by its traffic and by `--as-of`, if given,
/// so that a repeat is the same job. The first call writes it down in the job's folder, which goes
/// when the version is registered; `keep: false` writes nothing.
pub(crate) fn by_hand(
    subject: &Subject,
    inputs: &Inputs<'_>,
    common: &CommonArgs,
    settings: &TrainingConfig,
    keep: bool,
) -> Result<JobSpec, Failure> {
    let job = new(subject, inputs, common);
    let path = settings.folder_of(&job.job_id).join("job.json");
    // Held only now: of two first calls at once, the second must read what the first wrote.
    let claim = if keep { Some(settings.claim(&job.job_id).map_err(Failure::of)?) } else { None };
    if path.exists() {
        return read(&path, subject);
    }
    if claim.is_some() {
        write(&path, &job).map_err(Failure::with(Exit::Transient))?;
    }
    Ok(job)
}

fn from_file(path: &Path, subject: &Subject) -> Result<JobSpec, JobFileError> {
    let path = path.to_owned();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(cause) => return Err(JobFileError::Read { path, cause }),
    };
    let job: JobSpec = match serde_json::from_slice(&text) {
        Ok(job) => job,
        Err(cause) => return Err(JobFileError::Format { path, cause }),
    };
    let problem = if job.schema != JOB_FORMAT {
        format!(
            "format `{}` is not known to this release, which reads {JOB_FORMAT}; give one written by retraining_main of this release",
            job.schema
        )
    } else if job.subject != *subject {
        format!(
            "it is about {}, the configuration about {subject}; give the configuration of that model",
            job.subject
        )
    } else {
        return Ok(job);
    };
    Err(JobFileError::Other { path, problem })
}

fn new(subject: &Subject, inputs: &Inputs<'_>, common: &CommonArgs) -> JobSpec {
    let digest = Sha256Digest::of(inputs.config.to_string().as_bytes()).to_string();
    let as_of = common.as_of.map_or_else(String::new, |as_of| as_of.to_rfc3339());
    let data = inputs.data.map_or_else(String::new, |data| data.to_string());
    let about = subject.to_string();
    let mut parts = vec!["by-hand", &about, &digest, &data, &as_of];
    let traffic = inputs.traffic.map(|window| window.to_string());
    parts.extend(traffic.as_deref());
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: JobId::derive(&parts),
        subject: subject.clone(),
        cause: Cause {
            episode: EpisodeId::derive(&parts),
            attempt: 1,
            reasons: vec!["asked for by hand".to_owned()],
            evidence: vec![],
        },
        champion: None,
        traffic: inputs.traffic,
        evidence_from: None,
        as_of: common.clock().now(),
    }
}

fn write(path: &Path, job: &JobSpec) -> Result<(), JobFileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| Ok(serde_json::to_vec(job)?))
        .and_then(|text| files::replace(path, &text, Readers::Owner));
    written.map_err(|cause| JobFileError::Write { path: path.to_owned(), cause })
}

/// Leaves the caller's session, so that a signal to its group does not end the job.
pub(crate) fn leave_session(pid_file: &Path) -> Result<(), Failure> {
    detach(pid_file).map_err(|error| {
        let is_taken = matches!(error, SessionError::Taken { .. });
        Failure::new(if is_taken { Exit::LeaseHeld } else { Exit::Transient }, error)
    })
}
