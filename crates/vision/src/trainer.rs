//! The trainer of image classifiers: data in, a folder with the model's files out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::version::files;
use mloop_core::{Sha256Digest, error_chain};
use mloop_trainer::{ImageUse, TrainError, Trained, Trainer, TrainingRequest};
use serde::Serialize;

use crate::classifier::{MODEL_FORMAT, ModelFile};
use crate::data::{DataError, DataSource, Dataset, Loaded, Quarantine, from_traffic};
use crate::network::Normalisation;
use crate::settings::CvTrainerConfig;
use crate::training::{EpochMetrics, Fit, FitError, Fitted, write_folder};

/// Folders within the folder of a request.
const CHECKPOINTS: &str = "checkpoints";
const MODEL: &str = "model";
const WRITING: &str = "model.writing";

/// Trains image classifiers by [`CvTrainerConfig`].
#[derive(Debug, Clone)]
pub struct CvTrainer {
    settings: Arc<CvTrainerConfig>,
    sources: Vec<DataSource>,
}

/// The images of a training, shared out.
struct Images {
    train: Dataset,
    validation: Dataset,
    record: DataRecord,
}

/// What is written down about the images, in [`files::TRAINING_CONFIG`].
#[derive(Debug, Clone, PartialEq, Serialize)]
struct DataRecord {
    /// Digest of the configured images, before they were shared out.
    images_digest: Sha256Digest,
    /// Digest of the ids of images and traffic, which decide the validation set.
    ids_digest: Sha256Digest,
    /// Unusable ones among them.
    images_quarantine: Quarantine,
    /// Digest of the labelled traffic, if there was any.
    traffic_digest: Option<Sha256Digest>,
    /// Unusable rows among it.
    traffic_quarantine: Quarantine,
    /// Images learned from, copies of traffic counted.
    training_images: usize,
    /// Images held back for validation.
    validation_images: usize,
}

impl DataRecord {
    fn usage(&self) -> ImageUse {
        let (images, traffic) = (&self.images_quarantine, &self.traffic_quarantine);
        ImageUse { given: images.total + traffic.total, left_out: images.bad + traffic.bad }
    }
}

#[derive(Serialize)]
struct TrainingConfigFile<'a> {
    schema: &'static str,
    key: Sha256Digest,
    trainer: String,
    settings: &'a CvTrainerConfig,
    data: &'a DataRecord,
}

#[derive(Serialize)]
struct MetricsFile<'a> {
    schema: &'static str,
    kept_epoch: usize,
    epochs: &'a [EpochMetrics],
}

impl CvTrainer {
    /// `sources` are the training sources of the settings with their paths resolved.
    pub(crate) fn new(settings: Arc<CvTrainerConfig>, sources: Vec<DataSource>) -> Self {
        Self { settings, sources }
    }

    fn load(&self, request: &TrainingRequest) -> Result<Images, TrainError> {
        let settings = &self.settings;
        let options = settings.read_options();
        let loaded = DataSource::load_all(&self.sources, &options)
            .map_err(|error| data_error("reading the training images", &error))?;
        let traffic = if request.traffic.is_empty() {
            let none = Dataset::new(loaded.dataset.spec(), settings.classes.clone());
            Loaded { dataset: none, quarantine: Quarantine::default() }
        } else {
            let spec = loaded.dataset.spec();
            from_traffic(&request.traffic, spec, &settings.classes, options.max_bad_share)
                .map_err(|error| data_error("reading the labelled traffic", &error))?
        };
        self.share_out(loaded, traffic)
    }

