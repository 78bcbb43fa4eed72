//! A job runner that runs nothing and answers what it was told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};

use super::lock;
use crate::{JobSubmitter, PlatformError, Submission};

/// What a submission does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitterFault {
    /// Nobody is reached; nothing starts.
    Unreachable,
    /// The job starts, and the answer to the call is lost.
    AnswerLost,
    /// Every submission starts a job, also the repeated one. A breach of the contract.
    StartsTwice,
    /// Other content under a known id is adopted. A breach of the contract.
    AdoptsAnything,
}

/// Jobs that pass through the states of a script: each call of `status` tells the next one, and
/// the last one stays.
pub struct ScriptedSubmitter {
    script: Vec<JobStatus>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobId, Job>,
    fault: Option<SubmitterFault>,
    calls: usize,
    starts: usize,
}

struct Job {
    spec: JobSpec,
    told: Option<JobStatus>,
    ahead: VecDeque<JobStatus>,
    cancelled: bool,
}

impl Job {
    fn new(spec: JobSpec, script: &[JobStatus]) -> Self {
        Self { spec, told: None, ahead: script.to_vec().into(), cancelled: false }
    }
}

impl ScriptedSubmitter {
    /// Jobs that follow this script; an empty one runs for ever.
    #[must_use]
    pub fn new(script: impl IntoIterator<Item = JobStatus>) -> Self {
        Self { script: script.into_iter().collect(), state: Mutex::default() }
    }

    /// Sets (or with `None` ends) a fault of the submissions to come. The first two kinds hit one
    /// call only.
    pub fn set_fault(&self, fault: Option<SubmitterFault>) {
        lock(&self.state).fault = fault;
    }

    /// Lets a job stand like this from now on.
    pub fn set_status(&self, job: &JobId, status: JobStatus) {
        if let Some(job) = lock(&self.state).jobs.get_mut(job) {
            job.told = None;
            job.ahead = [status].into();
        }
    }

    /// Calls of `submit_training_job`, adopted and failed ones included.
    #[must_use]
    pub fn calls(&self) -> usize {
        lock(&self.state).calls
    }

    /// Jobs that really started, restarts included.
    #[must_use]
    pub fn starts(&self) -> usize {
        lock(&self.state).starts
    }

    /// What was submitted, by id.
    #[must_use]
    pub fn specs(&self) -> Vec<JobSpec> {
        lock(&self.state).jobs.values().map(|job| job.spec.clone()).collect()
    }

    /// The jobs that were asked to stop.
    #[must_use]
    pub fn cancelled(&self) -> Vec<JobId> {
        let state = lock(&self.state);
        let jobs = state.jobs.iter().filter(|(_, job)| job.cancelled);
        jobs.map(|(id, _)| id.clone()).collect()
    }
}

#[async_trait]
impl JobSubmitter for ScriptedSubmitter {
    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let mut state = lock(&self.state);
        state.calls += 1;
        let doing = format!("submitting {}", spec.job_id);
        let fault = state.fault;
        if matches!(fault, Some(SubmitterFault::Unreachable | SubmitterFault::AnswerLost)) {
            state.fault = None;
        }
        if fault == Some(SubmitterFault::Unreachable) {
            return Err(PlatformError::unavailable("the script", doing, "told to fail"));
        }
        let mut adopted = false;
        if let Some(known) = state.jobs.get(&spec.job_id) {
            if known.spec != *spec && fault != Some(SubmitterFault::AdoptsAnything) {
                let problem = "a job of this id has other content; it is not touched";
                return Err(PlatformError::conflict(doing, problem));
            }
            let interrupted = known.told.as_ref().is_some_and(JobStatus::is_interrupted);
            adopted = !interrupted && fault != Some(SubmitterFault::StartsTwice);
        }
        if !adopted {
            state.starts += 1;
            // A restarted job goes on where the script stands.
            match state.jobs.get_mut(&spec.job_id) {
                Some(job) => job.told = None,
                None => {
                    let job = Job::new(spec.clone(), &self.script);
                    state.jobs.insert(spec.job_id.clone(), job);
                }
            }
        }
        if fault == Some(SubmitterFault::AnswerLost) {
            return Err(PlatformError::unavailable("the script", doing, "the answer was lost"));
        }
        Ok(Submission { handle: format!("scripted/{}", spec.job_id), adopted })
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let mut state = lock(&self.state);
        let Some(job) = state.jobs.get_mut(job) else { return Ok(JobStatus::Unknown) };
        let next = job.ahead.pop_front().or_else(|| job.told.take()).unwrap_or(JobStatus::Running);
        job.told = Some(next.clone());
        Ok(next)
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        if let Some(job) = lock(&self.state).jobs.get_mut(job) {
            job.cancelled = true;
            let reason = "cancelled".to_owned();
            job.ahead = [JobStatus::Lost { reason }].into();
        }
        Ok(())
    }
}
