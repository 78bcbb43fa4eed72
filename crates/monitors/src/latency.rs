//! Are answers in time?

use async_trait::async_trait;
use mloop_core::latency::LatencyHistogram;
use mloop_core::{Evidence, Finding, Status};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::interval::{Interval, wilson};
use schemars::JsonSchema;
use serde::Deserialize;

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
    /// such as 0.99. Its burn rate is checked when this is set.
    #[serde(default)]
    objective_share: Option<f64>,
    /// Burn rate up to which all is well: 1 uses up the whole error budget over its period, 14.4
    /// two percent of a month's in an hour (Site Reliability Workbook, chapter 5).
    #[serde(default = "max_burn_rate")]
    max_burn_rate: f64,
    /// Requests below which a window is not judged.
    #[serde(default = "min_requests")]
    min_requests: u64,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    confidence: f64,
}

fn max_burn_rate() -> f64 {
    14.4
}

fn min_requests() -> u64 {
    100
}

impl Spec<Box<dyn Monitor>> for LatencyConfig {
    const KIND: &'static str = "latency";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        within("max_burn_rate", self.max_burn_rate, 0.0, 1e6)?;
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

/// Tells percentiles, and judges those that have a bound and the objective's burn rate.
pub struct LatencyMonitor {
    name: String,
    settings: LatencyConfig,
}

#[async_trait]
impl Monitor for LatencyMonitor {
    fn name(&self) -> &str {
        &self.name
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
            findings.push(self.burn_rate(latency, share)?);
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

    /// How many times faster than allowed the error budget is used up.
    fn burn_rate(&self, latency: &LatencyHistogram, share: f64) -> Result<Finding, MonitorError> {
        if latency.objective_micros().is_none() {
            let problem = "`objective_share` is set, but no latency objective is known: the version's \
                           profile schema must carry one (set it where the reference is made), and \
                           buckets of another latency source must have an edge at it";
            return Err(MonitorError::Incomparable { problem: problem.to_owned() });
        }
        let about = self.about("slo_burn_rate");
        let (n, bound) = (latency.count(), Bound::AtMost(self.settings.max_burn_rate));
        let late = n - latency.within_objective().min(n);
        let budget = 1.0 - share;
        let Some(interval) = wilson(late, n, self.settings.confidence) else {
            return Ok(about.unknown(bound, n));
        };
        let interval = Interval { lower: interval.lower / budget, upper: interval.upper / budget };
        let estimate = Estimate { value: late as f64 / n as f64 / budget, interval };
        if n < self.settings.min_requests {
            return Ok(about.unknown(bound, n));
        }
        Ok(about.judged(estimate, bound, n))
    }
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

    #[tokio::test]
    async fn the_burn_rate_alerts_only_when_the_interval_does() {
        let settings = json!({"objective_share": 0.99, "max_burn_rate": 2.0});
        for (late, expected) in [(10, Status::Ok), (25, Status::Ok), (40, Status::Drifted)] {
            let found =
                monitor(settings.clone()).check(&with(1000 - late, late)).await.expect("ok");
            let burn = found.last().expect("a burn rate");
            assert_eq!((burn.method.as_str(), burn.status), ("slo_burn_rate", expected), "{late}");
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
