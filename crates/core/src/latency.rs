//! Latencies on exponential buckets: exact counts that merge, percentiles with a known error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::window::Window;

/// Buckets grow by 2^(1/8), about 9 %: Prometheus' native histogram schema 3 (and OpenTelemetry's
/// scale 3), so a percentile is at most 9 % above the true one.
const BUCKETS_PER_DOUBLING: f64 = 8.0;

/// A histogram of durations in microseconds.
///
/// Bucket `i` holds durations in `(2^((i-1)/8), 2^(i/8)]` µs; 0 and 1 µs share bucket 0.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyHistogram {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    sum_micros: u64,
    max_micros: u64,
    objective_micros: Option<u64>,
    within_objective: u64,
    /// Counted by somebody else, in buckets of their own: the requests up to each edge and above the
    /// one before it. Those above the last edge are the rest of `count`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    foreign: Vec<(u64, u64)>,
}

/// The latencies of a span of time.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencySpan {
    /// What is really covered, which may be more or less than what was asked for.
    pub window: Window,
    /// The latencies in it.
    pub latency: LatencyHistogram,
}

/// The bucket that a percentile lies in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileBucket {
    /// It lies above this, µs.
    pub above_micros: f64,
    /// And at or below this, µs; none when it is longer than all that the buckets tell apart.
    pub upto_micros: Option<f64>,
}

impl LatencyHistogram {
    /// An empty histogram; `objective_micros` makes the count at or below it exact.
    #[must_use]
    pub fn new(objective_micros: Option<u64>) -> Self {
        Self { objective_micros, ..Self::default() }
    }

    /// What somebody else counted in buckets of their own: edges in µs with the requests at or below
    /// each, ascending, as in a histogram of Prometheus. `count` is the number of all requests.
    ///
    /// The requests within the objective are known only when it is an edge; else the histogram has no
    /// objective. A count below the one before it is taken for that one.
    #[must_use]
    pub fn of_cumulative(
        edges: &[(u64, u64)],
        count: u64,
        sum_micros: u64,
        objective_micros: Option<u64>,
    ) -> Self {
        let (mut foreign, mut below, mut within) = (Vec::with_capacity(edges.len()), 0, None);
        for (edge, cumulative) in edges {
            let upto = below.max(*cumulative);
            foreign.push((*edge, upto - below));
            below = upto;
            if objective_micros == Some(*edge) {
                within = Some(upto);
            }
        }
        Self {
            buckets: BTreeMap::new(),
            count: count.max(below),
            sum_micros,
            max_micros: foreign.iter().rev().find(|(_, n)| *n > 0).map_or(0, |(edge, _)| *edge),
            objective_micros: within.and(objective_micros),
            within_objective: within.unwrap_or_default(),
            foreign,
        }
    }

    /// Whether the buckets are somebody else's: a percentile is known to no more than its bucket.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }

    /// Counts one request.
    pub fn observe(&mut self, micros: u64) {
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.count += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
        self.max_micros = self.max_micros.max(micros);
        let within = self.objective_micros.is_some_and(|objective| micros <= objective);
        self.within_objective += u64::from(within);
    }

    /// Adds other requests; both must have been counted under one objective, and in own buckets.
    pub fn merge(&mut self, other: &Self) {
        debug_assert!(!self.is_foreign() && !other.is_foreign(), "foreign buckets do not merge");
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.count += other.count;
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
        self.max_micros = self.max_micros.max(other.max_micros);
        self.within_objective += other.within_objective;
    }

    /// Requests counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all durations, µs.
    #[must_use]
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// The objective's bound in microseconds, when there is one.
    #[must_use]
    pub fn objective_micros(&self) -> Option<u64> {
        self.objective_micros
    }

    /// Requests at or below the objective; meaningless without one.
    #[must_use]
    pub fn within_objective(&self) -> u64 {
        self.within_objective
    }

    /// Upper bounds in microseconds with the requests at or below them, ascending: what
    /// Prometheus calls cumulative buckets.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let own = self.buckets.iter().map(|(bucket, count)| (upper_bound(*bucket), *count));
        let foreign = self.foreign.iter().map(|(edge, count)| (*edge as f64, *count));
        own.chain(foreign).scan(0, |below, (bound, count)| {
            *below += count;
            Some((bound, *below))
        })
    }

    /// The smallest bucket bound in microseconds that at least a share `q` of the requests is at
    /// or below (never above the longest request seen); none when empty. When it is longer than all
    /// that foreign buckets tell apart, their last edge.
    #[must_use]
    pub fn quantile_micros(&self, q: f64) -> Option<f64> {
        let bucket = self.quantile_bucket(q)?;
        Some(bucket.upto_micros.unwrap_or(bucket.above_micros))
    }

    /// The bucket that the quantile `q` lies in; none when empty.
    #[must_use]
    pub fn quantile_bucket(&self, q: f64) -> Option<QuantileBucket> {
        if self.count == 0 {
            return None;
        }
        let wanted = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut below_it = 0.0;
        for (bound, below) in self.cumulative() {
            if below >= wanted {
                let above_micros = if self.is_foreign() { below_it } else { below_own(bound) };
                let upto_micros = Some(bound.min(self.max_micros as f64));
                return Some(QuantileBucket { above_micros, upto_micros });
            }
            below_it = bound;
        }
        Some(QuantileBucket { above_micros: below_it, upto_micros: None })
    }
}

