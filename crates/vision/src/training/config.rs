//! How to train: optimizer, schedule, lengths; as the configuration says it.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, ModuleOptimizer, SgdConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything about a training run but network and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Times that every training image is seen, from 1.
    pub epochs: usize,
    /// Images of one step, from 1; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Decides initial weights, order of images, augmentation and dropout.
    pub seed: u64,
    /// What turns gradients into steps.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the run.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Share of the target probability that is spread over all classes, 0 up to but not including
    /// 1.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Whether rare classes count more.
    #[serde(default)]
    pub class_weights: ClassWeights,
    /// Changes of the training images.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// When to end before the last epoch; never without it. The weights of the best epoch are
    /// kept.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// Steps between checkpoints, from 1; there is one at the end of every epoch as well.
    #[serde(default = "default_checkpoint_every_steps")]
    pub checkpoint_every_steps: usize,
}

fn default_checkpoint_every_steps() -> usize {
    200
}

/// Kinds of optimizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay, <https://arxiv.org/abs/1711.05101>.
    AdamW {
        /// Step size, above 0; 0.001 is a good start.
        learning_rate: f64,
        /// Share of each weight that a unit of learning rate takes away, 0 or more.
        #[serde(default)]
        weight_decay: f32,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Step size, above 0.
        learning_rate: f64,
        /// Share of the last step that is repeated, 0 up to but not including 1.
        #[serde(default)]
        momentum: f64,
        /// Factor of the weights that is added to their gradient, 0 or more.
        #[serde(default)]
        weight_decay: f32,
    },
}

/// Kinds of learning-rate schedules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// The learning rate of the optimizer throughout.
    Constant {},
    /// A linear rise from 0, then half a cosine down, <https://arxiv.org/abs/1608.03983>.
    Cosine {
        /// Length of the rise in epochs, 0 or more; fractions are allowed.
        #[serde(default)]
        warm_up_epochs: f64,
        /// Share of the learning rate that is left at the end, 0 to 1.
        #[serde(default)]
        final_share: f64,
    },
    /// A factor every few epochs.
    Step {
        /// Epochs between two changes, from 1.
        every_epochs: usize,
        /// What the learning rate is multiplied with, above 0 and at most 1.
        factor: f64,
    },
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Constant {}
    }
}

/// Whether rare classes count more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// Every image counts the same.
    #[default]
    None,
    /// Every class counts the same: an image counts by the inverse of the size of its class.
    Balanced,
}

/// Changes of the training images, drawn anew for each image and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror left and right, for half of the images.
    #[serde(default)]
    pub horizontal_flip: bool,
    /// Shift by up to this many pixels in each direction; what comes in is black.
    #[serde(default)]
    pub max_shift_pixels: usize,
}

/// When to end before the last epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without an improvement of the validation loss after which training ends, from 1.
    pub patience_epochs: usize,
    /// Fall of the validation loss that counts as one, 0 or more.
    #[serde(default)]
    pub min_improvement: f64,
}

impl FitConfig {
    /// The first value that makes no sense, as its path and what would be right.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let (learning_rate, momentum, decay) = match self.optimizer {
            OptimizerConfig::AdamW { learning_rate, weight_decay } => {
                (learning_rate, 0.0, weight_decay)
            }
            OptimizerConfig::Sgd { learning_rate, momentum, weight_decay } => {
                (learning_rate, momentum, weight_decay)
            }
        };
        let schedule = match self.schedule {
            ScheduleConfig::Constant {} => true,
            ScheduleConfig::Cosine { warm_up_epochs, final_share } => {
                (0.0..=self.epochs as f64).contains(&warm_up_epochs)
                    && (0.0..=1.0).contains(&final_share)
            }
            ScheduleConfig::Step { every_epochs, factor } => {
                every_epochs > 0 && positive(factor) && factor <= 1.0
            }
        };
        let patience = self
            .early_stopping
            .is_none_or(|stop| stop.patience_epochs > 0 && stop.min_improvement >= 0.0);
        let rules = [
            (self.epochs > 0, "epochs", "must be at least 1"),
            (self.batch_size > 0, "batch_size", "must be at least 1"),
            (positive(learning_rate), "optimizer.learning_rate", "must be above 0"),
            (share(momentum), "optimizer.momentum", "must be at least 0 and below 1"),
            (decay >= 0.0 && decay.is_finite(), "optimizer.weight_decay", "must be 0 or more"),
            (
                schedule,
                "schedule",
                "needs 0 <= warm_up_epochs <= epochs and 0 <= final_share <= 1, or every_epochs >= 1 and 0 < factor <= 1",
            ),
            (
                share(self.label_smoothing.into()),
                "label_smoothing",
                "must be at least 0 and below 1",
            ),
            (patience, "early_stopping", "needs patience_epochs >= 1 and min_improvement >= 0"),
            (self.checkpoint_every_steps > 0, "checkpoint_every_steps", "must be at least 1"),
        ];
        rules.into_iter().find(|(holds, ..)| !holds).map(|(_, path, problem)| (path, problem))
    }

    /// Learning rate of a step, counted from 0.
    pub(crate) fn learning_rate(&self, step: usize, steps_per_epoch: usize) -> f64 {
        let base = match self.optimizer {
            OptimizerConfig::AdamW { learning_rate, .. }
            | OptimizerConfig::Sgd { learning_rate, .. } => learning_rate,
        };
        match self.schedule {
            ScheduleConfig::Constant {} => base,
            ScheduleConfig::Step { every_epochs, factor } => {
                let changes = step / steps_per_epoch / every_epochs;
                base * factor.powi(i32::try_from(changes).unwrap_or(i32::MAX))
            }
            ScheduleConfig::Cosine { warm_up_epochs, final_share } => {
                let rise = warm_up_epochs * steps_per_epoch as f64;
                let place = step as f64 + 1.0;
                if place <= rise {
                    return base * place / rise;
                }
                let fall = (self.epochs * steps_per_epoch) as f64 - rise;
                let done = (place - rise) / fall;
                let wave = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                base * (final_share + (1.0 - final_share) * wave)
            }
        }
    }

    /// burn's optimizer, without state.
    pub(crate) fn optimizer(&self) -> ModuleOptimizer {
        match self.optimizer {
            OptimizerConfig::AdamW { weight_decay, .. } => {
                AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(weight_decay).init()
            }
            OptimizerConfig::Sgd { momentum, weight_decay, .. } => {
                let momentum = (momentum > 0.0)
                    .then(|| MomentumConfig::new().with_momentum(momentum).with_dampening(0.0));
                let decay = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay));
                SgdConfig::new().with_momentum(momentum).with_weight_decay(decay).init()
            }
        }
    }
}
