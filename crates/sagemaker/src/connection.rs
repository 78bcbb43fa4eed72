//! Where AWS is, and how long it is waited for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sagemaker::config::{Credentials, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use mloop_core::paths;
use mloop_http::HttpSettings;
use mloop_platform::BuildError;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OnceCell;

/// The section `connection` of the settings. Credentials come from AWS's standard chain (environment
/// variables, profile files, web identity, container and instance roles) and never stand in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSettings {
    /// AWS region, such as `eu-central-1`.
    pub region: String,
    /// Address of SageMaker and of its runtime, such as that of `sagemaker_simulator` or of a VPC
    /// endpoint; Amazon's own when left out.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// Address of S3 or of a server that speaks its protocol; Amazon's own when left out.
    #[serde(default)]
    pub s3_endpoint_url: Option<String>,
    /// Certificates in PEM format that are trusted in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Whether plain http is fine for addresses that are not on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Longest time in seconds to connect.
    #[serde(default = "default_connect_timeout_secs")]
    pub connect_timeout_secs: u64,
    /// Longest time in seconds of one try of a call.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Tries of a call whose failure may pass: throttling, errors of the server, lost answers. One that
    /// changes something is only tried again after a look at what became of it.
    #[serde(default = "default_tries")]
    pub tries: u32,
    /// Longest time in seconds that the upload of a version may take.
    #[serde(default = "default_upload_timeout_secs")]
    pub upload_timeout_secs: u64,
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

fn default_upload_timeout_secs() -> u64 {
    900
}

impl ConnectionSettings {
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let key = |name: &str| format!("connection.{name}");
        if self.region.is_empty() {
            return Err(BuildError::invalid(key("region"), "must name a region"));
        }
        let counts = [
            ("connect_timeout_secs", self.connect_timeout_secs),
            ("timeout_secs", self.timeout_secs),
            ("tries", u64::from(self.tries)),
            ("upload_timeout_secs", self.upload_timeout_secs),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(BuildError::invalid(key(name), "must be above 0"));
        }
        let http = HttpSettings { allow_http: self.allow_http, ..HttpSettings::default() };
        let addresses =
            [("endpoint_url", &self.endpoint_url), ("s3_endpoint_url", &self.s3_endpoint_url)];
        for (name, address) in addresses {
            if let Some(address) = address {
                http.address(&key(name), address)?;
            }
        }
        Ok(())
    }

    fn limits(&self, one_try: u64, all: u64) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(self.connect_timeout_secs))
            .read_timeout(Duration::from_secs(one_try))
            .operation_attempt_timeout(Duration::from_secs(one_try))
            .operation_timeout(Duration::from_secs(all))
            .build()
    }
}

/// The clients, made at their first use: finding credentials waits, building a component may not.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: ConnectionSettings,
    invoke_timeout_secs: u64,
    /// Instead of the standard chain's, in tests.
    credentials: Option<Credentials>,
    /// With the authorities of `ca_file`.
    tls: Option<TlsContext>,
    clients: OnceCell<Clients>,
}

/// One client for each service.
#[derive(Debug)]
pub(crate) struct Clients {
    /// For looks, which the SDK repeats.
    pub(crate) sagemaker: aws_sdk_sagemaker::Client,
    /// For what changes something: one try, see [`act`](crate::acting::act).
    pub(crate) acting: aws_sdk_sagemaker::Client,
    /// Tries of what changes something.
    pub(crate) tries: u32,
    pub(crate) runtime: aws_sdk_sagemakerruntime::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    /// For large objects: the same with a longer limit.
    pub(crate) upload: aws_sdk_s3::Client,
}

impl Connection {
    /// `base` is the folder that a relative `ca_file` starts from.
    pub(crate) fn new(
        settings: ConnectionSettings,
        base: &Path,
        invoke_timeout_secs: u64,
        credentials: Option<Credentials>,
    ) -> Result<Self, BuildError> {
        let file = settings.ca_file.as_deref().map(|file| paths::from_folder(base, file));
        let tls = file.map(|file| trusting(&file)).transpose();
        let tls = tls.map_err(|problem| BuildError::invalid("connection.ca_file", problem))?;
        Ok(Self { settings, invoke_timeout_secs, credentials, tls, clients: OnceCell::new() })
    }

    pub(crate) async fn clients(&self) -> &Clients {
        self.clients.get_or_init(|| self.make()).await
    }

    /// Where SageMaker is, for messages.
    pub(crate) fn system(&self) -> String {
        match &self.settings.endpoint_url {
            Some(url) => format!("SageMaker at {url}"),
            None => format!("SageMaker in {}", self.settings.region),
        }
    }

