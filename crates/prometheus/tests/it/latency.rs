//! Latencies: counters pushed as a server would write them, scraped by the real Prometheus, and read
//! back over windows of a few seconds.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use mloop_core::latency::{LatencyHistogram, LatencySpan};
use mloop_core::{Clock as _, SystemClock, Window, error_chain};
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_platform::conformance::{check_latency_source, latency_request};
use mloop_platform::{LatencyRequest, LatencySource, LatencySourceRegistry, PlatformError};
use serde_json::{Value, json};

use crate::bench::{Bench, deps, job};

const METRIC: &str = "mloop_it_latency_seconds";

fn build(settings: &Value) -> Result<Arc<dyn LatencySource>, String> {
    let mut kinds = LatencySourceRegistry::new("latency source");
    mloop_prometheus::register_latency_sources(&mut kinds);
    kinds.build("prometheus", "latency", settings, &deps()).map_err(|error| format!("{error:?}"))
}

fn settings(url: &str, job: &str) -> Value {
    json!({
        "url": url,
        "http": {"timeout_secs": 2},
        "metric": METRIC,
        "labels": {"job": job},
    })
}

fn source(url: &str, job: &str) -> Arc<dyn LatencySource> {
    build(&settings(url, job)).expect("a source")
}

fn request(window: Window) -> LatencyRequest {
    let counted = LatencySpan { window, latency: LatencyHistogram::new(Some(5_000)) };
    LatencyRequest { window, counted, ..latency_request(0) }
}

/// A server's page: requests up to 1 ms, 5 ms, 25 ms, and all.
fn page(counts: [u64; 4]) -> String {
    let [a, b, c, all] = counts;
    format!(
        "# TYPE {METRIC} histogram\n{METRIC}_bucket{{le=\"0.001\"}} {a}\n{METRIC}_bucket{{le=\"0.005\"}} {b}\n\
         {METRIC}_bucket{{le=\"0.025\"}} {c}\n{METRIC}_bucket{{le=\"+Inf\"}} {all}\n{METRIC}_sum {}\n{METRIC}_count {all}\n",
        all as f64 / 1_000.0
    )
}

/// Servers with counters, and the moments at which Prometheus had seen them.
struct Servers {
    bench: Bench,
    job: String,
}

impl Servers {
    fn new() -> Self {
        Self { bench: Bench::new(), job: job() }
    }

