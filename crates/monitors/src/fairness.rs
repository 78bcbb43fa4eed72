//! Are groups treated alike?

use async_trait::async_trait;
use mloop_core::counts::{GroupCounts, OutcomeCounts, SCORE_STEP, ScoreBin};
use mloop_core::schema::GroupSchema;
use mloop_core::{Evidence, Finding, Profile};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::fairness::{
    Gap, GroupRate, calibration_difference, difference, equalized_odds_difference,
    equalized_odds_ratio, ratio,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::finding::{About, Bound};
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Settings of kind `fairness`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FairnessConfig {
    /// Group attributes to check, and intersections of them such as `race & sex`; all of the schema
    /// when left out.
    #[serde(default)]
    attributes: Option<Vec<String>>,
    /// Whether groups of several attributes together are checked too, where `attributes` is left out.
    #[serde(default = "yes")]
    intersections: bool,
    /// Classes that are an advantage to be predicted, such as `approved`; the schema's positive class
    /// when left out. Without any, only the accuracies of the groups are compared: among ten kinds of
    /// clothes none is an advantage.
    #[serde(default)]
    positive: Vec<String>,
    /// What is compared; when left out, `accuracy_difference`, and with positive classes also
    /// `demographic_parity_difference`, `equal_opportunity_difference` and `equalized_odds_difference`,
    /// and the ratios where `min_ratio` is set.
    #[serde(default)]
    metrics: Option<Vec<Metric>>,
    /// Largest tolerated difference between two groups, 0 to 1, of every difference checked.
    #[serde(default = "max_difference")]
    max_difference: f64,
    /// Smallest tolerated ratio of two groups' rates, 0 to 1, of every ratio checked; 0.8 for
    /// selection rates is the four-fifths rule of 29 CFR 1607.4(D). Not checked when left out.
    #[serde(default)]
    min_ratio: Option<f64>,
    /// Rows (for rates among positives: rows of that kind) below which a group is left out.
    #[serde(default = "min_group_rows")]
    min_group_rows: u64,
    /// Whether a window without labels is blind to the checks that need labels (`true`), or these
    /// are left out until labels arrive (`false`).
    #[serde(default)]
    require_labels: bool,
    /// Whether a version whose reference has no group attribute fails this monitor (`true`), or is
    /// compared in nothing, which the log says (`false`). Not asked when `attributes` are named.
    #[serde(default = "yes")]
    require_groups: bool,
    /// Confidence of the intervals, together for all pairs of groups.
    #[serde(default = "confidence")]
    confidence: f64,
}

fn max_difference() -> f64 {
    0.1
}

fn min_group_rows() -> u64 {
    50
}

fn yes() -> bool {
    true
}

/// What is compared between groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Share predicted as positive.
    DemographicParityDifference,
    /// The same as a ratio, also called disparate impact.
    DemographicParityRatio,
    /// Share predicted right.
    AccuracyDifference,
    /// Share of the positive rows predicted as positive.
    EqualOpportunityDifference,
    /// The larger one of the differences of true and false positive rates.
    EqualizedOddsDifference,
    /// The smaller one of their ratios.
    EqualizedOddsRatio,
    /// Share of the negative rows predicted as positive.
    FalsePositiveRateDifference,
    /// Share of the positive rows predicted as negative.
    FalseNegativeRateDifference,
    /// Share of the rows predicted as positive that are.
    PredictiveParityDifference,
    /// How far shares of positive rows exceed the mean scores; needs a schema with a positive class.
    CalibrationDifference,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::DemographicParityDifference => "demographic_parity_difference",
            Self::DemographicParityRatio => "demographic_parity_ratio",
            Self::AccuracyDifference => "accuracy_difference",
            Self::EqualOpportunityDifference => "equal_opportunity_difference",
            Self::EqualizedOddsDifference => "equalized_odds_difference",
            Self::EqualizedOddsRatio => "equalized_odds_ratio",
            Self::FalsePositiveRateDifference => "false_positive_rate_difference",
            Self::FalseNegativeRateDifference => "false_negative_rate_difference",
            Self::PredictiveParityDifference => "predictive_parity_difference",
            Self::CalibrationDifference => "calibration_difference",
        }
    }

    fn is_ratio(self) -> bool {
        matches!(self, Self::DemographicParityRatio | Self::EqualizedOddsRatio)
    }

    fn needs_labels(self) -> bool {
        !matches!(self, Self::DemographicParityDifference | Self::DemographicParityRatio)
    }

    fn needs_positive(self) -> bool {
        self != Self::AccuracyDifference
    }

    /// Those that are compared unless the settings name others.
    fn usual(has_positive: bool, has_ratio: bool) -> Vec<Self> {
        let mut metrics = vec![Self::AccuracyDifference];
        if has_positive {
            metrics.extend([
                Self::DemographicParityDifference,
                Self::EqualOpportunityDifference,
                Self::EqualizedOddsDifference,
            ]);
        }
        if has_positive && has_ratio {
            metrics.extend([Self::DemographicParityRatio, Self::EqualizedOddsRatio]);
        }
        metrics
    }
}

