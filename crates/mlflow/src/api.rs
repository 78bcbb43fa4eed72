//! Calls of the server's REST interface, and what its refusals mean.

use std::time::Duration;

use mloop_core::{ModelName, error_chain};
use mloop_http::{Method, Request, Response, Service};
use mloop_platform::PlatformError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Where every path of the interface begins.
const API: [&str; 3] = ["api", "2.0", "mlflow"];

/// What the server says about a host name that it does not know as its own.
const UNKNOWN_HOST: &str = "Invalid Host header";

/// Equal writes of racing registrations that one of them may run into, one after the other.
const MAX_CLASHES: u32 = 6;

/// Pause after the first clash; each further one lasts that much longer.
const CLASH_PAUSE: Duration = Duration::from_millis(50);

/// Characters of a server's text that a message repeats.
const EXCERPT: usize = 200;

/// One thing that is being done on the server.
pub(crate) struct Operation<'a> {
    pub(crate) service: &'a Service,
    pub(crate) model: &'a ModelName,
    pub(crate) doing: String,
}

/// A no with a reason, which the caller may expect.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// What it is when it was not expected.
    pub(crate) error: PlatformError,
}

/// The reasons that make a difference to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// It exists already; comes with status 400.
    Exists,
    /// It does not exist; comes with status 404.
    Missing,
    /// A value makes no sense; also said of an alias that names nothing. Status 400.
    InvalidValue,
    /// The database refused, as it does one of two equal writes at once. Status 400.
    Clash,
    Other,
}

impl Operation<'_> {
    pub(crate) fn get(&self, path: &str) -> Request {
        self.request(Method::Get, path)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Request {
        self.request(Method::Post, path).json(body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Request {
        self.request(Method::Patch, path).json(body)
    }

    pub(crate) fn delete(&self, path: &str, body: &Value) -> Request {
        self.request(Method::Delete, path).json(body)
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let parts: Vec<&str> = API.into_iter().chain(path.split('/')).collect();
        self.service.request(method, &parts)
    }

    /// Sends a request whose refusal the caller may expect.
    pub(crate) async fn asked<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<Result<T, Refusal>, PlatformError> {
        let answer = self.judged(self.service.call(&self.doing, request).await)?;
        if answer.is_success() {
            return self.service.decode(&self.doing, &answer).map(Ok);
        }
        Ok(Err(self.refusal(&answer)))
    }

    /// Sends a request whose refusal is an error.
    pub(crate) async fn done<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<T, PlatformError> {
        self.asked(request).await?.map_err(|refusal| refusal.error)
    }

    /// Writes what may be written again without another effect. Of two equal writes at once the server
    /// refuses one with its database's words; when it is sent again, what it wanted is there.
    pub(crate) async fn written(&self, request: &Request) -> Result<(), PlatformError> {
        let request = request.clone().repeatable();
        let mut clashes = 0;
        loop {
            match self.asked::<Value>(&request).await? {
                Ok(_) => return Ok(()),
                Err(refusal) if refusal.code == Code::Clash && clashes < MAX_CLASHES => {
                    clashes += 1;
                    tokio::time::sleep(CLASH_PAUSE * clashes).await;
                }
                Err(refusal) => return Err(refusal.error),
            }
        }
    }

    pub(crate) fn refusal(&self, answer: &Response) -> Refusal {
        let failure = answer.json::<Failure>().ok();
        let code = match failure.as_ref().map(|failure| failure.error_code.as_str()) {
            Some("RESOURCE_ALREADY_EXISTS") => Code::Exists,
            Some("RESOURCE_DOES_NOT_EXIST") => Code::Missing,
            Some("INVALID_PARAMETER_VALUE") => Code::InvalidValue,
            Some("BAD_REQUEST") => Code::Clash,
            _ => Code::Other,
        };
        Refusal { code, error: self.service.refused(&self.doing, answer) }
    }

    /// A server that refuses its own name does not refuse anybody's credentials.
    pub(crate) fn judged<T>(&self, sent: Result<T, PlatformError>) -> Result<T, PlatformError> {
        match sent {
            Err(PlatformError::Denied { cause, .. })
                if error_chain(cause.as_ref()).contains(UNKNOWN_HOST) =>
            {
                let problem = format!(
                    "{} does not know itself by this host name: start it with `--allowed-hosts` \
                     that names it, or use an address that it knows",
                    self.service.place()
                );
                Err(PlatformError::invalid(&self.doing, problem))
            }
            other => other,
        }
    }

    /// What the server holds is not what mloop left there.
    pub(crate) fn conflict(&self, problem: impl Into<String>) -> PlatformError {
        PlatformError::conflict(&self.doing, problem)
    }
}

/// The body of a refusal, if it is JSON: those of 401 and 403 are text.
#[derive(Deserialize)]
struct Failure {
    error_code: String,
    #[serde(default)]
    message: String,
}

/// What an answer of failure says for people, and of which call.
pub(crate) fn words(answer: &Response) -> String {
    let said = match answer.json::<Failure>() {
        Ok(failure) => failure.words(),
        Err(_) if answer.status == 404 => {
            "it does not know this call; mloop needs MLflow 3 or later".to_owned()
        }
        Err(_) => answer.excerpt(EXCERPT),
    };
    format!("{said} ({})", answer.call())
}

impl Failure {
    /// The code, and the message where that is written for users: others repeat SQL statements with
    /// their values.
    fn words(&self) -> String {
        let code: String = self.error_code.chars().take(EXCERPT).collect();
        let for_users = ["INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"];
        let line = self.message.lines().next().unwrap_or_default();
        if !for_users.contains(&code.as_str()) || line.contains("sql") || line.contains("SQL") {
            return code;
        }
        let line: String = line.chars().take(EXCERPT).collect();
        format!("{code}: {line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_repeat_no_sql() {
        for (code, message, expected) in [
            (
                "RESOURCE_ALREADY_EXISTS",
                "Experiment(name=a) already exists. Error: (sqlite3.IntegrityError) UNIQUE\n[SQL: …",
                "RESOURCE_ALREADY_EXISTS",
            ),
            ("BAD_REQUEST", "(sqlite3.IntegrityError)", "BAD_REQUEST"),
            ("INVALID_PARAMETER_VALUE", "(raised) [SQL: INSERT]", "INVALID_PARAMETER_VALUE"),
            (
                "INVALID_PARAMETER_VALUE",
                "Version alias name 'v1' is reserved.\nmore",
                "INVALID_PARAMETER_VALUE: Version alias name 'v1' is reserved.",
            ),
            ("RESOURCE_DOES_NOT_EXIST", "", "RESOURCE_DOES_NOT_EXIST: "),
        ] {
            let failure = Failure { error_code: code.to_owned(), message: message.to_owned() };
            assert_eq!(failure.words(), expected);
        }
    }
}
