//! A trainer without a network.

use std::path::Path;

use async_trait::async_trait;
use mloop_core::Sha256Digest;
use mloop_core::evaluation::{GoldenCase, Predictions};
use mloop_core::version::files;
use mloop_platform::{LabelledRow, ProfileRow};

use crate::{
    EvaluationSet, Evaluator, ImageUse, SetPredictions, TrainError, Trained, Trainer,
    TrainingRequest,
};

/// Its "model" is a text that says how many rows it saw; its predictions are right with the
/// shares it was told, on `frozen_rows` images of a frozen set and on any fresh row.
#[derive(Debug, Clone)]
pub struct FakeTrainer {
    /// Images of the frozen set.
    pub frozen_rows: usize,
    /// Share predicted right, by the text in the weights file: `(content, frozen, fresh)`; a content
    /// that is not listed is right on all.
    pub accuracies: Vec<(String, f64, f64)>,
    /// What it writes as weights.
    pub weights: String,
}

impl FakeTrainer {
    fn shares(&self, weights: &str) -> (f64, f64) {
        let known = self.accuracies.iter().find(|(content, ..)| content == weights);
        known.map_or((1.0, 1.0), |(_, frozen, fresh)| (*frozen, *fresh))
    }
}

#[async_trait]
impl Trainer for FakeTrainer {
    async fn key(&self, request: &TrainingRequest) -> Result<Sha256Digest, TrainError> {
        let ids: Vec<&str> = request.traffic.iter().map(|row| row.id.as_str()).collect();
        Ok(Sha256Digest::of(format!("{} {ids:?}", self.weights).as_bytes()))
    }

    async fn train(&self, request: &TrainingRequest) -> Result<Trained, TrainError> {
        let folder = request.work.join("model");
        let wrote = std::fs::create_dir_all(&folder).and_then(|()| {
            std::fs::write(folder.join(files::MODEL), "{}")?;
            std::fs::write(folder.join(files::TRAINING_CONFIG), "{}")?;
            std::fs::write(folder.join(files::METRICS), "{}")?;
            std::fs::write(folder.join(files::WEIGHTS), &self.weights)
        });
        let doing = format!("writing the model to {}", folder.display());
        wrote.map_err(|cause| TrainError::Io { doing, cause: cause.into() })?;
        let images = ImageUse { given: request.traffic.len() as u64, left_out: 0 };
        Ok(Trained { folder, images })
    }
}

#[async_trait]
impl Evaluator for FakeTrainer {
    async fn predict(
        &self,
        folder: &Path,
        set: &EvaluationSet,
    ) -> Result<SetPredictions, TrainError> {
        let weights = std::fs::read_to_string(folder.join(files::WEIGHTS)).map_err(|cause| {
            TrainError::Model { folder: folder.display().to_string(), cause: cause.into() }
        })?;
        let (frozen, fresh) = self.shares(&weights);
        let (n, share, name) = match set {
            EvaluationSet::Frozen => (self.frozen_rows, frozen, "frozen".to_owned()),
            EvaluationSet::Fresh(rows) => (rows.len(), fresh, ids(rows)),
        };
        let right = (share * n as f64).round() as usize;
        let truths: Vec<usize> = (0..n).map(|row| row % 2).collect();
        // Right ones first, so that two models differ on as few images as their shares allow.
        let predictions: Vec<usize> = truths
            .iter()
            .enumerate()
            .map(|(row, truth)| if row < right { *truth } else { 1 - truth })
            .collect();
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let rows = truths.iter().zip(&predictions).map(|(truth, prediction)| ProfileRow {
            features: [("brightness".to_owned(), *truth as f64)].into(),
            prediction: classes[*prediction].clone(),
            confidence: 0.9,
            probabilities: vec![],
            label: Some(classes[*truth].clone()),
            attributes: [("site".to_owned(), "north".to_owned())].into(),
            embedding: vec![],
        });
        Ok(SetPredictions {
            rows: rows.collect(),
            predictions: Predictions {
                dataset: Sha256Digest::of(name.as_bytes()),
                confidences: vec![0.9; n],
                truths,
                predictions,
            },
            classes,
        })
    }

    async fn golden(&self, _folder: &Path, count: usize) -> Result<Vec<GoldenCase>, TrainError> {
        let case = |index| GoldenCase {
            name: format!("case-{index}"),
            content_type: "image/png".to_owned(),
            body_base64: "AQ==".to_owned(),
            prediction: "a".to_owned(),
            probabilities: vec![0.9, 0.1],
        };
        Ok((0..count).map(case).collect())
    }
}

fn ids(rows: &[LabelledRow]) -> String {
    rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>().join(",")
}
