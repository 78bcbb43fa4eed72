//! The training loop: deterministic on the CPU, killable at any moment, resumable to the same
//! bits.
//!
//! burn brings gradients and optimizers; the loop is our own, because what it must promise (a
//! checkpoint that is whole or absent, an order of images that depends on nothing but seed and
//! epoch, one answer however often it was interrupted) is what a general loop leaves open.

mod batches;
mod checkpoint;
mod config;
mod fit;

#[cfg(test)]
mod tests;

pub(crate) use checkpoint::write_folder;
pub use config::{
    Augmentation, ClassWeights, EarlyStopping, FitConfig, OptimizerConfig, ScheduleConfig,
};
pub use fit::EpochMetrics;
pub(crate) use fit::{Fit, FitError, Fitted};
