//! What every trainer and evaluator must do, whoever wrote them.

use std::path::Path;
use std::sync::Arc;

use mloop_core::version::files;
use mloop_platform::LabelledRow;

use crate::{EvaluationSet, Silent, StopFlag, Training, TrainingRequest};

/// Trains twice from scratch in two folders and compares, then evaluates.
///
/// # Panics
/// With the broken rule.
pub async fn check_training(training: &Training, work: &Path, traffic: &[LabelledRow]) {
    let request = |folder: &str, rows: &[LabelledRow]| TrainingRequest {
        traffic: rows.into(),
        work: work.join(folder),
        stop: StopFlag::default(),
        progress: Arc::new(Silent),
    };
    let (one, two) = (request("one", traffic), request("two", traffic));
    let key = training.trainer.key(&one).await.expect("a key");
    assert_eq!(key, training.trainer.key(&two).await.expect("a key"), "the folder is no input");
    if !traffic.is_empty() {
        let fewer = training.trainer.key(&request("one", &traffic[1..])).await.expect("a key");
        assert_ne!(key, fewer, "the traffic is an input");
    }

    let first = training.trainer.train(&one).await.expect("a model");
    let second = training.trainer.train(&two).await.expect("a model");
    assert_eq!(first.images, second.images, "equal trainings are given equal images");
    assert!(first.images.left_out <= first.images.given, "{:?}", first.images);
    assert!(first.images.given >= traffic.len() as u64, "traffic is counted too");
    let (first, second) = (first.folder, second.folder);
    for file in [files::MODEL, files::WEIGHTS, files::TRAINING_CONFIG, files::METRICS] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).expect(file);
        assert!(!read(&first).is_empty(), "{file} is empty");
        if file != files::METRICS {
            assert_eq!(read(&first), read(&second), "{file} differs between equal trainings");
        }
    }

    for set in [EvaluationSet::Frozen, EvaluationSet::Fresh(traffic.into())] {
        let found = training.evaluator.predict(&first, &set).await.expect("predictions");
        let again = training.evaluator.predict(&first, &set).await.expect("predictions");
        assert_eq!(found, again, "predictions are repeatable");
        let n = found.rows.len();
        let predictions = &found.predictions;
        assert_eq!((predictions.truths.len(), predictions.predictions.len()), (n, n));
        let known = predictions.predictions.iter().all(|class| *class < found.classes.len());
        assert!(known, "a predicted class is out of range");
    }
    let golden = training.evaluator.golden(&first, 3).await.expect("golden cases");
    assert_eq!(golden.len(), 3, "as many golden cases as were asked for");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeTrainer;

    #[tokio::test]
    async fn the_fake_passes() {
        let fake = Arc::new(FakeTrainer {
            frozen_rows: 10,
            accuracies: vec![],
            weights: "weights".to_owned(),
        });
        let folder = tempfile::tempdir().expect("a folder");
        let row = LabelledRow {
            id: "a".to_owned(),
            time: "2026-03-01T00:00:00Z".parse().expect("a moment"),
            content_type: "image/png".to_owned(),
            body: vec![],
            label: "a".to_owned(),
            attributes: std::collections::BTreeMap::new(),
        };
        let training = Training { trainer: fake.clone(), evaluator: fake };
        check_training(&training, folder.path(), &[row.clone(), row]).await;
    }
}