impl Spec<Box<dyn Monitor>> for FairnessConfig {
    const KIND: &'static str = "fairness";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        within("max_difference", self.max_difference, 0.0, 1.0)?;
        within("min_ratio", self.min_ratio.unwrap_or(0.8), 0.0, 1.0)?;
        for (index, metric) in self.metrics.iter().flatten().enumerate() {
            if metric.is_ratio() && self.min_ratio.is_none() {
                let problem = format!("`{}` needs `min_ratio`", metric.name());
                return Err(BuildError::invalid(format!("metrics[{index}]"), problem));
            }
        }
        Ok(Box::new(FairnessMonitor { name, settings: self }))
    }
}

/// Compares the groups of each attribute, and of each intersection, with one another.
pub struct FairnessMonitor {
    name: String,
    settings: FairnessConfig,
}

/// The groups of one attribute or intersection in one window.
struct Groups<'a> {
    schema: &'a GroupSchema,
    counts: &'a GroupCounts,
    positive: &'a [usize],
    /// Index of the schema's own positive class, whose probability the scores are.
    scored: Option<usize>,
}

/// A rate of a group: events and trials.
type Rate = fn(&OutcomeCounts, &[usize]) -> (u64, u64);

#[async_trait]
impl Monitor for FairnessMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let confidence = evidence.confidence(self.settings.confidence);
        let settings = FairnessConfig { confidence, ..self.settings.clone() };
        Self { name: self.name.clone(), settings }.findings(evidence)
    }
}

impl FairnessMonitor {
    fn findings(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        comparable(evidence)?;
        let positive = self.positive(evidence)?;
        let metrics = self.metrics(evidence, &positive)?;
        let mut findings = vec![];
        for place in self.places(evidence)? {
            let groups =
                |profile: &'_ Profile| profile.groups.get(place).cloned().unwrap_or_default();
            let (now, labelled) = (groups(&evidence.current), groups(evidence.labelled()));
            let labels: u64 = all(&labelled).map(OutcomeCounts::labelled_rows).sum();
            for metric in &metrics {
                if metric.needs_labels() && labels == 0 && !self.settings.require_labels {
                    continue;
                }
                let groups = Groups {
                    schema: &evidence.schema.groups[place],
                    counts: if metric.needs_labels() { &labelled } else { &now },
                    positive: &positive,
                    scored: evidence.schema.outcomes().positive,
                };
                findings.push(self.compare(*metric, &groups));
            }
        }
        Ok(findings)
    }

    fn positive(&self, evidence: &Evidence) -> Result<Vec<usize>, MonitorError> {
        let schema = &evidence.schema;
        let index = |class: &String| {
            schema.class_index(class).ok_or_else(|| MonitorError::NotInSchema {
                what: "class",
                name: class.clone(),
                known: schema.classes.clone(),
            })
        };
        if self.settings.positive.is_empty() {
            return Ok(schema.outcomes().positive.into_iter().collect());
        }
        self.settings.positive.iter().map(index).collect()
    }

    fn metrics(
        &self,
        evidence: &Evidence,
        positive: &[usize],
    ) -> Result<Vec<Metric>, MonitorError> {
        let has_ratio = self.settings.min_ratio.is_some();
        let Some(wanted) = &self.settings.metrics else {
            if has_ratio && positive.is_empty() {
                let problem =
                    "`min_ratio` is set, but no class is the positive one: name some in `positive`";
                return Err(MonitorError::Incomparable { problem: problem.to_owned() });
            }
            return Ok(Metric::usual(!positive.is_empty(), has_ratio));
        };
        for metric in wanted {
            let lacks = if metric.needs_positive() && positive.is_empty() {
                "no class is the positive one: name some in `positive`"
            } else if *metric == Metric::CalibrationDifference
                && evidence.schema.outcomes().positive.is_none()
            {
                "the version's profile schema has no positive class, so that no score is its probability"
            } else {
                continue;
            };
            let problem = format!("`{}` cannot be compared: {lacks}", metric.name());
            return Err(MonitorError::Incomparable { problem });
        }
        Ok(wanted.clone())
    }

