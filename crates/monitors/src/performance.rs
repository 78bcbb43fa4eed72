//! Are the answers right, where labels are in?

use async_trait::async_trait;
use mloop_core::counts::{CONFIDENCE_STEP, CalibrationBin};
use mloop_core::{Evidence, Finding, Profile};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::classification::{
    ReliabilityBin, accuracy, balanced_accuracy, expected_calibration_error, f1_macro,
};
use mloop_stats::interval::Interval;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::finding::{About, Bound};
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Settings of kind `performance`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerformanceConfig {
    /// Bounds by metric; `accuracy` with a drop of 0.05 from the reference when left out.
    #[serde(default = "metrics")]
    metrics: Vec<MetricBound>,
    /// Labelled rows below which a window is not judged.
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
    /// How much worse than on the reference is tolerated, 0 to 1.
    #[serde(default)]
    max_drop: Option<f64>,
    /// The worst value that is tolerated, 0 to 1: a floor, for `ece` a ceiling.
    #[serde(default)]
    limit: Option<f64>,
}

fn metrics() -> Vec<MetricBound> {
    vec![MetricBound { metric: Metric::Accuracy, max_drop: Some(0.05), limit: None }]
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
    /// Mean F1 of the classes.
    F1Macro,
    /// Expected calibration error; less is better.
    Ece,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::F1Macro => "f1_macro",
            Self::Ece => "ece",
        }
    }

    fn estimate(self, profile: &Profile, confidence: f64) -> Option<Estimate> {
        let confusion = &profile.overall.labelled;
        match self {
            Self::Accuracy => accuracy(confusion, confidence),
            Self::BalancedAccuracy => balanced_accuracy(confusion, confidence),
            Self::F1Macro => f1_macro(confusion, confidence),
            Self::Ece => {
                let bins: Vec<ReliabilityBin> = profile.calibration.iter().map(bin).collect();
                expected_calibration_error(&bins, confidence)
            }
        }
    }
}

fn bin(counts: &CalibrationBin) -> ReliabilityBin {
    ReliabilityBin {
        rows: counts.rows,
        correct: counts.correct,
        confidence: counts.confidence.0 as f64 * CONFIDENCE_STEP,
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
            let path = format!("metrics[{index}]");
            if bound.max_drop.is_none() && bound.limit.is_none() {
                let problem = "give `max_drop` (against the reference), `limit`, or both";
                return Err(BuildError::invalid(path, problem));
            }
            within(&format!("{path}.max_drop"), bound.max_drop.unwrap_or(0.0), 0.0, 1.0)?;
            within(&format!("{path}.limit"), bound.limit.unwrap_or(0.0), 0.0, 1.0)?;
        }
        Ok(Box::new(PerformanceMonitor { name, settings: self }))
    }
}

/// Holds the labelled rows of a window against limits and against the reference.
pub struct PerformanceMonitor {
    name: String,
    settings: PerformanceConfig,
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
        if evidence.current.overall.labelled_rows() == 0 && !self.settings.require_labels {
            return Ok(vec![]);
        }
        let mut findings = vec![];
        for bound in &self.settings.metrics {
            findings
                .extend(bound.limit.map(|limit| self.against_limit(evidence, bound.metric, limit)));
            if let Some(max_drop) = bound.max_drop {
                findings.push(self.against_reference(evidence, bound.metric, max_drop)?);
            }
        }
        Ok(findings)
    }

    fn against_limit(&self, evidence: &Evidence, metric: Metric, limit: f64) -> Finding {
        let bound = match metric {
            Metric::Ece => Bound::AtMost(limit),
            _ => Bound::AtLeast(limit),
        };
        let about = self.about("performance", metric);
        let n = evidence.current.overall.labelled_rows();
        match metric.estimate(&evidence.current, self.settings.confidence) {
            Some(estimate) if n >= self.settings.min_labelled => about.judged(estimate, bound, n),
            _ => about.unknown(bound, n),
        }
    }

    /// The drop is positive where the window is worse. Its interval combines those of both sides in
    /// quadrature (MOVER, Zou & Donner 2008; for proportions this is Newcombe's interval).
    fn against_reference(
        &self,
        evidence: &Evidence,
        metric: Metric,
        max_drop: f64,
    ) -> Result<Finding, MonitorError> {
        let confidence = self.settings.confidence;
        let Some(reference) = metric.estimate(&evidence.reference, confidence) else {
            let problem =
                "the reference has no labels, so a drop cannot be told; give `limit` instead";
            return Err(MonitorError::Incomparable { problem: problem.to_owned() });
        };
        let (about, bound) = (self.about("performance_drop", metric), Bound::AtMost(max_drop));
        let n = evidence.current.overall.labelled_rows();
        let current = metric.estimate(&evidence.current, confidence);
        Ok(match current {
            Some(current) if n >= self.settings.min_labelled => {
                let (better, worse) = match metric {
                    Metric::Ece => (current, reference),
                    _ => (reference, current),
                };
                about.judged(drop_of(better, worse), bound, n)
            }
            _ => about.unknown(bound, n),
        })
    }

    fn about<'a>(&'a self, check: &'a str, metric: Metric) -> About<'a> {
        About { monitor: &self.name, check, method: metric.name(), ..About::default() }
    }
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
mod tests {
    use mloop_core::Status;
    use mloop_monitor::conformance::check_monitor;
    use serde_json::json;

