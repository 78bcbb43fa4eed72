//! Are groups treated alike?

use async_trait::async_trait;
use mloop_core::counts::{Confusion, GroupCounts};
use mloop_core::schema::{MISSING_GROUP, OTHER_GROUP};
use mloop_core::{Evidence, Finding};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::fairness::{Gap, GroupRate, difference, ratio};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::finding::{About, Bound};
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Settings of kind `fairness`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FairnessConfig {
    /// Group attributes to check; all of the schema when left out.
    #[serde(default)]
    attributes: Option<Vec<String>>,
    /// Classes that are an advantage to be predicted, such as `approved`. Without them only the
    /// accuracies of the groups are compared: among ten kinds of clothes none is an advantage.
    #[serde(default)]
    positive: Vec<String>,
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

impl Spec<Box<dyn Monitor>> for FairnessConfig {
    const KIND: &'static str = "fairness";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        within("max_difference", self.max_difference, 0.0, 1.0)?;
        within("min_ratio", self.min_ratio.unwrap_or(0.8), 0.0, 1.0)?;
        if self.min_ratio.is_some() && self.positive.is_empty() {
            let problem = "a ratio of selection rates needs `positive:` classes";
            return Err(BuildError::invalid("min_ratio", problem));
        }
        Ok(Box::new(FairnessMonitor { name, settings: self }))
    }
}

/// Compares the groups of each attribute with one another.
pub struct FairnessMonitor {
    name: String,
    settings: FairnessConfig,
}

