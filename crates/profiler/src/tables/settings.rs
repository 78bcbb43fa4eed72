//! Settings of the kind `tables`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use mloop_core::schema::{CONFIDENCE_COLUMN, EMBEDDING_COLUMN, PREDICTION_COLUMN, SCORE_COLUMN};
use mloop_platform::{BuildError, PlatformDeps, Sources, Spec};
use mloop_s3::S3Settings;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Tables;
use super::captured::CapturedColumns;
use crate::settings::{max_files, max_line_bytes, memory_mb, roots};

/// Rows of predictions as tables: Parquet, CSV with a header, or JSON lines, in files below a folder.
///
/// Which columns are features is settled on the reference (`monitoring_main reference build`), with
/// their kinds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TablesSettings {
    /// Root of the files: a folder, relative ones starting at the configuration's, or a place in S3,
    /// `s3://bucket/prefix`.
    pub path: String,
    /// How S3 is spoken to, for places in it.
    #[serde(default)]
    pub s3: Option<S3Settings>,
    /// Whether files lie in a folder of their hour, `yyyy/mm/dd/hh`: only those of the window's hours are
    /// read then. Else all files below the root are, and rows are told by their time.
    #[serde(default)]
    pub hourly: bool,
    /// How the files are written; others are left alone.
    #[serde(default)]
    pub format: Format,
    /// For the format `captured`: names of what requests and answers do not name themselves.
    #[serde(default)]
    pub captured: CapturedColumns,
    /// What the columns mean.
    pub columns: Columns,
    /// Labels in a table of their own, joined by id when they arrive.
    #[serde(default)]
    pub labels: Option<LabelTable>,
    /// Classes of prediction and label, in the model's order. When left out, the reference's own, in
    /// alphabetical order.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The one of two classes whose probability is the score.
    #[serde(default)]
    pub positive: Option<String>,
    /// Score from which a row is predicted as the positive class, where no column holds the prediction.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// Whether attributes that group rows also make groups in pairs.
    #[serde(default = "yes")]
    pub intersections: bool,
    /// Most values of an attribute, and of a pair of them, that are counted apart.
    #[serde(default = "max_groups")]
    pub max_groups: NonZeroUsize,
    /// Bound of the latency objective in milliseconds.
    #[serde(default)]
    pub latency_objective_ms: Option<f64>,
    /// Most files that a window may have; more are refused rather than half read.
    #[serde(default = "max_files")]
    pub max_files: NonZeroUsize,
    /// Longest line in bytes of CSV and JSON lines; a longer one is quarantined.
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: NonZeroUsize,
    /// Memory of joins and sorts in MiB; sorts spill to disk beyond it.
    #[serde(default = "memory_mb")]
    pub memory_mb: NonZeroUsize,
    /// Parts that files are read and counted in at once; by default as many as there are processors.
    #[serde(default)]
    pub partitions: Option<NonZeroUsize>,
}

/// How table files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `*.parquet`.
    #[default]
    Parquet,
    /// `*.csv`: a header, a record a line, fields in quotes where they hold commas.
    Csv,
    /// `*.jsonl`: an object a line.
    JsonLines,
    /// `*.jsonl` of SageMaker's data capture, of any model: a request with its answer a line, each as CSV,
    /// JSON or JSON lines, also in Base64. The columns are what they hold, by name, and `inference_time`
    /// and `inference_id`. `path` leads to the folder of the endpoint's variant, with `hourly: true`.
    Captured,
    /// `*.jsonl` of SageMaker's ground truth: the columns `event_id` and `label`.
    GroundTruth,
}

impl Format {
    /// What names of its files end with.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Parquet => ".parquet",
            Self::Csv => ".csv",
            Self::JsonLines | Self::Captured | Self::GroundTruth => ".jsonl",
        }
    }
}

/// Names of columns, by what they mean.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// When the row was answered: a timestamp, RFC 3339 text, or seconds since 1970.
    pub time: String,
    /// What labels of another table refer to; of rows with one id the first by time counts. Without it
    /// every row counts.
    #[serde(default)]
    pub id: Option<String>,
    /// Predicted class or number.
    #[serde(default)]
    pub prediction: Option<String>,
    /// Probability of the positive class where `positive` is set, else of the predicted one.
    #[serde(default)]
    pub score: Option<String>,
    /// True class or number; empty where it is not known.
    #[serde(default)]
    pub label: Option<String>,
    /// Time to answer, milliseconds.
    #[serde(default)]
    pub latency_ms: Option<String>,
    /// Digest of the version that answered. Without it rows are told by their time and the ledger's
    /// switches.
    #[serde(default)]
    pub version: Option<String>,
    /// Attributes that group rows, such as `sex`; they are features only where `features` names them.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Features; all other columns when left out.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Columns that are no features.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Features of numbers whose values have no order, such as a postcode.
    #[serde(default)]
    pub categorical: Vec<String>,
}