    use super::*;
    use crate::testing::evidence;

    fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
        let settings: PerformanceConfig = serde_json::from_value(settings).expect("settings");
        settings.build("performance".to_owned(), &()).expect("a monitor")
    }

    fn count(profile: &mut Profile, rows: usize, right: usize) {
        profile.overall = mloop_core::counts::Confusion::new(2);
        profile.calibration.fill(CalibrationBin::default());
        for row in 0..rows {
            let (truth, correct) = (row % 2, row < right);
            profile.overall.observe(if correct { truth } else { 1 - truth }, Some(truth));
            CalibrationBin::observe(&mut profile.calibration, 0.9, correct);
        }
    }

    /// 1,000 labelled rows on the reference, 90 % right; so many in the window.
    fn window(rows: usize, right: usize) -> Evidence {
        let mut evidence = evidence();
        count(&mut evidence.reference, 1000, 900);
        count(&mut evidence.current, rows, right);
        evidence
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let settings = json!({"metrics": [
            {"metric": "accuracy", "max_drop": 0.05, "limit": 0.8},
            {"metric": "balanced_accuracy", "limit": 0.8},
            {"metric": "f1_macro", "limit": 0.8},
            {"metric": "ece", "limit": 0.5, "max_drop": 0.1},
        ]});
        check_monitor(monitor(settings.clone()).as_ref(), &window(1000, 900)).await;
        let mut strict = settings;
        strict["require_labels"] = json!(true);
        check_monitor(monitor(strict).as_ref(), &window(1000, 900)).await;
    }

    #[tokio::test]
    async fn only_a_drop_beyond_chance_alerts() {
        for (right, expected) in
            [(950, Status::Ok), (850, Status::Ok), (840, Status::Ok), (800, Status::Drifted)]
        {
            let found = monitor(json!({})).check(&window(1000, right)).await.expect("findings");
            assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
        }
    }

    #[tokio::test]
    async fn a_floor_is_crossed_by_the_whole_interval_only() {
        let settings = json!({"metrics": [{"metric": "accuracy", "limit": 0.85}]});
        for (right, expected) in [(850, Status::Ok), (835, Status::Ok), (820, Status::Drifted)] {
            let found =
                monitor(settings.clone()).check(&window(1000, right)).await.expect("findings");
            assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
        }
    }

    #[tokio::test]
    async fn calibration_is_held_below_its_ceiling() {
        let settings = json!({"metrics": [{"metric": "ece", "limit": 0.1}]});
        for (right, expected) in [(900, Status::Ok), (500, Status::Drifted)] {
            let found =
                monitor(settings.clone()).check(&window(1000, right)).await.expect("findings");
            assert_eq!(found[0].status, expected, "{right}: {:?}", found[0]);
        }
    }

    #[tokio::test]
    async fn without_enough_labels_nothing_is_fine() {
        let found = monitor(json!({})).check(&window(99, 99)).await.expect("findings");
        assert_eq!(found[0].status, Status::InsufficientData);
    }

    #[tokio::test]
    async fn without_any_label_there_is_nothing_to_say_unless_labels_are_required() {
        for (settings, expected) in
            [(json!({}), None), (json!({"require_labels": true}), Some(Status::InsufficientData))]
        {
            let found = monitor(settings).check(&window(0, 0)).await.expect("findings");
            assert_eq!(found.first().map(|finding| finding.status), expected);
        }
    }

    #[test]
    fn a_metric_without_a_bound_is_refused() {
        let settings = json!({"metrics": [{"metric": "accuracy"}]});
        let settings: PerformanceConfig = serde_json::from_value(settings).expect("settings");
        let error = settings.build("p".to_owned(), &()).err().expect("no bound");
        assert!(error.to_string().contains("give `max_drop`"), "{error}");
    }
}
