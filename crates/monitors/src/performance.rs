//! Are the answers right, where labels are in, and probably right, where they are not?

use async_trait::async_trait;
use mloop_core::counts::{ErrorSums, LOSS_STEP, SCORE_STEP, ScoreBin};
use mloop_core::{Evidence, Finding, Profile, ProfileSchema};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::classification::{
    ReliabilityBin, accuracy, balanced_accuracy, by_class, expected_calibration_error, f1_macro,
    precision_macro,
};
use mloop_stats::interval::Interval;
use mloop_stats::losses::Sums;
use mloop_stats::ranking::auc;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::estimated::Believing;
use crate::finding::{About, Bound};
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Bins of confidence on which calibration is judged.
const CALIBRATION_BINS: usize = 15;

/// Settings of kind `performance`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerformanceConfig {
    /// Bounds by metric; `accuracy` with a drop of 0.05 from the reference when left out.
    #[serde(default = "metrics")]
    metrics: Vec<MetricBound>,
    /// Labelled rows below which a window is not judged; for estimates, rows with a score.
    #[serde(default = "min_labelled")]
    min_labelled: u64,
    /// Whether a window without any label could not be judged (`true`), or there is nothing to say
    /// of it until labels arrive (`false`).
    #[serde(default)]
    require_labels: bool,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    confidence: f64,
}

/// What is asked of one metric.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricBound {
    /// Which.
    metric: Metric,
    /// The class that `precision`, `recall` and `f1` are of; the schema's positive class when left out.
    #[serde(default)]
    class: Option<String>,
    /// Whether it is estimated from scores and needs no labels. An estimate holds for as long as scores
    /// mean what they meant on the reference.
    #[serde(default)]
    estimated: bool,
    /// How much worse than on the reference is tolerated, in the unit of the metric.
    #[serde(default)]
    max_drop: Option<f64>,
    /// The worst value that is tolerated: a floor, for errors and losses a ceiling.
    #[serde(default)]
    limit: Option<f64>,
}

fn metrics() -> Vec<MetricBound> {
    let (metric, max_drop) = (Metric::Accuracy, Some(0.05));
    vec![MetricBound { metric, class: None, estimated: false, max_drop, limit: None }]
}

fn min_labelled() -> u64 {
    100
}

/// The metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Share predicted right.
    Accuracy,
    /// Mean recall of the classes.
    BalancedAccuracy,
    /// Mean precision of the classes.
    PrecisionMacro,
    /// Mean F1 of the classes.
    F1Macro,
    /// Share of the rows predicted as a class that are of it.
    Precision,
    /// Share of the rows of a class that are predicted so.
    Recall,
    /// Harmonic mean of precision and recall of a class.
    F1,
    /// Area under the ROC curve of the positive class.
    Auc,
    /// Mean of −ln of the probability of the true class; less is better.
    LogLoss,
    /// Brier score; less is better.
    Brier,
    /// Expected calibration error; less is better.
    Ece,
    /// Mean absolute error of numbers; less is better.
    Mae,
    /// Root mean squared error of numbers; less is better.
    Rmse,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::PrecisionMacro => "precision_macro",
            Self::F1Macro => "f1_macro",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Auc => "auc",
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::Ece => "ece",
            Self::Mae => "mae",
            Self::Rmse => "rmse",
        }
    }

    fn less_is_better(self) -> bool {
        matches!(self, Self::LogLoss | Self::Brier | Self::Ece | Self::Mae | Self::Rmse)
    }

    fn is_of_a_class(self) -> bool {
        matches!(self, Self::Precision | Self::Recall | Self::F1)
    }

    fn is_of_numbers(self) -> bool {
        matches!(self, Self::Mae | Self::Rmse)
    }

    fn can_be_estimated(self) -> bool {
        matches!(self, Self::Accuracy | Self::Precision | Self::Recall | Self::F1 | Self::Auc)
    }

    /// The largest bound that makes sense.
    fn largest(self) -> f64 {
        match self {
            Self::LogLoss => 100.0,
            Self::Brier => 2.0,
            Self::Mae | Self::Rmse => f64::MAX,
            _ => 1.0,
        }
    }
}

