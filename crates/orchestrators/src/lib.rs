//! The flows of mloop, over contracts alone.
//!
//! | flow | file | decides in |
//! |---|---|---|
//! | [`MonitoringOrchestrator`]: window → findings → reporters | `monitoring.rs` | [`mloop_core::MonitoringOutcome::of`] |
//! | [`MonitoringOrchestrator::replay`]: stored windows → what would have alerted | `replay.rs`, `judging.rs` | |
//! | [`ReferenceOrchestrator`]: rows → reference of a model from elsewhere | `referencing.rs` | |
//! | [`RetrainOrchestrator`]: past → verdicts → one job a cause | `retraining.rs` | [`plan`], [`closing`] |
//! | [`CVTrainingOrchestrator`]: job → version in the registry | `training.rs`, `assembling.rs` | [`split`] |
//! | [`EvaluationOrchestrator`]: two versions → verdict | `evaluation.rs` | [`gate`] |
//! | [`DeploymentOrchestrator`]: version → production | `deployment.rs`, `journey.rs`, `back.rs`, `ending.rs`, `restoring.rs` | [`choice`], [`progress`], [`smoke`], [`aliases`] |
//!
//! Every decision is a synchronous function of data; what waits only gathers the data and carries
//! the decision out. Every flow can be killed at any moment and run again: [`points`] names the
//! places at which tests do so.

pub mod aliases;
mod announcing;
mod assembling;
mod back;
mod cargo;
mod cause;
pub mod choice;
pub mod closing;
mod deployment;
mod deployment_result;
mod deployment_status;
mod earlier;
mod ending;
mod endpoint;
mod error;
mod evaluation;
mod false_alarms;
pub mod gate;
mod journey;
mod judging;
mod lease;
mod monitoring;
mod past;
mod permit;
pub mod plan;
pub mod points;
mod preview;
pub mod progress;
mod recalling;
mod reference;
mod referencing;
mod replay;
mod restoring;
mod retraining;
mod retraining_result;
mod served;
pub mod smoke;
mod spans;
pub mod split;
mod stopping;
mod task;
mod training;
mod training_result;
mod waiting;

pub use deployment::{
    DeploymentConfig, DeploymentDeps, DeploymentOrchestrator, DeploymentRequest, untouched,
};
pub use deployment_result::{DEPLOYMENT_FORMAT, DeploymentOutcome, DeploymentResult};
pub use deployment_status::{DeploymentStatus, Standing};
pub use error::OrchestratorError;
pub use evaluation::{Evaluation, EvaluationOrchestrator, EvaluationRequest, Rival};
pub use false_alarms::FalseAlarmBudget;
pub use lease::LeaseConfig;
pub use mloop_core::exit_class::{Classified, ExitClass};
pub use monitoring::{
    MonitoringConfig, MonitoringDeps, MonitoringOrchestrator, MonitoringRequest, MonitoringResult,
    ReporterFailure,
};
pub use past::{history, serving};
pub use preview::{RetrainPreview, Would};
pub use recalling::{Recalled, Which};
pub use referencing::{BuildReference, ReferenceBuilt, ReferenceDeps, ReferenceOrchestrator};
pub use replay::{CheckAlerts, ReplayResult, Replayed, ReplayedWindow, Skip};
pub use retraining::{RetrainConfig, RetrainDeps, RetrainOrchestrator, RetrainRequest};
pub use retraining_result::{
    ClosedEpisode, NamedVerdict, RETRAINING_FORMAT, RetrainOutcome, RetrainResult,
};
pub use stopping::Stopping;
pub use task::{Task, check_order};
pub use training::{CVTrainingOrchestrator, TrainingConfig, TrainingDeps};
pub use training_result::{TRAINING_FORMAT, TrafficUse, TrainingResult, training_run_id};
pub use waiting::deliver_waiting;