fn bucket(micros: u64) -> u16 {
    if micros <= 1 {
        return 0;
    }
    let mut index = ((micros as f64).log2() * BUCKETS_PER_DOUBLING).ceil() as u16;
    // log2 may round across an edge: let the edges that are reported decide.
    if index > 0 && micros as f64 <= upper_bound(index - 1) {
        index -= 1;
    }
    index
}

/// Where an own bucket begins that ends at `bound`.
fn below_own(bound: f64) -> f64 {
    if bound <= 1.0 { 0.0 } else { bound / (1.0 / BUCKETS_PER_DOUBLING).exp2() }
}

fn upper_bound(bucket: u16) -> f64 {
    (f64::from(bucket) / BUCKETS_PER_DOUBLING).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_bucket_too_high_and_never_too_low() {
        let mut histogram = LatencyHistogram::new(None);
        (1..=1000).for_each(|micros| histogram.observe(micros));
        for (q, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_micros(q).expect("not empty");
            assert!(found >= exact && found <= exact * 1.0906, "{q}: {found}");
        }
        assert_eq!(LatencyHistogram::new(None).quantile_micros(0.5), None);
    }

    #[test]
    fn the_objective_is_counted_exactly_and_merging_adds() {
        let mut left = LatencyHistogram::new(Some(500));
        let mut right = left.clone();
        left.observe(500);
        right.observe(501);
        left.merge(&right);
        assert_eq!((left.count(), left.within_objective(), left.sum_micros()), (2, 1, 1001));
    }

    #[test]
    fn foreign_buckets_are_kept_as_they_are() {
        let edges = [(1_000, 10), (2_500, 10), (5_000, 90), (10_000, 98)];
        let histogram = LatencyHistogram::of_cumulative(&edges, 100, 7, Some(5_000));
        let found: Vec<_> = histogram.cumulative().collect();
        assert_eq!(found, edges.map(|(edge, below)| (edge as f64, below)));
        assert_eq!((histogram.count(), histogram.within_objective()), (100, 90));
        let bucket = |q| {
            let found = histogram.quantile_bucket(q).expect("not empty");
            (found.above_micros, found.upto_micros)
        };
        assert_eq!(bucket(0.05), (0.0, Some(1_000.0)));
        assert_eq!(bucket(0.5), (2_500.0, Some(5_000.0)));
        assert_eq!(bucket(0.95), (5_000.0, Some(10_000.0)));
        assert_eq!(bucket(0.99), (10_000.0, None));
        assert_eq!(histogram.quantile_micros(0.99), Some(10_000.0));
        let text = serde_json::to_string(&histogram).expect("JSON");
        assert_eq!(serde_json::from_str::<LatencyHistogram>(&text).expect("read"), histogram);
    }

    #[test]
    fn an_objective_between_two_edges_is_none_and_counts_never_fall() {
        let histogram = LatencyHistogram::of_cumulative(&[(1, 5), (2, 4), (3, 6)], 0, 0, Some(4));
        assert_eq!((histogram.objective_micros(), histogram.count()), (None, 6));
        assert_eq!(histogram.cumulative().map(|(_, n)| n).collect::<Vec<_>>(), [5, 5, 6]);
        let empty = LatencyHistogram::of_cumulative(&[], 0, 0, Some(4));
        assert_eq!((empty.quantile_bucket(0.5), empty.count()), (None, 0));
    }

    #[test]
    fn own_buckets_are_written_as_before() {
        let mut histogram = LatencyHistogram::new(None);
        histogram.observe(3);
        let text = serde_json::to_string(&histogram).expect("JSON");
        assert!(!text.contains("foreign"), "{text}");
        let bucket = histogram.quantile_bucket(0.5).expect("one request");
        assert!(bucket.above_micros < 3.0 && bucket.upto_micros == Some(3.0), "{bucket:?}");
    }

    #[test]
    fn every_duration_lies_in_its_bucket() {
        for micros in [0, 1, 2, 3, 4, 8, 1023, 1024, 1025, u64::from(u32::MAX)] {
            let index = bucket(micros);
            assert!(micros as f64 <= upper_bound(index) * (1.0 + 1e-12), "{micros}");
            assert!(index == 0 || micros as f64 > upper_bound(index - 1), "{micros}");
        }
    }
}
