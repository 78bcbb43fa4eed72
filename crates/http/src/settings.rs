//! What the configuration of any adapter may say of its connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mloop_platform::{BuildError, PlatformDeps};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::transport::Transport;
use crate::{BaseUrl, Client, Policy, SecretUrl};

/// The section `http` of an adapter's settings.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Whether plain http is fine for an address that is not on this machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Certificates in PEM format that are trusted in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest time in seconds to connect; 2 when left out.
    #[serde(default)]
    pub connect_timeout_secs: Option<u64>,
    /// Longest time in seconds of one try; of a file, the longest time in which nothing moves. 30 when
    /// left out.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
    /// Lowest rate of a file in bytes per second, on average since `timeout_secs` passed; 65536 when left
    /// out.
    #[serde(default)]
    pub lowest_bytes_per_sec: Option<u64>,
}

impl HttpSettings {
    /// A client under the default policy with these settings.
    ///
    /// # Errors
    /// [`BuildError::Settings`] below `http`.
    pub fn client(&self, deps: &PlatformDeps) -> Result<Client, BuildError> {
        let usual = Policy::default();
        let policy = Policy {
            connect_timeout: secs("connect_timeout_secs", self.connect_timeout_secs)?
                .unwrap_or(usual.connect_timeout),
            timeout: secs("timeout_secs", self.timeout_secs)?.unwrap_or(usual.timeout),
            lowest_rate: positive("lowest_bytes_per_sec", self.lowest_bytes_per_sec)?
                .unwrap_or(usual.lowest_rate),
            ..usual
        };
        let wrong = |problem: String| BuildError::invalid("http.ca_file", problem);
        let built = match &self.ca_file {
            None => Client::new(policy),
            Some(file) => Client::trusting(policy, &read(&deps.resolve(file)).map_err(wrong)?),
        };
        built.map_err(|error| wrong(mloop_core::error_chain(&error)))
    }

    /// The address of a service, written as the setting `key`.
    ///
    /// # Errors
    /// [`BuildError::Settings`] for what is no address, and for plain http to another machine without
    /// `allow_http`.
    pub fn address(&self, key: &str, text: &str) -> Result<BaseUrl, BuildError> {
        let address: BaseUrl = text
            .parse()
            .map_err(|error: crate::InvalidUrl| BuildError::invalid(key, error.to_string()))?;
        self.check(key, address.is_private()).map(|()| address)
    }

    /// An address that is a secret, from the reference `key`.
    ///
    /// # Errors
    /// As [`HttpSettings::address`]; the message does not hold the address.
    pub fn secret_address(&self, key: &str, text: &str) -> Result<SecretUrl, BuildError> {
        let address: SecretUrl = text
            .parse()
            .map_err(|error: crate::InvalidUrl| BuildError::invalid(key, error.to_string()))?;
        self.check(key, address.is_private()).map(|()| address)
    }

    fn check(&self, key: &str, is_private: bool) -> Result<(), BuildError> {
        if is_private || self.allow_http {
            return Ok(());
        }
        let problem = "plain http to another machine can be read on the way: use https, or set \
                       `http.allow_http: true`";
        Err(BuildError::invalid(key, problem))
    }
}

/// The certificates in PEM format of a file, each of which a client can trust.
///
/// # Errors
/// What is wrong with the file, for people.
pub fn authorities(file: &Path) -> Result<Vec<u8>, String> {
    let pem = read(file)?;
    let checked = Transport::new(Policy::default(), Some(&pem)).and_then(|made| made.check());
    checked.map_err(|error| format!("{}: {}", file.display(), mloop_core::error_chain(&error)))?;
    Ok(pem)
}

fn secs(key: &str, value: Option<u64>) -> Result<Option<Duration>, BuildError> {
    Ok(positive(key, value)?.map(Duration::from_secs))
}

fn positive(key: &str, value: Option<u64>) -> Result<Option<u64>, BuildError> {
    if value == Some(0) {
        return Err(BuildError::invalid(format!("http.{key}"), "must be above 0"));
    }
    Ok(value)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
