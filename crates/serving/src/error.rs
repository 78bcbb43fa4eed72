//! Why the server does not start, and how a request is refused.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::store::StoreError;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("listening on {address}: is another server running there?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The admin plane would be open to the network.
    #[error(
        "the admin address {0} is not a loopback address: who reaches it can change what serves; \
         use 127.0.0.1 and forward to it where it must be reached from outside"
    )]
    AdminNotLoopback(SocketAddr),
    /// A setting is out of its range.
    #[error("{setting} {problem}")]
    Setting {
        /// The setting, as the command line calls it.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        problem: &'static str,
    },
    /// There is neither a model nor a folder that could remember one.
    #[error(
        "nothing to serve: {} is no folder; give --model DIR, or --state DIR to start empty and \
         be given endpoints", .0.display()
    )]
    NoModel(PathBuf),
    /// The state folder cannot be used.
    #[error("the state folder cannot be used")]
    State(#[source] StoreError),
    /// The version to begin with must not serve.
    #[error("the model cannot serve")]
    Model(#[source] mloop_core::BoxError),
    /// A folder or file that the server needs cannot be written.
    #[error("{doing} {}", path.display())]
    Write {
        /// What was being done.
        doing: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl ServeError {
    /// Whether the same start may succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Bind { source, .. } => source.kind() == std::io::ErrorKind::AddrInUse,
            Self::State(error) => matches!(error, StoreError::InUse(_)),
            _ => false,
        }
    }
}

/// How a request is refused: status, a code for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// Seconds after which a caller should try again when the server is busy or loading.
const RETRY_AFTER_SECS: &str = "1";

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    pub(crate) fn overloaded() -> Self {
        let message = "as many requests as the server takes are waiting already; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let value = HeaderValue::from_static(RETRY_AFTER_SECS);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