    /// Places in the schema of the groups that are compared.
    fn places(&self, evidence: &Evidence) -> Result<Vec<usize>, MonitorError> {
        let groups = &evidence.schema.groups;
        let known: Vec<String> = groups.iter().map(GroupSchema::name).collect();
        let Some(wanted) = &self.settings.attributes else {
            if known.is_empty() {
                let problem = "the version's profile schema has no group attribute; requests carry \
                               them in X-Amzn-SageMaker-Custom-Attributes, such as site=north, and \
                               the data that the reference is made of must carry them too";
                if self.settings.require_groups {
                    return Err(MonitorError::Incomparable { problem: problem.to_owned() });
                }
                tracing::warn!(monitor = self.name, "no group is compared: {problem}");
            }
            let wanted = |(_, group): &(usize, &GroupSchema)| {
                self.settings.intersections || group.attributes.len() == 1
            };
            return Ok(groups.iter().enumerate().filter(wanted).map(|(place, _)| place).collect());
        };
        let place = |name: &String| {
            known.iter().position(|one| one == name).ok_or_else(|| MonitorError::NotInSchema {
                what: "group attribute",
                name: name.clone(),
                known: known.clone(),
            })
        };
        wanted.iter().map(place).collect()
    }

    fn compare(&self, metric: Metric, groups: &Groups<'_>) -> Finding {
        let (min, sure) = (self.settings.min_group_rows, self.settings.confidence);
        let of = |rate| groups.rates(rate);
        let gap = match metric {
            Metric::DemographicParityDifference => difference(&of(selection), min, sure),
            Metric::DemographicParityRatio => ratio(&of(selection), min, sure),
            Metric::AccuracyDifference => difference(&of(accuracy), min, sure),
            Metric::EqualOpportunityDifference => difference(&of(true_positive), min, sure),
            Metric::EqualizedOddsDifference => {
                equalized_odds_difference(&of(true_positive), &of(false_positive), min, sure)
            }
            Metric::EqualizedOddsRatio => {
                odds_ratio(&of(true_positive), &of(false_positive), min, sure)
            }
            Metric::FalsePositiveRateDifference => difference(&of(false_positive), min, sure),
            Metric::FalseNegativeRateDifference => difference(&of(false_negative), min, sure),
            Metric::PredictiveParityDifference => difference(&of(precision), min, sure),
            Metric::CalibrationDifference => {
                calibration_difference(&groups.calibrations(), min, sure)
            }
        };
        let bound = match self.settings.min_ratio {
            Some(least) if metric.is_ratio() => Bound::AtLeast(least),
            _ => Bound::AtMost(self.settings.max_difference),
        };
        let (attribute, method) = (groups.schema.name(), metric.name());
        let about = About {
            monitor: &self.name,
            check: "group_difference",
            group: Some(&attribute),
            method,
            column: None,
        };
        match gap {
            Some(gap) => {
                let group = format!("{attribute}: {} / {}", gap.highest, gap.lowest);
                About { group: Some(&group), ..about }.judged(gap.estimate, bound, gap.n)
            }
            None => about.unknown(bound, groups.fewest(metric)),
        }
    }
}

