//! The server's REST interface, bare: what a test looks up behind the registry's back.

use std::time::Duration;

use mloop_core::ModelName;
use mloop_http::{Credentials, Method, Request, Service};
use serde_json::{Value, json};

use crate::service;

pub(crate) struct Bare(Service);

impl Bare {
    pub(crate) fn at(url: &str) -> Self {
        Self::with(url, Credentials::None)
    }

    pub(crate) fn with(url: &str, credentials: Credentials) -> Self {
        Self(service(url, Duration::from_secs(60), credentials))
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut request = self.request(Method::Get, path);
        for (name, value) in query {
            request = request.query(name, value);
        }
        self.answer(path, &request).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.answer(path, &self.request(Method::Post, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Value {
        self.answer(path, &self.request(Method::Delete, path).json(body)).await
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let parts: Vec<&str> = "api/2.0/mlflow".split('/').chain(path.split('/')).collect();
        self.0.request(method, &parts)
    }

    async fn answer(&self, path: &str, request: &Request) -> Value {
        let answer = self.0.call("meddling", request).await.expect("an answer");
        answer.success().expect(path).json().expect("JSON")
    }

    /// Puts bytes into the artifact store.
    pub(crate) async fn put(&self, address: &str, file: &str, bytes: &[u8]) {
        let path = address.strip_prefix("mlflow-artifacts:/").expect("of the server's own store");
        let parts: Vec<&str> = "api/2.0/mlflow-artifacts/artifacts"
            .split('/')
            .chain(path.split('/'))
            .chain(file.split('/'))
            .collect();
        let request = self.0.request(Method::Put, &parts).body("x/y", bytes.to_vec());
        let answer = self.0.call("meddling", &request).await.expect("an answer");
        answer.success().expect("put");
    }

    /// Where the files of a version are.
    pub(crate) async fn address(&self, model: &ModelName, number: u64) -> String {
        let query = [("name", model.as_str()), ("version", &number.to_string())];
        let found = self.get("model-versions/get-download-uri", &query).await;
        found["artifact_uri"].as_str().expect("an address").to_owned()
    }

    /// All versions of a model, with their tags.
    pub(crate) async fn versions(&self, model: &ModelName) -> Vec<Value> {
        let filter = format!("name='{model}'");
        let found = self.get("model-versions/search", &[("filter", &filter)]).await;
        found["model_versions"].as_array().cloned().unwrap_or_default()
    }

    /// Runs and logged models of a model's own experiment.
    pub(crate) async fn runs_and_models(&self, model: &ModelName) -> (Vec<Value>, Vec<Value>) {
        let query = [("experiment_name", model.as_str())];
        let experiment = self.get("experiments/get-by-name", &query).await;
        let ids = json!({ "experiment_ids": [experiment["experiment"]["experiment_id"]] });
        let list = |found: Value, key: &str| found[key].as_array().cloned().unwrap_or_default();
        let runs = list(self.post("runs/search", &ids).await, "runs");
        let models = list(self.post("logged-models/search", &ids).await, "models");
        (runs, models)
    }
}

/// The value of a tag of a version, run or logged model.
pub(crate) fn tag<'a>(tags: &'a Value, key: &str) -> Option<&'a str> {
    let tags = tags.as_array()?;
    tags.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}
