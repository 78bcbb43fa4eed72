//! Settings of the trainer, as `training_config.yaml` holds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use mloop_core::registry::BuildError;
use mloop_platform::PlatformDeps;
use mloop_trainer::{Spec, TrainerRegistry, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::{DataSource, ReadOptions};
use crate::evaluator::CvEvaluator;
use crate::network::Architecture;
use crate::pixels::{InputSpec, MAX_SIDE};
use crate::trainer::CvTrainer;
use crate::training::FitConfig;

/// Trains an image classifier. `kind: cv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CvTrainerConfig {
    /// Names of the classes in the order of the model's answers, at least two.
    pub classes: Vec<String>,
    /// Size and colour of the images; left out, those of the first training image.
    #[serde(default)]
    pub input: Option<InputSpec>,
    /// The network.
    #[serde(default)]
    pub architecture: Architecture,
    /// Optimizer, schedule and lengths.
    pub training: FitConfig,
    /// Where images come from.
    pub data: DataConfig,
}

/// Where images come from, and how they are shared out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Images to learn from, read one source after the other.
    pub train: Vec<DataSource>,
    /// The frozen test set that versions are compared on; never learned from.
    pub test: Vec<DataSource>,
    /// Share of the training images (and traffic) kept for validation, above 0 and at most 0.5;
    /// chosen by their ids, so that an image stays on its side when others are added.
    #[serde(default = "default_validation_share")]
    pub validation_share: f64,
    /// How often each image of labelled production traffic is seen in an epoch, from 1: more
    /// gives few new images weight against many old ones.
    #[serde(default = "default_traffic_copies")]
    pub traffic_copies: usize,
    /// Largest share of unusable images, 0 to 1, that is reported and not an error.
    #[serde(default = "default_max_bad_share")]
    pub max_bad_share: f64,
}

fn default_validation_share() -> f64 {
    0.1
}

fn default_traffic_copies() -> usize {
    1
}

fn default_max_bad_share() -> f64 {
    0.01
}

impl CvTrainerConfig {
    /// What readers of these settings expect.
    pub(crate) fn read_options(&self) -> ReadOptions {
        ReadOptions {
            spec: self.input,
            classes: Some(self.classes.clone()),
            max_bad_share: self.data.max_bad_share,
        }
    }

    fn validate(&self) -> Result<(), BuildError> {
        let distinct: BTreeSet<&String> = self.classes.iter().collect();
        if distinct.len() != self.classes.len() || distinct.len() < 2 {
            return Err(BuildError::invalid("classes", "at least two different names are needed"));
        }
        let largest = MAX_SIDE as usize;
        let largest = InputSpec { channels: 3, height: largest, width: largest };
        self.architecture
            .validate(self.input.unwrap_or(largest), self.classes.len())
            .map_err(|error| BuildError::invalid("architecture", error.to_string()))?;
        if let Some((path, problem)) = self.training.problem() {
            return Err(BuildError::invalid(format!("training.{path}"), problem));
        }
        let data = &self.data;
        let rules = [
            (!data.train.is_empty(), "data.train", "at least one source is needed"),
            (!data.test.is_empty(), "data.test", "at least one source is needed"),
            (
                data.validation_share > 0.0 && data.validation_share <= 0.5,
                "data.validation_share",
                "must be above 0 and at most 0.5",
            ),
            ((1..=1000).contains(&data.traffic_copies), "data.traffic_copies", "must be 1 to 1000"),
            ((0.0..=1.0).contains(&data.max_bad_share), "data.max_bad_share", "must be 0 to 1"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, path, problem)) => Err(BuildError::invalid(path, problem)),
            None => Ok(()),
        }
    }
}

impl Spec<Training, PlatformDeps> for CvTrainerConfig {
    const KIND: &'static str = "cv";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Training, BuildError> {
        self.validate()?;
        let resolve = |sources: &[DataSource]| -> Vec<DataSource> {
            sources.iter().map(|source| source.with_paths(|path| deps.resolve(path))).collect()
        };
        let (train, test) = (resolve(&self.data.train), resolve(&self.data.test));
        are_there("data.train", &train)?;
        are_there("data.test", &test)?;
        let settings = Arc::new(self);
        Ok(Training {
            evaluator: Arc::new(CvEvaluator::new(settings.clone(), test)),
            trainer: Arc::new(CvTrainer::new(settings, train)),
        })
    }
}

