//! Answers and errors as SageMaker words them.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// An error of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationException", message)
    }

    /// SageMaker has no type of its own for what is not there.
    pub(crate) fn could_not_find(what: &str, arn: &str) -> Self {
        Self::validation(format!("Could not find {what} \"{arn}\"."))
    }

    pub(crate) fn already_there(what: &str, arn: &str) -> Self {
        Self::validation(format!("Cannot create already existing {what} \"{arn}\"."))
    }

    pub(crate) fn throttled() -> Self {
        Self::new(400, "ThrottlingException", "Rate exceeded")
    }

    /// Names the member of the body that carries the message: errors of the service description
    /// spell it with a capital letter, the common ones do not.
    pub(crate) fn body(&self) -> Value {
        match self.code.as_str() {
            "ResourceInUse" | "ResourceNotFound" | "ResourceLimitExceeded" => {
                json!({"__type": self.code, "Message": self.message})
            }
            _ => json!({"__type": self.code, "message": self.message}),
        }
    }
}

/// A moment as JSON 1.1 has it: seconds since 1970.
pub(crate) fn moment(at: DateTime<Utc>) -> Value {
    json!(at.timestamp_millis() as f64 / 1000.0)
}

/// Marks an answer that never arrives: the connection is closed instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut;

/// The answer that never arrives.
pub(crate) fn cut() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    answer.extensions_mut().insert(Cut);
    answer
}

/// A JSON answer of the control plane.
pub(crate) fn control_answer(status: u16, body: &Value) -> Response<Body> {
    let mut answer = json_answer(status, body);
    let kind = HeaderValue::from_static("application/x-amz-json-1.1");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// A JSON answer.
pub(crate) fn json_answer(status: u16, body: &Value) -> Response<Body> {
    // Operations without an answer have an empty body.
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    let id = HeaderValue::from_static("00000000-0000-4000-8000-000000000000");
    answer.headers_mut().insert("x-amzn-requestid", id);
    answer
}

/// An error of the runtime, whose type stands in a header.
pub(crate) fn runtime_error(status: u16, kind: &str, body: &Value) -> Response<Body> {
    let mut answer = json_answer(status, body);
    if let Ok(kind) = HeaderValue::from_str(kind) {
        answer.headers_mut().insert("x-amzn-errortype", kind);
    }
    answer
}