impl Groups<'_> {
    /// Rates of the groups that are groups: rows without a value, and values that the reference did
    /// not have, are not one.
    fn rates(&self, rate: Rate) -> Vec<GroupRate> {
        let counts = self.counts.values.iter();
        counts
            .map(|(index, counts)| {
                let (events, trials) = rate(counts, self.positive);
                GroupRate { group: self.schema.value(*index), events, trials }
            })
            .collect()
    }

    /// Positive rows of the groups among those with a score, with the mean score.
    fn calibrations(&self) -> Vec<(GroupRate, f64)> {
        // Other classes may be an advantage than the one whose probability is known.
        if self.scored.is_none_or(|scored| self.positive != [scored]) {
            return vec![];
        }
        let counts = self.counts.values.iter();
        counts
            .map(|(index, counts)| {
                let bins = || counts.scores.bins.iter().flatten();
                let trials: u64 = bins().map(ScoreBin::labelled).sum();
                let events = bins().map(|bin| bin.positive).sum();
                let scores: i128 = bins().map(|bin| bin.labelled_sum.0).sum();
                let mean = scores as f64 * SCORE_STEP / trials.max(1) as f64;
                (GroupRate { group: self.schema.value(*index), events, trials }, mean)
            })
            .collect()
    }

    /// Rows of the smallest group that a metric looks at.
    fn fewest(&self, metric: Metric) -> u64 {
        let of = |rate: Rate| {
            let rates = self.rates(rate);
            rates.into_iter().map(|rate| rate.trials).min().unwrap_or(0)
        };
        match metric {
            Metric::DemographicParityDifference | Metric::DemographicParityRatio => of(selection),
            Metric::AccuracyDifference | Metric::CalibrationDifference => of(accuracy),
            Metric::EqualOpportunityDifference | Metric::FalseNegativeRateDifference => {
                of(true_positive)
            }
            Metric::FalsePositiveRateDifference => of(false_positive),
            Metric::EqualizedOddsDifference | Metric::EqualizedOddsRatio => {
                of(true_positive).min(of(false_positive))
            }
            Metric::PredictiveParityDifference => of(precision),
        }
    }
}

/// The smaller ratio, where a rate that is zero in every group is equal in all of them and left out,
/// its ratio being 0/0.
fn odds_ratio(hits: &[GroupRate], alarms: &[GroupRate], min: u64, sure: f64) -> Option<Gap> {
    let occurs = |rates: &[GroupRate]| rates.iter().any(|rate| rate.events > 0);
    match (occurs(hits), occurs(alarms)) {
        (true, true) => equalized_odds_ratio(hits, alarms, min, sure),
        (true, false) => ratio(hits, min, sure),
        (false, _) => ratio(alarms, min, sure),
    }
}

/// All groups, also those that are none.
fn all(counts: &GroupCounts) -> impl Iterator<Item = &OutcomeCounts> {
    counts.values.values().chain(&counts.other).chain(&counts.missing)
}

/// Rows predicted as a positive class, of all rows; needs no labels.
fn selection(counts: &OutcomeCounts, positive: &[usize]) -> (u64, u64) {
    let predicted = counts.confusion.predicted();
    (sum_at(&predicted, positive), predicted.iter().sum())
}

/// Rows predicted right, of the labelled rows.
fn accuracy(counts: &OutcomeCounts, _positive: &[usize]) -> (u64, u64) {
    let labelled = counts.confusion.labelled.iter().enumerate();
    let hits = labelled.filter_map(|(class, row)| row.get(class)).sum();
    (hits, counts.confusion.labelled_rows())
}

/// Positive rows predicted as positive, of the positive rows.
fn true_positive(counts: &OutcomeCounts, positive: &[usize]) -> (u64, u64) {
    among(counts, positive, |truth| positive.contains(&truth))
}

/// Positive rows predicted as negative, of the positive rows.
fn false_negative(counts: &OutcomeCounts, positive: &[usize]) -> (u64, u64) {
    let (hits, rows) = true_positive(counts, positive);
    (rows - hits, rows)
}

/// Negative rows predicted as positive, of the negative rows.
fn false_positive(counts: &OutcomeCounts, positive: &[usize]) -> (u64, u64) {
    among(counts, positive, |truth| !positive.contains(&truth))
}

/// Positive rows, of the labelled rows predicted as positive.
fn precision(counts: &OutcomeCounts, positive: &[usize]) -> (u64, u64) {
    let hits = true_positive(counts, positive).0;
    (hits, hits + false_positive(counts, positive).0)
}

fn among(counts: &OutcomeCounts, positive: &[usize], wanted: impl Fn(usize) -> bool) -> (u64, u64) {
    let labelled = counts.confusion.labelled.iter().enumerate();
    let rows = labelled.filter(|(truth, _)| wanted(*truth));
    rows.fold((0, 0), |(events, trials), (_, row)| {
        (events + sum_at(row, positive), trials + row.iter().sum::<u64>())
    })
}

fn sum_at(counts: &[u64], indices: &[usize]) -> u64 {
    indices.iter().filter_map(|index| counts.get(*index)).sum()
}

#[cfg(test)]
mod tests;
