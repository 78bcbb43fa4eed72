//! Image classification with burn.
//!
//! The only crate that names burn, and the place where an image becomes numbers: training and
//! serving share one decoder ([`pixels`]), one set of image statistics ([`features`]) and one
//! network, so that what production answers is what evaluation measured.

mod classifier;
pub mod data;
mod dense;
mod evaluator;
pub mod features;
mod network;
pub mod pixels;
mod random;
mod settings;
#[cfg(test)]
mod tiny;
mod trainer;
pub mod training;
mod version;
mod weights;

pub use classifier::{Classification, Classifier, ModelFile};
pub use evaluator::{CvEvaluator, golden_cases};
pub use network::{Architecture, ArchitectureKind, InvalidNetwork, Normalisation};
pub use pixels::{InputError, InputSpec, Pixels};
pub use settings::{CvTrainerConfig, DataConfig, register};
pub use trainer::CvTrainer;
pub use version::LoadError;
pub use weights::InvalidWeights;
