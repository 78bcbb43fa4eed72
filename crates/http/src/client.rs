//! The client.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mloop_core::digest::PartialDigest;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use crate::address::is_public;
use crate::error::is_transient;
use crate::message::{Body, Peer, Received};
use crate::transfer::{Transfer, Upload};
use crate::transport::{Transport, is_refusal};
use crate::{HttpError, Request, Response};

/// Limits of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time of one try, from connecting to the last byte of the answer. For files, which may
    /// be large: the longest time in which nothing moves; a server that has the whole of one may take
    /// longer to answer, a second for each 8 MiB.
    pub timeout: Duration,
    /// Lowest rate of a file in bytes per second, on average since `timeout` passed.
    pub lowest_rate: u64,
    /// Largest answer in bytes.
    pub max_answer_bytes: usize,
    /// Tries of a call that may be repeated, at least 1.
    pub tries: u32,
    /// Longest pause before the second try; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause at all. A server that asks for more by `Retry-After`, in seconds or by a moment, has
    /// its answer returned.
    pub longest_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(30),
            lowest_rate: 64 << 10,
            max_answer_bytes: 8 << 20,
            tries: 3,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
        }
    }
}

impl Policy {
    /// How long to wait after so many tries, from 1, when the server asks for nothing: between half and
    /// all of the pause, so that callers that failed together do not return together.
    #[must_use]
    pub fn pause(&self, tried: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << tried.saturating_sub(1).min(16));
        doubled.min(self.longest_pause).mul_f64(0.5 + jitter() / 2.0)
    }
}

/// Where the body of an answer goes.
#[derive(Clone, Copy)]
enum Sink<'a> {
    Memory,
    File {
        path: &'a Path,
        limit: u64,
    },
    /// Only its digest is wanted.
    Digest {
        limit: u64,
    },
}

/// Sends requests under a [`Policy`]. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    policy: Policy,
    transport: Arc<Transport>,
}

impl Client {
    /// A client with these limits, which trusts the system's certificates.
    ///
    /// # Errors
    /// None as of now; see [`Client::trusting`].
    pub fn new(policy: Policy) -> Result<Self, HttpError> {
        Ok(Self { policy, transport: Arc::new(Transport::new(policy, None)?) })
    }

    /// A client that trusts further authorities: certificates in PEM format.
    ///
    /// # Errors
    /// [`HttpError::Invalid`] when that is no certificate.
    pub fn trusting(policy: Policy, ca_pem: &[u8]) -> Result<Self, HttpError> {
        Ok(Self { policy, transport: Arc::new(Transport::new(policy, Some(ca_pem))?) })
    }

    /// Sends a request; an answer of any status is a success. Calls that may be repeated are
    /// repeated after transient failures and the statuses 429, 502, 503 and 504.
    ///
    /// # Errors
    /// [`HttpError`], of the last try.
    pub async fn send(&self, request: &Request) -> Result<Response, HttpError> {
        self.send_to(request, Sink::Memory).await
    }

    /// Sends a request, and writes the body of an answer of success to a file, of at most `limit`
    /// bytes; any other answer is returned as by [`Client::send`]. A try that failed leaves a part of
    /// the file: compare [`Response::received`].
    ///
    /// # Errors
    /// [`HttpError`], of the last try; [`HttpError::File`] when the file cannot be written.
    pub async fn download(
        &self,
        request: &Request,
        path: &Path,
        limit: u64,
    ) -> Result<Response, HttpError> {
        self.send_to(request, Sink::File { path, limit }).await
    }

    /// Sends a request, and reads the body of an answer of success, of at most `limit` bytes, for its
    /// [`Response::received`] alone; any other answer is returned as by [`Client::send`].
    ///
    /// # Errors
    /// [`HttpError`], of the last try.
    pub async fn digest(&self, request: &Request, limit: u64) -> Result<Response, HttpError> {
        self.send_to(request, Sink::Digest { limit }).await
    }

    async fn send_to(&self, request: &Request, sink: Sink<'_>) -> Result<Response, HttpError> {
        let mut tried = 1;
        loop {
            let result = self.send_once(request, sink).await;
            if tried >= self.policy.tries || !request.repeatable {
                return result;
            }
            let Some(pause) = self.pause(tried, &result) else { return result };
            tokio::time::sleep(pause).await;
            tried += 1;
        }
    }

    /// How long to wait before the next try; none when there shall be none.
    fn pause(&self, tried: u32, result: &Result<Response, HttpError>) -> Option<Duration> {
        let told = match result {
            Ok(answer) if !is_transient(answer.status) => return None,
            Ok(answer) => answer.retry_after(),
            Err(error) if !error.is_transient() => return None,
            Err(_) => None,
        };
        if let Some(told) = told {
            return (told <= self.policy.longest_pause).then_some(told);
        }
        Some(self.policy.pause(tried))
    }

