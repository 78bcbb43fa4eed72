//! The committed slice of Fashion-MNIST is what its README says, and a network learns from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_core::SystemClock;
use mloop_platform::PlatformDeps;
use mloop_trainer::{EvaluationSet, Silent, StopFlag, TrainerRegistry, TrainingRequest};
use mloop_vision::InputSpec;
use mloop_vision::data::{DataSource, Dataset, ReadOptions, write_parquet};

fn slice(file: &str) -> Dataset {
    let path = folder().join(file);
    let loaded = DataSource::Parquet { path }.load(&ReadOptions::default()).expect("loads");
    assert_eq!(loaded.quarantine.bad, 0);
    loaded.dataset
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/fashion-mnist")
}

#[test]
fn the_slice_is_balanced_and_its_digests_stand_in_the_readme() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("reads");
    for (file, per_class) in [("train.parquet", 800), ("test.parquet", 200)] {
        let dataset = slice(file);
        assert_eq!(dataset.spec(), InputSpec { channels: 1, height: 28, width: 28 });
        assert_eq!(dataset.class_counts(), [per_class; 10]);
        let bytes = std::fs::read(folder().join(file)).expect("reads");
        let digest = mloop_core::Sha256Digest::of(&bytes).to_string();
        assert!(readme.contains(&digest), "{file} has SHA-256 {digest}");

        // The documented content digest is of the classes in their original order.
        let classes = "t-shirt-top trouser pullover dress coat sandal shirt sneaker bag ankle-boot";
        let classes = classes.split(' ').map(str::to_owned).collect();
        let options = ReadOptions { classes: Some(classes), ..ReadOptions::default() };
        let ordered = DataSource::Parquet { path: folder().join(file) }.load(&options);
        let digest = ordered.expect("loads").dataset.digest().to_string();
        assert!(readme.contains(&digest), "{file} has content {digest}");
    }
}

#[tokio::test]
async fn a_small_network_learns_real_images_in_seconds() {
    let work = tempfile::tempdir().expect("a folder");
    let some = |file: &str, count: usize| {
        let places: Vec<usize> = (0..count).collect();
        write_parquet(&work.path().join(file), &slice(file).subset(&places)).expect("writes");
    };
    some("train.parquet", 1500);
    some("test.parquet", 500);
    let settings = serde_json::json!({
        "classes": slice("test.parquet").classes(),
        "architecture": {"kind": "cnn", "channels": [8, 16], "hidden_units": 32},
        "training": {
            "epochs": 3,
            "batch_size": 32,
            "seed": 1,
            "optimizer": {"kind": "adam_w", "learning_rate": 0.004},
        },
        "data": {
            "train": [{"format": "parquet", "path": "train.parquet"}],
            "test": [{"format": "parquet", "path": "test.parquet"}],
        },
    });
    let mut registry = TrainerRegistry::new("trainer");
    mloop_vision::register(&mut registry);
    let deps = PlatformDeps::new(work.path().to_owned(), Arc::new(SystemClock));
    let training = registry.build("cv", "cv", &settings, &deps).expect("good settings");
    let request = TrainingRequest {
        traffic: [].into(),
        work: work.path().join("work"),
        stop: StopFlag::default(),
        progress: Arc::new(Silent),
    };
    let model = training.trainer.train(&request).await.expect("trains").folder;
    let found = training.evaluator.predict(&model, &EvaluationSet::Frozen).await.expect("predicts");
    let accuracy = found.predictions.correct() as f64 / 500.0;
    // Guessing is right on a tenth.
    assert!(accuracy > 0.6, "accuracy {accuracy}");
}
