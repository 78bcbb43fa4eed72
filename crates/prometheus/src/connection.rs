//! How Prometheus and the Pushgateway are reached.

use std::path::Path;

use mloop_http::{Credentials, HttpSettings, Response, Service};
use mloop_platform::{BuildError, PlatformDeps};
use serde::Deserialize;

/// Where, and as whom: as the settings say.
pub(crate) struct Connection<'a> {
    pub(crate) url: &'a str,
    pub(crate) username: Option<&'a str>,
    /// Environment variable, file.
    pub(crate) password: (Option<&'a str>, Option<&'a Path>),
    /// Environment variable, file.
    pub(crate) token: (Option<&'a str>, Option<&'a Path>),
    pub(crate) http: &'a HttpSettings,
}

impl Connection<'_> {
    /// The service called `name` in messages.
    pub(crate) fn service(
        &self,
        name: &'static str,
        deps: &PlatformDeps,
    ) -> Result<Service, BuildError> {
        let address = self.http.address("url", self.url)?;
        let service = Service::new(name, address, self.http.client(deps)?);
        Ok(service.with(self.credentials(deps)?).saying(words))
    }

    fn credentials(&self, deps: &PlatformDeps) -> Result<Credentials, BuildError> {
        let password = deps.secret("password", self.password.0, self.password.1)?;
        let token = deps.secret("token", self.token.0, self.token.1)?;
        match (self.username.map(str::to_owned), password, token) {
            (None, None, None) => Ok(Credentials::None),
            (None, None, Some(token)) => Ok(Credentials::Bearer(token)),
            (Some(username), Some(password), None) => Ok(Credentials::Basic { username, password }),
            _ => {
                let problem = "give `username` with `password_env` or `password_file`, or \
                               `token_env` or `token_file`, or none of them";
                Err(BuildError::invalid("username", problem))
            }
        }
    }
}

/// Longest part of an answer that is repeated, in characters.
const EXCERPT: usize = 300;

/// What Prometheus says of a request that it does not take: `error` of its JSON, else the text.
fn words(answer: &Response) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match answer.json::<Refusal>() {
        Ok(refusal) => refusal.error.chars().take(EXCERPT).collect(),
        Err(_) => answer.excerpt(EXCERPT),
    }
}