    fn share_out(&self, images: Loaded, traffic: Loaded) -> Result<Images, TrainError> {
        let data = &self.settings.data;
        let ids = images.dataset.samples().iter().chain(traffic.dataset.samples());
        let ids: Vec<&str> = ids.map(|sample| sample.id.as_str()).collect();
        let ids_digest = Sha256Digest::of(ids.join("\n").as_bytes());
        let images_digest = images.dataset.digest();
        let traffic_digest = (!traffic.dataset.is_empty()).then(|| traffic.dataset.digest());
        let (mut train, mut validation) = split(&images.dataset, data.validation_share);
        let (new, held_back) = split(&traffic.dataset, data.validation_share);
        let doing = "sharing out the images";
        let add = |set: &mut Dataset, more| {
            set.append(more, "labelled traffic").map_err(|error| data_error(doing, &error))
        };
        for _ in 0..data.traffic_copies {
            add(&mut train, new.clone())?;
        }
        add(&mut validation, held_back)?;
        check_shares(&train, &validation)?;
        let record = DataRecord {
            images_digest,
            ids_digest,
            images_quarantine: images.quarantine,
            traffic_digest,
            traffic_quarantine: traffic.quarantine,
            training_images: train.len(),
            validation_images: validation.len(),
        };
        Ok(Images { train, validation, record })
    }

    /// Everything that the result depends on.
    fn key_of(&self, images: &Images) -> Sha256Digest {
        let inputs = (
            "mloop.training-key/1",
            trainer_version(),
            &*self.settings,
            &images.record.images_digest,
            &images.record.traffic_digest,
            &images.record.ids_digest,
        );
        Sha256Digest::of_json(&inputs).expect("settings have string keys and finite numbers")
    }

    fn train_blocking(&self, request: &TrainingRequest) -> Result<Trained, TrainError> {
        let images = self.load(request)?;
        let key = self.key_of(&images);
        let settings = &*self.settings;
        let model = ModelFile {
            format: MODEL_FORMAT.to_owned(),
            architecture: settings.architecture.clone(),
            input: images.train.spec(),
            classes: settings.classes.clone(),
            normalisation: Normalisation::of(&images.train),
        };
        let fit = Fit {
            architecture: &model.architecture,
            normalisation: &model.normalisation,
            config: &settings.training,
            train: &images.train,
            validation: &images.validation,
            checkpoints: &request.work.join(CHECKPOINTS),
            key,
            stop: &request.stop,
            progress: &*request.progress,
        };
        let fitted = fit.run().map_err(train_error)?;
        let mut files = model.files(&fitted.weights);
        files.extend(self.records(key, &images.record, &fitted));
        let folder = write_model(&request.work, &files)?;
        Ok(Trained { folder, images: images.record.usage() })
    }

    fn records(
        &self,
        key: Sha256Digest,
        data: &DataRecord,
        fitted: &Fitted,
    ) -> [(String, Vec<u8>); 2] {
        let config = TrainingConfigFile {
            schema: "mloop.training-config/1",
            key,
            trainer: trainer_version(),
            settings: &self.settings,
            data,
        };
        let metrics = MetricsFile {
            schema: "mloop.metrics/1",
            kept_epoch: fitted.epoch,
            epochs: &fitted.history,
        };
        [
            (files::TRAINING_CONFIG.to_owned(), json(&config)),
            (files::METRICS.to_owned(), json(&metrics)),
        ]
    }
}

#[async_trait]
impl Trainer for CvTrainer {
    async fn key(&self, request: &TrainingRequest) -> Result<Sha256Digest, TrainError> {
        let (this, request) = (self.clone(), request.clone());
        blocking(move || Ok(this.key_of(&this.load(&request)?))).await
    }

    async fn train(&self, request: &TrainingRequest) -> Result<Trained, TrainError> {
        let (this, request) = (self.clone(), request.clone());
        blocking(move || this.train_blocking(&request)).await
    }
}

/// Runs CPU work where it does not hold up others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrainError> + Send + 'static,
) -> Result<T, TrainError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|cause| {
        let doing = "running on a worker thread".to_owned();
        Err(TrainError::Io { doing, cause: cause.into() })
    })
}

pub(crate) fn data_error(doing: &str, error: &DataError) -> TrainError {
    TrainError::Data { doing: doing.to_owned(), problem: error_chain(error) }
}

fn train_error(error: FitError) -> TrainError {
    match error {
        FitError::Network(error) => TrainError::Data {
            doing: "building the network for the training images".to_owned(),
            problem: error_chain(&error),
        },
        FitError::Diverged { step, .. } => {
            TrainError::Diverged { step, problem: error.to_string() }
        }
        FitError::Stopped { step } => TrainError::Stopped { step },
        FitError::Checkpoint { folder, cause } => TrainError::Io {
            doing: format!("keeping checkpoints in {}", folder.display()),
            cause: cause.into(),
        },
    }
}

