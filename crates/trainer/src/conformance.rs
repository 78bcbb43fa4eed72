//! What every trainer and evaluator must do, whoever wrote them.

use std::path::Path;
use std::sync::Arc;

use mloop_core::version::files;
use mloop_platform::LabelledRow;

use crate::{EvaluationSet, ImageUse, Silent, StopFlag, Training, TrainingRequest};

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
    let ImageUse { given, left_out } = first.images;
    assert!(left_out <= given, "{left_out} of {given} images left out");
    assert!(given >= traffic.len() as u64, "traffic is counted too");
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
        let lengths = (predictions.truths.len(), predictions.predictions.len());
        assert_eq!(lengths, (n, n), "a truth and a prediction for each row");
        let known = predictions.predictions.iter().all(|class| *class < found.classes.len());
        assert!(known, "a predicted class is out of range");
    }
    let golden = training.evaluator.golden(&first, 3).await.expect("golden cases");
    assert_eq!(golden.len(), 3, "as many golden cases as were asked for");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use mloop_core::Sha256Digest;
    use mloop_core::evaluation::GoldenCase;
    use mloop_platform::conformance::complaint;

    use super::*;
    use crate::{Evaluator, FakeTrainer, SetPredictions, TrainError, Trained, Trainer};

    /// A rule of the contract to be broken.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        KeyHoldsFolder,
        KeyForgetsTraffic,
        GivesOtherImages,
        LeavesOutMore,
        ForgetsTraffic,
        EmptiesFile(&'static str),
        LeavesFileAway(&'static str),
        ChangesFile(&'static str),
        PredictsOnceMore,
        LosesTruths,
        LosesPredictions,
        InventsClass,
        GivesFewerCases,
    }

    /// A trainer that follows the contract but for one thing.
    struct Faulty {
        inner: FakeTrainer,
        fault: Option<Fault>,
        calls: AtomicUsize,
    }

    #[async_trait]
    impl Trainer for Faulty {
        async fn key(&self, request: &TrainingRequest) -> Result<Sha256Digest, TrainError> {
            let path = request.work.as_os_str().as_encoded_bytes();
            match self.fault {
                Some(Fault::KeyHoldsFolder) => Ok(Sha256Digest::of(path)),
                Some(Fault::KeyForgetsTraffic) => Ok(Sha256Digest::of(b"settings")),
                _ => self.inner.key(request).await,
            }
        }

        async fn train(&self, request: &TrainingRequest) -> Result<Trained, TrainError> {
            let mut trained = self.inner.train(request).await?;
            let (images, calls) = (&mut trained.images, self.calls.fetch_add(1, Ordering::Relaxed));
            let write = |file: &str, text: &str| {
                std::fs::write(trained.folder.join(file), text).expect("written");
            };
            match self.fault {
                Some(Fault::GivesOtherImages) => images.given += calls as u64,
                Some(Fault::LeavesOutMore) => images.left_out = images.given + 1,
                Some(Fault::ForgetsTraffic) => images.given = 0,
                Some(Fault::EmptiesFile(file)) => write(file, ""),
                Some(Fault::ChangesFile(file)) => write(file, &format!("call {calls}")),
                Some(Fault::LeavesFileAway(file)) => {
                    std::fs::remove_file(trained.folder.join(file)).expect("removed");
                }
                _ => {}
            }
            Ok(trained)
        }
    }

    #[async_trait]
    impl Evaluator for Faulty {
        async fn predict(
            &self,
            folder: &Path,
            set: &EvaluationSet,
        ) -> Result<SetPredictions, TrainError> {
            let mut found = self.inner.predict(folder, set).await?;
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            let predictions = &mut found.predictions;
            match self.fault {
                Some(Fault::PredictsOnceMore) => predictions.confidences[0] = calls as f64,
                Some(Fault::LosesTruths) => predictions.truths.truncate(1),
                Some(Fault::LosesPredictions) => predictions.predictions.truncate(1),
                Some(Fault::InventsClass) => predictions.predictions[0] = found.classes.len(),
                _ => {}
            }
            Ok(found)
        }

        async fn golden(&self, folder: &Path, count: usize) -> Result<Vec<GoldenCase>, TrainError> {
            let fewer = usize::from(self.fault == Some(Fault::GivesFewerCases));
            self.inner.golden(folder, count - fewer).await
        }
    }

    async fn run(fault: Option<Fault>) {
        let inner =
            FakeTrainer { frozen_rows: 10, accuracies: vec![], weights: "weights".to_owned() };
        let fake = Arc::new(Faulty { inner, fault, calls: AtomicUsize::new(0) });
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

    #[tokio::test]
    async fn the_fake_passes() {
        run(None).await;
    }

    #[tokio::test]
    async fn a_trainer_that_breaks_a_rule_is_caught() {
        for (fault, rule) in [
            (Fault::KeyHoldsFolder, "the folder is no input"),
            (Fault::KeyForgetsTraffic, "the traffic is an input"),
            (Fault::GivesOtherImages, "equal trainings are given equal images"),
            (Fault::LeavesOutMore, "3 of 2 images left out"),
            (Fault::ForgetsTraffic, "traffic is counted too"),
            (Fault::EmptiesFile(files::MODEL), "model.json is empty"),
            (Fault::EmptiesFile(files::METRICS), "metrics.json is empty"),
            (Fault::LeavesFileAway(files::TRAINING_CONFIG), files::TRAINING_CONFIG),
            (Fault::ChangesFile(files::WEIGHTS), "differs between equal trainings"),
            (Fault::PredictsOnceMore, "predictions are repeatable"),
            (Fault::LosesTruths, "a truth and a prediction for each row"),
            (Fault::LosesPredictions, "a truth and a prediction for each row"),
            (Fault::InventsClass, "a predicted class is out of range"),
            (Fault::GivesFewerCases, "as many golden cases as were asked for"),
        ] {
            let found = complaint(run(Some(fault))).await;
            let caught = found.as_ref().is_some_and(|text| text.contains(rule));
            assert!(caught, "{fault:?}, {rule}: {found:?}");
        }
    }
}
