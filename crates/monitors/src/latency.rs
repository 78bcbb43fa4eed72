//! Are answers in time?

use async_trait::async_trait;
use mloop_core::latency::LatencyHistogram;
use mloop_core::{Evidence, Finding, Status};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::burn::{Events, RULES, Rule, burn_rate};
use mloop_stats::interval::{Interval, wilson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{About, Bound};
use crate::settings::{confidence, valid_confidence, within};

/// Relative width of a bucket of the histogram, 2^(1/8).
const BUCKET_GROWTH: f64 = 1.090_507_732_665_257_7;

/// Settings of kind `latency`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyConfig {
    /// Longest tolerated median, milliseconds.
    #[serde(default)]
    max_p50_ms: Option<f64>,
    /// Longest tolerated 90th percentile, milliseconds.
    #[serde(default)]
    max_p90_ms: Option<f64>,
    /// Longest tolerated 95th percentile, milliseconds.
    #[serde(default)]
    max_p95_ms: Option<f64>,
    /// Longest tolerated 99th percentile, milliseconds.
    #[serde(default)]
    max_p99_ms: Option<f64>,
    /// Longest tolerated 99.9th percentile, milliseconds.
    #[serde(default)]
    max_p999_ms: Option<f64>,
    /// Share of requests that must meet the objective which the version's profile schema carries,
    /// such as 0.99. Its burn rates are checked when this is set.
    #[serde(default)]
    objective_share: Option<f64>,
    /// Which burn rates over which spans are an alert. The three of the Site Reliability Workbook
    /// (chapter 5), unless set: they tell of 2, 5 and 10 percent of a month's budget used up in an
    /// hour, in six hours, in three days.
    #[serde(default = "burn_rules")]
    burn_rules: Vec<BurnRule>,
    /// Requests below which a window is not judged.
    #[serde(default = "min_requests")]
    min_requests: u64,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    confidence: f64,
}

/// A burn rate that is an alert over a long span, and still over a short one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BurnRule {
    /// Burn rate up to which all is well: 1 uses up the whole error budget over its period.
    factor: f64,
    /// The long span, minutes up to the end of the window.
    long_minutes: u32,
    /// The short one: the alert ends soon after its cause.
    short_minutes: u32,
}

fn burn_rules() -> Vec<BurnRule> {
    let of = |Rule { factor, long_minutes, short_minutes }| BurnRule {
        factor,
        long_minutes,
        short_minutes,
    };
    RULES.into_iter().map(of).collect()
}

/// Minutes of the longest span: 30 days, for which error budgets are reckoned.
const LONGEST: u32 = 30 * 24 * 60;

impl BurnRule {
    fn check(&self) -> Result<(), BuildError> {
        within("burn_rules: factor", self.factor, 1e-3, 1e6)?;
        if self.short_minutes == 0
            || self.short_minutes > self.long_minutes
            || self.long_minutes > LONGEST
        {
            let problem = format!(
                "`short_minutes` from 1, `long_minutes` not below it and up to {LONGEST} are expected"
            );
            return Err(BuildError::invalid("burn_rules", problem));
        }
        Ok(())
    }

    /// `1h/5m`: what tells it from the others.
    fn name(&self) -> String {
        format!("{}/{}", span(self.long_minutes.into()), span(self.short_minutes.into()))
    }
}

/// So many minutes, in the longest unit that they fill.
fn span(minutes: i64) -> String {
    match minutes {
        days if days % (24 * 60) == 0 => format!("{}d", days / (24 * 60)),
        hours if hours % 60 == 0 => format!("{}h", hours / 60),
        minutes => format!("{minutes}m"),
    }
}

fn min_requests() -> u64 {
    100
}

impl Spec<Box<dyn Monitor>> for LatencyConfig {
    const KIND: &'static str = "latency";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        self.burn_rules.iter().try_for_each(BurnRule::check)?;
        if let Some(share) = self.objective_share {
            within("objective_share", share, 0.0, 0.99999)?;
        }
        for (name, _, bound) in self.percentiles() {
            within(&format!("max_{name}_ms"), bound.unwrap_or(1.0), 0.001, 3.6e6)?;
        }
        Ok(Box::new(LatencyMonitor { name, settings: self }))
    }
}

