//! What the callers of production measure, and Prometheus' history of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::EndpointName;
use mloop_deployer::{Answer, DeployError, EndpointClient, Invocation};
use mloop_http::{Client, Method, Policy, Request};

/// The histogram that `configs/services/` asks for.
const METRIC: &str = "http_client_request_duration_seconds";

/// Its edges in seconds, which OpenTelemetry advises for it; the bound of the tests is one.
const EDGES: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// A client that measures each request.
pub(crate) struct Measuring {
    client: Arc<dyn EndpointClient>,
    taken: Mutex<Vec<Duration>>,
}

impl Measuring {
    pub(crate) fn new(client: Arc<dyn EndpointClient>) -> Self {
        Self { client, taken: Mutex::default() }
    }

    /// How long the requests took, in the order of their ends.
    pub(crate) fn taken(&self) -> Vec<Duration> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl EndpointClient for Measuring {
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let answer = self.client.invoke(endpoint, invocation).await;
        if let Ok(answer) = &answer {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(answer.latency);
        }
        answer
    }
}

/// The counters of one caller at a moment, as a scrape of its page would have found them.
struct Page {
    at: DateTime<Utc>,
    requests: Vec<Duration>,
}

impl Page {
    /// Suffix, edge and value of each series.
    fn series(&self) -> Vec<(&'static str, Option<String>, f64)> {
        let below = |edge: f64| {
            self.requests.iter().filter(|request| request.as_secs_f64() <= edge).count() as f64
        };
        let buckets = EDGES.iter().map(|edge| ("_bucket", Some(edge.to_string()), below(*edge)));
        let all = self.requests.len() as f64;
        let sum = self.requests.iter().map(Duration::as_secs_f64).sum();
        let rest = [("_bucket", Some("+Inf".to_owned()), all), ("_sum", None, sum)];
        buckets.chain(rest).chain([("_count", None, all)]).collect()
    }
}

/// Has Prometheus know a caller's requests as if it had scraped the caller every minute: those of an
/// hour, one a second from its begin on, and the same again now.
///
/// Prometheus stamps what it scrapes, so that an hour that is over can only be written to it. The
/// counters stand at 0 where the hour begins: one that first appeared within it would have no increase.
pub(crate) async fn record(
    prometheus: &str,
    labels: &[(&str, &str)],
    requests: &[Duration],
    hour: DateTime<Utc>,
    now: DateTime<Utc>,
) {
    let minute = |minute: usize| Page {
        at: hour + TimeDelta::minutes(minute as i64),
        requests: requests[..requests.len().min(60 * minute)].to_vec(),
    };
    let again = Page { at: now, requests: [requests, requests].concat() };
    let pages: Vec<Page> = (0..=60).map(minute).chain([again]).collect();
    let body = snap::raw::Encoder::new().compress_vec(&remote_write(labels, &pages));
    let base = prometheus.parse().expect("an address");
    let request = Request::new(Method::Post, &base, &["api", "v1", "write"])
        .body("application/x-protobuf", body.expect("compressed"))
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    let client = Client::new(Policy::default()).expect("a client");
    let answer = client.send(&request).await.expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.excerpt(500));
}

/// A `WriteRequest` of Prometheus' remote write protocol 1.0.
fn remote_write(labels: &[(&str, &str)], pages: &[Page]) -> Vec<u8> {
    let mut request = vec![];
    let names = pages.first().map(Page::series).unwrap_or_default();
    for (number, (suffix, edge, _)) in names.iter().enumerate() {
        let name = format!("{METRIC}{suffix}");
        let mut all: Vec<(&str, &str)> = labels.to_vec();
        all.push(("__name__", &name));
        all.extend(edge.iter().map(|edge| ("le", edge.as_str())));
        all.sort_unstable();
        let mut series = vec![];
        for (name, value) in all {
            let label = [message(1, name.as_bytes()), message(2, value.as_bytes())].concat();
            series.extend(message(1, &label));
        }
        for page in pages {
            // Field 1 is a double, field 2 a varint.
            let mut sample = vec![0x09];
            sample.extend(page.series()[number].2.to_le_bytes());
            sample.push(0x10);
            sample.extend(varint(page.at.timestamp_millis().unsigned_abs()));
            series.extend(message(2, &sample));
        }
        request.extend(message(1, &series));
    }
    request
}

/// A field of protobuf that has a length.
fn message(field: u8, content: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
