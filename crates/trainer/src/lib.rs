//! The contracts of training and evaluation.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod fake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use mloop_core::evaluation::{GoldenCase, Predictions};
use mloop_core::exit_class::{Classified, ExitClass};
use mloop_core::registry::KindRegistry;
use mloop_core::{BoxError, Sha256Digest};
use mloop_platform::{LabelledRow, PlatformDeps, ProfileRow};
use serde::Serialize;

#[cfg(feature = "testing")]
pub use fake::FakeTrainer;
pub use mloop_core::registry::{BuildError, Spec};

/// Kinds of trainers that a program knows.
pub type TrainerRegistry = KindRegistry<Training, PlatformDeps>;

/// What a kind of trainer builds: it trains, and it evaluates what it trained.
#[derive(Clone)]
pub struct Training {
    /// Makes models.
    pub trainer: Arc<dyn Trainer>,
    /// Asks them.
    pub evaluator: Arc<dyn Evaluator>,
}

/// Asks a long piece of work to stop at the next place where it can be taken up again.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks for the stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How far a training has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgressUpdate {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Steps done, of all epochs.
    pub step: usize,
    /// Steps of all epochs.
    pub steps: usize,
    /// Mean loss over the last steps.
    pub loss: f64,
    /// Share of the validation images predicted right, at the end of an epoch.
    pub validation_accuracy: Option<f64>,
    /// Training speed since the last update.
    pub images_per_second: f64,
}

/// Told now and then how far a training has come; must return at once.
pub trait Progress: Send + Sync {
    /// Shows an update.
    fn update(&self, update: &ProgressUpdate);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _update: &ProgressUpdate) {}
}

/// What to train on, beside what the settings name.
#[derive(Clone)]
pub struct TrainingRequest {
    /// Labelled production traffic to learn from; the fresh slice is not among it.
    pub traffic: Arc<[LabelledRow]>,
    /// Folder for checkpoints: a second call with an equal request takes up where the first was
    /// killed.
    pub work: PathBuf,
    /// Asks for a stop.
    pub stop: StopFlag,
    /// Told how far it has come.
    pub progress: Arc<dyn Progress>,
}

/// Images that a trainer was given, and how many of them it could not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ImageUse {
    /// All of them, labelled traffic included.
    pub given: u64,
    /// Those that could not be read, or whose label is no class.
    pub left_out: u64,
}

/// A trained model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The folder with its files.
    pub folder: PathBuf,
    /// What it was trained from.
    pub images: ImageUse,
}

/// Trains models.
///
/// # Contract
/// - Deterministic on CPU: equal requests under equal settings give equal files.
/// - Killed at any moment, a repeat takes up at the last checkpoint and ends with the files of an
///   uninterrupted run.
/// - Only model files are written to the folder that is returned: [`files::MODEL`],
///   [`files::WEIGHTS`], [`files::TRAINING_CONFIG`], [`files::METRICS`]; no pickle, no code.
///
/// [`files::MODEL`]: mloop_core::version::files::MODEL
/// [`files::WEIGHTS`]: mloop_core::version::files::WEIGHTS
/// [`files::TRAINING_CONFIG`]: mloop_core::version::files::TRAINING_CONFIG
/// [`files::METRICS`]: mloop_core::version::files::METRICS
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Trainer: Send + Sync {
    /// Digest of everything the result depends on: settings, data, traffic. Equal keys, equal model.
    ///
    /// # Errors
    /// [`TrainError::Data`] when the data cannot be read.
    async fn key(&self, request: &TrainingRequest) -> Result<Sha256Digest, TrainError>;

    /// Trains, or takes up an interrupted training.
    ///
    /// # Errors
    /// [`TrainError`].
    async fn train(&self, request: &TrainingRequest) -> Result<Trained, TrainError>;
}

/// A data set to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub enum EvaluationSet {
    /// The frozen test set that the settings name.
    Frozen,
    /// Rows of labelled traffic that were never trained on.
    Fresh(Arc<[LabelledRow]>),
}

/// What a model said about a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct SetPredictions {
    /// Classes in the model's order.
    pub classes: Vec<String>,
    /// Image by image.
    pub predictions: Predictions,
    /// The same as rows of a profile, features included.
    pub rows: Vec<ProfileRow>,
}

/// Asks models, by the function that the server uses.
///
/// # Contract
/// Equal files and sets give equal predictions, in the order of the set.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// Predicts a data set with the model whose files lie in a folder.
    ///
    /// # Errors
    /// [`TrainError`].
    async fn predict(
        &self,
        folder: &Path,
        set: &EvaluationSet,
    ) -> Result<SetPredictions, TrainError>;

    /// Some images of the frozen set with the answers that the model gives.
    ///
    /// # Errors
    /// [`TrainError`].
    async fn golden(&self, folder: &Path, count: usize) -> Result<Vec<GoldenCase>, TrainError>;
}

/// Why there is no model, or no prediction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The data cannot be read or are not fit to be trained on.
    #[error("{doing}: {problem}")]
    Data {
        /// What was being read, and where.
        doing: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The model's files cannot be read, or are not what their manifest says.
    #[error("reading the model in {folder}")]
    Model {
        /// Where.
        folder: String,
        /// What is wrong with it.
        #[source]
        cause: BoxError,
    },
    /// The training went astray: the loss is no number any more.
    #[error("training diverged at step {step}: {problem}")]
    Diverged {
        /// The step.
        step: usize,
        /// What was seen and what to do.
        problem: String,
    },
    /// A stop was asked for; the state is saved and a repeat goes on from there.
    #[error("stopped after step {step}; the state is saved, run again to go on")]
    Stopped {
        /// The last step done.
        step: usize,
    },
    /// Disk or memory failed.
    #[error("{doing}")]
    Io {
        /// What was being done, and where.
        doing: String,
        /// The system's own error.
        #[source]
        cause: BoxError,
    },
}

impl Classified for TrainError {
    fn exit_class(&self) -> ExitClass {
        match self {
            // Training is deterministic: what diverged once diverges again under these settings.
            Self::Data { .. } | Self::Diverged { .. } => ExitClass::Configuration,
            Self::Model { .. } => ExitClass::NeedsPerson,
            Self::Stopped { .. } => ExitClass::Stopped,
            Self::Io { .. } => ExitClass::Transient,
        }
    }
}