impl Spec<Box<dyn Monitor>> for PerformanceConfig {
    const KIND: &'static str = "performance";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        if self.metrics.is_empty() {
            return Err(BuildError::invalid("metrics", "list at least one metric"));
        }
        for (index, bound) in self.metrics.iter().enumerate() {
            let (path, metric) = (format!("metrics[{index}]"), bound.metric);
            if bound.max_drop.is_none() && bound.limit.is_none() {
                let problem = "give `max_drop` (against the reference), `limit`, or both";
                return Err(BuildError::invalid(path, problem));
            }
            if bound.class.is_some() && !metric.is_of_a_class() {
                let problem = format!("`{}` is not of one class", metric.name());
                return Err(BuildError::invalid(format!("{path}.class"), problem));
            }
            if bound.estimated && !metric.can_be_estimated() {
                let problem = format!(
                    "`{}` cannot be estimated; accuracy, precision, recall, f1 and auc can",
                    metric.name()
                );
                return Err(BuildError::invalid(format!("{path}.estimated"), problem));
            }
            let most = metric.largest();
            within(&format!("{path}.max_drop"), bound.max_drop.unwrap_or(0.0), 0.0, most)?;
            within(&format!("{path}.limit"), bound.limit.unwrap_or(0.0), 0.0, most)?;
        }
        Ok(Box::new(PerformanceMonitor { name, settings: self }))
    }
}

/// Holds the labelled rows of a window, and what scores make one expect of the others, against limits
/// and against the reference.
pub struct PerformanceMonitor {
    name: String,
    settings: PerformanceConfig,
}

/// A metric that the version's schema has all for.
struct Asked<'a> {
    bound: &'a MetricBound,
    /// Index of its class.
    class: usize,
    schema: &'a ProfileSchema,
    confidence: f64,
}

#[async_trait]
impl Monitor for PerformanceMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let confidence = evidence.confidence(self.settings.confidence);
        let settings = PerformanceConfig { confidence, ..self.settings.clone() };
        Self { name: self.name.clone(), settings }.findings(evidence)
    }
}

impl PerformanceMonitor {
    fn findings(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        comparable(evidence)?;
        let is_blind = evidence.labelled().overall.labelled_rows() == 0;
        let mut findings = vec![];
        for bound in &self.settings.metrics {
            let asked = Asked::of(bound, &evidence.schema, self.settings.confidence)?;
            if is_blind && !bound.estimated && !self.settings.require_labels {
                continue;
            }
            let (n, current) = if bound.estimated {
                let believing = Believing::new(
                    &evidence.reference,
                    &evidence.current,
                    evidence.schema.outcomes().positive,
                );
                (believing.rows(), asked.believed(&believing))
            } else {
                let labelled = evidence.labelled();
                (labelled.overall.labelled_rows(), asked.measured(labelled))
            };
            let current = current.filter(|_| n >= self.settings.min_labelled);
            findings.extend(bound.limit.map(|limit| self.against_limit(&asked, current, limit, n)));
            if let Some(max_drop) = bound.max_drop {
                findings.push(self.against_reference(evidence, &asked, current, max_drop, n)?);
            }
        }
        Ok(findings)
    }

    fn against_limit(
        &self,
        asked: &Asked<'_>,
        current: Option<Estimate>,
        limit: f64,
        n: u64,
    ) -> Finding {
        let bound = match asked.bound.metric.less_is_better() {
            true => Bound::AtMost(limit),
            false => Bound::AtLeast(limit),
        };
        let group = asked.group();
        let about = self.about(asked, ["performance", "estimated_performance"], group.as_deref());
        current.map_or_else(|| about.unknown(bound, n), |current| about.judged(current, bound, n))
    }

