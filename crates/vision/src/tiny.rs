//! Small data that a network learns in seconds, for tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mloop_core::SystemClock;
use mloop_platform::{LabelledRow, PlatformDeps};
use mloop_trainer::{Spec, Training};

use crate::data::{DataSource, Dataset, Sample, write_parquet};
use crate::network::{Architecture, ArchitectureKind};
use crate::pixels::{InputSpec, Pixels};
use crate::random::Random;
use crate::settings::{CvTrainerConfig, DataConfig};
use crate::training::{FitConfig, OptimizerConfig, ScheduleConfig};

pub(crate) const SPEC: InputSpec = InputSpec { channels: 1, height: 8, width: 8 };

/// Noise with a bright left half, right half or top half: three classes in turn.
pub(crate) fn dataset(count: usize, seed: u64) -> Dataset {
    let classes = ["left", "right", "top"].map(str::to_owned).to_vec();
    let mut dataset = Dataset::new(SPEC, classes);
    let mut random = Random::of(&[seed]);
    for index in 0..count {
        let label = index % 3;
        let image = (0..64)
            .map(|at| {
                let lit = [at % 8 < 4, at % 8 >= 4, at < 32][label];
                (random.below(100) + if lit { 100 } else { 0 }) as u8
            })
            .collect();
        let image = Pixels::new(SPEC, image).expect("fits");
        let attributes = BTreeMap::from([("site".to_owned(), format!("site-{}", index % 2))]);
        dataset.push(Sample { id: format!("tiny-{index:03}"), label, attributes }, &image);
    }
    dataset
}

/// Settings that learn the data set within a second.
pub(crate) fn settings() -> CvTrainerConfig {
    CvTrainerConfig {
        classes: dataset(0, 0).classes().to_vec(),
        input: None,
        architecture: Architecture {
            kind: ArchitectureKind::Cnn,
            channels: vec![4, 8],
            hidden_units: 16,
            dropout: 0.0,
        },
        training: FitConfig {
            epochs: 4,
            batch_size: 16,
            seed: 7,
            optimizer: OptimizerConfig::AdamW { learning_rate: 0.01, weight_decay: 1e-4 },
            schedule: ScheduleConfig::default(),
            label_smoothing: 0.0,
            class_weights: crate::training::ClassWeights::default(),
            augmentation: crate::training::Augmentation::default(),
            early_stopping: None,
            checkpoint_every_steps: 3,
        },
        data: DataConfig {
            train: vec![DataSource::Parquet { path: "train.parquet".into() }],
            test: vec![DataSource::Parquet { path: "test.parquet".into() }],
            validation_share: 0.2,
            traffic_copies: 1,
            max_bad_share: 0.0,
        },
    }
}

/// A trainer over 90 training and 30 test images written to a folder.
pub(crate) fn training(folder: &Path) -> Training {
    training_with(folder, settings())
}

pub(crate) fn training_with(folder: &Path, settings: CvTrainerConfig) -> Training {
    write_parquet(&folder.join("train.parquet"), &dataset(90, 1)).expect("writes");
    write_parquet(&folder.join("test.parquet"), &dataset(30, 2)).expect("writes");
    let deps = PlatformDeps::new(folder.to_owned(), Arc::new(SystemClock));
    settings.build("tiny".to_owned(), &deps).expect("good settings")
}

/// Labelled traffic with images of the same kind.
pub(crate) fn traffic(count: usize) -> Vec<LabelledRow> {
    let dataset = dataset(count, 3);
    let row = |(place, sample): (usize, &Sample)| LabelledRow {
        id: format!("request-{place}"),
        time: chrono::DateTime::UNIX_EPOCH,
        content_type: "image/png".to_owned(),
        body: dataset.pixels(place).to_png(),
        label: dataset.classes()[sample.label].clone(),
        attributes: sample.attributes.clone(),
    };
    dataset.samples().iter().enumerate().map(row).collect()
}
