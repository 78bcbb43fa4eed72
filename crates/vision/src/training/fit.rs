//! The loop itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bytes, Device, Tensor};
use mloop_core::Sha256Digest;
use mloop_trainer::{Progress, ProgressUpdate, StopFlag};
use serde::{Deserialize, Serialize};

use super::batches::{Batches, Shard};
use super::checkpoint::{Checkpoint, Checkpoints, State};
use super::config::FitConfig;
use crate::data::Dataset;
use crate::network::{Architecture, InvalidNetwork, Network, Normalisation, read};
use crate::weights::Weights;

/// Time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Images of one evaluation batch.
const EVALUATION_BATCH: usize = 64;

/// Numbers of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean cross-entropy of the training images, in nats, while learning.
    pub training_loss: f64,
    /// Mean cross-entropy of the validation images, in nats, at its end.
    pub validation_loss: f64,
    /// Share of the validation images predicted right, at its end.
    pub validation_accuracy: f64,
}

/// A training run: all its inputs.
pub(crate) struct Fit<'a> {
    pub(crate) architecture: &'a Architecture,
    pub(crate) normalisation: &'a Normalisation,
    pub(crate) config: &'a FitConfig,
    pub(crate) train: &'a Dataset,
    pub(crate) validation: &'a Dataset,
    /// Folder of the checkpoints.
    pub(crate) checkpoints: &'a Path,
    /// Digest of all the above but the folder.
    pub(crate) key: Sha256Digest,
    pub(crate) stop: &'a StopFlag,
    pub(crate) progress: &'a dyn Progress,
}

/// A trained network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) weights: Weights,
    pub(crate) history: Vec<EpochMetrics>,
    /// The epoch, from 1, whose weights these are.
    pub(crate) epoch: usize,
}

