//! The gate: whether a new version may go to staging.
//!
//! Each data set is judged by an interval, not by a number, so each verdict has three outcomes:
//! the whole interval on the good side of the bound blesses, the whole interval on the bad side
//! rejects, and an interval across the bound cannot tell. The intervals are per data set; since a
//! version must pass on all of them, looking at more sets makes a wrong blessing rarer, not more
//! frequent. They cover the chance in the choice of images, not the chance in training.

use mloop_core::evaluation::{GateRule, GateVerdict, Predictions, SetComparison};
use mloop_stats::interval::{tango, wilson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the frozen test set in reports.
pub const FROZEN: &str = "frozen";
/// Name of the fresh slice of labelled traffic in reports.
pub const FRESH: &str = "fresh";

/// What the gate asks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// Confidence of the intervals.
    pub confidence: f64,
    /// On the frozen set the new version may be worse by less than this share.
    pub frozen_margin: f64,
    /// On the fresh slice it must be better by more than this share.
    pub min_improvement: f64,
    /// Data sets with fewer images cannot tell.
    pub min_rows: u64,
    /// Whether a version without a predecessor may pass.
    pub first_model: FirstModel,
    /// Accuracy on the frozen set that a version without a predecessor must reach.
    pub accuracy_floor: f64,
    /// What holds when there is no labelled traffic to compare on.
    pub without_fresh: WithoutFresh,
}

/// Whether a version without a predecessor may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstModel {
    /// If it reaches the floor.
    Allow,
    /// Never: the first version is a person's decision.
    Refuse,
}

/// What holds when there is no labelled traffic to compare on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutFresh {
    /// Whether the new version is better cannot be told, so it does not pass.
    Inconclusive,
    /// The frozen set alone decides: for planned retrainings where labels never arrive.
    FrozenOnly,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            confidence: 0.95,
            frozen_margin: 0.01,
            min_improvement: 0.0,
            min_rows: 200,
            first_model: FirstModel::Refuse,
            accuracy_floor: 0.5,
            without_fresh: WithoutFresh::Inconclusive,
        }
    }
}

impl GateConfig {
    /// What is out of range, with its key; none when all is well.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !(self.confidence >= 0.5 && self.confidence < 1.0) {
            Some(("confidence", "must be at least 0.5 and below 1"))
        } else if !(self.frozen_margin > 0.0 && self.frozen_margin <= 1.0) {
            Some(("frozen_margin", "must be above 0 and at most 1"))
        } else if !share(self.min_improvement) {
            Some(("min_improvement", "must lie between 0 and 1"))
        } else if !share(self.accuracy_floor) {
            Some(("accuracy_floor", "must lie between 0 and 1"))
        } else {
            None
        }
    }
}

/// What two versions said about one data set.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The new version.
    pub challenger: &'a Predictions,
    /// The version in production; none for a first version.
    pub champion: Option<&'a Predictions>,
}

/// Judges both data sets. `fresh` is none, or empty, when there is no labelled traffic.
#[must_use]
pub fn judge(frozen: Pair<'_>, fresh: Option<Pair<'_>>, config: &GateConfig) -> Vec<SetComparison> {
    let fresh = fresh.filter(|pair| !pair.challenger.truths.is_empty());
    let first = match frozen.champion {
        Some(champion) => paired(FROZEN, frozen.challenger, champion, frozen_rule(config), config),
        None => alone(FROZEN, frozen.challenger, config),
    };
    let second = match (fresh, frozen.champion) {
        (Some(Pair { challenger, champion: Some(champion) }), _) => {
            Some(paired(FRESH, challenger, champion, fresh_rule(config), config))
        }
        (Some(Pair { challenger, champion: None }), _) => Some(reported(challenger, config)),
        (None, Some(_)) => Some(absent(config)),
        (None, None) => None,
    };
    std::iter::once(first).chain(second).collect()
}

