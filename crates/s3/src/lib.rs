//! Objects in Amazon S3, or in any store that speaks its protocol: listed, and read as they were when
//! they were listed.
//!
//! - Nothing is connected to, and no credentials are looked for, before the first question.
//! - Every try has a time limit, every list and every refusal a largest size; objects come in a stream.
//! - What may succeed later is tried again, with back-off and jitter. An object that breaks off is gone on
//!   with where it broke off, so that it comes whole or not at all.
//! - An object is read up to the size that it was listed with, and only while its `ETag` is the listed one:
//!   one that was replaced meanwhile is an error, never a mixture.
//! - Errors are sorted by what a caller can do ([`S3Error`]). They hold the code and the words of the store's
//!   answer; the rest of it may repeat what was signed, a session token for one, and is dropped.
//!
//! # Credentials
//! They come from the environment, never from a configuration. The first of these that is there counts:
//! `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`); a web identity
//! (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`); a container's role
//! (`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, or `…_FULL_URI` with `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`);
//! the role of the EC2 instance.
//!
//! That is less than AWS's standard chain: profile files (`~/.aws`), SSO and `credential_process` are not
//! read, since the library below does not. `aws configure export-credentials --format env` turns them into
//! variables.
//!
//! # What the library below does not leave to us
//! A proxy that `HTTPS_PROXY` and its like name is used, and redirects are followed, without the signature
//! where they lead to another host.

mod error;
mod place;
mod reading;
mod refusal;
mod settings;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::S3Error;
pub use place::Place;
pub use reading::Reading;
pub use settings::S3Settings;
pub use store::{Bucket, Object};