/// A run that did not end with a network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FitError {
    #[error(transparent)]
    Network(#[from] InvalidNetwork),
    #[error("{what} is no number any more; lower the learning rate, or look for broken images")]
    Diverged { step: usize, what: &'static str },
    #[error("stopped after step {step}")]
    Stopped { step: usize },
    #[error("reading or writing checkpoints in {}", folder.display())]
    Checkpoint {
        folder: PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

/// What changes while training.
struct Run {
    network: Network,
    optimizer: ModuleOptimizer,
    state: State,
    best: Option<Weights>,
}

impl Fit<'_> {
    /// Trains to the end, from the newest checkpoint if there is one.
    pub(crate) fn run(&self) -> Result<Fitted, FitError> {
        let device = Device::flex().autodiff();
        let batches = Batches::new(self, &device);
        let failed = |cause| {
            let folder = self.checkpoints.to_owned();
            FitError::Checkpoint { folder, cause }
        };
        let (checkpoints, found) =
            Checkpoints::open(self.checkpoints, &self.key).map_err(failed)?;
        let mut run = self.start(found, &device)?;
        let per_epoch = batches.per_epoch();
        let mut meter = Meter::new(self, per_epoch);
        while run.state.history.len() < self.config.epochs && !run.state.stopped_early {
            let epoch = run.state.history.len();
            let order = batches.order(epoch);
            let done = run.state.step - epoch * per_epoch;
            for places in order.chunks(self.config.batch_size).skip(done) {
                self.step(&mut run, &batches, places)?;
                meter.tick(&run.state, places.len(), None);
                let stop = self.stop.is_raised();
                let due = run.state.step.is_multiple_of(self.config.checkpoint_every_steps);
                // The end of the epoch has a checkpoint of its own, with its numbers.
                if stop || (due && !run.state.step.is_multiple_of(per_epoch)) {
                    checkpoints.save(&run.checkpoint()?).map_err(failed)?;
                }
                if stop {
                    return Err(FitError::Stopped { step: run.state.step });
                }
            }
            let metrics = self.end_epoch(&mut run, per_epoch)?;
            meter.tick(&run.state, 0, Some(&metrics));
            checkpoints.save(&run.checkpoint()?).map_err(failed)?;
        }
        Ok(run.into_fitted())
    }

    fn start(&self, found: Option<Checkpoint>, device: &Device) -> Result<Run, FitError> {
        let (input, classes) = (self.train.spec(), self.train.classes().len());
        let network =
            |weights: &Weights| Network::new(self.architecture, input, classes, weights, device);
        let optimizer = self.config.optimizer();
        if let Some(Checkpoint { state, weights, best, optimizer: bytes }) = found {
            tracing::info!(step = state.step, "training goes on from a checkpoint");
            let optimizer =
                optimizer.from_bytes(Bytes::from_bytes_vec(bytes)).map_err(|error| {
                    let folder = self.checkpoints.to_owned();
                    let cause = std::io::Error::other(error.to_string());
                    FitError::Checkpoint { folder, cause }
                })?;
            return Ok(Run { network: network(&weights)?, optimizer, state, best });
        }
        let weights = self.architecture.initial_weights(input, classes, self.config.seed);
        let state = State {
            key: self.key,
            step: 0,
            loss_sum: 0.0,
            images: 0,
            history: Vec::new(),
            best: None,
            stopped_early: false,
        };
        Ok(Run { network: network(&weights)?, optimizer, state, best: None })
    }

    fn step(&self, run: &mut Run, batches: &Batches<'_>, places: &[usize]) -> Result<(), FitError> {
        let state = &mut run.state;
        let shards = batches.shards(places, state.history.len(), state.step);
        let (loss, gradients) = gradients(&run.network, shards, batches.device());
        if !loss.is_finite() {
            return Err(FitError::Diverged { step: state.step + 1, what: "the loss" });
        }
        let rate = self.config.learning_rate(state.step, batches.per_epoch());
        run.network = run.optimizer.step(rate, run.network.clone(), gradients);
        state.step += 1;
        state.loss_sum += loss * places.len() as f64;
        state.images += places.len();
        Ok(())
    }

    fn end_epoch(&self, run: &mut Run, per_epoch: usize) -> Result<EpochMetrics, FitError> {
        let (validation_loss, validation_accuracy) = self.evaluate(&run.network.valid());
        let state = &mut run.state;
        if !validation_loss.is_finite() {
            return Err(FitError::Diverged { step: state.step, what: "the validation loss" });
        }
        let metrics = EpochMetrics {
            epoch: state.history.len() + 1,
            learning_rate: self.config.learning_rate(state.step - 1, per_epoch),
            training_loss: state.loss_sum / state.images as f64,
            validation_loss,
            validation_accuracy,
        };
        state.loss_sum = 0.0;
        state.images = 0;
        state.history.push(metrics.clone());
        if let Some(stopping) = self.config.early_stopping {
            let is_better = |(best, _)| validation_loss < best - stopping.min_improvement;
            if state.best.is_none_or(is_better) {
                state.best = Some((validation_loss, metrics.epoch));
                run.best = Some(run.network.weights());
            }
            let best_epoch = state.best.map_or(0, |(_, epoch)| epoch);
            state.stopped_early = metrics.epoch - best_epoch >= stopping.patience_epochs;
        }
        Ok(metrics)
    }

    /// Mean cross-entropy and share predicted right of the validation images.
    fn evaluate(&self, network: &Network) -> (f64, f64) {
        let (device, data) = (Device::flex(), self.validation);
        let (mut loss, mut right) = (0.0, 0_u32);
        let places: Vec<usize> = (0..data.len()).collect();
        for places in places.chunks(EVALUATION_BATCH) {
            let images = places.iter().map(|place| data.image(*place));
            let images: Tensor<4> = self.normalisation.tensor(images, data.spec(), &device);
            let logs = read(log_softmax(network.logits(network.embed(images)), 1));
            for (row, place) in logs.chunks_exact(data.classes().len()).zip(places) {
                let of_label = row[data.samples()[*place].label];
                loss -= f64::from(of_label);
                right += u32::from(row.iter().all(|other| *other <= of_label));
            }
        }
        let count = data.len() as f64;
        (loss / count, f64::from(right) / count)
    }
}

/// Loss and gradients of a step: of its shards at the same time, summed in their order.
fn gradients(network: &Network, shards: Vec<Shard>, device: &Device) -> (f64, GradientsParams) {
    let of_shard = |shard: Shard| {
        // A copy of its own: the parts' graphs must not share a node.
        let network = network.clone().fork(device);
        let mut hidden = network.embed(shard.images);
        if let Some(factors) = shard.dropout {
            hidden = hidden * factors;
        }
        let loss = (log_softmax(network.logits(hidden), 1) * shard.targets).sum().neg();
        let value = f64::from(read(loss.clone())[0]);
        (value, GradientsParams::from_grads(loss.backward(), &network))
    };
    let parts: Vec<(f64, GradientsParams)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            shards.into_iter().map(|shard| scope.spawn(|| of_shard(shard))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let mut sum = GradientsAccumulator::new();
    let mut loss = 0.0;
    for (value, gradients) in parts {
        loss += value;
        sum.accumulate(network, gradients);
    }
    (loss, sum.grads())
}

impl Run {
    fn checkpoint(&self) -> Result<Checkpoint, FitError> {
        let weights = self.network.weights();
        if weights.values().flat_map(|tensor| &tensor.values).any(|value| !value.is_finite()) {
            return Err(FitError::Diverged { step: self.state.step, what: "a weight" });
        }
        let optimizer = self.optimizer.into_bytes().expect("tensors in memory serialise");
        Ok(Checkpoint {
            state: self.state.clone(),
            weights,
            best: self.best.clone(),
            optimizer: optimizer.to_vec(),
        })
    }

    fn into_fitted(self) -> Fitted {
        let last = self.state.history.len();
        let epoch = self.state.best.map_or(last, |(_, epoch)| epoch);
        let weights = self.best.unwrap_or_else(|| self.network.weights());
        Fitted { weights, history: self.state.history, epoch }
    }
}

/// Measures speed and reports progress now and then.
struct Meter<'a> {
    progress: &'a dyn Progress,
    epochs: usize,
    per_epoch: usize,
    since: Instant,
    /// Time spent on steps since then; evaluation does not count.
    busy: Duration,
    images: usize,
    images_per_second: f64,
}

impl<'a> Meter<'a> {
    fn new(fit: &Fit<'a>, per_epoch: usize) -> Self {
        let epochs = fit.config.epochs;
        Self {
            progress: fit.progress,
            epochs,
            per_epoch,
            since: Instant::now(),
            busy: Duration::ZERO,
            images: 0,
            images_per_second: 0.0,
        }
    }

    fn tick(&mut self, state: &State, images: usize, ended: Option<&EpochMetrics>) {
        self.images += images;
        if ended.is_none() {
            self.busy = self.since.elapsed();
            if self.busy < REPORT_EVERY {
                return;
            }
        }
        if self.images > 0 {
            self.images_per_second = self.images as f64 / self.busy.as_secs_f64().max(1e-9);
        }
        let running_loss = state.loss_sum / state.images.max(1) as f64;
        self.progress.update(&ProgressUpdate {
            epoch: ended.map_or(state.history.len() + 1, |metrics| metrics.epoch),
            epochs: self.epochs,
            step: state.step,
            steps: self.epochs * self.per_epoch,
            loss: ended.map_or(running_loss, |metrics| metrics.training_loss),
            validation_accuracy: ended.map(|metrics| metrics.validation_accuracy),
            images_per_second: self.images_per_second,
        });
        self.images = 0;
        self.busy = Duration::ZERO;
        self.since = Instant::now();
    }
}