/// Training and validation part. An image's side depends on its id alone.
fn split(dataset: &Dataset, validation_share: f64) -> (Dataset, Dataset) {
    let is_held_back = |place: &usize| {
        let digest = Sha256Digest::of(dataset.samples()[*place].id.as_bytes());
        let [a, b, c, d, ..] = *digest.as_bytes();
        f64::from(u32::from_be_bytes([a, b, c, d])) < validation_share * 2_f64.powi(32)
    };
    let (validation, train): (Vec<usize>, Vec<usize>) = (0..dataset.len()).partition(is_held_back);
    (dataset.subset(&train), dataset.subset(&validation))
}

fn check_shares(train: &Dataset, validation: &Dataset) -> Result<(), TrainError> {
    let fail = |problem: &str| {
        let doing = "sharing out the images".to_owned();
        Err(TrainError::Data { doing, problem: problem.to_owned() })
    };
    if validation.is_empty() {
        return fail("none is left for validation; raise `data.validation_share` or add images");
    }
    let counts = train.class_counts();
    if counts.iter().filter(|count| **count > 0).count() < 2 {
        return fail("fewer than two classes have training images; nothing can be learned");
    }
    for (class, _) in train.classes().iter().zip(&counts).filter(|(_, count)| **count == 0) {
        tracing::warn!(class, "no training image has this class; it will never be predicted");
    }
    Ok(())
}