/// Where labels arrive.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelTable {
    /// Root of the files: a folder or a place in S3.
    pub path: String,
    /// How the files are written.
    #[serde(default)]
    pub format: Format,
    /// Whether files lie in a folder of the hour in which they arrived: a look reads those from the
    /// window's start up to its own moment. Else all files below the root are read.
    #[serde(default)]
    pub hourly: bool,
    /// The column of the row's id.
    pub id: String,
    /// The column of the label.
    pub label: String,
}

fn threshold() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

fn max_groups() -> NonZeroUsize {
    const { NonZeroUsize::new(50).expect("not zero") }
}

impl Spec<Sources, PlatformDeps> for TablesSettings {
    const KIND: &'static str = "tables";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Sources, BuildError> {
        self.check()?;
        let labels = self.labels.as_ref().map(|labels| ("labels.path", labels.path.as_str()));
        let (root, labels) = roots(("path", &self.path), labels, self.s3.as_ref(), deps)?;
        let source = Arc::new(Tables::new(self, root, labels));
        Ok(Sources { profiles: Arc::clone(&source) as _, traffic: source })
    }
}

impl Columns {
    /// Those of one column each.
    pub(crate) fn single(&self) -> impl Iterator<Item = &String> {
        let optional =
            [&self.id, &self.prediction, &self.score, &self.label, &self.latency_ms, &self.version];
        std::iter::once(&self.time).chain(optional.into_iter().flatten())
    }
}

impl TablesSettings {
    fn check(&self) -> Result<(), BuildError> {
        let columns = &self.columns;
        if u32::try_from(self.max_files.get()).is_err() {
            return Err(BuildError::invalid("max_files", "must be at most 4294967295"));
        }
        if self.labels.is_some() && columns.id.is_none() {
            let problem = "labels of another table are joined by id: name that column";
            return Err(BuildError::invalid("columns.id", problem));
        }
        if self.labels.is_some() && columns.label.is_some() {
            let problem = "labels come from `labels`; leave one of the two out";
            return Err(BuildError::invalid("columns.label", problem));
        }
        if columns.prediction.is_none() && columns.score.is_some() && self.positive.is_none() {
            let problem = "without a column of predictions they follow from the score of the positive class: \
                           name that class";
            return Err(BuildError::invalid("positive", problem));
        }
        if self.positive.is_some() && columns.score.is_none() {
            let problem =
                "the positive class is the one whose probability is the score: name that column";
            return Err(BuildError::invalid("columns.score", problem));
        }
        if let Some(positive) = &self.positive
            && !self.classes.is_empty()
            && (self.classes.len() != 2 || !self.classes.contains(positive))
        {
            let problem = format!("`{positive}` must be one of two `classes`");
            return Err(BuildError::invalid("positive", problem));
        }
        if self.format == Format::GroundTruth {
            return Err(BuildError::invalid(
                "format",
                "ground truth holds labels: name it under `labels`",
            ));
        }
        if self.format != Format::Captured && self.captured != CapturedColumns::default() {
            return Err(BuildError::invalid("captured", "is for the format `captured`"));
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(BuildError::invalid("threshold", "must lie between 0 and 1"));
        }
        if self.latency_objective_ms.is_some_and(|ms| !(0.001..=3.6e6).contains(&ms)) {
            return Err(BuildError::invalid(
                "latency_objective_ms",
                "must lie between 0.001 and 3600000",
            ));
        }
        let reserved = [CONFIDENCE_COLUMN, EMBEDDING_COLUMN, PREDICTION_COLUMN, SCORE_COLUMN];
        for (index, name) in columns.features.iter().flatten().enumerate() {
            if reserved.contains(&name.as_str()) {
                let problem =
                    "every profile has a column of its own of that name; rename it in the table";
                return Err(BuildError::invalid(format!("columns.features[{index}]"), problem));
            }
        }
        Ok(())
    }

    /// Bound of the latency objective, µs.
    pub(crate) fn latency_objective_micros(&self) -> Option<u64> {
        self.latency_objective_ms.map(|ms| (ms * 1000.0).round() as u64)
    }

    /// Columns that mean something else than a feature.
    pub(crate) fn is_special(&self, name: &str) -> bool {
        let columns = &self.columns;
        columns.single().chain(&columns.groups).chain(&columns.exclude).any(|one| one == name)
    }
}
