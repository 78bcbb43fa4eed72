//! Latencies by Prometheus' query API, from a classic histogram.
//!
//! Where every series of the window was there at both of its ends and none was reset, the counts are
//! exact: the counters' values at the end less those at the start. Else they are Prometheus'
//! `increase`, rounded, which extrapolates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::Window;
use mloop_core::latency::{LatencyHistogram, LatencySpan};
use mloop_http::{HttpSettings, Service};
use mloop_platform::{
    BuildError, LatencyRequest, LatencySource, PlatformDeps, PlatformError, Spec,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::Connection;
use crate::query::{Point, instant};

/// Settings of kind `prometheus`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusLatencyConfig {
    /// Its address, with the prefix of its paths where it has one.
    url: String,
    /// The histogram, without `_bucket`: `mloop_serving_request_duration_seconds`, for example.
    metric: String,
    /// Values that labels must have: `endpoint: production`, for example. They must leave only
    /// requests to this model and target.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Label whose value must be the number of the version that is judged, where the server writes
    /// one.
    #[serde(default)]
    version_label: Option<String>,
    /// Unit of the histogram.
    #[serde(default)]
    unit: Unit,
    /// Name for basic authentication.
    #[serde(default)]
    username: Option<String>,
    /// Environment variable that holds the password.
    #[serde(default)]
    password_env: Option<String>,
    /// File that holds the password.
    #[serde(default)]
    password_file: Option<PathBuf>,
    /// Environment variable that holds a bearer token.
    #[serde(default)]
    token_env: Option<String>,
    /// File that holds a bearer token.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// The connection.
    #[serde(default)]
    http: HttpSettings,
}

impl PrometheusLatencyConfig {
    fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            username: self.username.as_deref(),
            password: (self.password_env.as_deref(), self.password_file.as_deref()),
            token: (self.token_env.as_deref(), self.token_file.as_deref()),
            http: &self.http,
        }
    }
}

/// Unit of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    #[default]
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    fn micros(self) -> f64 {
        match self {
            Self::Seconds => 1e6,
            Self::Milliseconds => 1e3,
        }
    }
}

impl Spec<Arc<dyn LatencySource>, PlatformDeps> for PrometheusLatencyConfig {
    const KIND: &'static str = "prometheus";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn LatencySource>, BuildError> {
        if !is_name(&self.metric, ':') {
            return Err(BuildError::invalid("metric", "is not the name of a metric"));
        }
        for label in self.labels.keys().chain(&self.version_label) {
            if !is_name(label, '_') || label == "le" {
                let problem = format!("`{label}` is not the name of a label of the histogram");
                return Err(BuildError::invalid("labels", problem));
            }
        }
        let service = self.connection().service("Prometheus", deps)?;
        let Self { metric, labels, version_label, unit, .. } = self;
        Ok(Arc::new(PrometheusLatency { service, metric, labels, version_label, unit }))
    }
}

/// Letters, digits, underscores and one more; no digit in front.
fn is_name(text: &str, more: char) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == more;
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

/// Reads a histogram of Prometheus.
pub struct PrometheusLatency {
    service: Service,
    metric: String,
    labels: BTreeMap<String, String>,
    version_label: Option<String>,
    unit: Unit,
}

#[async_trait]
impl LatencySource for PrometheusLatency {
    async fn latency(&self, request: &LatencyRequest) -> Result<LatencySpan, PlatformError> {
        let latency = self.histogram(request).await?;
        Ok(LatencySpan { window: request.window, latency })
    }
}

impl PrometheusLatency {
    async fn histogram(&self, request: &LatencyRequest) -> Result<LatencyHistogram, PlatformError> {
        let window = request.window;
        let asked = Asked {
            source: self,
            labels: self.selector(request),
            window,
            doing: format!("asking for the latencies of {window}"),
        };
        let objective = request.objective_micros();
        let seen = asked.seen().await?;
        if seen.is_empty() {
            return Ok(LatencyHistogram::new(objective));
        }
        let counts = match asked.exact(&seen).await? {
            Some(counts) => counts,
            None => asked.estimated().await?,
        };
        let sum = asked.sum().await?;
        let found = histogram(&counts, sum, self.unit, objective).map_err(|problem| {
            PlatformError::invalid(&asked.doing, format!("`{}`: {problem}", self.metric))
        })?;
        if objective.is_some() && found.objective_micros().is_none() {
            let metric = &self.metric;
            tracing::warn!("`{metric}` has no bucket that ends at the latency objective");
        }
        Ok(found)
    }