    /// The drop is positive where the window is worse. Its interval combines those of both sides in
    /// quadrature (MOVER, Zou & Donner 2008; for proportions this is Newcombe's interval).
    fn against_reference(
        &self,
        evidence: &Evidence,
        asked: &Asked<'_>,
        current: Option<Estimate>,
        max_drop: f64,
        n: u64,
    ) -> Result<Finding, MonitorError> {
        let Some(reference) = asked.measured(&evidence.reference) else {
            let problem =
                "the reference has no labels, so a drop cannot be told; give `limit` instead";
            return Err(MonitorError::Incomparable { problem: problem.to_owned() });
        };
        let (group, bound) = (asked.group(), Bound::AtMost(max_drop));
        let checks = ["performance_drop", "estimated_performance_drop"];
        let about = self.about(asked, checks, group.as_deref());
        Ok(match current {
            Some(current) => {
                let (better, worse) = match asked.bound.metric.less_is_better() {
                    true => (current, reference),
                    false => (reference, current),
                };
                about.judged(drop_of(better, worse), bound, n)
            }
            None => about.unknown(bound, n),
        })
    }

    /// The check is named for what is measured, and otherwise for what is estimated.
    fn about<'a>(
        &'a self,
        asked: &Asked<'_>,
        [measured, estimated]: [&'a str; 2],
        group: Option<&'a str>,
    ) -> About<'a> {
        let check = if asked.bound.estimated { estimated } else { measured };
        let method = asked.bound.metric.name();
        About { monitor: &self.name, check, method, group, ..About::default() }
    }
}

impl<'a> Asked<'a> {
    fn of(
        bound: &'a MetricBound,
        schema: &'a ProfileSchema,
        confidence: f64,
    ) -> Result<Self, MonitorError> {
        let (metric, name) = (bound.metric, bound.metric.name());
        let outcomes = schema.outcomes();
        let cannot = |why: &str| {
            let problem = format!("`{name}` cannot be computed: {why}");
            Err(MonitorError::Incomparable { problem })
        };
        if metric.is_of_numbers() != schema.predicted_numbers().is_some() {
            return cannot(if metric.is_of_numbers() {
                "the model predicts no numbers"
            } else {
                "the model predicts no classes"
            });
        }
        let needs_positive = metric == Metric::Auc
            || (metric.is_of_a_class() && (bound.class.is_none() || bound.estimated));
        if needs_positive && outcomes.positive.is_none() {
            return cannot("the version's profile schema has no positive class");
        }
        let class = match &bound.class {
            None => outcomes.positive.unwrap_or_default(),
            Some(class) => schema.class_index(class).ok_or_else(|| MonitorError::NotInSchema {
                what: "class",
                name: class.clone(),
                known: schema.classes.clone(),
            })?,
        };
        if bound.estimated && metric.is_of_a_class() && Some(class) != outcomes.positive {
            return cannot("only the positive class can be estimated");
        }
        Ok(Self { bound, class, schema, confidence })
    }

    /// The class, where one was asked for by name.
    fn group(&self) -> Option<String> {
        self.bound.class.as_ref().map(|class| format!("class: {class}"))
    }

    fn believed(&self, believing: &Believing) -> Option<Estimate> {
        let confidence = self.confidence;
        match (self.bound.metric, believing.binary()) {
            (Metric::Accuracy, None) => believing.all().share(confidence),
            (Metric::Accuracy, Some(binary)) => binary.accuracy(confidence),
            (Metric::Precision, Some(binary)) => binary.precision(confidence),
            (Metric::Recall, Some(binary)) => binary.recall(confidence),
            (Metric::F1, Some(binary)) => binary.f1(confidence),
            (Metric::Auc, _) => believing.auc(confidence),
            _ => None,
        }
    }

