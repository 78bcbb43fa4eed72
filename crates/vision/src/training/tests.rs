use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use mloop_core::Sha256Digest;
use mloop_trainer::{Progress, ProgressUpdate, Silent, StopFlag};

use super::*;
use crate::data::Dataset;
use crate::network::{Architecture, ArchitectureKind, Normalisation};
use crate::tiny;

/// Owns what a [`Fit`] borrows.
struct Setup {
    architecture: Architecture,
    normalisation: Normalisation,
    config: FitConfig,
    train: Dataset,
    validation: Dataset,
}

impl Setup {
    fn new() -> Self {
        Self {
            architecture: Architecture {
                kind: ArchitectureKind::Cnn,
                channels: vec![4, 8],
                hidden_units: 16,
                dropout: 0.2,
            },
            normalisation: Normalisation { mean: vec![0.4], deviation: vec![0.3] },
            config: FitConfig {
                epochs: 4,
                batch_size: 16,
                seed: 7,
                optimizer: OptimizerConfig::AdamW { learning_rate: 0.01, weight_decay: 1e-4 },
                schedule: ScheduleConfig::Cosine { warm_up_epochs: 0.5, final_share: 0.1 },
                label_smoothing: 0.05,
                class_weights: ClassWeights::Balanced,
                augmentation: Augmentation { horizontal_flip: false, max_shift_pixels: 1 },
                early_stopping: None,
                checkpoint_every_steps: 4,
            },
            // 90 images are 6 steps an epoch, the last of them smaller.
            train: tiny::dataset(90, 1),
            validation: tiny::dataset(60, 2),
        }
    }

    fn run(
        &self,
        folder: &Path,
        stop: &StopFlag,
        progress: &dyn Progress,
    ) -> Result<Fitted, FitError> {
        Fit {
            architecture: &self.architecture,
            normalisation: &self.normalisation,
            config: &self.config,
            train: &self.train,
            validation: &self.validation,
            checkpoints: folder,
            key: Sha256Digest::of(format!("{:?}", self.config).as_bytes()),
            stop,
            progress,
        }
        .run()
    }

    fn fit(&self) -> Fitted {
        let folder = tempfile::tempdir().expect("a folder");
        self.run(folder.path(), &StopFlag::default(), &Silent).expect("trains")
    }
}

/// Raises a flag as soon as a step is reported, and remembers the reports.
#[derive(Default)]
struct Watch(Mutex<Vec<ProgressUpdate>>);

impl Progress for Watch {
    fn update(&self, update: &ProgressUpdate) {
        self.0.lock().expect("not poisoned").push(*update);
    }
}

fn steps_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("reads");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn it_learns_and_reports_every_epoch() {
    let setup = Setup::new();
    let (folder, watch) = (tempfile::tempdir().expect("a folder"), Watch::default());
    let fitted = setup.run(folder.path(), &StopFlag::default(), &watch).expect("trains");
    assert_eq!(fitted.history.len(), 4);
    let last = fitted.history.last().expect("four epochs");
    assert!(last.validation_accuracy > 0.95, "{last:?}");
    assert!(last.training_loss < fitted.history[0].training_loss);
    let updates = watch.0.lock().expect("not poisoned");
    let ends: Vec<_> =
        updates.iter().filter(|update| update.validation_accuracy.is_some()).collect();
    assert_eq!(ends.len(), 4);
    assert_eq!((ends[3].epoch, ends[3].step, ends[3].steps), (4, 24, 24));
}

#[test]
fn equal_runs_give_equal_bits_and_every_input_counts() {
    let first = Setup::new().fit();
    assert_eq!(first, Setup::new().fit());
    let changes: [fn(&mut Setup); 5] = [
        |setup| setup.config.seed = 8,
        |setup| setup.config.label_smoothing = 0.0,
        |setup| setup.config.augmentation.max_shift_pixels = 0,
        |setup| setup.architecture.dropout = 0.0,
        |setup| {
            setup.config.optimizer =
                OptimizerConfig::Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 1e-4 };
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut setup = Setup::new();
        change(&mut setup);
        assert_ne!(first.weights, setup.fit().weights, "change {index}");
    }
}

