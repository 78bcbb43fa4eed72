//! One outside system, with its address, its credentials, and what its answers mean.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mloop_core::Secret;
use mloop_platform::PlatformError;
use serde::de::DeserializeOwned;

use crate::{BaseUrl, Client, HttpError, Method, Request, Response};

/// How a caller says who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// By name and password (RFC 7617).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// By a token (RFC 6750).
    Bearer(Secret),
}

/// An outside system that is spoken to by HTTP.
#[derive(Debug, Clone)]
pub struct Service {
    name: &'static str,
    base: BaseUrl,
    client: Client,
    credentials: Credentials,
    words: fn(&Response) -> String,
}

/// Characters of an answer that a message repeats.
const EXCERPT: usize = 300;

impl Service {
    /// The system called `name` in messages, at this address.
    #[must_use]
    pub fn new(name: &'static str, base: BaseUrl, client: Client) -> Self {
        let words = |answer: &Response| answer.excerpt(EXCERPT);
        Self { name, base, client, credentials: Credentials::None, words }
    }

    /// The same, with credentials.
    #[must_use]
    pub fn with(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// The same, with what an answer of failure says for people; by default, the beginning of its
    /// body.
    #[must_use]
    pub fn saying(self, words: fn(&Response) -> String) -> Self {
        Self { words, ..self }
    }

    /// Name and address, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} at {}", self.name, self.base)
    }

    /// A request to the system, with its credentials.
    #[must_use]
    pub fn request(&self, method: Method, path: &[&str]) -> Request {
        let request = Request::new(method, &self.base, path);
        match &self.credentials {
            Credentials::None => request,
            Credentials::Basic { username, password } => {
                let both = STANDARD.encode(format!("{username}:{}", password.reveal()));
                request.header("authorization", &format!("Basic {both}"))
            }
            Credentials::Bearer(token) => {
                request.header("authorization", &format!("Bearer {}", token.reveal()))
            }
        }
    }

    /// Sends a request. Answers that say the same whatever was asked become errors: 401 and 403
    /// [`PlatformError::Denied`]; 408, 429 and 5xx [`PlatformError::Unavailable`]. All others are the
    /// caller's to judge.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn call(&self, doing: &str, request: &Request) -> Result<Response, PlatformError> {
        let sent = self.client.send(request).await;
        self.judged(doing, sent)
    }

    /// As [`Service::call`], the body of a success going into a file; see [`Client::download`].
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn download(
        &self,
        doing: &str,
        request: &Request,
        path: &Path,
        limit: u64,
    ) -> Result<Response, PlatformError> {
        let sent = self.client.download(request, path, limit).await;
        self.judged(doing, sent)
    }

    /// As [`Service::call`], the body of a success being read for its digest alone; see
    /// [`Client::digest`].
    ///
    /// # Errors
    /// [`PlatformError`].
    pub async fn digest(
        &self,
        doing: &str,
        request: &Request,
        limit: u64,
    ) -> Result<Response, PlatformError> {
        let sent = self.client.digest(request, limit).await;
        self.judged(doing, sent)
    }

    /// Reads an answer of success.
    ///
    /// # Errors
    /// [`PlatformError::Conflict`] when it is not what the system is known to answer.
    pub fn decode<T: DeserializeOwned>(
        &self,
        doing: &str,
        answer: &Response,
    ) -> Result<T, PlatformError> {
        answer.json().map_err(|error| {
            let problem = format!(
                "{} answered {} with something else than expected ({error}); is this address that of \
                 {}, in a version that mloop knows?",
                self.place(),
                answer.status,
                self.name
            );
            PlatformError::conflict(doing, problem)
        })
    }

    /// A 4xx answer that no rule of the caller's covers: the request or the configuration must change.
    #[must_use]
    pub fn refused(&self, doing: &str, answer: &Response) -> PlatformError {
        let said = (self.words)(answer);
        let problem = format!("{} answered {}: {said}", self.place(), answer.status);
        PlatformError::invalid(doing, problem)
    }

    fn judged(
        &self,
        doing: &str,
        sent: Result<Response, HttpError>,
    ) -> Result<Response, PlatformError> {
        let answer = sent.map_err(|error| self.unanswered(doing, error))?;
        let said = || (self.words)(&answer);
        match answer.status {
            401 | 403 => Err(PlatformError::Denied {
                system: self.place(),
                doing: doing.to_owned(),
                cause: format!("it answered {}: {}", answer.status, said()).into(),
            }),
            408 | 429 | 500.. => {
                let cause = format!("it answered {}: {}", answer.status, said());
                Err(PlatformError::unavailable(self.place(), doing, cause))
            }
            _ => Ok(answer),
        }
    }

    fn unanswered(&self, doing: &str, error: HttpError) -> PlatformError {
        // A file of this machine is not the service's.
        if let HttpError::File { path, cause, .. } = &error {
            let system = format!("the file system at {}", path.display());
            return match cause.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    PlatformError::Denied { system, doing: doing.to_owned(), cause: error.into() }
                }
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                    PlatformError::invalid(doing, format!("{system}: {cause}; check the path"))
                }
                _ => PlatformError::unavailable(system, doing, error),
            };
        }
        if error.is_transient() {
            return PlatformError::unavailable(self.place(), doing, error);
        }
        let told = mloop_core::error_chain(&error);
        if matches!(error, HttpError::TooLarge { .. }) {
            return PlatformError::conflict(doing, told);
        }
        PlatformError::invalid(doing, told)
    }
}