/// What the data sets amount to: blessed only if every one that was asked is.
#[must_use]
pub fn verdict(sets: &[SetComparison]) -> GateVerdict {
    let asked = || sets.iter().filter(|set| set.rule != GateRule::Report);
    let any = |verdict| asked().any(|set| set.verdict == verdict);
    if any(GateVerdict::Rejected) {
        GateVerdict::Rejected
    } else if any(GateVerdict::Inconclusive) || asked().next().is_none() {
        GateVerdict::Inconclusive
    } else {
        GateVerdict::Blessed
    }
}

/// A rule with the bound that the difference is held against.
#[derive(Clone, Copy)]
struct Rule {
    rule: GateRule,
    margin: f64,
    bound: f64,
}

fn frozen_rule(config: &GateConfig) -> Rule {
    let margin = config.frozen_margin;
    Rule { rule: GateRule::NonInferiority, margin, bound: -margin }
}

fn fresh_rule(config: &GateConfig) -> Rule {
    let margin = config.min_improvement;
    Rule { rule: GateRule::Improvement, margin, bound: margin }
}

fn paired(
    set: &str,
    challenger: &Predictions,
    champion: &Predictions,
    Rule { rule, margin, bound }: Rule,
    config: &GateConfig,
) -> SetComparison {
    let n = challenger.truths.len() as u64;
    let right = |predictions: &Predictions, row: usize| {
        predictions.predictions.get(row) == challenger.truths.get(row)
    };
    let count = |wanted: (bool, bool)| {
        let rows = 0..challenger.truths.len();
        rows.filter(|row| (right(challenger, *row), right(champion, *row)) == wanted).count() as u64
    };
    let (gained, lost) = (count((true, false)), count((false, true)));
    let interval = tango(gained, lost, n, config.confidence).map(mloop_stats::Interval::ends);
    let verdict = three_way(n, interval, bound, config);
    let difference = (n > 0).then(|| (gained as f64 - lost as f64) / n as f64);
    let asked = match rule {
        GateRule::Improvement => format!("better by more than {margin:.4}"),
        _ => format!("not worse by {margin:.4} or more"),
    };
    SetComparison {
        set: set.to_owned(),
        dataset: challenger.dataset,
        n,
        challenger_accuracy: accuracy(challenger),
        champion_accuracy: Some(accuracy(champion)),
        difference,
        interval,
        discordant: Some([gained, lost]),
        rule,
        margin,
        verdict,
        reason: reason(verdict, &asked, "difference", interval, n, config),
    }
}

/// A first version on the frozen set.
fn alone(set: &str, challenger: &Predictions, config: &GateConfig) -> SetComparison {
    let n = challenger.truths.len() as u64;
    let right = challenger.correct() as u64;
    let interval = wilson(right, n, config.confidence).map(mloop_stats::Interval::ends);
    let floor = config.accuracy_floor;
    let (verdict, reason) = match config.first_model {
        FirstModel::Refuse => {
            let reason = "there is no version in production to compare with, and first_model is refuse; set it to allow for the first version";
            (GateVerdict::Rejected, reason.to_owned())
        }
        FirstModel::Allow => {
            let verdict = three_way(n, interval, floor, config);
            let asked = format!("accuracy of at least {floor:.4}");
            (verdict, reason(verdict, &asked, "accuracy", interval, n, config))
        }
    };
    SetComparison {
        set: set.to_owned(),
        dataset: challenger.dataset,
        n,
        challenger_accuracy: accuracy(challenger),
        champion_accuracy: None,
        difference: None,
        interval,
        discordant: None,
        rule: GateRule::Floor,
        margin: floor,
        verdict,
        reason,
    }
}

/// A first version on the fresh slice: nothing is asked of it there.
fn reported(challenger: &Predictions, config: &GateConfig) -> SetComparison {
    let set = alone(FRESH, challenger, config);
    SetComparison {
        rule: GateRule::Report,
        margin: 0.0,
        verdict: GateVerdict::Blessed,
        reason: "reported only: there is no version in production to be better than".to_owned(),
        ..set
    }
}

