//! Prometheus' query API, as far as it is needed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mloop_http::{Method, Service};
use mloop_platform::PlatformError;
use serde::Deserialize;
use serde_json::Value;

/// One series at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    #[serde(default)]
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    histogram: Option<Value>,
}

/// Evaluates a query at a moment; nothing found is an empty list.
pub(crate) async fn instant(
    service: &Service,
    doing: &str,
    query: &str,
    at: DateTime<Utc>,
) -> Result<Vec<Point>, PlatformError> {
    let millis = at.timestamp_millis();
    let time = format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000));
    let request = service.request(Method::Get, &["api", "v1", "query"]);
    let request = request.query("query", query).query("time", &time);
    let answer = service.call(doing, &request).await?;
    if !answer.is_success() {
        return Err(service.refused(doing, &answer));
    }
    let Answer { data, warnings } = service.decode(doing, &answer)?;
    for warning in warnings {
        tracing::warn!(warning, "{doing}: {} warns", service.place());
    }
    if data.result_type != "vector" {
        let problem = format!("{} answered with a {}", service.place(), data.result_type);
        return Err(PlatformError::conflict(doing, problem));
    }
    data.result.into_iter().map(|found| point(service, doing, found)).collect()
}

fn point(service: &Service, doing: &str, found: Found) -> Result<Point, PlatformError> {
    if found.histogram.is_some() {
        let problem = "it is a native histogram; only classic ones, with a series for each `le`, \
                       can be read";
        return Err(PlatformError::invalid(doing, problem));
    }
    let number = found.value.and_then(|(_, text)| text.parse().ok());
    let value = number.ok_or_else(|| {
        let problem = format!("{} answered with a series without a number", service.place());
        PlatformError::conflict(doing, problem)
    })?;
    Ok(Point { labels: found.metric, value })
}