/// Stops after every single step until the run is through.
fn run_in_pieces(setup: &Setup, folder: &Path) -> (Fitted, usize) {
    let stop = StopFlag::default();
    stop.raise();
    for pieces in 1..1000 {
        match setup.run(folder, &stop, &Silent) {
            Ok(fitted) => return (fitted, pieces),
            Err(FitError::Stopped { step }) => assert_eq!(step, pieces, "one step a piece"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never ends");
}

#[test]
fn a_run_stopped_after_every_step_ends_with_the_same_bits() {
    let optimizers = [
        OptimizerConfig::AdamW { learning_rate: 0.01, weight_decay: 1e-4 },
        OptimizerConfig::Sgd { learning_rate: 0.05, momentum: 0.9, weight_decay: 0.0 },
        OptimizerConfig::Sgd { learning_rate: 0.05, momentum: 0.0, weight_decay: 1e-3 },
    ];
    for optimizer in optimizers {
        let mut setup = Setup::new();
        setup.config.optimizer = optimizer;
        setup.config.epochs = 2;
        setup.config.early_stopping =
            Some(EarlyStopping { patience_epochs: 2, min_improvement: 0.0 });
        let folder = tempfile::tempdir().expect("a folder");
        let (fitted, pieces) = run_in_pieces(&setup, folder.path());
        assert_eq!(pieces, 13, "12 steps, and one call that finds all done");
        assert_eq!(fitted, setup.fit());
    }
}

#[test]
fn a_torn_checkpoint_is_passed_over_and_the_one_before_is_taken() {
    let setup = Setup::new();
    let folder = tempfile::tempdir().expect("a folder");
    let whole = setup.run(folder.path(), &StopFlag::default(), &Silent).expect("trains");
    assert_eq!(steps_in(folder.path()), ["step-0000000020", "step-0000000024"]);
    let newest = folder.path().join("step-0000000024");
    for file in ["weights.safetensors", "optimizer.bpk", "state.json"] {
        let path = newest.join(file);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).expect("writes");
        std::fs::create_dir_all(folder.path().join("writing")).expect("creates");
        let again = setup.run(folder.path(), &StopFlag::default(), &Silent).expect("trains");
        assert_eq!(again, whole, "torn {file}");
        assert_eq!(steps_in(folder.path()), ["step-0000000020", "step-0000000024"]);
    }
}

#[test]
fn a_checkpoint_of_other_inputs_is_not_taken_up() {
    let mut setup = Setup::new();
    let folder = tempfile::tempdir().expect("a folder");
    setup.run(folder.path(), &StopFlag::default(), &Silent).expect("trains");
    setup.config.seed = 8;
    let fitted = setup.run(folder.path(), &StopFlag::default(), &Silent).expect("trains");
    assert_eq!(fitted, setup.fit());
}

#[test]
fn early_stopping_ends_the_run_and_keeps_the_best_epoch() {
    let mut setup = Setup::new();
    setup.config.epochs = 40;
    setup.config.schedule = ScheduleConfig::Constant {};
    let patient = EarlyStopping { patience_epochs: 2, min_improvement: 0.02 };
    setup.config.early_stopping = Some(patient);
    let fitted = setup.fit();
    let epochs = fitted.history.len();
    assert!(epochs < 40, "{:?}", fitted.history);
    assert_eq!(fitted.epoch, epochs - 2);
    // The kept weights are those that a run of just so many epochs ends with.
    setup.config.epochs = fitted.epoch;
    setup.config.early_stopping = None;
    assert_eq!(setup.fit().weights, fitted.weights);
}

#[test]
fn a_loss_that_is_no_number_names_its_step() {
    let mut setup = Setup::new();
    setup.config.schedule = ScheduleConfig::Constant {};
    setup.config.optimizer =
        OptimizerConfig::Sgd { learning_rate: 1e30, momentum: 0.0, weight_decay: 0.0 };
    let folder = tempfile::tempdir().expect("a folder");
    let error = setup.run(folder.path(), &StopFlag::default(), &Silent).expect_err("diverges");
    let FitError::Diverged { step, .. } = &error else { panic!("{error}") };
    assert!((1..=4).contains(step), "{error}");
    assert!(error.to_string().contains("lower the learning rate"));
}

#[test]
fn schedules_follow_their_formulas() {
    let mut config = Setup::new().config;
    config.epochs = 10;
    let mut rate = |schedule, step| {
        config.schedule = schedule;
        config.learning_rate(step, 10)
    };
    let close = |left: f64, right: f64| (left - right).abs() < 1e-12;
    assert!(close(rate(ScheduleConfig::Constant {}, 57), 0.01));
    let cosine = ScheduleConfig::Cosine { warm_up_epochs: 2.0, final_share: 0.1 };
    assert!(close(rate(cosine.clone(), 0), 0.01 / 20.0));
    assert!(close(rate(cosine.clone(), 19), 0.01));
    assert!(close(rate(cosine.clone(), 59), 0.01 * (0.1 + 0.9 * 0.5)), "half way down");
    assert!(close(rate(cosine, 99), 0.001));
    let step = ScheduleConfig::Step { every_epochs: 3, factor: 0.5 };
    assert!(close(rate(step.clone(), 29), 0.01));
    assert!(close(rate(step.clone(), 30), 0.005));
    assert!(close(rate(step, 99), 0.00125));
}

#[test]
fn nonsense_is_refused_with_its_path() {
    let changes: BTreeMap<&str, fn(&mut FitConfig)> = BTreeMap::from([
        ("epochs", (|config| config.epochs = 0) as fn(&mut FitConfig)),
        ("batch_size", |config| config.batch_size = 0),
        ("checkpoint_every_steps", |config| config.checkpoint_every_steps = 0),
        ("label_smoothing", |config| config.label_smoothing = 1.0),
        ("schedule", |config| {
            config.schedule = ScheduleConfig::Step { every_epochs: 0, factor: 0.5 };
        }),
        ("early_stopping", |config| {
            config.early_stopping =
                Some(EarlyStopping { patience_epochs: 0, min_improvement: 0.0 });
        }),
        ("optimizer.learning_rate", |config| {
            config.optimizer =
                OptimizerConfig::AdamW { learning_rate: f64::NAN, weight_decay: 0.0 };
        }),
    ]);
    assert_eq!(Setup::new().config.problem(), None);
    for (path, change) in changes {
        let mut config = Setup::new().config;
        change(&mut config);
        assert_eq!(config.problem().map(|(at, _)| at), Some(path));
    }
}