    async fn send_once(&self, request: &Request, sink: Sink<'_>) -> Result<Response, HttpError> {
        let began = Instant::now();
        let mut builder =
            self.transport.of(request)?.request(request.method.vendor(), request.url.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let mut end = began + self.policy.timeout;
        let answer = match &request.body {
            Body::Bytes(bytes) => {
                let sent = builder.body(bytes.clone()).send();
                let sent = timeout_at(end, sent).await.map_err(|_| self.late(request))?;
                sent.map_err(|error| self.error(request, error))?
            }
            Body::File(path) => {
                let answer = self.upload(builder, request, path).await?;
                end = Instant::now() + self.policy.timeout;
                answer
            }
        };
        let reached_public = answer.remote_addr().is_some_and(|peer| is_public(peer.ip()));
        if request.peer == Peer::FromData && !reached_public {
            return Err(refused(request));
        }
        match sink {
            Sink::File { path, limit } if answer.status().is_success() => {
                self.receive(request, answer, Some(path), limit).await
            }
            Sink::Digest { limit } if answer.status().is_success() => {
                self.receive(request, answer, None, limit).await
            }
            _ => {
                let read = timeout_at(end, self.read(request, answer)).await;
                read.map_err(|_| self.late(request))?
            }
        }
    }

    /// Sends a file, for as long as it moves.
    async fn upload(
        &self,
        builder: reqwest::RequestBuilder,
        request: &Request,
        path: &Path,
    ) -> Result<reqwest::Response, HttpError> {
        let failed =
            |cause| HttpError::File { call: request.call.clone(), path: path.to_owned(), cause };
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        let upload = Upload::of(size);
        let body = reqwest::Body::wrap_stream(upload.parts(file));
        tokio::select! {
            sent = builder.header("content-length", size).body(body).send() => {
                sent.map_err(|error| self.error(request, error))
            }
            late = upload.late(&request.call, &self.policy) => Err(late),
        }
    }

    async fn read(
        &self,
        request: &Request,
        mut answer: reqwest::Response,
    ) -> Result<Response, HttpError> {
        let limit = self.policy.max_answer_bytes;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| self.error(request, error))? {
            if body.len() + part.len() > limit {
                return Err(HttpError::TooLarge {
                    call: request.call.clone(),
                    limit: limit as u64,
                });
            }
            body.extend_from_slice(&part);
        }
        Ok(whole(request, &mut answer, body))
    }

    /// Takes a body in a stream, into a file if there is one.
    async fn receive(
        &self,
        request: &Request,
        mut answer: reqwest::Response,
        path: Option<&Path>,
        limit: u64,
    ) -> Result<Response, HttpError> {
        let failed = |cause| {
            let path = path.unwrap_or(Path::new("")).to_owned();
            HttpError::File { call: request.call.clone(), path, cause }
        };
        let mut file = match path {
            Some(path) => Some(tokio::fs::File::create(path).await.map_err(failed)?),
            None => None,
        };
        let (mut transfer, mut digest) = (Transfer::begin(), PartialDigest::default());
        loop {
            let part = transfer.next(&request.call, &self.policy, answer.chunk()).await?;
            let Some(part) = part.map_err(|error| self.error(request, error))? else { break };
            transfer.advance(part.len());
            if transfer.bytes() > limit {
                return Err(HttpError::TooLarge { call: request.call.clone(), limit });
            }
            digest.add(&part);
            if let Some(file) = &mut file {
                file.write_all(&part).await.map_err(failed)?;
            }
        }
        if let Some(file) = file {
            file.sync_all().await.map_err(failed)?;
        }
        let received = Some(Received { bytes: transfer.bytes(), sha256: digest.finish() });
        Ok(Response { received, ..whole(request, &mut answer, vec![]) })
    }

    fn error(&self, request: &Request, error: reqwest::Error) -> HttpError {
        let call = request.call.clone();
        if is_refusal(&error) {
            return refused(request);
        }
        if error.is_builder() {
            return HttpError::Invalid { call, cause: error.without_url().into() };
        }
        HttpError::Unreachable { call, cause: error.without_url().into() }
    }

    fn late(&self, request: &Request) -> HttpError {
        let (what, after) = ("no complete answer", self.policy.timeout);
        HttpError::TimedOut { call: request.call.clone(), what, after }
    }
}

fn whole(request: &Request, answer: &mut reqwest::Response, body: Vec<u8>) -> Response {
    let headers = std::mem::take(answer.headers_mut());
    let (status, call) = (answer.status().as_u16(), request.call.clone());
    Response { status, body, received: None, headers, call }
}

fn refused(request: &Request) -> HttpError {
    HttpError::Refused { call: request.call.clone() }
}

/// An arbitrary number from 0 to 1.
fn jitter() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}
