//! What the tests ask the bench themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mloop_core::secret::{Secret, SecretError};
use mloop_core::{Secrets, SystemClock};
use mloop_http::{BaseUrl, Client, Method, Policy, Request, Response};
use mloop_platform::PlatformDeps;
use mloop_services::Services;
use serde_json::Value;

/// Every reference leads to this.
struct OneSecret;

impl Secrets for OneSecret {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new("hunter2"))
    }

    fn in_file(&self, _path: &Path) -> Result<Secret, SecretError> {
        Ok(Secret::new("hunter2"))
    }
}

pub(crate) fn deps() -> PlatformDeps {
    PlatformDeps::new("/", Arc::new(SystemClock)).with_secrets(Arc::new(OneSecret))
}

/// A job that no other test and no earlier run has.
pub(crate) fn job() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let moment = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos();
    format!("mloop-{number}-{}-{moment}", std::process::id())
}

/// Labels with the name of the series under `__name__`.
pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) struct Bench {
    client: Client,
    pub(crate) gateway: String,
    pub(crate) prometheus: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let services = Services::running();
        Self {
            client: Client::new(Policy::default()).expect("a client"),
            gateway: services.pushgateway().url.clone(),
            prometheus: services.prometheus().url.clone(),
        }
    }

    async fn send(&self, request: Request) -> Response {
        let answer = self.client.send(&request).await.expect("an answer");
        assert!(answer.is_success(), "{}: {}", answer.status, answer.excerpt(300));
        answer
    }

    fn at(address: &str) -> BaseUrl {
        address.parse().expect("an address")
    }

    /// Pushes text to a group, as a server would be scraped.
    pub(crate) async fn put(&self, path: &[&str], text: &str) {
        let request = Request::new(Method::Put, &Self::at(&self.gateway), path);
        self.send(request.body("text/plain", text.as_bytes().to_vec())).await;
    }

    /// Takes a group away, so that the bench stays small.
    pub(crate) async fn delete(&self, path: &[&str]) {
        self.send(Request::new(Method::Delete, &Self::at(&self.gateway), path)).await;
    }

    /// All groups of the gateway.
    pub(crate) async fn groups(&self) -> Vec<Value> {
        let path = ["api", "v1", "metrics"];
        let answer = self.send(Request::new(Method::Get, &Self::at(&self.gateway), &path)).await;
        let page: Value = answer.json().expect("JSON");
        page["data"].as_array().expect("groups").clone()
    }

    /// What Prometheus answers to a query now.
    pub(crate) async fn query(&self, query: &str) -> BTreeMap<Labels, f64> {
        let path = ["api", "v1", "query"];
        let request = Request::new(Method::Get, &Self::at(&self.prometheus), &path);
        let answer: Value = self.send(request.query("query", query)).await.json().expect("JSON");
        let found = answer["data"]["result"].as_array().expect("series");
        let series = found.iter().map(|series| {
            let labels = serde_json::from_value(series["metric"].clone()).expect("labels");
            let value = series["value"][1].as_str().and_then(|text| text.parse().ok());
            (labels, value.expect("a number"))
        });
        series.collect()
    }

    /// What a query finds once it is as it should be: scrapes take a second.
    pub(crate) async fn query_until(
        &self,
        query: &str,
        is_it: impl Fn(&BTreeMap<Labels, f64>) -> bool,
    ) -> BTreeMap<Labels, f64> {
        let begun = Instant::now();
        loop {
            let found = self.query(query).await;
            if is_it(&found) || begun.elapsed() > Duration::from_secs(30) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
