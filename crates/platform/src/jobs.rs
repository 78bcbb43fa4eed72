//! Whatever runs training jobs.

use async_trait::async_trait;
use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};

use crate::PlatformError;

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// What the running system calls the job, for people.
    pub handle: String,
    /// Whether the job was there already.
    pub adopted: bool,
}

/// Runs training jobs.
///
/// # Contract
/// - A spec submitted again (same id, same content) starts nothing while its job waits or runs, nor
///   once it has left a result that ends it: the job is adopted. One that was interrupted
///   ([`JobStatus::is_interrupted`]: lost, or ended with exit code 30 or 143) is started again under
///   its id, and goes on from what it saved.
/// - The same id with other content is [`PlatformError::Conflict`].
/// - Submitting returns when the job is accepted; nothing waits for its end.
/// - The exit code of [`JobStatus::Finished`] is that of `training_main`. Where only its last line is
///   left, the code is `error.exit_code` there, else that of `outcome`: `blessed` 0, `rejected` 10,
///   `inconclusive` 11. A result that says neither is [`PlatformError::Conflict`].
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait JobSubmitter: Send + Sync {
    /// Looks whether jobs could be submitted, and changes nothing; asks for a job that there is not.
    ///
    /// # Errors
    /// As a submission would fail.
    async fn probe(&self) -> Result<(), PlatformError> {
        self.status(&JobId::derive(&["probe"])).await.map(drop)
    }

    /// Starts the job, or finds it.
    ///
    /// # Errors
    /// [`PlatformError`], by what can be done about it.
    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError>;

    /// How a job stands; [`JobStatus::Unknown`] when there is none of this id.
    ///
    /// # Errors
    /// When the running system could not be asked.
    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError>;

    /// Asks a job to stop after saving its state. One that is gone or unknown is fine.
    ///
    /// # Errors
    /// When the running system could not be asked.
    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError>;
}
