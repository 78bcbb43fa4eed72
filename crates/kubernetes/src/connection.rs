//! How the API server is reached.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mloop_core::error_chain;
use mloop_platform::PlatformError;

/// Where the API server is said to be, and how long to wait for it.
pub(crate) struct Connection {
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
}

impl Connection {
    /// A client. Nobody is called yet.
    pub(crate) async fn client(&self, doing: &str) -> Result<Client, PlatformError> {
        let config = match &self.kubeconfig {
            None => Config::incluster().map_err(|error| {
                let problem = format!(
                    "the service account of this pod cannot be used ({}); outside of a cluster, set \
                     `kubeconfig` of the submitter",
                    error_chain(&error)
                );
                PlatformError::invalid(doing, problem)
            })?,
            Some(path) => {
                let wrong = |error: kube::config::KubeconfigError| {
                    let problem =
                        format!("the kubeconfig {}: {}", path.display(), error_chain(&error));
                    PlatformError::invalid(doing, problem)
                };
                let known = Kubeconfig::read_from(path).map_err(wrong)?;
                let context = self.context.clone();
                let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(known, &options).await.map_err(wrong)?
            }
        };
        let config = self.guarded(doing, config)?;
        Client::try_from(config).map_err(|error| match error {
            kube::Error::Auth(_) => PlatformError::Denied {
                system: "Kubernetes".to_owned(),
                doing: doing.to_owned(),
                cause: error.into(),
            },
            error => PlatformError::invalid(doing, error_chain(&error)),
        })
    }

    /// The rules of all connections: time limits, https with a verified certificate, no proxy.
    fn guarded(&self, doing: &str, mut config: Config) -> Result<Config, PlatformError> {
        config.connect_timeout = Some(self.connect_timeout);
        // The whole call is bounded where it is made; these are for the parts of it.
        config.read_timeout = Some(self.timeout);
        config.write_timeout = Some(self.timeout);
        config.reset_reader_on_write = true;
        // Its own policy repeats up to 15 times, for minutes.
        config.default_retry = false;
        let problem = if config.accept_invalid_certs {
            "the kubeconfig says `insecure-skip-tls-verify`: name the cluster's authority there instead"
        } else if config.cluster_url.scheme_str() != Some("https") && !is_local(&config) {
            "the API server's address is plain http to another machine: use https"
        } else if config.proxy_url.is_some() {
            "the kubeconfig, or HTTPS_PROXY in the environment, names a proxy, which mloop uses for no \
             connection: take it out"
        } else {
            return Ok(config);
        };
        Err(PlatformError::invalid(doing, problem))
    }
}

fn is_local(config: &Config) -> bool {
    let host = config.cluster_url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}
