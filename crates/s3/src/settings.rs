//! What a configuration may say of its store.

use std::path::PathBuf;
use std::time::Duration;

use mloop_http::HttpSettings;
use mloop_platform::{BuildError, PlatformDeps};
use object_store::{Certificate, ClientOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Place;
use crate::store::{Bucket, Connection, Keys};

/// The section `s3` of a component's settings. Credentials come from the environment and never stand in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// Region of the buckets, such as `eu-central-1`.
    pub region: String,
    /// Address of a server other than Amazon's that speaks S3's protocol, or of a VPC endpoint; Amazon's own
    /// in the region when left out.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// Whether plain http is fine for an address that is not on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Certificates in PEM format that are trusted in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest time in seconds to connect.
    #[serde(default = "default_connect_timeout_secs")]
    pub connect_timeout_secs: u64,
    /// Longest time in seconds of one try: until a list is there, until an object begins, and between two
    /// parts of it.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Tries of a list or an object whose failure may pass: throttling, errors of the server, broken
    /// connections, time-outs.
    #[serde(default = "default_tries")]
    pub tries: u32,
    /// Instead of the environment's, in tests.
    #[serde(skip)]
    pub(crate) keys: Option<Keys>,
}

fn default_connect_timeout_secs() -> u64 {
    5
}

fn default_timeout_secs() -> u64 {
    30
}

fn default_tries() -> u32 {
    4
}

impl S3Settings {
    /// The bucket that the setting `key` names as `s3://bucket/prefix`. Nothing is connected to.
    ///
    /// # Errors
    /// [`BuildError::Settings`] for what is no place, and for settings that cannot work.
    pub fn bucket(&self, key: &str, text: &str, deps: &PlatformDeps) -> Result<Bucket, BuildError> {
        let place: Place = text.parse().map_err(|problem| BuildError::invalid(key, problem))?;
        let endpoint_url = self.check()?;
        let connection = Connection {
            region: self.region.clone(),
            options: self.options(endpoint_url.as_deref(), deps)?,
            endpoint_url,
            timeout: Duration::from_secs(self.timeout_secs),
            tries: self.tries,
            keys: self.keys.clone(),
        };
        Ok(Bucket::new(place, connection))
    }

    /// Gives the address, if there is one.
    fn check(&self) -> Result<Option<String>, BuildError> {
        // It becomes a part of Amazon's address.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if self.region.is_empty() || !self.region.bytes().all(allowed) {
            let problem = "must name a region, such as eu-central-1";
            return Err(BuildError::invalid("s3.region", problem));
        }
        let counts = [
            ("connect_timeout_secs", self.connect_timeout_secs),
            ("timeout_secs", self.timeout_secs),
            ("tries", self.tries.into()),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(BuildError::invalid(format!("s3.{name}"), "must be above 0"));
        }
        let http = HttpSettings { allow_http: self.allow_http, ..HttpSettings::default() };
        let address = self.endpoint_url.as_deref();
        let address =
            address.map(|address| http.address("s3.endpoint_url", address)).transpose()?;
        Ok(address.map(|address| address.to_string()))
    }

    fn options(
        &self,
        address: Option<&str>,
        deps: &PlatformDeps,
    ) -> Result<ClientOptions, BuildError> {
        // Whole tries are bounded by the store; a limit of the client would count the time in which nobody
        // takes what has come.
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(self.connect_timeout_secs))
            .with_allow_http(address.is_some_and(|address| address.starts_with("http:")));
        if let Some(file) = &self.ca_file {
            let path = deps.resolve(file);
            let wrong = |problem: String| {
                BuildError::invalid("s3.ca_file", format!("{}: {problem}", path.display()))
            };
            let pem = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
            let found = Certificate::from_pem_bundle(&pem);
            let found = found.map_err(|error| wrong(mloop_core::error_chain(&error)))?;
            if found.is_empty() {
                return Err(wrong("it holds no certificate in PEM format".to_owned()));
            }
            options = found.into_iter().fold(options, ClientOptions::with_root_certificate);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mloop_core::SystemClock;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_cannot_work_is_told_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("text.pem"), "hello").expect("written");
        let deps = PlatformDeps::new(folder.path(), Arc::new(SystemClock));
        let place = "s3://models/captured";
        let cases: [(&str, Value, Option<&str>); 12] = [
            (place, json!({}), None),
            (place, json!({"endpoint_url": "http://127.0.0.1:9000"}), None),
            (place, json!({"endpoint_url": "http://minio.lan:9000", "allow_http": true}), None),
            (place, json!({"endpoint_url": "http://minio.lan:9000"}), Some("s3.endpoint_url")),
            (place, json!({"endpoint_url": "moto"}), Some("s3.endpoint_url")),
            (place, json!({"region": ""}), Some("s3.region")),
            (place, json!({"region": "eu.evil.example/"}), Some("s3.region")),
            (place, json!({"tries": 0}), Some("s3.tries")),
            (place, json!({"timeout_secs": 0}), Some("s3.timeout_secs")),
            (place, json!({"ca_file": "nowhere.pem"}), Some("s3.ca_file")),
            (place, json!({"ca_file": "text.pem"}), Some("s3.ca_file")),
            ("s3://m", json!({}), Some("path")),
        ];
        for (place, change, key) in cases {
            let mut settings = json!({"region": "eu-central-1"});
            for (name, value) in change.as_object().expect("an object") {
                settings[name] = value.clone();
            }
            let settings: S3Settings = serde_json::from_value(settings).expect("known settings");
            let path = settings.bucket("path", place, &deps).err().map(|error| match error {
                BuildError::Settings { path, .. } => path,
                other => panic!("{other}"),
            });
            assert_eq!(path.as_deref(), key, "{change}");
        }
        let secret = json!({"region": "eu-central-1", "secret_access_key": "hunter2"});
        assert!(serde_json::from_value::<S3Settings>(secret).is_err(), "secrets have no key");
    }
}
