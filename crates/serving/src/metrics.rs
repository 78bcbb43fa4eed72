//! Numbers for Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mloop_core::metrics::{MetricFamily, MetricKind, Sample, SampleValue};

use crate::app::App;
use crate::endpoints::Endpoint;
use crate::invocations::readiness;

/// Writes metric families in the format of a monitoring system. The binary hands it over, so that
/// this crate knows no such format.
pub type Render = Arc<dyn Fn(&[MetricFamily]) -> String + Send + Sync>;

/// Label of requests to endpoints that there are not; no endpoint can have this name.
const STRAY: &str = "_unknown";

/// Digits of a digest in a label: enough to tell versions apart.
const DIGEST_DIGITS: usize = 12;

/// Upper bounds of the latency buckets in seconds.
const BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Requests of one endpoint: counts by class of status, and their latencies.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Requests {
    pub(crate) fn count(&self, status: u16, elapsed: Duration) {
        let class = match status {
            0..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Requests answered.
    pub(crate) fn total(&self) -> u64 {
        self.classes.iter().map(load).sum()
    }

    fn by_class(&self, endpoint: &str) -> Vec<Sample> {
        let sample = |(class, count): (&&str, &AtomicU64)| {
            number(&[("endpoint", endpoint), ("status", class)], load(count))
        };
        CLASSES.iter().zip(&self.classes).map(sample).collect()
    }

    fn histogram(&self, endpoint: &str) -> Sample {
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(BOUNDS.len());
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += load(bucket);
            cumulative.extend(BOUNDS.get(index).map(|bound| (*bound, count)));
        }
        let sum = load(&self.sum_micros) as f64 / 1e6;
        let value = SampleValue::Histogram { cumulative, sum, count };
        Sample { labels: labels(&[("endpoint", endpoint)]), value }
    }
}

/// All metrics of the server.
pub(crate) fn families(app: &App) -> Vec<MetricFamily> {
    let endpoints = app.endpoints.all();
    let mut families = of_endpoints(app, &endpoints);
    let ready = u64::from(readiness(app).is_ok());
    families.push(single(
        "mloop_serving_ready",
        "1 when /ping answers 200.",
        MetricKind::Gauge,
        ready,
    ));
    families.push(single(
        "mloop_serving_connections",
        "Open connections.",
        MetricKind::Gauge,
        load(&app.connections),
    ));
    if let Some(capture) = &app.capture {
        families.extend(of_capture(capture.counts()));
    }
    families
}

fn of_endpoints(app: &App, endpoints: &[Arc<Endpoint>]) -> Vec<MetricFamily> {
    let each = |sample: &dyn Fn(&Endpoint, &str) -> Sample| -> Vec<Sample> {
        endpoints.iter().map(|endpoint| sample(endpoint, endpoint.name().as_str())).collect()
    };
    let mut requests: Vec<Sample> = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.requests.by_class(endpoint.name().as_str()))
        .collect();
    requests.extend(app.strays.by_class(STRAY));
    let infos = endpoints.iter().filter_map(|endpoint| info(endpoint)).collect();
    vec![
        family(
            "mloop_serving_requests_total",
            "Invocations answered, by class of status.",
            MetricKind::Counter,
            requests,
        ),
        family(
            "mloop_serving_request_duration_seconds",
            "Time from the head of an invocation to its answer.",
            MetricKind::Histogram,
            each(&|endpoint, name| endpoint.requests.histogram(name)),
        ),
        family(
            "mloop_serving_requests_in_flight",
            "Invocations under way.",
            MetricKind::Gauge,
            each(&|endpoint, name| number(&[("endpoint", name)], endpoint.in_flight())),
        ),
        family(
            "mloop_serving_switches_total",
            "How often the version of an endpoint was replaced.",
            MetricKind::Counter,
            each(&|endpoint, name| number(&[("endpoint", name)], endpoint.switches())),
        ),
        family("mloop_serving_model_info", "The version that serves.", MetricKind::Gauge, infos),
    ]
}

fn info(endpoint: &Endpoint) -> Option<Sample> {
    let serving = endpoint.serving();
    let digest = serving.digest()?.short(DIGEST_DIGITS);
    let version = serving.version.map_or_else(String::new, |version| version.to_string());
    let labels =
        [("endpoint", endpoint.name().as_str()), ("digest", &digest), ("version", &version)];
    Some(number(&labels, 1))
}

/// What became of captured requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CaptureCounts {
    pub(crate) written: u64,
    pub(crate) dropped: u64,
    pub(crate) failed: u64,
    pub(crate) removed_files: u64,
}

fn of_capture(counts: CaptureCounts) -> Vec<MetricFamily> {
    let lost = vec![
        number(&[("reason", "queue_full")], counts.dropped),
        number(&[("reason", "write_failed")], counts.failed),
    ];
    let counter = MetricKind::Counter;
    vec![
        single(
            "mloop_serving_capture_written_total",
            "Captured requests written to files.",
            counter,
            counts.written,
        ),
        family(
            "mloop_serving_capture_lost_total",
            "Captured requests that were not written, by reason.",
            counter,
            lost,
        ),
        single(
            "mloop_serving_capture_removed_files_total",
            "Capture files removed because of their age or of the space they took.",
            counter,
            counts.removed_files,
        ),
    ]
}

fn family(name: &str, help: &str, kind: MetricKind, samples: Vec<Sample>) -> MetricFamily {
    MetricFamily { name: name.to_owned(), help: help.to_owned(), kind, samples }
}

fn single(name: &str, help: &str, kind: MetricKind, value: u64) -> MetricFamily {
    family(name, help, kind, vec![number(&[], value)])
}

fn number(of: &[(&str, &str)], value: u64) -> Sample {
    Sample { labels: labels(of), value: SampleValue::Number(value as f64) }
}

fn labels(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_counts_in_every_bucket_from_its_own_up() {
        let requests = Requests::default();
        for (status, millis) in [(200, 1), (400, 30), (503, 20_000)] {
            requests.count(status, Duration::from_millis(millis));
        }
        assert_eq!(requests.total(), 3);
        let SampleValue::Histogram { cumulative, sum, count } = requests.histogram("e").value
        else {
            panic!("a histogram");
        };
        assert_eq!(count, 3);
        assert!((sum - 20.031).abs() < 1e-9, "{sum}");
        let at = |wanted: f64| cumulative.iter().find(|(bound, _)| *bound >= wanted);
        assert_eq!(at(0.001).map(|(_, count)| *count), Some(1));
        assert_eq!(at(0.025).map(|(_, count)| *count), Some(1));
        assert_eq!(at(0.05).map(|(_, count)| *count), Some(2));
        assert_eq!(cumulative.last().map(|(_, count)| *count), Some(2));
    }
}