impl LatencyConfig {
    fn percentiles(&self) -> [(&'static str, f64, Option<f64>); 5] {
        [
            ("p50", 0.5, self.max_p50_ms),
            ("p90", 0.9, self.max_p90_ms),
            ("p95", 0.95, self.max_p95_ms),
            ("p99", 0.99, self.max_p99_ms),
            ("p999", 0.999, self.max_p999_ms),
        ]
    }
}

/// Tells percentiles, and judges those that have a bound and the objective's burn rates.
pub struct LatencyMonitor {
    name: String,
    settings: LatencyConfig,
}

#[async_trait]
impl Monitor for LatencyMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    fn latency_spans(&self) -> Vec<u32> {
        let rules = self.settings.objective_share.iter().flat_map(|_| &self.settings.burn_rules);
        rules.flat_map(|rule| [rule.long_minutes, rule.short_minutes]).collect()
    }

    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let confidence = evidence.confidence(self.settings.confidence);
        let settings = LatencyConfig { confidence, ..self.settings.clone() };
        Self { name: self.name.clone(), settings }.findings(evidence)
    }
}

impl LatencyMonitor {
    fn findings(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let latency = &evidence.latency;
        let percentiles = self.settings.percentiles();
        let mut findings: Vec<Finding> = percentiles
            .into_iter()
            .map(|percentile| self.percentile(latency, percentile))
            .collect();
        if let Some(share) = self.settings.objective_share {
            findings.extend(self.burn_rates(evidence, share)?);
        }
        Ok(findings)
    }

