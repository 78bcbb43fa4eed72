//! The rules of latency sources.

use mloop_core::latency::{LatencyHistogram, LatencySpan};

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
    let answer = source.latency(filled).await.expect("a window with requests");
    assert_eq!(answer.window.end(), filled.window.end(), "an answer ends with its question");
    let first = &answer.latency;
    assert!(first.count() > 0, "requests are counted");
    let objective = filled.objective_micros();
    let found = first.objective_micros();
    assert!(found.is_none() || found == objective, "the objective is the one that was asked for");
    let edges: Vec<f64> = first.cumulative().map(|(edge, _)| edge).collect();
    assert!(edges.is_sorted(), "the edges of buckets ascend: {edges:?}");
    let again = source.latency(filled).await.expect("a second look");
    assert_eq!(answer, again, "a window that is over does not change");
    let none = source.latency(empty).await.expect("no requests are no error");
    assert_eq!(none.latency.count(), 0, "no requests, no counts");
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
        counted: LatencySpan { window: samples::hour(0), latency: counted },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::conformance::complaint;
    use crate::fakes::CountedLatency;
    use crate::{MockLatencySource, PlatformError};

    type Answer = Result<LatencySpan, PlatformError>;
    /// What a source answers at a look, counted from 0.
    type Asked = fn(&LatencyRequest, u64) -> Answer;

    #[tokio::test]
    async fn the_fake_passes() {
        check_latency_source(&CountedLatency, &latency_request(3), &latency_request(0)).await;
    }

    #[tokio::test]
    async fn a_source_that_breaks_a_rule_is_caught() {
        // Of a request and the number of the look.
        fn of(latency: LatencyHistogram) -> Answer {
            Ok(LatencySpan { latency, ..latency_request(0).counted })
        }
        let table: [(Asked, &str); 7] = [
            (
                |_, _| Ok(LatencySpan { window: samples::hour(1), ..latency_request(3).counted }),
                "an answer ends with its question",
            ),
            (|_, _| of(LatencyHistogram::default()), "requests are counted"),
            (
                |_, _| of(LatencyHistogram::of_cumulative(&[(7, 1)], 1, 1, Some(7))),
                "the objective is the one that was asked for",
            ),
            (
                |_, _| of(LatencyHistogram::of_cumulative(&[(9, 1), (7, 2)], 2, 1, None)),
                "the edges of buckets ascend",
            ),
            (|_, look| Ok(latency_request(look).counted), "a window that is over does not change"),
            (
                |request, _| match request.counted.latency.count() {
                    0 => Err(PlatformError::unavailable("the source", "looking", "empty")),
                    _ => Ok(request.counted.clone()),
                },
                "no requests are no error",
            ),
            (|_, _| Ok(latency_request(3).counted), "no requests, no counts"),
        ];
        for (answer, rule) in table {
            let (mut source, looks) = (MockLatencySource::new(), AtomicU64::new(1));
            let answer = move |request: &_| answer(request, looks.fetch_add(1, Ordering::Relaxed));
            source.expect_latency().returning(answer);
            let (filled, empty) = (latency_request(3), latency_request(0));
            let found = complaint(check_latency_source(&source, &filled, &empty)).await;
            assert!(found.as_ref().is_some_and(|text| text.contains(rule)), "{rule}: {found:?}");
        }
    }
}
