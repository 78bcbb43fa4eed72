//! Evaluation: a new version against the one in production, on the same images.

use std::path::PathBuf;
use std::sync::Arc;

use mloop_core::VersionRef;
use mloop_core::evaluation::{EVALUATION_FORMAT, EvaluationReport, Predictions};
use mloop_platform::{LabelledRow, ProfileRow};
use mloop_trainer::{EvaluationSet, Evaluator, SetPredictions};

use crate::OrchestratorError;
use crate::gate::{self, GateConfig, Pair};

/// The version in production, its files fetched from the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Which.
    pub version: VersionRef,
    /// Its files.
    pub folder: PathBuf,
}

/// What to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRequest {
    /// Folder of the new version's model files.
    pub challenger: PathBuf,
    /// The version in production; none for a first version.
    pub champion: Option<Rival>,
    /// Labelled traffic that was never trained on; may be empty.
    pub fresh: Arc<[LabelledRow]>,
}

/// What the comparison came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Everything that the gate looked at, with its verdict.
    pub report: EvaluationReport,
    /// What the new version said about the fresh slice, or about the frozen set when there is none:
    /// what its reference is made of.
    pub reference_rows: Vec<ProfileRow>,
}

/// Compares versions and asks the gate.
pub struct EvaluationOrchestrator {
    evaluator: Arc<dyn Evaluator>,
    gate: GateConfig,
}

impl EvaluationOrchestrator {
    /// Puts the parts together; calls nobody.
    #[must_use]
    pub fn new(evaluator: Arc<dyn Evaluator>, gate: GateConfig) -> Self {
        Self { evaluator, gate }
    }

    /// Predicts both data sets with both versions, now, and judges.
    ///
    /// # Errors
    /// When a model or the data cannot be read, or when the versions know different classes.
    pub async fn evaluate(
        &self,
        request: &EvaluationRequest,
    ) -> Result<Evaluation, OrchestratorError> {
        let frozen = self.both(request, &EvaluationSet::Frozen).await?;
        let fresh = if request.fresh.is_empty() {
            None
        } else {
            Some(self.both(request, &EvaluationSet::Fresh(Arc::clone(&request.fresh))).await?)
        };
        let sets = gate::judge(frozen.pair(), fresh.as_ref().map(Both::pair), &self.gate);
        let classes = frozen.challenger.classes.clone();
        let report = EvaluationReport {
            schema: EVALUATION_FORMAT.to_owned(),
            champion: request.champion.as_ref().map(|rival| rival.version),
            confidence: self.gate.confidence,
            confusion: confusion(&frozen.challenger.predictions, classes.len()),
            classes,
            verdict: gate::verdict(&sets),
            sets,
        };
        let reference_rows = fresh.unwrap_or(frozen).challenger.rows;
        Ok(Evaluation { report, reference_rows })
    }

    async fn both(
        &self,
        request: &EvaluationRequest,
        set: &EvaluationSet,
    ) -> Result<Both, OrchestratorError> {
        let challenger = self.evaluator.predict(&request.challenger, set).await?;
        let champion = match &request.champion {
            Some(rival) => {
                let champion = self.evaluator.predict(&rival.folder, set).await?;
                check_comparable(&challenger, &champion, rival)?;
                Some(champion)
            }
            None => None,
        };
        Ok(Both { challenger, champion })
    }
}

struct Both {
    challenger: SetPredictions,
    champion: Option<SetPredictions>,
}

impl Both {
    fn pair(&self) -> Pair<'_> {
        Pair {
            challenger: &self.challenger.predictions,
            champion: self.champion.as_ref().map(|champion| &champion.predictions),
        }
    }
}

fn check_comparable(
    challenger: &SetPredictions,
    champion: &SetPredictions,
    rival: &Rival,
) -> Result<(), OrchestratorError> {
    let doing = format!("comparing the new version with {}", rival.version);
    if challenger.classes != champion.classes {
        let problem = format!(
            "they know different classes, [{}] and [{}]; a model of other classes needs a name of its own",
            challenger.classes.join(", "),
            champion.classes.join(", ")
        );
        return Err(OrchestratorError::invalid(doing, problem));
    }
    let (ours, theirs) = (&challenger.predictions, &champion.predictions);
    if ours.dataset != theirs.dataset || ours.truths != theirs.truths {
        let problem = "the data set changed while it was evaluated; leave it alone and run again";
        return Err(OrchestratorError::invalid(doing, problem));
    }
    Ok(())
}

/// `[truth][prediction]`.
fn confusion(predictions: &Predictions, classes: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (truth, prediction) in predictions.truths.iter().zip(&predictions.predictions) {
        let row: Option<&mut Vec<u64>> = counts.get_mut(*truth);
        if let Some(count) = row.and_then(|row| row.get_mut(*prediction)) {
            *count += 1;
        }
    }
    counts
}
