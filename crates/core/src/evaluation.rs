//! How a new version did against the one in production, and the gate's verdict.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::version::VersionRef;

/// Version of the report's format.
pub const EVALUATION_FORMAT: &str = "mloop.evaluation/1";

/// What a model predicted on a data set, image by image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// Digest of the data set, contents and order.
    pub dataset: Sha256Digest,
    /// True class of each image.
    pub truths: Vec<usize>,
    /// Predicted class of each image.
    pub predictions: Vec<usize>,
    /// Probability of the predicted class of each image.
    pub confidences: Vec<f64>,
}

impl Predictions {
    /// Images predicted right.
    #[must_use]
    pub fn correct(&self) -> usize {
        self.truths.iter().zip(&self.predictions).filter(|(truth, found)| truth == found).count()
    }
}

/// The gate's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// Good enough to go to staging.
    Blessed,
    /// Not good enough.
    Rejected,
    /// Too little data to tell; never deployed.
    Inconclusive,
}

impl GateVerdict {
    /// As it stands in JSON and tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blessed => "blessed",
            Self::Rejected => "rejected",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What was asked of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateRule {
    /// Not worse than the champion by more than the margin.
    NonInferiority,
    /// Better than the champion by more than the margin.
    Improvement,
    /// At least as good as a floor (a first version has nobody to be compared with).
    Floor,
    /// Reported and not asked for.
    Report,
}

/// The two versions on one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetComparison {
    /// `frozen` or `fresh`.
    pub set: String,
    /// Digest of the data set.
    pub dataset: Sha256Digest,
    /// Images.
    pub n: u64,
    /// Share that the new version predicts right.
    pub challenger_accuracy: f64,
    /// Share that the version in production predicts right, on the same images.
    pub champion_accuracy: Option<f64>,
    /// Challenger minus champion, paired.
    pub difference: Option<f64>,
    /// Interval of the difference (or of the accuracy, without a champion).
    pub interval: Option<[f64; 2]>,
    /// Images only the challenger got right, and only the champion.
    pub discordant: Option<[u64; 2]>,
    /// What was asked.
    pub rule: GateRule,
    /// The margin or floor that it was held against.
    pub margin: f64,
    /// The verdict on this set.
    pub verdict: GateVerdict,
    /// One sentence.
    pub reason: String,
}

/// Everything that the gate looked at, and what it decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// [`EVALUATION_FORMAT`].
    pub schema: String,
    /// The version in production; none for a first version.
    pub champion: Option<VersionRef>,
    /// Confidence of the intervals, such as 0.95.
    pub confidence: f64,
    /// Each data set.
    pub sets: Vec<SetComparison>,
    /// Names of the classes, for the confusion counts.
    pub classes: Vec<String>,
    /// Challenger on the frozen set: `[truth][prediction]`.
    pub confusion: Vec<Vec<u64>>,
    /// The verdict: blessed only if every set was.
    pub verdict: GateVerdict,
}

/// An input with the answer that the exported weights gave when the version was made; what a
/// server must reproduce before it gets traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenCase {
    /// Names the case in messages.
    pub name: String,
    /// Content type of the body.
    pub content_type: String,
    /// The body, Base64.
    pub body_base64: String,
    /// Expected class.
    pub prediction: String,
    /// Expected probabilities, in the order of the classes.
    pub probabilities: Vec<f64>,
}
