//! How a run ends: with an outcome, or with a failure.

use std::fmt;

use mloop_config::ConfigError;
use mloop_core::exit_class::Classified;
use mloop_core::{BoxError, error_chain};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::exit::Exit;

/// A run that did what it was asked to do, or found that there was nothing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The exit code.
    pub exit: Exit,
    /// The last line, without its `schema`: `run_id`, `outcome` and what the next step needs.
    pub result: Value,
    /// What people asked to see, for standard output above the last line.
    pub text: Option<String>,
}

impl Outcome {
    /// An outcome.
    #[must_use]
    pub fn new(exit: Exit, result: Value) -> Self {
        Self { exit, result, text: None }
    }

    /// The outcome with text for people above its last line.
    #[must_use]
    pub fn below(self, text: String) -> Self {
        Self { text: Some(text), ..self }
    }

    /// An outcome whose last line is a flow's result.
    ///
    /// # Errors
    /// [`Exit::Bug`] for a result that is no JSON.
    pub fn of(exit: Exit, result: &impl Serialize) -> Result<Self, Failure> {
        serde_json::to_value(result)
            .map(|result| Self::new(exit, result))
            .map_err(Failure::with(Exit::Bug))
    }

    /// The last line.
    pub(crate) fn line(self, schema: &str) -> Value {
        let mut line = match self.result {
            Value::Object(line) => line,
            Value::Null => Map::new(),
            other => Map::from_iter([("result".to_owned(), other)]),
        };
        line.insert("schema".to_owned(), schema.into());
        Value::Object(line)
    }
}

/// A run that could not do what it was asked to do.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: BoxError,
}

impl Failure {
    /// A failure; its message is the error's with all its sources.
    pub fn new(exit: Exit, error: impl Into<BoxError>) -> Self {
        Self { exit, error: error.into() }
    }

    /// For `map_err`, of an error that knows what a caller can do about it.
    pub fn of(error: impl Classified + Send + Sync + 'static) -> Self {
        Self::new(error.exit_class().into(), error)
    }

    /// For `map_err`, when all errors of a call end the same way.
    pub fn with<E: Into<BoxError>>(exit: Exit) -> impl Fn(E) -> Self {
        move |error| Self::new(exit, error)
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The last line; `run_id` where it was known by then which run failed.
    pub(crate) fn line(&self, schema: &str, run_id: Option<&str>) -> Value {
        let mut line = json!({
            "schema": schema,
            "outcome": "error",
            "error": {"message": self.to_string(), "exit_code": self.exit.code()},
        });
        if let Some(run_id) = run_id {
            line["run_id"] = run_id.into();
        }
        line
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&error_chain(self.error.as_ref()))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_chain_once_and_its_code() {
        #[derive(Debug, thiserror::Error)]
        #[error("opening the ledger")]
        struct Outer(#[source] std::io::Error);

        let inner = std::io::Error::other("disk on fire");
        let failure = Failure::new(Exit::Transient, Outer(inner));
        assert_eq!(
            failure.line("mloop.example/1", None).to_string(),
            r#"{"error":{"exit_code":30,"message":"opening the ledger: disk on fire"},"outcome":"error","schema":"mloop.example/1"}"#
        );
        assert_eq!(failure.line("mloop.example/1", Some("run-1"))["run_id"], "run-1");
    }

    #[test]
    fn an_outcome_carries_its_schema() {
        let line = Outcome::new(Exit::Done, json!({"outcome": "ok"})).line("mloop.example/1");
        assert_eq!(line, json!({"schema": "mloop.example/1", "outcome": "ok"}));
    }
}
