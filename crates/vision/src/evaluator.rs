//! Asks trained models, by the classifier that the server uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mloop_core::evaluation::{GoldenCase, Predictions};
use mloop_platform::ProfileRow;
use mloop_trainer::{EvaluationSet, Evaluator, SetPredictions, TrainError};

use crate::classifier::Classifier;
use crate::data::{DataSource, Dataset, ReadOptions, from_traffic};
use crate::pixels::Pixels;
use crate::settings::CvTrainerConfig;
use crate::trainer::{blocking, data_error};

/// Evaluates image classifiers on the sets of a [`CvTrainerConfig`].
#[derive(Debug, Clone)]
pub struct CvEvaluator {
    settings: Arc<CvTrainerConfig>,
    test: Vec<DataSource>,
}

impl CvEvaluator {
    /// `test` are the test sources of the settings with their paths resolved.
    pub(crate) fn new(settings: Arc<CvTrainerConfig>, test: Vec<DataSource>) -> Self {
        Self { settings, test }
    }

    fn load(&self, folder: &Path) -> Result<Classifier, TrainError> {
        let classifier = Classifier::load(folder).map_err(|cause| TrainError::Model {
            folder: folder.display().to_string(),
            cause: cause.into(),
        })?;
        if classifier.classes() != self.settings.classes {
            let doing = format!("comparing the model in {} with the settings", folder.display());
            let problem = format!(
                "its classes are {}, `classes` says {}",
                classifier.classes().join(", "),
                self.settings.classes.join(", ")
            );
            return Err(TrainError::Data { doing, problem });
        }
        Ok(classifier)
    }

    fn set(&self, classifier: &Classifier, set: &EvaluationSet) -> Result<Dataset, TrainError> {
        let input = classifier.input();
        let options = ReadOptions { spec: Some(input), ..self.settings.read_options() };
        let loaded = match set {
            EvaluationSet::Frozen => DataSource::load_all(&self.test, &options)
                .map_err(|error| data_error("reading the frozen test set", &error)),
            EvaluationSet::Fresh(rows) => {
                from_traffic(rows, input, classifier.classes(), options.max_bad_share)
                    .map_err(|error| data_error("reading the fresh labelled traffic", &error))
            }
        };
        Ok(loaded?.dataset)
    }
}

#[async_trait]
impl Evaluator for CvEvaluator {
    async fn predict(
        &self,
        folder: &Path,
        set: &EvaluationSet,
    ) -> Result<SetPredictions, TrainError> {
        let (this, folder, set) = (self.clone(), folder.to_owned(), set.clone());
        let work = move || {
            let classifier = this.load(&folder)?;
            let dataset = this.set(&classifier, &set)?;
            Ok(predict(&classifier, &dataset))
        };
        blocking(work).await
    }

    async fn golden(&self, folder: &Path, count: usize) -> Result<Vec<GoldenCase>, TrainError> {
        let (this, folder): (Self, PathBuf) = (self.clone(), folder.to_owned());
        let work = move || {
            let classifier = this.load(&folder)?;
            let dataset = this.set(&classifier, &EvaluationSet::Frozen)?;
            Ok(golden_cases(&classifier, &dataset, count))
        };
        blocking(work).await
    }
}

fn predict(classifier: &Classifier, dataset: &Dataset) -> SetPredictions {
    let images: Vec<&[u8]> = (0..dataset.len()).map(|place| dataset.image(place)).collect();
    let answers = classifier.classify_raw(&images);
    let classes = classifier.classes();
    let rows = dataset.samples().iter().zip(&answers).map(|(sample, answer)| ProfileRow {
        features: answer.features.clone(),
        prediction: classes[answer.class].clone(),
        confidence: answer.confidence,
        probabilities: answer.probabilities.clone(),
        label: Some(classes[sample.label].clone()),
        attributes: sample.attributes.clone(),
        embedding: answer.embedding.clone(),
    });
    SetPredictions {
        rows: rows.collect(),
        predictions: Predictions {
            dataset: dataset.digest(),
            truths: dataset.samples().iter().map(|sample| sample.label).collect(),
            predictions: answers.iter().map(|answer| answer.class).collect(),
            confidences: answers.iter().map(|answer| answer.confidence).collect(),
        },
        classes: classes.to_vec(),
    }
}

/// `count` images of a set, or all when it has fewer, class by class in turn, as PNG files with
/// the answers that the classifier gives for those very files.
#[must_use]
pub fn golden_cases(classifier: &Classifier, dataset: &Dataset, count: usize) -> Vec<GoldenCase> {
    let places = in_turn(dataset, count);
    let images: Vec<Pixels> = places.iter().map(|place| dataset.pixels(*place)).collect();
    let answers = classifier.classify(&images);
    let case = |((place, image), answer): ((&usize, &Pixels), crate::Classification)| GoldenCase {
        name: dataset.samples()[*place].id.clone(),
        content_type: "image/png".to_owned(),
        body_base64: STANDARD.encode(image.to_png()),
        prediction: classifier.classes()[answer.class].clone(),
        probabilities: answer.probabilities,
    };
    places.iter().zip(&images).zip(answers).map(case).collect()
}

/// Places of the first image of each class, then of the second of each, up to `count`.
fn in_turn(dataset: &Dataset, count: usize) -> Vec<usize> {
    let mut seen = vec![0_usize; dataset.classes().len()];
    let mut places: Vec<(usize, usize, usize)> = Vec::with_capacity(dataset.len());
    for (place, sample) in dataset.samples().iter().enumerate() {
        places.push((seen[sample.label], sample.label, place));
        seen[sample.label] += 1;
    }
    places.sort_unstable();
    places.into_iter().take(count).map(|(.., place)| place).collect()
}