/// Whether there is a file or folder of each name; what is in it is looked at when it is read.
fn are_there(list: &str, sources: &[DataSource]) -> Result<(), BuildError> {
    for (index, source) in sources.iter().enumerate() {
        for (key, path) in source.paths() {
            if matches!(path.try_exists(), Ok(false)) {
                let key = format!("{list}[{index}].{key}");
                let problem = format!("there is no {}; correct the path", path.display());
                return Err(BuildError::invalid(key, problem));
            }
        }
    }
    Ok(())
}

/// Makes `kind: cv` known.
pub fn register(registry: &mut TrainerRegistry) {
    registry.register::<CvTrainerConfig>();
}

#[cfg(test)]
mod tests {
    use mloop_core::SystemClock;
    use serde_json::{Value, json};

    use super::*;

    /// The settings built in a folder that holds the files that they name.
    fn build(settings: &Value) -> Result<Training, BuildError> {
        let mut registry = TrainerRegistry::new("trainer");
        register(&mut registry);
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["train.parquet", "i.gz", "l.gz"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        let deps = PlatformDeps::new(folder.path(), Arc::new(SystemClock));
        registry.build("cv", "cv", settings, &deps)
    }

    fn settings() -> Value {
        json!({
            "classes": ["boot", "coat"],
            "architecture": {"kind": "cnn", "channels": [16, 32], "hidden_units": 64},
            "training": {
                "epochs": 3,
                "batch_size": 64,
                "seed": 1,
                "optimizer": {"kind": "adam_w", "learning_rate": 0.001},
                "schedule": {"kind": "cosine", "warm_up_epochs": 0.5},
            },
            "data": {
                "train": [{"format": "parquet", "path": "train.parquet"}],
                "test": [{"format": "idx", "images": "i.gz", "labels": "l.gz"}],
            },
        })
    }

    #[test]
    fn settings_build_and_have_a_schema() {
        assert!(build(&settings()).is_ok());
        let schema = serde_json::to_string(&schemars::schema_for!(CvTrainerConfig)).expect("JSON");
        assert!(schema.contains("checkpoint_every_steps") && schema.contains("adam_w"));
    }

    #[test]
    fn nonsense_is_refused_with_its_path() {
        let cases = [
            ("/classes", json!(["boot", "boot"]), "classes", "two different names"),
            ("/architecture/channels", json!([]), "architecture", "1 to 8 stages"),
            (
                "/input",
                json!({"channels": 2, "height": 8, "width": 8}),
                "architecture",
                "not supported",
            ),
            (
                "/input",
                json!({"channels": 1, "height": 2, "width": 8}),
                "architecture",
                "too small",
            ),
            ("/training/epochs", json!(0), "training.epochs", "at least 1"),
            ("/training/epoch", json!(1), "training.epoch", "unknown field `epoch`"),
            (
                "/training/optimizer/kind",
                json!("adam"),
                "training.optimizer.kind",
                "unknown variant",
            ),
            (
                "/training/optimizer/momentum",
                json!(0.9),
                "training.optimizer.momentum",
                "unknown field `momentum`",
            ),
            ("/data/validation_share", json!(0), "data.validation_share", "above 0"),
            ("/data/train", json!([]), "data.train", "at least one source"),
            ("/data/train/0/format", json!("csv"), "data.train[0].format", "unknown variant `csv`"),
            ("/data/train/0/path", json!("gone.parquet"), "data.train[0].path", "/gone.parquet"),
            ("/data/test/0/labels", json!("gone.gz"), "data.test[0].labels", "/gone.gz"),
        ];
        for (pointer, value, path, message) in cases {
            let mut settings = settings();
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            match settings.pointer_mut(parent).expect("there") {
                Value::Object(map) => drop(map.insert(key.to_owned(), value)),
                other => panic!("{other} is no map"),
            }
            let BuildError::Settings { path: found, message: text } =
                build(&settings).err().expect("refused")
            else {
                panic!("another error for {pointer}");
            };
            assert_eq!(found, path, "{pointer}");
            assert!(text.contains(message), "{text} for {pointer}");
        }
    }
}
