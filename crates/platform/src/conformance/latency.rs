//! The rules of latency sources.

use mloop_core::latency::LatencyHistogram;

use super::samples;
use crate::{LatencyRequest, LatencySource};

/// Asks for a window with requests, twice, and for one without.
///
/// # Panics
/// With the broken rule.
pub async fn check_latency_source(
    source: &dyn LatencySource,
    filled: &LatencyRequest,
    empty: &LatencyRequest,
) {
    let first = source.latency(filled).await.expect("a window with requests");
    assert!(first.count() > 0, "requests are counted");
    let objective = filled.counted.objective_micros();
    let found = first.objective_micros();
    assert!(found.is_none() || found == objective, "the objective is the one that was asked for");
    let below: Vec<u64> = first.cumulative().map(|(_, below)| below).collect();
    assert!(below.is_sorted(), "cumulative counts never fall: {below:?}");
    assert!(below.last().is_none_or(|last| *last <= first.count()), "{below:?}");
    let again = source.latency(filled).await.expect("a second look");
    assert_eq!(first, again, "a window that is over does not change");
    let none = source.latency(empty).await.expect("no requests are no error");
    assert_eq!(none.count(), 0, "no requests, no counts");
    assert_eq!(none.quantile_micros(0.5), None);
}

/// A request for an hour whose traffic took one millisecond, so many times.
#[must_use]
pub fn latency_request(requests: u64) -> LatencyRequest {
    let mut counted = LatencyHistogram::new(Some(2_000));
    (0..requests).for_each(|_| counted.observe(1_000));
    LatencyRequest {
        subject: samples::subject("production"),
        version: samples::version(1).version,
        window: samples::hour(0),
        counted,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::MockLatencySource;
    use crate::fakes::CountedLatency;

    #[tokio::test]
    async fn the_fake_passes() {
        check_latency_source(&CountedLatency, &latency_request(3), &latency_request(0)).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a window that is over does not change")]
    async fn a_source_that_looks_at_now_is_caught() {
        let (mut source, calls) = (MockLatencySource::new(), AtomicU64::new(1));
        source
            .expect_latency()
            .returning(move |_| Ok(latency_request(calls.fetch_add(1, Ordering::Relaxed)).counted));
        check_latency_source(&source, &latency_request(3), &latency_request(0)).await;
    }
}
