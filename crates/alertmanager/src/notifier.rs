//! Posts alerts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use mloop_core::Clock;
use mloop_core::notification::Notification;
use mloop_http::{Credentials, HttpSettings, Method, Service};
use mloop_platform::{BuildError, Notifier, PlatformDeps, PlatformError, Spec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::alert::{OWN_LABELS, alert, is_label_name};

/// A week: an alert that nobody prolongs is over by then.
const MAX_ACTIVE_MINUTES: u32 = 10_080;

/// Settings of kind `alertmanager`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerSettings {
    /// Its address, with the prefix of its paths where it has one.
    url: String,
    /// Further labels of every alert, to route by: `team`, for example.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// How many minutes an alert stays active when nothing prolongs it; 120 when left out. For
    /// monitoring more than the time from one window to the next.
    #[serde(default = "two_hours")]
    active_minutes: u32,
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

fn two_hours() -> u32 {
    120
}

impl Spec<Arc<dyn Notifier>, PlatformDeps> for AlertmanagerSettings {
    const KIND: &'static str = "alertmanager";

    fn build(self, name: String, deps: &PlatformDeps) -> Result<Arc<dyn Notifier>, BuildError> {
        for label in self.labels.keys() {
            let problem = if OWN_LABELS.contains(&label.as_str()) {
                "is set by mloop itself"
            } else if !is_label_name(label) {
                "is no name for a label: letters, digits and underscores, no digit in front"
            } else {
                continue;
            };
            return Err(BuildError::invalid(format!("labels.{label}"), problem));
        }
        if !(1..=MAX_ACTIVE_MINUTES).contains(&self.active_minutes) {
            let problem =
                format!("{} is out of range: from 1 to {MAX_ACTIVE_MINUTES}", self.active_minutes);
            return Err(BuildError::invalid("active_minutes", problem));
        }
        let address = self.http.address("url", &self.url)?;
        let service = Service::new("Alertmanager", address, self.http.client(deps)?);
        Ok(Arc::new(AlertmanagerNotifier {
            name,
            service: service.with(self.credentials(deps)?),
            active: TimeDelta::minutes(self.active_minutes.into()),
            labels: self.labels,
            clock: Arc::clone(&deps.clock),
        }))
    }
}

impl AlertmanagerSettings {
    fn credentials(&self, deps: &PlatformDeps) -> Result<Credentials, BuildError> {
        let password =
            deps.secret("password", self.password_env.as_deref(), self.password_file.as_deref())?;
        let token = deps.secret("token", self.token_env.as_deref(), self.token_file.as_deref())?;
        match (self.username.clone(), password, token) {
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

/// Posts each message as an alert.
pub struct AlertmanagerNotifier {
    name: String,
    service: Service,
    labels: BTreeMap<String, String>,
    active: TimeDelta,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Notifier for AlertmanagerNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let doing = format!("posting the alert {}", notification.id);
        let alert = alert(notification, &self.labels, self.clock.now(), self.active);
        let request = self.service.request(Method::Post, &["api", "v2", "alerts"]);
        // An alert of the same labels is the same alert.
        let request = request.json(&json!([alert])).repeatable();
        let answer = self.service.call(&doing, &request).await?;
        if answer.is_success() { Ok(()) } else { Err(self.service.refused(&doing, &answer)) }
    }
}
