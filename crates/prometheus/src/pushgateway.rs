//! Pushes a report's metrics to a Pushgateway, where Prometheus scrapes them.

use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use mloop_core::{MonitoringReport, Subject};
use mloop_http::{HttpSettings, Method, Request, Response, Service};
use mloop_platform::PlatformError;
use mloop_reporter::{BuildError, Judged, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::connection::Connection;
use crate::encode;
use crate::families::{WINDOW_END, always, families, max_series};

/// Settings of kind `prometheus_pushgateway`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushgatewayConfig {
    /// Its address, with the prefix of its paths where it has one.
    url: String,
    /// Label `job` of the group. Model and target are labels of the group too, so that each loop
    /// replaces its own numbers alone.
    #[serde(default = "mloop")]
    job: String,
    /// On which outcomes it is pushed to. `always` keeps no stale good value in a graph while an
    /// alert fires.
    #[serde(default = "always")]
    when: When,
    /// Findings pushed at most; the rest is counted.
    #[serde(default = "max_series")]
    max_series: usize,
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

impl PushgatewayConfig {
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

fn mloop() -> String {
    "mloop".to_owned()
}

impl Spec<Box<dyn Reporter>, ReporterDeps> for PushgatewayConfig {
    const KIND: &'static str = "prometheus_pushgateway";

    fn build(self, name: String, deps: &ReporterDeps) -> Result<Box<dyn Reporter>, BuildError> {
        if self.job.is_empty() {
            return Err(BuildError::invalid("job", "must not be empty"));
        }
        let service = self.connection().service("the Pushgateway", &deps.platform)?;
        let Self { job, when, max_series, .. } = self;
        Ok(Box::new(PushgatewayReporter { name, service, job, when, max_series }))
    }
}

/// Replaces the group of a model and its target by the numbers of a run.
pub struct PushgatewayReporter {
    name: String,
    service: Service,
    job: String,
    when: When,
    max_series: usize,
}

#[async_trait]
impl Reporter for PushgatewayReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        let report = &judged.report;
        let doing = format!("pushing the metrics of {}", report.run_id);
        let pushed = async {
            let newest = self.newest(&report.subject).await?;
            if newest.is_some_and(|end| end > report.window.bounds.end().timestamp() as f64) {
                let place = self.service.place();
                tracing::info!("{place} has the numbers of a newer window, and keeps them");
                return Ok(());
            }
            self.push(&doing, report).await
        };
        pushed.await.map_err(|error: PlatformError| {
            let cause = Box::new(error);
            if cause.is_transient() {
                return ReporterError::Unavailable { doing, cause };
            }
            ReporterError::Refused { doing, cause }
        })
    }
}

impl PushgatewayReporter {
    /// PUT replaces the whole group: no series of an earlier run is left. It can be repeated.
    async fn push(&self, doing: &str, report: &MonitoringReport) -> Result<(), PlatformError> {
        let text = encode(&families(report, self.max_series));
        let request = self.group(Method::Put, &report.subject);
        let request = request.body("text/plain; version=0.0.4; charset=utf-8", text.into_bytes());
        let answer = self.service.call(doing, &request).await?;
        if answer.is_success() { Ok(()) } else { Err(self.service.refused(doing, &answer)) }
    }

    fn group(&self, method: Method, subject: &Subject) -> Request {
        let labels = [("job", self.job.as_str())].into_iter().chain(group_labels(subject));
        let parts: Vec<String> = labels.flat_map(|(name, value)| path_parts(name, value)).collect();
        let parts: Vec<&str> =
            ["metrics"].into_iter().chain(parts.iter().map(String::as_str)).collect();
        self.service.request(method, &parts)
    }

    /// When the newest window ended whose numbers the group has. A gateway that cannot tell is pushed
    /// to: two runs of one loop at once are rare, and the next one mends it.
    async fn newest(&self, subject: &Subject) -> Result<Option<f64>, PlatformError> {
        let doing = "looking which window was pushed last";
        let request = self.service.request(Method::Get, &["api", "v1", "metrics"]);
        match self.service.call(doing, &request).await {
            Ok(answer) if answer.is_success() => Ok(self.window_end(subject, &answer)),
            Err(error) if error.is_transient() || is_denied(&error) => Err(error),
            // An older release without this page, or a page that is too large.
            Ok(_) | Err(_) => {
                tracing::warn!(
                    "{} does not tell which window was pushed last",
                    self.service.place()
                );
                Ok(None)
            }
        }
    }

    fn window_end(&self, subject: &Subject, answer: &Response) -> Option<f64> {
        let page: Value = answer.json().ok()?;
        let groups = page["data"].as_array()?;
        let group = groups.iter().find(|group| {
            let labels = &group["labels"];
            labels["job"] == self.job.as_str()
                && group_labels(subject).into_iter().all(|(name, value)| labels[name] == value)
        })?;
        group[WINDOW_END]["metrics"][0]["value"].as_str()?.parse().ok()
    }
}

fn is_denied(error: &PlatformError) -> bool {
    matches!(error, PlatformError::Denied { .. })
}

fn group_labels(subject: &Subject) -> [(&'static str, &str); 2] {
    [("model", subject.model.as_str()), ("target", subject.target.as_str())]
}

/// A label of a group in the path. A value that is empty or has a slash goes as Base64; an empty one
/// as its padding, since a path may not end in nothing.
fn path_parts(name: &str, value: &str) -> [String; 2] {
    match value {
        "" => [format!("{name}@base64"), "=".to_owned()],
        // A path with these would be made shorter on its way.
        "." | ".." => [format!("{name}@base64"), URL_SAFE.encode(value)],
        value if value.contains('/') => [format!("{name}@base64"), URL_SAFE.encode(value)],
        value => [name.to_owned(), value.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_a_path_cannot_hold_go_as_base64() {
        for (value, expected) in [
            ("fashion", ["job", "fashion"]),
            ("größe 1%", ["job", "größe 1%"]),
            ("a/b", ["job@base64", "YS9i"]),
            ("", ["job@base64", "="]),
            ("..", ["job@base64", "Li4="]),
            ("/?>", ["job@base64", "Lz8-"]),
        ] {
            assert_eq!(path_parts("job", value), expected, "{value}");
        }
    }
}
