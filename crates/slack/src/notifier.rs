//! Posts to an incoming webhook.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mloop_core::notification::Notification;
use mloop_http::{Client, HttpSettings, Method, Policy, Request, SecretUrl};
use mloop_platform::{BuildError, Notifier, PlatformDeps, PlatformError, Spec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Meaning, advice, meaning, word};
use crate::message;

/// Settings of kind `slack`. One of the two references is needed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackSettings {
    /// Environment variable that holds the webhook's address.
    #[serde(default)]
    webhook_url_env: Option<String>,
    /// File that holds the webhook's address.
    #[serde(default)]
    webhook_url_file: Option<PathBuf>,
    /// The connection.
    #[serde(default)]
    http: HttpSettings,
}

impl Spec<Arc<dyn Notifier>, PlatformDeps> for SlackSettings {
    const KIND: &'static str = "slack";

    fn build(self, name: String, deps: &PlatformDeps) -> Result<Arc<dyn Notifier>, BuildError> {
        let (env, file) = (self.webhook_url_env.as_deref(), self.webhook_url_file.as_deref());
        let key = if env.is_some() { "webhook_url_env" } else { "webhook_url_file" };
        let address = deps.secret("webhook_url", env, file)?.ok_or_else(|| {
            let problem = "set `webhook_url_env` or `webhook_url_file` to where the webhook's \
                           address is";
            BuildError::invalid("", problem)
        })?;
        let webhook = self.http.secret_address(key, address.reveal())?;
        Ok(Arc::new(SlackNotifier { name, webhook, client: self.http.client(deps)? }))
    }
}

/// Posts each message to a channel of Slack.
pub struct SlackNotifier {
    name: String,
    webhook: SecretUrl,
    client: Client,
}

/// An answer, as far as it is of interest.
struct Said {
    status: u16,
    word: Option<String>,
    meaning: Meaning,
}

#[async_trait]
impl Notifier for SlackNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let doing = format!("posting the message {}", notification.id);
        let mut said = self.post(&doing, &message::with_blocks(notification)).await?;
        if said.meaning == Meaning::Form {
            let word = said.word.as_deref().unwrap_or_default();
            tracing::warn!(word, "{}: not taken in blocks; posting plain text", self.place());
            said = self.post(&doing, &message::plain(notification)).await?;
        }
        self.judge(&doing, &said)
    }
}

impl SlackNotifier {
    /// Name and host, for messages: the rest of the address is the secret.
    fn place(&self) -> String {
        format!("Slack ({:?})", self.webhook)
    }

    /// Posts once, and again where Slack says that it did not take the message and how soon it will.
    async fn post(&self, doing: &str, message: &Value) -> Result<Said, PlatformError> {
        let limits = Policy::default();
        for _ in 1..limits.tries {
            let said = self.post_once(doing, message).await?;
            match pause(&said, limits.longest_pause) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Ok(said),
            }
        }
        self.post_once(doing, message).await
    }

    async fn post_once(&self, doing: &str, message: &Value) -> Result<Said, PlatformError> {
        let request = Request::to_secret(Method::Post, &self.webhook).json(message);
        let answer = self.client.send(&request).await.map_err(|error| {
            if error.is_transient() {
                return PlatformError::unavailable(self.place(), doing, error);
            }
            PlatformError::invalid(doing, mloop_core::error_chain(&error))
        })?;
        let word = word(&answer.body).map(str::to_owned);
        let meaning = meaning(answer.status, word.as_deref(), answer.retry_after());
        Ok(Said { status: answer.status, word, meaning })
    }

    fn judge(&self, doing: &str, said: &Said) -> Result<(), PlatformError> {
        let (place, status) = (self.place(), said.status);
        let word = said.word.as_deref().unwrap_or("nothing that Slack is known to say");
        let advice = match advice(word) {
            "" => String::new(),
            advice => format!(" ({advice})"),
        };
        let answered = format!("it answered {status}: {word}{advice}");
        match said.meaning {
            Meaning::Sent => Ok(()),
            Meaning::Later(_) => Err(PlatformError::unavailable(place, doing, answered)),
            Meaning::Closed => Err(PlatformError::Denied {
                system: place,
                doing: doing.to_owned(),
                cause: answered.into(),
            }),
            Meaning::Form => {
                let problem = format!("{place} takes the message in no form; {answered}");
                Err(PlatformError::invalid(doing, problem))
            }
            Meaning::Strange => {
                let problem = format!(
                    "{place} is not known to answer so; {answered}. Is this the address of an \
                     incoming webhook, with nothing in between?"
                );
                Err(PlatformError::invalid(doing, problem))
            }
        }
    }
}

/// How long to wait before the message is posted again; none when it shall not be.
fn pause(said: &Said, longest: Duration) -> Option<Duration> {
    match said.meaning {
        Meaning::Later(Some(pause)) if said.status == 429 && pause <= longest => Some(pause),
        _ => None,
    }
}