    fn measured(&self, profile: &Profile) -> Option<Estimate> {
        let (confusion, confidence) = (&profile.overall.confusion.labelled, self.confidence);
        let of_class = || by_class(confusion, confidence).into_iter().nth(self.class);
        match self.bound.metric {
            Metric::Accuracy => accuracy(confusion, confidence),
            Metric::BalancedAccuracy => balanced_accuracy(confusion, confidence),
            Metric::PrecisionMacro => precision_macro(confusion, confidence),
            Metric::F1Macro => f1_macro(confusion, confidence),
            Metric::Precision => of_class()?.precision,
            Metric::Recall => of_class()?.recall,
            Metric::F1 => of_class()?.f1,
            Metric::Auc => {
                let bins = joined(&profile.overall.scores.bins);
                let of =
                    |count: fn(&ScoreBin) -> u64| -> Vec<u64> { bins.iter().map(count).collect() };
                auc(&of(|bin| bin.negative), &of(|bin| bin.positive), confidence)
            }
            Metric::LogLoss => {
                let losses = &profile.losses;
                let sum = losses.log_loss.times(LOSS_STEP);
                let squares = losses.log_loss_squares.times(LOSS_STEP);
                Sums { rows: losses.rows, sum, squares }.mean(confidence)
            }
            Metric::Brier => {
                let losses = &profile.losses;
                let sum = losses.brier.times(LOSS_STEP);
                let squares = losses.brier_squares.times(LOSS_STEP);
                Sums { rows: losses.rows, sum, squares }.mean(confidence)
            }
            Metric::Ece => {
                let bins =
                    reliability(&profile.overall.scores.bins, self.schema.outcomes().positive);
                expected_calibration_error(&bins, confidence)
            }
            Metric::Mae => {
                let (errors, step) = self.errors(profile)?;
                let sum = errors.absolute.times(step);
                let squares = errors.squares.times(step * step);
                Sums { rows: errors.rows, sum, squares }.mean(confidence)
            }
            Metric::Rmse => {
                let (errors, step) = self.errors(profile)?;
                let sum = errors.squares.times(step * step);
                let coarse = step * ErrorSums::COARSE_STEPS as f64;
                // What coarse steps cannot tell apart is at least what equal errors have.
                let squares = errors.fourth_powers.times(coarse.powi(4));
                let squares = squares.max(sum * sum / errors.rows.max(1) as f64);
                Sums { rows: errors.rows, sum, squares }.root_mean(confidence)
            }
        }
    }

    fn errors<'p>(&self, profile: &'p Profile) -> Option<(&'p ErrorSums, f64)> {
        Some((&profile.overall.errors, self.schema.predicted_numbers()?.step))
    }
}

/// Bins of all predicted classes together.
fn joined(sides: &[Vec<ScoreBin>]) -> Vec<ScoreBin> {
    let mut all = sides.first().cloned().unwrap_or_default();
    for side in sides.iter().skip(1) {
        all.iter_mut().zip(side).for_each(|(bin, more)| bin.merge(more));
    }
    all
}

/// Bins of confidence: of rows predicted otherwise than as the positive class, the score from 1 down.
fn reliability(sides: &[Vec<ScoreBin>], positive: Option<usize>) -> Vec<ReliabilityBin> {
    let empty = ReliabilityBin { rows: 0, correct: 0, confidence: 0.0 };
    let mut bins = vec![empty; CALIBRATION_BINS];
    for (side, scores) in sides.iter().enumerate() {
        let is_turned = positive.is_some_and(|positive| positive != side);
        for (index, bin) in scores.iter().enumerate() {
            let place = if is_turned { scores.len() - 1 - index } else { index };
            let into = &mut bins[place * CALIBRATION_BINS / scores.len()];
            let sum = bin.labelled_sum.times(SCORE_STEP);
            into.rows += bin.labelled();
            into.correct += if is_turned { bin.negative } else { bin.positive };
            into.confidence += if is_turned { bin.labelled() as f64 - sum } else { sum };
        }
    }
    bins
}

/// First minus second, for two independent estimates.
fn drop_of(first: Estimate, second: Estimate) -> Estimate {
    let value = first.value - second.value;
    let (a, b) = (first.interval, second.interval);
    let down = (first.value - a.lower).hypot(b.upper - second.value);
    let up = (a.upper - first.value).hypot(second.value - b.lower);
    Estimate { value, interval: Interval { lower: value - down, upper: value + up } }
}

#[cfg(test)]
mod tests;
