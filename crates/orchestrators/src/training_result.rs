//! What a training came to: the last line of output.

use mloop_core::evaluation::{EvaluationReport, GateVerdict};
use mloop_core::job::JobSpec;
use mloop_core::{JobId, ModelVersion, RunId, VersionRef};
use mloop_trainer::ImageUse;
use serde::Serialize;

/// Version of the result's format.
pub const TRAINING_FORMAT: &str = "mloop.training/1";

/// What a training came to: the last line of output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingResult {
    /// [`TRAINING_FORMAT`].
    pub schema: String,
    /// The run, the same for every repeat of the job.
    pub run_id: RunId,
    /// The gate's verdict.
    pub outcome: GateVerdict,
    /// The job.
    pub job_id: JobId,
    /// The registered version.
    pub version: VersionRef,
    /// Whether the version was there already, made from the same inputs.
    pub adopted: bool,
    /// Whether it may be deployed.
    pub staging_ready: bool,
    /// The images that were trained on, and how many were left out; none when nothing was trained,
    /// since the version was there already.
    pub images: Option<ImageUse>,
    /// How labelled traffic was used; none when the job had left its version before, so that
    /// nothing was read.
    pub traffic: Option<TrafficUse>,
    /// What the gate looked at.
    pub evaluation: EvaluationReport,
}

/// How labelled traffic was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TrafficUse {
    /// Rows trained on.
    pub training: usize,
    /// Rows held out.
    pub fresh: usize,
    /// Requests without a label.
    pub unlabelled: u64,
    /// Records that could not be read.
    pub quarantined: u64,
    /// Rows left out because there was too much.
    pub over_limit: u64,
    /// Rows left out because they are older than what asked for the job, and not needed.
    pub older: usize,
}

/// Which run a job is: the same for each repeat.
#[must_use]
pub fn training_run_id(job: &JobId) -> RunId {
    RunId::derive(&["training", job.as_str()])
}

impl TrainingResult {
    /// The result of a job that left this version.
    pub(crate) fn of(job: &JobSpec, version: &ModelVersion, evaluation: EvaluationReport) -> Self {
        Self {
            schema: TRAINING_FORMAT.to_owned(),
            run_id: training_run_id(&job.job_id),
            outcome: evaluation.verdict,
            job_id: job.job_id.clone(),
            version: version.version,
            adopted: false,
            staging_ready: version.is_staging_ready(),
            images: None,
            traffic: None,
            evaluation,
        }
    }
}
