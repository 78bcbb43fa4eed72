//! What is sent and what comes back.

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use mloop_core::Sha256Digest;
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::address::origin;
use crate::{BaseUrl, DataUrl, HttpError, SecretUrl};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads; may be repeated.
    Get,
    /// Makes it so; may be repeated.
    Put,
    /// Changes a part to these values; may be repeated.
    Patch,
    /// Removes; may be repeated.
    Delete,
    /// Does something; repeated only where [`Request::repeatable`] says that this is safe.
    Post,
}

impl Method {
    pub(crate) fn vendor(self) -> reqwest::Method {
        match self {
            Self::Get => reqwest::Method::GET,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
            Self::Post => reqwest::Method::POST,
        }
    }
}

/// Where a request goes, as far as it decides how the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Where the operator said.
    Configured,
    /// Where data say: guarded.
    FromData,
}

/// What a request carries.
#[derive(Clone)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// Read anew at every try.
    File(PathBuf),
}

/// One call.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) peer: Peer,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    pub(crate) fresh_connection: bool,
    pub(crate) repeatable: bool,
    /// Method and address, for messages.
    pub(crate) call: String,
}

impl Request {
    /// A call without a body. `path` holds the parts of the path below the address, unescaped.
    #[must_use]
    pub fn new(method: Method, base: &BaseUrl, path: &[&str]) -> Self {
        let url = base.below(path);
        let call = format!("{} {url}", method.vendor());
        Self::of(method, url, Peer::Configured, call)
    }

    /// A call of an address that comes from data.
    #[must_use]
    pub fn to_data(method: Method, address: &DataUrl) -> Self {
        let mut shown = address.url();
        shown.set_query(None);
        let call = format!("{} {shown}", method.vendor());
        Self::of(method, address.url(), Peer::FromData, call)
    }

    /// A call of an address that is a secret.
    #[must_use]
    pub fn to_secret(method: Method, address: &SecretUrl) -> Self {
        let url = address.url();
        let call = format!("{} {}/…", method.vendor(), origin(&url));
        Self::of(method, url, Peer::Configured, call)
    }

    fn of(method: Method, url: Url, peer: Peer, call: String) -> Self {
        let body = Body::Bytes(Vec::new());
        let repeatable = method != Method::Post;
        Self { method, url, peer, headers: vec![], body, fresh_connection: false, repeatable, call }
    }

    /// Adds a parameter to the address; it stands in no message.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.body = Body::Bytes(body);
        self.header("content-type", content_type)
    }

    /// Sends a file as the body, in a stream.
    #[must_use]
    pub fn file(mut self, content_type: &str, path: impl Into<PathBuf>) -> Self {
        self.body = Body::File(path.into());
        self.header("content-type", content_type)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", value.to_string().into_bytes())
    }

    /// Whether to open a connection for this call alone.
    #[must_use]
    pub fn fresh_connection(mut self, fresh: bool) -> Self {
        self.fresh_connection = fresh;
        self
    }

    /// Says of a POST that sending it twice is the same as sending it once: a search, say.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// What came in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Sha256Digest,
}

/// A complete answer, of whatever status.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, at most as long as the policy allows; empty where it came in a stream.
    pub body: Vec<u8>,
    /// The body of a success that [`Client::download`](crate::Client::download) or
    /// [`Client::digest`](crate::Client::digest) took.
    pub received: Option<Received>,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) call: String,
}

impl Response {
    /// A header of the answer; none when it is missing or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server asks to be left alone, by `Retry-After`: seconds, or a moment (RFC 9110, 10.2.3),
    /// which is held against the server's own clock in `Date`. None when it asks for nothing that can be
    /// told.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        wait(self.header("retry-after")?, self.header("date"))
    }

    /// Method and address of the request, for messages.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// This answer if its status is 2xx.
    ///
    /// # Errors
    /// [`HttpError::Status`].
    pub fn success(self) -> Result<Self, HttpError> {
        if self.is_success() {
            return Ok(self);
        }
        Err(HttpError::Status { call: self.call, status: self.status })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not what is expected.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// The beginning of the body as text, for a message: one line, at most so many characters.
    #[must_use]
    pub fn excerpt(&self, characters: usize) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(characters) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

/// What `Retry-After` asks for, told at `date`.
fn wait(told: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = told.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = |text: &str| DateTime::parse_from_rfc2822(text.trim()).ok();
    let left = moment(told)?.signed_duration_since(moment(date?)?);
    // One that has passed asks for nothing.
    Some(left.to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_asks_for_seconds_or_names_a_moment() {
        let date = Some("Sat, 28 Nov 2026 06:00:00 GMT");
        let table = [
            ("3", None, Some(3)),
            (" 120 ", date, Some(120)),
            ("Sat, 28 Nov 2026 06:00:04 GMT", date, Some(4)),
            ("Sat, 28 Nov 2026 05:59:00 GMT", date, Some(0)),
            // Without the server's clock nobody knows how long that is.
            ("Sat, 28 Nov 2026 06:00:04 GMT", None, None),
            ("soon", date, None),
            ("-1", date, None),
        ];
        for (told, date, expected) in table {
            assert_eq!(wait(told, date), expected.map(Duration::from_secs), "{told} {date:?}");
        }
    }
}