    fn about(&self, method: &'static str) -> About<'_> {
        About { monitor: &self.name, check: "latency", method, ..About::default() }
    }

    /// The interval runs over the buckets in which the percentile of all traffic may lie, by
    /// Wilson's interval of the share of requests at or below it: the 99.9th of a few hundred
    /// requests hangs on one of them.
    ///
    /// Buckets that somebody else chose may be wide: where the bound lies within the percentile's
    /// own bucket, or the percentile beyond all of them, nothing is known to be fine.
    fn percentile(
        &self,
        latency: &LatencyHistogram,
        (method, q, bound): (&'static str, f64, Option<f64>),
    ) -> Finding {
        let bound = bound.map_or(Bound::Told, Bound::AtMost);
        let about = self.about(method);
        let n = latency.count();
        let rank = (q * n as f64).ceil() as u64;
        let millis = |share: f64| latency.quantile_micros(share).map(|micros| micros / 1000.0);
        let shares = wilson(rank, n, self.settings.confidence);
        let ends = shares
            .and_then(|shares| Some((lower_end(latency, shares.lower)?, millis(shares.upper)?)));
        let (Some(value), Some((lower, upper))) = (millis(q), ends) else {
            return about.unknown(bound, n);
        };
        if n < self.settings.min_requests {
            return about.unknown(bound, n);
        }
        let interval = Interval { lower, upper: upper.max(value) };
        let finding = about.judged(Estimate { value, interval }, bound, n);
        // With fewer requests than one in this many, the percentile may lie beyond all of them.
        let is_beyond = bound != Bound::Told && n < (1.0 / (1.0 - q)).round() as u64;
        let is_blind = (is_beyond || is_hidden(latency, q, bound)) && finding.status == Status::Ok;
        // A foreign bucket does not hold its own lower edge.
        let is_above = latency.is_foreign() && matches!(bound, Bound::AtMost(b) if lower >= b);
        let status = match finding.status {
            _ if is_above => Status::Drifted,
            _ if is_blind => Status::InsufficientData,
            status => status,
        };
        Finding { status, ..finding }
    }

    /// How many times faster than allowed the error budget is used up, by each rule.
    fn burn_rates(&self, evidence: &Evidence, share: f64) -> Result<Vec<Finding>, MonitorError> {
        if evidence.latency.objective_micros().is_none() {
            let problem = "`objective_share` is set, but no latency objective is known: the version's \
                           profile schema must carry one (set it where the reference is made), and \
                           buckets of another latency source must have an edge at it";
            return Err(MonitorError::Incomparable { problem: problem.to_owned() });
        }
        let rules = self.settings.burn_rules.iter();
        Ok(rules.map(|rule| self.burn_rate(evidence, share, rule)).collect())
    }

    /// Where less than the long span is known, such as of a version that is new, the bound is higher in
    /// proportion: it stands for the same share of the budget, used up in less time.
    fn burn_rate(&self, evidence: &Evidence, share: f64, rule: &BurnRule) -> Finding {
        let [(known, long), (short_known, short)] =
            [rule.long_minutes, rule.short_minutes].map(|minutes| evidence.latency_over(minutes));
        let [known, short_known] = [known, short_known].map(|window| window.length());
        let lacking = f64::from(rule.long_minutes) * 60.0 / known.as_seconds_f64();
        let factor = rule.factor * lacking.max(1.0);
        let name = rule.name();
        let about =
            About { check: "latency_burn", group: Some(&name), ..self.about("slo_burn_rate") };
        let (bound, n, least) = (Bound::AtMost(factor), long.count(), self.settings.min_requests);
        let (long, short, sure) = (events(long), events(short), self.settings.confidence);
        let held =
            Rule { factor, long_minutes: rule.long_minutes, short_minutes: rule.short_minutes };
        let burns = long.zip(short).and_then(|(long, short)| {
            let burns = held.burns(long, short, share, least, sure)?;
            Some((burns, burn_rate(long, share, sure)?, burn_rate(short, share, sure)?.value))
        });
        let Some((burns, estimate, lately)) = burns else { return about.unknown(bound, n) };
        let mut detail = format!("{lately:.3} over the last {}", span(short_known.num_minutes()));
        if lacking > 1.0 {
            let (known, asked) = (span(known.num_minutes()), span(rule.long_minutes.into()));
            detail += &format!("; only {known} of {asked} are known, so the bound is higher");
        }
        let status = if burns { Status::Drifted } else { Status::Ok };
        Finding { status, detail: Some(detail), ..about.judged(estimate, bound, n) }
    }
}

/// Requests with those that were late; none where the objective was not counted.
fn events(latency: &LatencyHistogram) -> Option<Events> {
    latency.objective_micros()?;
    let total = latency.count();
    Some(Events { bad: total - latency.within_objective().min(total), total })
}

/// Lower end in milliseconds of the bucket that a share lies in.
fn lower_end(latency: &LatencyHistogram, share: f64) -> Option<f64> {
    if latency.is_foreign() {
        return Some(latency.quantile_bucket(share)?.above_micros / 1000.0);
    }
    Some(latency.quantile_micros(share)? / 1000.0 / BUCKET_GROWTH)
}

/// Whether foreign buckets are too wide to tell on which side of the bound the percentile lies.
fn is_hidden(latency: &LatencyHistogram, q: f64, bound: Bound) -> bool {
    let Bound::AtMost(bound) = bound else { return false };
    let micros = bound * 1000.0;
    latency.is_foreign()
        && latency.quantile_bucket(q).is_some_and(|bucket| {
            bucket.above_micros < micros && bucket.upto_micros.is_none_or(|upto| micros < upto)
        })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use mloop_core::Window;
    use mloop_core::latency::LatencySpan;
    use mloop_monitor::conformance::check_monitor;
    use serde_json::json;

    use super::*;
    use crate::testing::evidence;

    fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
        let settings: LatencyConfig = serde_json::from_value(settings).expect("settings");
        settings.build("latency".to_owned(), &()).expect("a monitor")
    }

    /// So many requests in time (1 ms) and so many late (100 ms), against an objective of 2 ms.
    fn with(in_time: u64, late: u64) -> Evidence {
        let mut latency = LatencyHistogram::new(Some(2_000));
        (0..in_time).for_each(|_| latency.observe(1_000));
        (0..late).for_each(|_| latency.observe(100_000));
        Evidence { latency, ..evidence() }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let settings = json!({"max_p99_ms": 50.0, "objective_share": 0.99});
        check_monitor(monitor(settings).as_ref(), &evidence()).await;
    }

    #[tokio::test]
    async fn a_percentile_is_judged_by_its_bucket() {
        // 1 % of the requests take 100 ms; the bucket that holds them ends at 100 ms (its longest).
        for (bound, expected) in [(90.0, Status::Drifted), (95.0, Status::Ok), (101.0, Status::Ok)]
        {
            let found = monitor(json!({"max_p999_ms": bound})).check(&with(990, 10)).await;
            assert_eq!(found.expect("findings")[4].status, expected, "{bound}");
        }
    }

    #[tokio::test]
    async fn a_percentile_beyond_all_requests_is_not_fine() {
        let settings = json!({"max_p999_ms": 50.0});
        for (in_time, late, expected) in [
            (999, 0, Status::InsufficientData),
            (1000, 0, Status::Ok),
            (999, 1, Status::Ok), // One late request in a thousand is what is allowed,
            (300, 60, Status::Drifted), // and a sixth of few is not.
        ] {
            let found = monitor(settings.clone()).check(&with(in_time, late)).await;
            let found = found.expect("findings");
            assert_eq!(found[4].status, expected, "{in_time} {late}: {:?}", found[4]);
            assert_eq!(found[0].status, Status::Ok, "what is only told is never blind");
        }
    }

    /// So many late ones of a thousand.
    fn thousand(late: u64) -> LatencyHistogram {
        with(1000 - late, late).latency
    }

    /// Evidence whose hour has so many late ones of a thousand, with spans of so many hours.
    fn over(late: u64, spans: &[(u32, i64, LatencyHistogram)]) -> Evidence {
        let mut evidence = with(1000 - late, late);
        let end = evidence.current.window.end();
        for (minutes, hours, latency) in spans {
            let window = Window::new(end - TimeDelta::hours(*hours), end).expect("a span");
            evidence.spans.insert(*minutes, LatencySpan { window, latency: latency.clone() });
        }
        evidence
    }

    #[tokio::test]
    async fn budgets_burn_by_the_rules_of_the_workbook() {
        use Status::{Drifted, InsufficientData, Ok};
        let quiet = || vec![(360, 6, thousand(5)), (4320, 72, thousand(5))];
        let few = LatencyHistogram::new(Some(2_000));
        // An objective of 99 %: ten late ones of a thousand are what is allowed.
        let table = [
            ("all is well", over(5, &quiet()), [Ok, Ok, Ok]),
            ("an hour above 14.4 times", over(200, &quiet()), [Drifted, Ok, Ok]),
            ("an hour perhaps above it", over(150, &quiet()), [Ok, Ok, Ok]),
            (
                "six hours above 6 times, and still",
                over(100, &[(360, 6, thousand(100)), (4320, 72, thousand(5))]),
                [Ok, Drifted, Ok],
            ),
            (
                "six hours above 6 times, over by now",
                over(5, &[(360, 6, thousand(100)), (4320, 72, thousand(5))]),
                [Ok, Ok, Ok],
            ),
            (
                "three days above what is allowed, and the last six hours",
                over(20, &[(360, 6, thousand(30)), (4320, 72, thousand(30))]),
                [Ok, Ok, Drifted],
            ),
            (
                "a version of six hours: ten percent of the budget would be 12 times",
                over(20, &[(360, 6, thousand(30)), (4320, 6, thousand(30))]),
                [Ok, Ok, Ok],
            ),
            (
                "and they are",
                over(20, &[(360, 6, thousand(160)), (4320, 6, thousand(160))]),
                [Ok, Ok, Drifted],
            ),
            (
                "six hours in which nobody called",
                over(5, &[(360, 6, few.clone()), (4320, 72, thousand(5))]),
                [Ok, InsufficientData, InsufficientData],
            ),
        ];
        let monitor = monitor(json!({"objective_share": 0.99}));
        assert_eq!(monitor.latency_spans(), [60, 5, 360, 30, 4320, 360]);
        for (name, evidence, expected) in table {
            let found = monitor.check(&evidence).await.expect("findings");
            let burns: Vec<&Finding> =
                found.iter().filter(|one| one.check == "latency_burn").collect();
            let groups: Vec<_> = burns.iter().filter_map(|one| one.group.as_deref()).collect();
            assert_eq!(groups, ["1h/5m", "6h/30m", "3d/6h"]);
            let statuses: Vec<Status> = burns.iter().map(|one| one.status).collect();
            assert_eq!(statuses, expected, "{name}: {burns:?}");
        }
    }

    #[tokio::test]
    async fn a_rule_says_what_it_was_held_against() {
        let rule = json!({"factor": 2.0, "long_minutes": 240, "short_minutes": 30});
        let monitor = monitor(json!({"objective_share": 0.99, "burn_rules": [rule]}));
        let found = monitor.check(&over(0, &[(240, 2, thousand(100))])).await.expect("findings");
        let burn = found.last().expect("a burn rate");
        assert_eq!(
            (burn.value.map(f64::round), burn.threshold, burn.n),
            (Some(10.0), Some(4.0), 1000)
        );
        let detail = burn.detail.as_deref().unwrap_or_default();
        assert!(detail.contains("0.000 over the last 1h"), "no shorter span is known: {detail}");
        assert!(detail.contains("only 2h of 4h are known"), "{detail}");
        assert_eq!([30, 60, 90, 1440, 4320].map(span), ["30m", "1h", "90m", "1d", "3d"]);
    }

    #[test]
    fn rules_that_cannot_be_held_are_refused() {
        for (factor, long, short) in [(0.0, 60, 5), (1.0, 60, 0), (1.0, 5, 60), (1.0, 43_201, 60)] {
            let rule = json!({"factor": factor, "long_minutes": long, "short_minutes": short});
            let settings = json!({"burn_rules": [rule]});
            let settings: LatencyConfig = serde_json::from_value(settings).expect("settings");
            let built = settings.build("latency".to_owned(), &());
            assert!(built.is_err(), "{factor} {long} {short}");
        }
    }

    #[tokio::test]
    async fn an_objective_that_nobody_counted_is_an_error() {
        let latency = LatencyHistogram::new(None);
        let blind = Evidence { latency, ..evidence() };
        let error = monitor(json!({"objective_share": 0.9})).check(&blind).await;
        assert!(error.expect_err("no objective").to_string().contains("no latency objective"));
    }

    #[tokio::test]
    async fn wide_buckets_judge_only_what_they_tell_apart() {
        // 900 up to 100 ms, 100 up to 250 ms; or the last 100 beyond all edges.
        let within = [(100_000, 900), (250_000, 1_000)];
        let beyond = [(100_000, 900), (250_000, 900)];
        for (edges, bound, expected) in [
            (within, 90.0, Status::Drifted),
            (within, 100.0, Status::Drifted), // above its lower edge for certain
            (within, 200.0, Status::InsufficientData),
            (within, 250.0, Status::Ok),
            (within, 300.0, Status::Ok),
            (beyond, 250.0, Status::Drifted),
            (beyond, 300.0, Status::InsufficientData),
        ] {
            let latency = LatencyHistogram::of_cumulative(&edges, 1_000, 0, None);
            let found = monitor(json!({"max_p95_ms": bound}))
                .check(&Evidence { latency, ..evidence() })
                .await
                .expect("findings");
            assert_eq!(found[2].status, expected, "{bound}: {:?}", found[2]);
            assert_eq!(found[1].status, Status::Ok, "what is only told is never blind");
        }
    }
}
