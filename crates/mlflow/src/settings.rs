//! What the configuration says.

use std::path::PathBuf;
use std::sync::Arc;

use mloop_core::Secret;
use mloop_http::{Credentials, HttpSettings, Service};
use mloop_platform::{BuildError, ModelRegistry, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::MlflowRegistry;
use crate::api::words;

/// Settings of [`MlflowRegistry`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowRegistrySettings {
    /// Address of the tracking server, such as `https://mlflow.example.org`.
    pub url: String,
    /// Experiment that runs are logged to, made if need be; named like the model when left out.
    #[serde(default)]
    pub experiment: Option<String>,
    /// User of basic authentication; with `password_env` or `password_file`.
    #[serde(default)]
    pub username: Option<String>,
    /// Environment variable that holds the user's password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// File that holds the user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable that holds a bearer token, in place of user and password.
    #[serde(default)]
    pub token_env: Option<String>,
    /// File that holds a bearer token, in place of user and password.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Largest version in bytes, all its files together, that is fetched.
    #[serde(default = "default_max_version_bytes")]
    pub max_version_bytes: u64,
    /// The connection.
    #[serde(default)]
    pub http: HttpSettings,
}

fn default_max_version_bytes() -> u64 {
    10 << 30
}

impl Spec<Arc<dyn ModelRegistry>, PlatformDeps> for MlflowRegistrySettings {
    const KIND: &'static str = "mlflow";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn ModelRegistry>, BuildError> {
        if self.experiment.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(BuildError::invalid("experiment", "must be a name, or left out"));
        }
        if self.max_version_bytes == 0 {
            return Err(BuildError::invalid("max_version_bytes", "must be above 0"));
        }
        let address = self.http.address("url", &self.url)?;
        let credentials = self.credentials(deps)?;
        let service = Service::new("MLflow", address, self.http.client(deps)?);
        let service = service.with(credentials).saying(words);
        let registry = MlflowRegistry::new(service, deps.clock.clone());
        Ok(Arc::new(registry.limited_to(self.max_version_bytes).logging_to(self.experiment)))
    }
}

impl MlflowRegistrySettings {
    fn credentials(&self, deps: &PlatformDeps) -> Result<Credentials, BuildError> {
        let secret = |key: &str, env: &Option<String>, file: &Option<PathBuf>| {
            deps.secret(key, env.as_deref(), file.as_deref())
        };
        let password = secret("password", &self.password_env, &self.password_file)?;
        let token = secret("token", &self.token_env, &self.token_file)?;
        chosen(self.username.clone(), password, token)
    }
}

fn chosen(
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
) -> Result<Credentials, BuildError> {
    match (username, password, token) {
        (None, None, None) => Ok(Credentials::None),
        (None, None, Some(token)) => Ok(Credentials::Bearer(token)),
        (Some(username), Some(password), None) if !username.contains(':') => {
            Ok(Credentials::Basic { username, password })
        }
        (Some(_), Some(_), None) => {
            Err(BuildError::invalid("username", "`:` cannot be part of it"))
        }
        _ => {
            let problem = "basic authentication needs `username` with `password_env` or \
                           `password_file`; a token needs `token_env` or `token_file` alone";
            Err(BuildError::invalid("username", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_of_one_kind_and_whole() {
        let (name, secret) = (|| Some("mloop".to_owned()), || Some(Secret::new("x")));
        assert_eq!(chosen(None, None, None), Ok(Credentials::None));
        assert!(matches!(chosen(name(), secret(), None), Ok(Credentials::Basic { .. })));
        assert!(matches!(chosen(None, None, secret()), Ok(Credentials::Bearer(_))));
        for (username, password, token) in [
            (name(), None, None),
            (None, secret(), None),
            (name(), None, secret()),
            (None, secret(), secret()),
            (name(), secret(), secret()),
            (Some("a:b".to_owned()), secret(), None),
        ] {
            let error = chosen(username, password, token).expect_err("half or two");
            assert!(matches!(error, BuildError::Settings { path, .. } if path == "username"));
        }
    }
}