/// No labelled traffic, though there is a champion to be better than.
fn absent(config: &GateConfig) -> SetComparison {
    let (rule, verdict, reason) = match config.without_fresh {
        WithoutFresh::Inconclusive => (
            GateRule::Improvement,
            GateVerdict::Inconclusive,
            "there is no labelled traffic to compare on, so an improvement cannot be told",
        ),
        WithoutFresh::FrozenOnly => (
            GateRule::Report,
            GateVerdict::Blessed,
            "there is no labelled traffic; the frozen set alone decides (without_fresh: frozen_only)",
        ),
    };
    SetComparison {
        set: FRESH.to_owned(),
        dataset: mloop_core::Sha256Digest::of(b""),
        n: 0,
        challenger_accuracy: 0.0,
        champion_accuracy: None,
        difference: None,
        interval: None,
        discordant: None,
        rule,
        margin: config.min_improvement,
        verdict,
        reason: reason.to_owned(),
    }
}

fn three_way(n: u64, interval: Option<[f64; 2]>, bound: f64, config: &GateConfig) -> GateVerdict {
    match interval {
        Some(_) if n < config.min_rows => GateVerdict::Inconclusive,
        Some([lower, _]) if lower > bound => GateVerdict::Blessed,
        Some([_, upper]) if upper <= bound => GateVerdict::Rejected,
        _ => GateVerdict::Inconclusive,
    }
}

fn reason(
    verdict: GateVerdict,
    asked: &str,
    what: &str,
    interval: Option<[f64; 2]>,
    n: u64,
    config: &GateConfig,
) -> String {
    if n < config.min_rows {
        return format!("{n} images are too few to tell; {} are needed", config.min_rows);
    }
    let lies = interval.map_or(String::new(), |[lower, upper]| {
        format!("the {what} lies in [{lower:+.4}, {upper:+.4}] on {n} images")
    });
    match verdict {
        GateVerdict::Blessed => format!("{asked}: {lies}"),
        GateVerdict::Rejected => format!("asked for {asked}, but {lies}"),
        GateVerdict::Inconclusive => format!("asked for {asked}, which cannot be told: {lies}"),
    }
}

fn accuracy(predictions: &Predictions) -> f64 {
    let n = predictions.truths.len();
    if n == 0 { 0.0 } else { predictions.correct() as f64 / n as f64 }
}

#[cfg(test)]
mod tests {
    use mloop_core::Sha256Digest;

    use super::*;

    /// `n` images, of which those in `wrong` are predicted wrong.
    fn predictions(n: usize, wrong: std::ops::Range<usize>) -> Predictions {
        Predictions {
            dataset: Sha256Digest::of(b"set"),
            truths: vec![0; n],
            predictions: (0..n).map(|row| usize::from(wrong.contains(&row))).collect(),
            confidences: vec![0.9; n],
        }
    }

    fn pair<'a>(challenger: &'a Predictions, champion: &'a Predictions) -> Pair<'a> {
        Pair { challenger, champion: Some(champion) }
    }