    /// Shows these pages; gives a moment at which all of them were scraped.
    async fn show(&self, pages: &[[u64; 4]]) -> chrono::DateTime<Utc> {
        for (number, counts) in pages.iter().enumerate() {
            let number = number.to_string();
            let group = ["metrics", "job", &self.job, "server", &number];
            self.bench.put(&group, &page(*counts)).await;
        }
        let mut wanted: Vec<f64> = pages.iter().map(|counts| counts[3] as f64).collect();
        wanted.sort_by(f64::total_cmp);
        let query = format!("{METRIC}_count{{job=\"{}\"}}", self.job);
        let values = |found: &std::collections::BTreeMap<_, f64>| {
            let mut values: Vec<f64> = found.values().copied().collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let found = self.bench.query_until(&query, |found| values(found) == wanted).await;
        assert_eq!(values(&found), wanted, "scraped");
        SystemClock.now()
    }

    async fn remove(&self, servers: usize) {
        for number in 0..servers {
            let number = number.to_string();
            self.bench.delete(&["metrics", "job", &self.job, "server", &number]).await;
        }
    }
}

#[tokio::test]
async fn counts_over_a_window_are_exact_over_all_servers() {
    let servers = Servers::new();
    let start = servers.show(&[[10, 20, 30, 31], [5, 5, 5, 5]]).await;
    let end = servers.show(&[[17, 120, 133, 135], [5, 5, 8, 8]]).await;
    servers.show(&[[1_000; 4], [1_000; 4]]).await; // after the window
    let source = source(&servers.bench.prometheus, &servers.job);
    let window = Window::new(start, end).expect("a window");
    let found = source.latency(&request(window)).await.expect("latencies").latency;
    let cumulative: Vec<_> = found.cumulative().collect();
    assert_eq!(cumulative, [(1_000.0, 7), (5_000.0, 100), (25_000.0, 106)]);
    assert_eq!((found.count(), found.within_objective()), (107, 100));

    let before = start - TimeDelta::hours(1);
    let empty = Window::new(before - TimeDelta::seconds(10), before).expect("a window");
    check_latency_source(source.as_ref(), &request(window), &request(empty)).await;
    servers.remove(2).await;
}

#[tokio::test]
async fn counts_are_estimates_where_a_server_began_anew() {
    let servers = Servers::new();
    let start = servers.show(&[[100, 200, 300, 300]]).await;
    // Only samples within the window tell how far the server had come before it began anew.
    let stamped = format!("timestamp({METRIC}_count{{job=\"{}\"}})", servers.job);
    let within = |found: &std::collections::BTreeMap<_, f64>| {
        found.values().any(|stamp| *stamp > start.timestamp() as f64 + 1.0)
    };
    let found = servers.bench.query_until(&stamped, within).await;
    assert!(within(&found), "scraped within the window");
    servers.show(&[[200, 300, 500, 500]]).await;
    let end = servers.show(&[[0, 50, 100, 100]]).await; // restarted
    let window = Window::new(start, end).expect("a window");
    let source = source(&servers.bench.prometheus, &servers.job);
    let found = source.latency(&request(window)).await.expect("latencies").latency;
    // 200 before the restart and 100 after it; Prometheus extrapolates to the ends of the window.
    let count = found.count();
    assert!((200..=600).contains(&count), "{count}");
    let cumulative: Vec<u64> = found.cumulative().map(|(_, below)| below).collect();
    assert!(cumulative.is_sorted() && cumulative[0] < cumulative[2], "{cumulative:?}");
    servers.remove(1).await;
}

#[tokio::test]
async fn only_the_series_that_were_asked_for_are_counted() {
    let servers = Servers::new();
    let start = servers.show(&[[0, 0, 0, 0], [0, 0, 0, 0]]).await;
    let end = servers.show(&[[1, 1, 1, 1], [7, 7, 7, 7]]).await;
    let window = Window::new(start, end).expect("a window");
    let mut settings = settings(&servers.bench.prometheus, &servers.job);
    settings["version_label"] = json!("server");
    let request = request(window);
    assert_eq!(request.version.number, 1, "which is the second server");
    let found =
        build(&settings).expect("a source").latency(&request).await.expect("latencies").latency;
    assert_eq!(found.count(), 7);
    settings["metric"] = json!("no_such_metric_seconds");
    let found =
        build(&settings).expect("a source").latency(&request).await.expect("latencies").latency;
    assert_eq!(found, LatencyHistogram::new(Some(5_000)), "nothing is no error");
    servers.remove(2).await;
}

#[tokio::test]
async fn a_query_that_is_cut_or_refused_for_a_while_is_asked_again() {
    let servers = Servers::new();
    let start = servers.show(&[[0, 0, 0, 0]]).await;
    let end = servers.show(&[[1, 2, 3, 3]]).await;
    let window = Window::new(start, end).expect("a window");
    let faults = [Fault::CutBefore, Fault::None, Fault::CutAfter, Fault::None, Fault::Status(503)];
    let relay = Relay::scripted(&servers.bench.prometheus, &faults);
    let found = source(&relay.url(), &servers.job).latency(&request(window)).await;
    assert_eq!(found.expect("latencies").latency.count(), 3);
    for fault in [Fault::CutBefore, Fault::Status(503), Fault::Silent] {
        let relay = Relay::new(&servers.bench.prometheus, move |_| fault);
        let error = source(&relay.url(), &servers.job).latency(&request(window)).await;
        assert!(error.expect_err("never answered").is_transient(), "{fault:?}");
    }
    servers.remove(1).await;
}

#[tokio::test]
async fn answers_that_are_none_have_their_error() {
    enum Kind {
        Later,
        Denied,
        Invalid,
        Conflict,
    }
    let vector = |result: Value| {
        Reply::json(
            200,
            &json!({"status": "success", "data": {"resultType": "vector", "result": result}}),
        )
    };
    let refusal = json!({"status": "error", "errorType": "execution", "error": "too many samples"});
    let matrix = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
    for (reply, kind, told) in [
        (Reply::json(422, &refusal), Kind::Invalid, "too many samples"),
        (Reply::status(401), Kind::Denied, "401"),
        (Reply::status(503), Kind::Later, "503"),
        (Reply::status(404), Kind::Invalid, "404"),
        (Reply::of(200, "", "<html>Sign in</html>"), Kind::Conflict, "something else"),
        (Reply::json(200, &matrix), Kind::Conflict, "matrix"),
        (vector(json!([{"metric": {}, "histogram": [0, {}]}])), Kind::Invalid, "native histogram"),
        (vector(json!([{"metric": {}, "value": [0, "many"]}])), Kind::Conflict, "number"),
    ] {
        let server = Server::new(&[reply]);
        let mut settings = settings(&server.url().to_string(), "j");
        settings["token_file"] = json!("token");
        let source = build(&settings).expect("a source");
        let error = source.latency(&latency_request(0)).await.expect_err(told);
        let is_it = match kind {
            Kind::Later => error.is_transient(),
            Kind::Denied => matches!(error, PlatformError::Denied { .. }),
            Kind::Invalid => matches!(error, PlatformError::Invalid { .. }),
            Kind::Conflict => matches!(error, PlatformError::Conflict { .. }),
        };
        assert!(is_it, "{told}: {error:?}");
        assert!(error_chain(&error).contains(told), "{}", error_chain(&error));
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(server.asked()[0].header("authorization"), Some("Bearer hunter2"));
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (changes, told) in [
        (json!({"metric": "a b"}), "metric"),
        (json!({"metric": "x{"}), "metric"),
        (json!({"labels": {"a-b": "x"}}), "labels"),
        (json!({"labels": {"le": "x"}}), "labels"),
        (json!({"version_label": "1x"}), "labels"),
        (json!({"unit": "hours"}), "unit"),
    ] {
        let mut settings = settings("https://prometheus.example.org", "j");
        settings.as_object_mut().expect("one").extend(changes.as_object().expect("one").clone());
        let Err(error) = build(&settings) else { panic!("{settings} was taken") };
        assert!(error.contains(told), "{settings}: {error}");
    }
}