fn trainer_version() -> String {
    format!("mloop-vision {}", env!("CARGO_PKG_VERSION"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("records have string keys and finite numbers")
}

/// Puts the files into the model folder: whole or not at all.
fn write_model(work: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<PathBuf, TrainError> {
    let (writing, folder) = (work.join(WRITING), work.join(MODEL));
    let remove = |folder: &Path| match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let write = || {
        remove(&writing)?;
        write_folder(&writing, files)?;
        remove(&folder)?;
        std::fs::rename(&writing, &folder)?;
        std::fs::File::open(work)?.sync_all()
    };
    let doing = || format!("writing the model to {}", folder.display());
    write().map_err(|cause| TrainError::Io { doing: doing(), cause: cause.into() })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mloop_platform::LabelledRow;
    use mloop_trainer::conformance::check_training;
    use mloop_trainer::{EvaluationSet, Silent, StopFlag, Training};

    use super::*;
    use crate::tiny;

    fn request(work: &Path, traffic: &[LabelledRow]) -> TrainingRequest {
        TrainingRequest {
            traffic: traffic.into(),
            work: work.to_owned(),
            stop: StopFlag::default(),
            progress: Arc::new(Silent),
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let folder = tempfile::tempdir().expect("a folder");
        let training = tiny::training(folder.path());
        check_training(&training, folder.path(), &tiny::traffic(40)).await;
    }

    #[tokio::test]
    async fn a_stopped_training_goes_on_to_the_same_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let Training { trainer, .. } = tiny::training(folder.path());
        let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
        let whole = trainer.train(&request(&whole, &[])).await.expect("trains").folder;
        let stopping = request(&pieces, &[]);
        stopping.stop.raise();
        for expected in 1..=3 {
            match trainer.train(&stopping).await {
                Err(TrainError::Stopped { step }) => assert_eq!(step, expected),
                other => panic!("{other:?}"),
            }
            assert!(!pieces.join(MODEL).exists(), "no model before the end");
        }
        let resumed = trainer.train(&request(&pieces, &[])).await.expect("trains");
        let again = trainer.train(&request(&pieces, &[])).await.expect("finds it done");
        assert_eq!(resumed, again);
        assert_eq!(resumed.images, ImageUse { given: 90, left_out: 0 });
        let resumed = resumed.folder;
        let names = [files::MODEL, files::WEIGHTS, files::TRAINING_CONFIG, files::METRICS];
        for name in names {
            let read = |folder: &Path| std::fs::read(folder.join(name)).expect(name);
            assert!(read(&whole) == read(&resumed), "{name} differs");
        }
        let entries = std::fs::read_dir(&resumed).expect("reads");
        assert_eq!(entries.count(), names.len(), "no other file");
    }

    #[tokio::test]
    async fn traffic_is_learned_from_and_copies_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = tiny::settings();
        settings.data.traffic_copies = 3;
        let training = tiny::training_with(folder.path(), settings);
        let work = folder.path().join("work");
        let mut traffic = tiny::traffic(40);
        let trained = training.trainer.train(&request(&work, &traffic)).await.expect("trains");
        assert_eq!(trained.images, ImageUse { given: 90 + 40, left_out: 0 });
        let model = trained.folder;
        let config = std::fs::read(model.join(files::TRAINING_CONFIG)).expect("reads");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        let count = |name: &str| config["data"][name].as_u64().expect("a count");
        let (training_images, held_back) = (count("training_images"), count("validation_images"));
        let all = tiny::dataset(90, 1);
        let (own, own_held_back) = split(&all, 0.2);
        assert_eq!(own.len() + own_held_back.len(), 90);
        let traffic_held_back = held_back - own_held_back.len() as u64;
        assert_eq!(training_images, own.len() as u64 + 3 * (40 - traffic_held_back));

        let accuracy = async |set| {
            let found = training.evaluator.predict(&model, &set).await.expect("predicts");
            assert!(found.rows.iter().all(|row| row.features.contains_key("sharpness")));
            found.predictions.correct() as f64 / found.rows.len() as f64
        };
        assert!(accuracy(EvaluationSet::Frozen).await > 0.9);
        assert!(accuracy(EvaluationSet::Fresh(tiny::traffic(30).into())).await > 0.9);

        let mut settings = tiny::settings();
        settings.data.max_bad_share = 0.1;
        let tolerant = tiny::training_with(folder.path(), settings);
        traffic[7].body.truncate(20);
        let work = folder.path().join("spoilt");
        let trained = tolerant.trainer.train(&request(&work, &traffic)).await.expect("trains");
        assert_eq!(trained.images, ImageUse { given: 90 + 40, left_out: 1 });
    }

    #[tokio::test]
    async fn golden_cases_hold_what_a_server_will_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let training = tiny::training(folder.path());
        let model =
            training.trainer.train(&request(folder.path(), &[])).await.expect("trains").folder;
        let golden = training.evaluator.golden(&model, 7).await.expect("predicts");
        let classifier = crate::Classifier::load(&model).expect("loads");
        let mut names = BTreeSet::new();
        for case in &golden {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.decode(&case.body_base64);
            let image = classifier.decode(&case.content_type, &body.expect("Base64"));
            let answer = &classifier.classify(&[image.expect("an image")])[0];
            assert_eq!(answer.probabilities, case.probabilities, "to the last bit");
            assert_eq!(classifier.classes()[answer.class], case.prediction);
            names.insert(case.name.clone());
        }
        assert_eq!(names.len(), 7, "different images");
    }

    #[tokio::test]
    async fn data_that_cannot_be_learned_from_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let training = tiny::training(folder.path());
        std::fs::remove_file(folder.path().join("train.parquet")).expect("removed");
        let error = training.trainer.train(&request(folder.path(), &[])).await.expect_err("gone");
        assert!(error.to_string().contains("train.parquet"), "{error}");

        let one_class = tiny::dataset(90, 1).subset(&[0, 3, 6, 9, 12, 15, 18, 21, 24, 27]);
        crate::data::write_parquet(&folder.path().join("one.parquet"), &one_class).expect("writes");
        let mut settings = tiny::settings();
        settings.data.train = vec![DataSource::Parquet { path: "one.parquet".into() }];
        let training = tiny::training_with(folder.path(), settings);
        let error = training.trainer.train(&request(folder.path(), &[])).await.expect_err("one");
        assert!(error.to_string().contains("fewer than two classes"), "{error}");

        let training = tiny::training(folder.path());
        let model =
            training.trainer.train(&request(folder.path(), &[])).await.expect("trains").folder;
        let mut settings = tiny::settings();
        settings.classes.reverse();
        let other = tiny::training_with(folder.path(), settings);
        let error = other.evaluator.predict(&model, &EvaluationSet::Frozen).await;
        let error = error.expect_err("other classes").to_string();
        assert!(error.contains("its classes are left, right, top"), "{error}");
    }
}