    fn selector(&self, request: &LatencyRequest) -> Vec<String> {
        let mut labels = self.labels.clone();
        if let Some(label) = &self.version_label {
            labels.insert(label.clone(), request.version.number.to_string());
        }
        labels.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect()
    }
}

/// A string of a query.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Labels of a series but its own name and `le`.
type Series = BTreeMap<String, String>;

/// Requests at or below each edge, in micro-units of the histogram's edges; `+Inf` is the last.
type Counts = Vec<(f64, u64)>;

/// One window that is asked for.
struct Asked<'a> {
    source: &'a PrometheusLatency,
    labels: Vec<String>,
    window: Window,
    doing: String,
}

impl Asked<'_> {
    fn series(&self, suffix: &str, more: &[&str]) -> String {
        let labels: Vec<&str> =
            self.labels.iter().map(String::as_str).chain(more.iter().copied()).collect();
        format!("{}_{suffix}{{{}}}", self.source.metric, labels.join(","))
    }

    fn range(&self) -> String {
        let length = self.window.end() - self.window.start();
        format!("[{}ms]", length.num_milliseconds())
    }

    async fn at_end(&self, query: &str) -> Result<Vec<Point>, PlatformError> {
        instant(&self.source.service, &self.doing, query, self.window.end()).await
    }

    /// Every series that the window has, with how often it was reset.
    async fn seen(&self) -> Result<BTreeMap<Series, f64>, PlatformError> {
        let all = self.series("bucket", &["le=\"+Inf\""]);
        let found = self.at_end(&format!("resets({all}{})", self.range())).await?;
        Ok(found.into_iter().map(|point| (without_le(point.labels), point.value)).collect())
    }

    /// The counts at the end less those at the start; none where that is not exact.
    async fn exact(&self, seen: &BTreeMap<Series, f64>) -> Result<Option<Counts>, PlatformError> {
        if seen.values().any(|resets| *resets > 0.0) {
            return Ok(None);
        }
        let (all, start) = (self.series("bucket", &[]), self.window.start());
        let end = by_series(self.at_end(&all).await?);
        let start = instant(&self.source.service, &self.doing, &all, start).await?;
        let start = by_series(start);
        if !end.keys().eq(seen.keys()) || !seen.keys().all(|series| start.contains_key(series)) {
            return Ok(None);
        }
        Ok(difference(&end, &start))
    }

    /// What Prometheus takes the counts for.
    async fn estimated(&self) -> Result<Counts, PlatformError> {
        let (metric, all) = (&self.source.metric, self.series("bucket", &[]));
        tracing::info!("`{metric}`: series came, went or were reset; the counts are estimates");
        let query = format!("sum by (le) (increase({all}{}))", self.range());
        let found = self.at_end(&query).await?;
        let mut counts: Counts =
            found.iter().filter_map(|point| edge(point, point.value)).collect();
        counts.sort_by(|left, right| left.0.total_cmp(&right.0));
        Ok(counts)
    }

    /// Sum of all durations, in the histogram's unit; 0 where it is not told.
    async fn sum(&self) -> Result<f64, PlatformError> {
        let all = self.series("sum", &[]);
        let found = self.at_end(&format!("sum(increase({all}{}))", self.range())).await?;
        Ok(found.first().map_or(0.0, |point| point.value))
    }
}

fn without_le(mut labels: BTreeMap<String, String>) -> Series {
    labels.remove("le");
    labels.remove("__name__");
    labels
}

/// The bits of an edge order as edges do, since none is negative.
type Buckets = BTreeMap<u64, (f64, f64)>;

fn by_series(points: Vec<Point>) -> BTreeMap<Series, Buckets> {
    let mut all: BTreeMap<Series, Buckets> = BTreeMap::new();
    for point in points {
        let Some(edge) = point.labels.get("le").and_then(|le| le.parse::<f64>().ok()) else {
            continue;
        };
        let buckets = all.entry(without_le(point.labels)).or_default();
        buckets.insert(edge.max(0.0).to_bits(), (edge, point.value));
    }
    all
}

/// The difference, added over all series; none where series have not the same edges, or where a count
/// fell or is no whole number.
fn difference(
    end: &BTreeMap<Series, Buckets>,
    start: &BTreeMap<Series, Buckets>,
) -> Option<Counts> {
    let edges: BTreeSet<u64> = end.values().flat_map(Buckets::keys).copied().collect();
    let mut counts = Counts::new();
    for bits in edges {
        let (mut edge, mut sum) = (0.0, 0);
        for (series, buckets) in end {
            let (upto, after) = buckets.get(&bits)?;
            let (_, before) = start.get(series)?.get(&bits)?;
            edge = *upto;
            sum += whole(after - before)?;
        }
        counts.push((edge, sum));
    }
    Some(counts)
}

