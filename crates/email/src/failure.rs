//! Why a mail was not sent, and what the caller is told of it.

use std::time::Duration;

use lettre::transport::smtp::Error;
use mloop_platform::PlatformError;

/// Longest part of a server's answer that is repeated.
const EXCERPT: usize = 300;

/// What a server was asked when it failed; a refusal means something else at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Connecting,
    Encrypting,
    LoggingIn,
    Sender,
    Recipient,
    Content,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection, or it broke, or no encryption came about: {0}")]
    Broken(String),
    #[error("not done within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    pub(crate) fn of(step: Step, error: &Error) -> Self {
        let said = excerpt(&error.to_string());
        let Some(code) = error.status() else {
            // lettre calls "client" what it does not even try.
            return if error.is_client() { Self::Refused(said) } else { Self::Broken(said) };
        };
        if error.is_transient() {
            return Self::Busy(said);
        }
        // 530, 534, 535 and 538 speak of logging in at whatever step (RFC 4954).
        let about_login = matches!(u16::from(code), 530 | 534 | 535 | 538);
        if about_login || step == Step::LoggingIn {
            return Self::Denied(said);
        }
        Self::Refused(match step {
            Step::Sender => format!("the sender is refused: {said}"),
            Step::Recipient => format!("the recipient is refused: {said}"),
            Step::Content => format!("the mail is refused: {said}"),
            Step::Connecting | Step::Encrypting | Step::LoggingIn => said,
        })
    }

    pub(crate) fn into_platform(self, place: String, doing: &str) -> PlatformError {
        match self {
            Self::Broken(_) | Self::TimedOut(_) | Self::Busy(_) => {
                PlatformError::unavailable(place, doing, self)
            }
            Self::Denied(_) => {
                PlatformError::Denied { system: place, doing: doing.to_owned(), cause: self.into() }
            }
            Self::Refused(problem) => PlatformError::invalid(doing, format!("{place}: {problem}")),
        }
    }

    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::TimedOut(_) | Self::Busy(_))
    }
}

/// One line, at most so long.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
