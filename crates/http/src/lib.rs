//! One policy for every HTTP call that mloop makes.
//!
//! - Every try has a time-out, every answer a largest size. Files go and come in a stream, for as long as
//!   they move and not too slowly.
//! - GET, PUT, PATCH, DELETE and a POST marked [`Request::repeatable`] are repeated after transient
//!   failures, with back-off and jitter, heeding `Retry-After`; any other POST is sent once.
//! - No proxy, and no redirect is followed: a service that moved is told, not chased.
//! - An address that the operator configured ([`BaseUrl`]) may be private. It is https, or plain http
//!   on loopback or with `allow_http: true`. Certificates of a company's own authority are trusted
//!   by `ca_file`, in addition to the system's.
//! - An address that comes from *data* ([`DataUrl`]: a source in a registry's answer, say) must be https,
//!   and neither its name nor the connected peer may be private, local or a cloud's metadata.
//! - An address that is a secret itself ([`SecretUrl`]) is shown by its host alone.
//! - Errors name the method, the address without its query, and what happened; no header or body.
//!
//! Feature `testing` has a server and a relay that misbehave as they are told.

mod address;
mod client;
mod error;
mod message;
mod service;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod transport;

pub use address::{BaseUrl, DataUrl, SecretUrl};
pub use client::{Client, Policy};
pub use error::{HttpError, InvalidUrl};
pub use message::{Method, Received, Request, Response};
pub use service::{Credentials, Service};
pub use settings::{HttpSettings, authorities};