/// A count that is a whole number from 0 to 2^53, up to which all are exact.
fn whole(value: f64) -> Option<u64> {
    let is_whole = (0.0..=9_007_199_254_740_992.0).contains(&value) && value.fract().abs() < 1e-9;
    is_whole.then_some(value as u64)
}

/// A rounded count at the edge of a point.
fn edge(point: &Point, count: f64) -> Option<(f64, u64)> {
    let edge = point.labels.get("le")?.parse().ok()?;
    count.is_finite().then_some((edge, count.max(0.0).round() as u64))
}

fn histogram(
    counts: &Counts,
    sum: f64,
    unit: Unit,
    objective: Option<u64>,
) -> Result<LatencyHistogram, &'static str> {
    let Some((last, count)) = counts.last().filter(|(edge, _)| edge.is_infinite()) else {
        return Err("its buckets have no `le=\"+Inf\"`; is it a histogram?");
    };
    debug_assert!(last.is_infinite(), "the filter says so");
    let micros = |value: f64| (value * unit.micros()).round() as u64;
    let mut edges: Vec<(u64, u64)> = vec![];
    for (edge, below) in counts.iter().filter(|(edge, _)| edge.is_finite()) {
        match edges.last_mut() {
            // Edges less than a microsecond apart.
            Some(known) if known.0 == micros(*edge) => known.1 = *below,
            _ => edges.push((micros(*edge), *below)),
        }
    }
    if edges.is_empty() {
        return Err("it has no bucket but `+Inf`, which tells nothing about latencies");
    }
    Ok(LatencyHistogram::of_cumulative(&edges, *count, micros(sum.max(0.0)), objective))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(series: &str, le: &str, value: f64) -> Point {
        let labels = [("instance", series), ("le", le), ("__name__", "d_bucket")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Point { labels: labels.into(), value }
    }

    fn counted(values: [[f64; 3]; 2]) -> BTreeMap<Series, Buckets> {
        let [one, two] = values;
        let of = |series: &'static str, values: [f64; 3]| {
            ["0.1", "2.5", "+Inf"].into_iter().zip(values).map(move |(le, n)| point(series, le, n))
        };
        by_series(of("a", one).chain(of("b", two)).collect())
    }

    #[test]
    fn counts_are_added_over_series_exactly() {
        let end = counted([[10.0, 20.0, 21.0], [5.0, 5.0, 5.0]]);
        let start = counted([[4.0, 10.0, 10.0], [5.0, 5.0, 5.0]]);
        let found = difference(&end, &start).expect("exact");
        assert_eq!(found, [(0.1, 6), (2.5, 10), (f64::INFINITY, 11)]);
        let histogram = histogram(&found, 1.5, Unit::Seconds, Some(100_000)).expect("one");
        assert_eq!((histogram.count(), histogram.within_objective()), (11, 6));
        assert_eq!(histogram.sum_micros(), 1_500_000);
    }

    #[test]
    fn what_is_not_exact_is_not_taken_for_it() {
        let end = counted([[10.0, 20.0, 21.0], [5.0, 5.0, 5.0]]);
        for start in [
            counted([[11.0, 11.0, 11.0], [0.0, 0.0, 0.0]]),
            counted([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]),
            counted([[f64::NAN, 0.0, 0.0], [0.0, 0.0, 0.0]]),
            by_series(vec![point("a", "0.1", 0.0), point("b", "+Inf", 0.0)]),
        ] {
            assert_eq!(difference(&end, &start), None, "{start:?}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for counts in [vec![], vec![(0.1, 5)], vec![(f64::INFINITY, 5)]] {
            assert!(histogram(&counts, 0.0, Unit::Seconds, None).is_err(), "{counts:?}");
        }
        let millis = vec![(50.0, 5), (f64::INFINITY, 5)];
        let found = histogram(&millis, 0.0, Unit::Milliseconds, Some(50_000)).expect("one");
        assert_eq!(found.within_objective(), 5);
    }

    #[test]
    fn values_of_labels_are_quoted() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        for (name, expected) in [("a:b_1", true), ("1a", false), ("a-b", false), ("", false)] {
            assert_eq!(is_name(name, ':'), expected, "{name}");
        }
    }
}
