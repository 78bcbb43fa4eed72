//! Why a call failed.

use std::path::PathBuf;
use std::time::Duration;

/// A box for the errors below this crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Sorted by what the caller can do about it. `call` is the method and the address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, or one that broke: trying later may help.
    #[error("{call}: no connection, or it broke")]
    Unreachable {
        /// Method and address.
        call: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// No complete answer within the time-out; of a file, nothing of it.
    #[error("{call}: {what} within {} s", after.as_secs_f64())]
    TimedOut {
        /// Method and address.
        call: String,
        /// What did not come to pass: `no complete answer`, say.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// A file moved, but more slowly than the policy allows.
    #[error("{call}: less than {lowest} bytes per second of a file")]
    TooSlow {
        /// Method and address.
        call: String,
        /// The lowest rate in bytes per second.
        lowest: u64,
    },
    /// The answer is larger than the policy allows; it was not read to its end.
    #[error("{call}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Method and address.
        call: String,
        /// The largest size in bytes.
        limit: u64,
    },
    /// A status other than 2xx where only that will do.
    #[error("{call}: answered with status {status}")]
    Status {
        /// Method and address.
        call: String,
        /// The status.
        status: u16,
    },
    /// The address came from data, and leads to where data may not lead.
    #[error(
        "{call}: the address comes from data and leads to a private or local network, which is refused"
    )]
    Refused {
        /// Method and address.
        call: String,
    },
    /// The file that is sent or received cannot be read or written.
    #[error("{call}: the file {} cannot be used", path.display())]
    File {
        /// Method and address.
        call: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The request cannot be sent as it is: an invalid header, say.
    #[error("{call}: the request cannot be sent as it is")]
    Invalid {
        /// Method and address.
        call: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
}

impl HttpError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::TooSlow { .. } => true,
            Self::Status { status, .. } => is_transient(*status),
            Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::File { .. }
            | Self::Invalid { .. } => false,
        }
    }
}

/// Whether a status says that the same call may succeed later.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// An address that is not one of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a service: {problem}; write it like `https://models.example.org`")]
pub struct InvalidUrl {
    /// What is wrong; the address itself is left out, since it may hold a password.
    pub(crate) problem: String,
}