/// A rate of a group: events and trials.
type Rate = fn(&Confusion, &[usize]) -> (u64, u64);

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
        let mut findings = vec![];
        for attribute in self.attributes(evidence)? {
            let empty = GroupCounts::new();
            let groups = evidence.current.groups.get(&attribute).unwrap_or(&empty);
            self.attribute(&mut findings, &attribute, groups, &positive);
        }
        Ok(findings)
    }

    fn positive(&self, evidence: &Evidence) -> Result<Vec<usize>, MonitorError> {
        let index = |class: &String| {
            evidence.schema.class_index(class).ok_or_else(|| MonitorError::NotInSchema {
                what: "class",
                name: class.clone(),
                known: evidence.schema.classes.clone(),
            })
        };
        self.settings.positive.iter().map(index).collect()
    }

    fn attributes(&self, evidence: &Evidence) -> Result<Vec<String>, MonitorError> {
        let groups = evidence.schema.groups.iter();
        let known: Vec<String> = groups.map(|group| group.attribute.clone()).collect();
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
            return Ok(known);
        };
        match wanted.iter().find(|name| !known.contains(name)) {
            Some(name) => {
                let (what, name) = ("group attribute", name.clone());
                Err(MonitorError::NotInSchema { what, name, known })
            }
            None => Ok(wanted.clone()),
        }
    }

    fn attribute(
        &self,
        findings: &mut Vec<Finding>,
        attribute: &str,
        groups: &GroupCounts,
        positive: &[usize],
    ) {
        if !positive.is_empty() {
            let selected = self.rates(groups, positive, selection);
            findings.push(self.difference(
                attribute,
                "demographic_parity_difference",
                &[&selected],
            ));
            findings.extend(self.ratio(attribute, "demographic_parity_ratio", &[&selected]));
        }
        let labelled: u64 = groups.values().map(Confusion::labelled_rows).sum();
        if labelled == 0 && !self.settings.require_labels {
            return;
        }
        let right = self.rates(groups, positive, accuracy);
        findings.push(self.difference(attribute, "accuracy_difference", &[&right]));
        if !positive.is_empty() {
            let hits = self.rates(groups, positive, true_positive);
            let alarms = self.rates(groups, positive, false_positive);
            findings.push(self.difference(attribute, "equal_opportunity_difference", &[&hits]));
            findings.push(self.difference(
                attribute,
                "equalized_odds_difference",
                &[&hits, &alarms],
            ));
            findings.extend(self.ratio(attribute, "equalized_odds_ratio", &[&hits, &alarms]));
        }
    }

    /// Rates of the groups that are groups: rows without a value, and values that the reference did
    /// not have, are not one.
    fn rates(&self, groups: &GroupCounts, positive: &[usize], rate: Rate) -> Vec<GroupRate> {
        let real = groups.iter().filter(|(name, _)| *name != MISSING_GROUP && *name != OTHER_GROUP);
        real.map(|(name, counts)| {
            let (events, trials) = rate(counts, positive);
            GroupRate { group: name.clone(), events, trials }
        })
        .collect()
    }

    /// The largest difference over some rates; one of several is judged at a confidence that
    /// allows for having been picked.
    fn difference(&self, attribute: &str, method: &str, rates: &[&Vec<GroupRate>]) -> Finding {
        let settings = &self.settings;
        let confidence = 1.0 - (1.0 - settings.confidence) / rates.len() as f64;
        let gaps = rates.iter().map(|rates| difference(rates, settings.min_group_rows, confidence));
        let all: Option<Vec<Gap>> = gaps.collect();
        let largest = all.and_then(|gaps| {
            gaps.into_iter().max_by(|a, b| a.estimate.value.total_cmp(&b.estimate.value))
        });
        self.finding(attribute, method, largest, Bound::AtMost(settings.max_difference), rates)
    }

    /// The smallest ratio over some rates, when ratios are asked for. A rate that is zero in every
    /// group is equal in all of them and left out, its ratio being 0/0.
    fn ratio(&self, attribute: &str, method: &str, rates: &[&Vec<GroupRate>]) -> Option<Finding> {
        let settings = &self.settings;
        let bound = Bound::AtLeast(settings.min_ratio?);
        let confidence = 1.0 - (1.0 - settings.confidence) / rates.len() as f64;
        let occurring = rates.iter().filter(|rates| rates.iter().any(|rate| rate.events > 0));
        let gaps = occurring.map(|rates| ratio(rates, settings.min_group_rows, confidence));
        let all: Option<Vec<Gap>> = gaps.collect();
        let smallest = all.and_then(|gaps| {
            gaps.into_iter().min_by(|a, b| a.estimate.value.total_cmp(&b.estimate.value))
        });
        Some(self.finding(attribute, method, smallest, bound, rates))
    }

    fn finding(
        &self,
        attribute: &str,
        method: &str,
        gap: Option<Gap>,
        bound: Bound,
        rates: &[&Vec<GroupRate>],
    ) -> Finding {
        let about = About {
            monitor: &self.name,
            check: "group_difference",
            group: Some(attribute),
            method,
            column: None,
        };
        match gap {
            Some(gap) => {
                let group = format!("{attribute}: {} / {}", gap.highest, gap.lowest);
                About { group: Some(&group), ..about }.judged(gap.estimate, bound, gap.n)
            }
            None => {
                let trials = rates.iter().flat_map(|rates| rates.iter()).map(|rate| rate.trials);
                about.unknown(bound, trials.min().unwrap_or(0))
            }
        }
    }
}

/// Rows predicted as a positive class, of all rows; needs no labels.
fn selection(counts: &Confusion, positive: &[usize]) -> (u64, u64) {
    let predicted = counts.predicted();
    (sum_at(&predicted, positive), predicted.iter().sum())
}

/// Rows predicted right, of the labelled rows.
fn accuracy(counts: &Confusion, _positive: &[usize]) -> (u64, u64) {
    let hits = counts.labelled.iter().enumerate().filter_map(|(class, row)| row.get(class)).sum();
    (hits, counts.labelled_rows())
}

/// Positive rows predicted as positive, of the positive rows.
fn true_positive(counts: &Confusion, positive: &[usize]) -> (u64, u64) {
    among(counts, positive, |truth| positive.contains(&truth))
}