    #[test]
    fn each_set_has_three_outcomes_by_its_interval() {
        use GateVerdict::{Blessed, Inconclusive, Rejected};
        let config = GateConfig::default();
        let (worse, better) = (predictions(1000, 0..200), predictions(1000, 0..100));
        let (same, slightly) = (predictions(1000, 0..100), predictions(1000, 0..97));
        let few = (predictions(199, 0..0), predictions(199, 0..100));
        let frozen = |challenger, champion| {
            judge(pair(challenger, champion), None, &config).remove(0).verdict
        };
        let fresh = |challenger, champion| {
            let equal = pair(&same, &same);
            judge(equal, Some(pair(challenger, champion)), &config).remove(1).verdict
        };
        let table = [
            ("frozen, equal", frozen(&same, &better), Blessed),
            ("frozen, better", frozen(&better, &worse), Blessed),
            ("frozen, much worse", frozen(&worse, &better), Rejected),
            ("frozen, too few", frozen(&few.0, &few.1), Inconclusive),
            ("fresh, better", fresh(&better, &worse), Blessed),
            ("fresh, worse", fresh(&worse, &better), Rejected),
            ("fresh, equal", fresh(&same, &better), Inconclusive),
            ("fresh, better by a hair", fresh(&slightly, &same), Inconclusive),
            ("fresh, too few", fresh(&few.0, &few.1), Inconclusive),
        ];
        for (name, found, expected) in table {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_difference_is_paired() {
        // Both are right on 900 of 1000, but on other images.
        let (one, other) = (predictions(1000, 0..100), predictions(1000, 100..200));
        let set = judge(pair(&one, &other), None, &GateConfig::default()).remove(0);
        assert_eq!((set.difference, set.discordant), (Some(0.0), Some([100, 100])));
        let [lower, upper] = set.interval.expect("an interval");
        assert!(lower < -0.02 && upper > 0.02, "{lower} {upper}");
        assert_eq!(set.verdict, GateVerdict::Inconclusive, "wider than the margin");
    }

    #[test]
    fn a_first_version_needs_leave_and_the_floor() {
        let good = predictions(1000, 0..100);
        let alone = |first_model, accuracy_floor| {
            let config = GateConfig { first_model, accuracy_floor, ..GateConfig::default() };
            verdict(&judge(Pair { challenger: &good, champion: None }, None, &config))
        };
        assert_eq!(alone(FirstModel::Refuse, 0.0), GateVerdict::Rejected);
        assert_eq!(alone(FirstModel::Allow, 0.85), GateVerdict::Blessed);
        assert_eq!(alone(FirstModel::Allow, 0.95), GateVerdict::Rejected);
        assert_eq!(alone(FirstModel::Allow, 0.90), GateVerdict::Inconclusive);
    }

    #[test]
    fn a_version_passes_only_on_all_sets_that_were_asked() {
        use GateVerdict::{Blessed, Inconclusive, Rejected};
        let same = predictions(1000, 0..100);
        let set = judge(pair(&same, &same), None, &GateConfig::default()).remove(0);
        let of = |rule, verdict| SetComparison { rule, verdict, ..set.clone() };
        let asked = GateRule::Improvement;
        let table = [
            (vec![of(asked, Blessed), of(asked, Blessed)], Blessed),
            (vec![of(asked, Blessed), of(asked, Inconclusive)], Inconclusive),
            (vec![of(asked, Rejected), of(asked, Inconclusive)], Rejected),
            (vec![of(asked, Blessed), of(GateRule::Report, Rejected)], Blessed),
            (vec![], Inconclusive),
        ];
        for (row, (sets, expected)) in table.into_iter().enumerate() {
            assert_eq!(verdict(&sets), expected, "row {row}");
        }
    }

    #[test]
    fn without_labelled_traffic_the_setting_decides() {
        let (better, worse) = (predictions(1000, 0..100), predictions(1000, 0..200));
        let of = |without_fresh| {
            let config = GateConfig { without_fresh, ..GateConfig::default() };
            verdict(&judge(pair(&better, &worse), None, &config))
        };
        assert_eq!(of(WithoutFresh::Inconclusive), GateVerdict::Inconclusive);
        assert_eq!(of(WithoutFresh::FrozenOnly), GateVerdict::Blessed);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert_eq!(GateConfig::default().problem(), None);
        let broken = GateConfig { confidence: 1.0, ..GateConfig::default() };
        assert_eq!(broken.problem().map(|(key, _)| key), Some("confidence"));
        let broken = GateConfig { frozen_margin: f64::NAN, ..GateConfig::default() };
        assert_eq!(broken.problem().map(|(key, _)| key), Some("frozen_margin"));
    }
}
