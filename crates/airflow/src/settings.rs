//! What the configuration says of the submitter.

use std::path::PathBuf;
use std::sync::Arc;

use mloop_http::HttpSettings;
use mloop_platform::{BuildError, JobSubmitter, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::AirflowSubmitter;
use crate::api::{Airflow, Login};

/// Settings of [`AirflowSubmitter`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AirflowSubmitterSettings {
    /// Where Airflow's API server is, such as `https://airflow.example.org`; with its path, if it has
    /// one.
    pub url: String,
    /// The DAG that trains.
    #[serde(default = "training_dag")]
    pub dag_id: String,
    /// Its task that calls `training_main`, whose `XCom`s tell the result.
    #[serde(default = "training_task")]
    pub task_id: String,
    /// Who asks `/auth/token` for a token, with the password below.
    #[serde(default)]
    pub username: Option<String>,
    /// Environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// File that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable that holds a token, instead of name and password: for Airflows whose
    /// tokens come from elsewhere.
    #[serde(default)]
    pub token_env: Option<String>,
    /// File that holds a token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The connection.
    #[serde(default)]
    pub http: HttpSettings,
}

fn training_dag() -> String {
    "mloop_training".to_owned()
}

fn training_task() -> String {
    "train".to_owned()
}

impl AirflowSubmitterSettings {
    fn login(&self, deps: &PlatformDeps) -> Result<Login, BuildError> {
        let password =
            deps.secret("password", self.password_env.as_deref(), self.password_file.as_deref())?;
        let token = deps.secret("token", self.token_env.as_deref(), self.token_file.as_deref())?;
        match (&self.username, password, token) {
            (Some(username), Some(password), None) if !username.is_empty() => {
                Ok(Login::Password { username: username.clone(), password })
            }
            (None, None, Some(token)) => Ok(Login::Token(token)),
            _ => Err(BuildError::invalid(
                "username",
                "Airflow asks who calls: give `username` with `password_env` or `password_file`, or \
                 else `token_env` or `token_file`",
            )),
        }
    }
}

impl Spec<Arc<dyn JobSubmitter>, PlatformDeps> for AirflowSubmitterSettings {
    const KIND: &'static str = "airflow";

    fn build(
        self,
        _name: String,
        deps: &PlatformDeps,
    ) -> Result<Arc<dyn JobSubmitter>, BuildError> {
        for (key, id) in [("dag_id", &self.dag_id), ("task_id", &self.task_id)] {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-~:+".contains(&byte);
            if id.is_empty() || !id.bytes().all(known) {
                let problem = format!("`{id}` is no id of Airflow: letters, digits and _.-~:+");
                return Err(BuildError::invalid(key, problem));
            }
        }
        let login = self.login(deps)?;
        let base = self.http.address("url", &self.url)?;
        let airflow = Airflow::new(base, self.http.client(deps)?, login, self.dag_id);
        Ok(Arc::new(AirflowSubmitter::new(airflow, self.task_id)))
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::SystemClock;
    use mloop_core::secret::{Secret, SecretError, Secrets};
    use mloop_platform::SubmitterRegistry;
    use serde_json::{Value, json};

    use super::*;

    /// Has every variable.
    struct Full;

    impl Secrets for Full {
        fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
            Ok(Secret::new("s"))
        }

        fn in_file(&self, _path: &std::path::Path) -> Result<Secret, SecretError> {
            Ok(Secret::new("s"))
        }
    }

    fn problem(settings: &Value) -> String {
        let mut registry = SubmitterRegistry::new("submitter");
        crate::register_submitters(&mut registry);
        let deps = PlatformDeps::new(".", Arc::new(SystemClock)).with_secrets(Arc::new(Full));
        match registry.build("airflow", "jobs", settings, &deps) {
            Ok(_) => String::new(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let url = "https://airflow.example.org";
        let table = [
            (json!({"url": url, "username": "u", "password_env": "P"}), ""),
            (json!({"url": url, "username": "u", "password_file": "/p"}), ""),
            (json!({"url": url, "token_env": "T"}), ""),
            (json!({"url": url}), "username"),
            (json!({"url": url, "username": "", "password_env": "P"}), "username"),
            (json!({"url": url, "username": "u"}), "username"),
            (
                json!({"url": url, "username": "u", "password_env": "P", "token_env": "T"}),
                "username",
            ),
            (json!({"url": url, "token_env": "T", "token_file": "/t"}), "token_env"),
            (json!({"url": "http://airflow.example.org", "token_env": "T"}), "allow_http"),
            (json!({"url": url, "token_env": "T", "dag_id": "a/b"}), "dag_id"),
            (json!({"url": url, "token_env": "T", "task_id": ""}), "task_id"),
            (json!({"url": url, "token_env": "T", "dag": "x"}), "dag"),
        ];
        for (settings, expected) in table {
            let found = problem(&settings);
            assert_eq!(found.is_empty(), expected.is_empty(), "{settings}: {found}");
            assert!(found.contains(expected), "{settings}: {found}");
        }
    }
}