/// Negative rows predicted as positive, of the negative rows.
fn false_positive(counts: &Confusion, positive: &[usize]) -> (u64, u64) {
    among(counts, positive, |truth| !positive.contains(&truth))
}

fn among(counts: &Confusion, positive: &[usize], wanted: impl Fn(usize) -> bool) -> (u64, u64) {
    let rows = counts.labelled.iter().enumerate().filter(|(truth, _)| wanted(*truth));
    rows.fold((0, 0), |(events, trials), (_, row)| {
        (events + sum_at(row, positive), trials + row.iter().sum::<u64>())
    })
}

fn sum_at(counts: &[u64], indices: &[usize]) -> u64 {
    indices.iter().filter_map(|index| counts.get(*index)).sum()
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;
    use mloop_monitor::conformance::check_monitor;
    use serde_json::json;

    use super::*;
    use crate::testing::evidence;

    fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
        let settings: FairnessConfig = serde_json::from_value(settings).expect("settings");
        settings.build("fairness".to_owned(), &()).expect("a monitor")
    }

    /// Two sites of 1,000 rows each, predicted right with these shares.
    fn sites(north: f64, south: f64, labelled: bool) -> Evidence {
        let mut evidence = evidence();
        let groups = evidence.current.groups.get_mut("site").expect("an attribute");
        for (site, share) in [("north", north), ("south", south)] {
            let mut counts = Confusion::new(2);
            for row in 0..1000 {
                let truth = row % 2;
                let right = (row as f64) < share * 1000.0;
                let prediction = if right { truth } else { 1 - truth };
                counts.observe(prediction, labelled.then_some(truth));
            }
            groups.insert(site.to_owned(), counts);
        }
        evidence
    }

    async fn find(
        settings: serde_json::Value,
        evidence: &Evidence,
        method: &str,
    ) -> Option<Finding> {
        let found = monitor(settings).check(evidence).await.expect("findings");
        found.into_iter().find(|finding| finding.method == method)
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        check_monitor(monitor(json!({})).as_ref(), &evidence()).await;
        let all = json!({"positive": ["a"], "min_ratio": 0.8, "require_labels": true});
        check_monitor(monitor(all).as_ref(), &evidence()).await;
    }

    #[tokio::test]
    async fn only_a_gap_beyond_chance_alerts() {
        for (south, expected) in [(0.9, Status::Ok), (0.8, Status::Ok), (0.7, Status::Drifted)] {
            let found = find(json!({}), &sites(0.9, south, true), "accuracy_difference").await;
            let found = found.expect("a finding");
            assert_eq!(found.status, expected, "{south}: {found:?}");
        }
        let found = find(json!({}), &sites(0.9, 0.7, true), "accuracy_difference").await;
        assert_eq!(found.expect("a finding").group.as_deref(), Some("site: north / south"));
    }

    #[tokio::test]
    async fn selection_needs_no_labels_and_the_rest_waits_for_them() {
        let blind = sites(0.9, 0.7, false);
        let settings = json!({"positive": ["a"]});
        let parity = find(settings.clone(), &blind, "demographic_parity_difference").await;
        assert_ne!(parity.expect("a finding").status, Status::InsufficientData);
        assert_eq!(find(settings, &blind, "equalized_odds_difference").await, None);
        assert_eq!(find(json!({}), &blind, "accuracy_difference").await, None);
        let strict = json!({"positive": ["a"], "require_labels": true});
        let odds = find(strict, &blind, "equalized_odds_difference").await.expect("a finding");
        assert_eq!((odds.status, odds.value), (Status::InsufficientData, None));
    }

    #[tokio::test]
    async fn ratios_are_judged_when_asked_for() {
        let strict = json!({"positive": ["a"], "min_ratio": 0.8});
        // Of the false alarms: 0.1/0.1, 0.1/0.12 above the bound, 0.1/0.15 beyond it but not beyond
        // chance, 0.1/0.25 beyond both.
        for (south, expected) in
            [(0.9, Status::Ok), (0.88, Status::Ok), (0.85, Status::Ok), (0.75, Status::Drifted)]
        {
            let found =
                find(strict.clone(), &sites(0.9, south, true), "equalized_odds_ratio").await;
            let found = found.expect("a finding");
            assert_eq!(found.status, expected, "{south}: {found:?}");
        }
        let lenient = json!({"positive": ["a"]});
        let found = find(lenient, &sites(0.9, 0.2, true), "equalized_odds_ratio").await;
        assert_eq!(found, None);
        // Nobody is wrongly called positive in either group: 0/0 is left out, not unfair.
        let found = find(strict, &sites(1.0, 1.0, true), "equalized_odds_ratio").await;
        let found = found.expect("a finding");
        assert_eq!((found.status, found.value), (Status::Ok, Some(1.0)));
    }

    #[tokio::test]
    async fn small_groups_are_not_compared() {
        let (settings, window) = (json!({"min_group_rows": 1001}), sites(0.9, 0.1, true));
        let found = find(settings, &window, "accuracy_difference").await.expect("a finding");
        assert_eq!(found.status, Status::InsufficientData);
    }

    #[tokio::test]
    async fn rows_without_a_value_are_no_group() {
        let mut evidence = sites(0.9, 0.9, true);
        let groups = evidence.current.groups.get_mut("site").expect("an attribute");
        let mut nobody = Confusion::new(2);
        (0..1000).for_each(|_| nobody.observe(0, Some(1)));
        groups.insert(MISSING_GROUP.to_owned(), nobody.clone());
        groups.insert(OTHER_GROUP.to_owned(), nobody);
        let found = find(json!({}), &evidence, "accuracy_difference").await.expect("a finding");
        assert_eq!(found.status, Status::Ok, "{found:?}");
    }

    #[tokio::test]
    async fn groups_that_nobody_sent_are_insufficient_data() {
        let mut evidence = sites(0.9, 0.9, true);
        let groups = evidence.current.groups.get_mut("site").expect("an attribute");
        let mut nobody = Confusion::new(2);
        (0..1000).for_each(|_| nobody.observe(0, Some(1)));
        *groups = [(MISSING_GROUP.to_owned(), nobody)].into();
        let found = find(json!({}), &evidence, "accuracy_difference").await.expect("a finding");
        assert_eq!((found.status, found.value, found.n), (Status::InsufficientData, None, 0));
        evidence.current.groups.clear();
        assert_eq!(find(json!({}), &evidence, "accuracy_difference").await, None, "nor labels");
    }

    #[tokio::test]
    async fn a_reference_without_groups_fails_unless_it_may_have_none() {
        let mut evidence = evidence();
        evidence.schema.groups.clear();
        evidence.current.groups.clear();
        evidence.reference.groups.clear();
        let digest = evidence.schema.digest();
        (evidence.current.schema, evidence.reference.schema) = (digest, digest);
        let strict = monitor(json!({})).check(&evidence).await.expect_err("no groups");
        assert!(strict.to_string().contains("no group attribute"), "{strict}");
        let lenient = json!({"require_groups": false});
        assert_eq!(monitor(lenient).check(&evidence).await.expect("findings"), []);
        let named = json!({"attributes": ["site"], "require_groups": false});
        let missing = monitor(named).check(&evidence).await.expect_err("a group that was named");
        assert!(missing.to_string().contains("no group attribute `site`"), "{missing}");
    }

    #[tokio::test]
    async fn unknown_classes_and_attributes_are_named() {
        for (settings, expected) in [
            (json!({"positive": ["c"]}), "no class `c`; it has: a, b"),
            (json!({"attributes": ["age"]}), "no group attribute `age`; it has: site"),
        ] {
            let error = monitor(settings).check(&evidence()).await.expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