    /// A client for requests to endpoints with a pool of connections of its own.
    pub(crate) fn fresh_runtime(&self, clients: &Clients) -> aws_sdk_sagemakerruntime::Client {
        let mut config = clients.runtime.config().to_builder();
        // The SDK makes its own HTTP client for each client; one that it was given, all share.
        if let Some(tls) = self.tls.clone() {
            config.set_http_client(Some(client_with(tls)));
        }
        aws_sdk_sagemakerruntime::Client::from_conf(config.build())
    }

    async fn make(&self) -> Clients {
        let settings = &self.settings;
        let all = settings.timeout_secs.saturating_mul(u64::from(settings.tries));
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .timeout_config(settings.limits(settings.timeout_secs, all))
            .retry_config(RetryConfig::standard().with_max_attempts(settings.tries));
        if let Some(credentials) = self.credentials.clone() {
            loader = loader.credentials_provider(credentials);
        }
        if let Some(tls) = self.tls.clone() {
            loader = loader.http_client(client_with(tls));
        }
        let shared = loader.load().await;
        let mut sagemaker = aws_sdk_sagemaker::config::Builder::from(&shared);
        sagemaker.set_endpoint_url(settings.endpoint_url.clone().or_else(|| of(&shared)));
        let secs = settings.timeout_secs;
        let acting = sagemaker
            .clone()
            .timeout_config(settings.limits(secs, secs))
            .retry_config(RetryConfig::disabled());
        // A request to an endpoint is never repeated here: who asks must hear of each failure.
        let secs = self.invoke_timeout_secs;
        let mut runtime = aws_sdk_sagemakerruntime::config::Builder::from(&shared)
            .timeout_config(settings.limits(secs, secs))
            .retry_config(RetryConfig::disabled());
        runtime.set_endpoint_url(settings.endpoint_url.clone().or_else(|| of(&shared)));
        let secs = settings.upload_timeout_secs;
        let upload = self.s3(&shared).timeout_config(settings.limits(secs, secs));
        Clients {
            sagemaker: aws_sdk_sagemaker::Client::from_conf(sagemaker.build()),
            acting: aws_sdk_sagemaker::Client::from_conf(acting.build()),
            tries: settings.tries,
            runtime: aws_sdk_sagemakerruntime::Client::from_conf(runtime.build()),
            s3: aws_sdk_s3::Client::from_conf(self.s3(&shared).build()),
            upload: aws_sdk_s3::Client::from_conf(upload.build()),
        }
    }

    fn s3(&self, shared: &SdkConfig) -> aws_sdk_s3::config::Builder {
        let own = self.settings.s3_endpoint_url.clone();
        let mut config = aws_sdk_s3::config::Builder::from(shared);
        if own.is_some() {
            // Servers other than Amazon's have no host name for each bucket.
            config.set_force_path_style(Some(true));
        }
        config.set_endpoint_url(own.or_else(|| of(shared)));
        config
    }
}

/// The system's authorities and those of a file.
fn trusting(file: &Path) -> Result<TlsContext, String> {
    // The SDK panics over what is no certificate.
    let pem = mloop_http::authorities(file)?;
    let store = TrustStore::default().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(store).build();
    context.map_err(|error| format!("{}: {error}", file.display()))
}

/// The SDK's own HTTP client but for its authorities.
fn client_with(tls: TlsContext) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

/// The address that the environment gives for all services.
fn of(shared: &SdkConfig) -> Option<String> {
    shared.endpoint_url().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_checked() {
        for (change, key) in [
            (json!({}), None),
            (json!({"endpoint_url": "http://127.0.0.1:9000"}), None),
            (
                json!({"endpoint_url": "https://vpce-1.api.sagemaker.eu-central-1.amazonaws.com"}),
                None,
            ),
            (json!({"endpoint_url": "http://simulator.lan:9000", "allow_http": true}), None),
            (json!({"endpoint_url": "http://simulator.lan:9000"}), Some("connection.endpoint_url")),
            (json!({"s3_endpoint_url": "moto"}), Some("connection.s3_endpoint_url")),
            (json!({"region": ""}), Some("connection.region")),
            (json!({"tries": 0}), Some("connection.tries")),
        ] {
            let mut settings = json!({"region": "eu-central-1"});
            for (name, value) in change.as_object().expect("an object") {
                settings[name] = value.clone();
            }
            let settings: ConnectionSettings =
                serde_json::from_value(settings).expect("known settings");
            let found = settings.check().err();
            let path = found.as_ref().map(|error| match error {
                BuildError::Settings { path, .. } => path.as_str(),
                other => panic!("{other}"),
            });
            assert_eq!(path, key, "{change}");
        }
    }
}
