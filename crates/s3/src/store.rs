//! The store: lists what there is, and begins to read.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use mloop_core::{Secret, error_chain};
use mloop_http::Policy;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::HttpError;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore as _, RetryConfig,
};
use tokio::sync::OnceCell;

use crate::refusal::{Refusal, Refusing};
use crate::{Place, Reading, S3Error};

/// What of the environment counts: where credentials come from, and nothing that changes how the store is
/// spoken to.
const CREDENTIALS: [AmazonS3ConfigKey; 10] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::Token,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::RoleArn,
    AmazonS3ConfigKey::RoleSessionName,
    AmazonS3ConfigKey::StsEndpoint,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
];

/// Key id and secret key.
#[derive(Debug, Clone)]
pub(crate) struct Keys(pub(crate) String, pub(crate) Secret);

/// How a store is spoken to.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) region: String,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) options: ClientOptions,
    /// Longest time of one try.
    pub(crate) timeout: Duration,
    pub(crate) tries: u32,
    /// Instead of the environment's.
    pub(crate) keys: Option<Keys>,
}

/// A folder of a bucket. Clones share their connections.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    place: Place,
    connection: Connection,
    /// Made at the first question: reading the system's certificates takes longer than all else that a short
    /// run does.
    store: OnceCell<AmazonS3>,
}

/// An object, as it stood when it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key below the place.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
    pub(crate) key: Path,
    pub(crate) etag: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.0.place)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.place.fmt(f)
    }
}

impl Bucket {
    pub(crate) fn new(place: Place, connection: Connection) -> Self {
        Self(Arc::new(Inner { place, connection, store: OnceCell::new() }))
    }

    /// The objects whose names begin with `prefix` and end with `suffix`, in no order, as far as they come
    /// before one more than `max`.
    ///
    /// # Errors
    /// [`S3Error`], of the last try.
    pub async fn list(
        &self,
        prefix: &str,
        suffix: &str,
        max: usize,
    ) -> Result<Vec<Object>, S3Error> {
        let key = self.0.place.key(prefix);
        let (mut found, mut token) = (vec![], None);
        loop {
            let (page, next) = self.page(&key, token.clone(), None).await?;
            found.extend(page.into_iter().filter(|object| object.name.ends_with(suffix)));
            if next.is_none() || found.len() > max {
                return Ok(found);
            }
            if next == token {
                let said = "its list does not end: it names the same page as the next one again";
                return Err(self.refused(&self.shown(&key), said));
            }
            token = next;
        }
    }

    /// Whether there is any object whose name begins with `prefix`.
    ///
    /// # Errors
    /// [`S3Error`], of the last try.
    pub async fn has_any(&self, prefix: &str) -> Result<bool, S3Error> {
        let (page, _) = self.page(&self.0.place.key(prefix), None, Some(1)).await?;
        Ok(!page.is_empty())
    }

    /// The bytes of an object as it was listed, in a stream.
    #[must_use]
    pub fn read(&self, object: &Object) -> Reading {
        Reading::new(self.clone(), object.clone())
    }

    /// One page of a list, and the token of the next.
    async fn page(
        &self,
        prefix: &str,
        token: Option<String>,
        max_keys: Option<usize>,
    ) -> Result<(Vec<Object>, Option<String>), S3Error> {
        let place = self.shown(prefix);
        let options = || PaginatedListOptions {
            page_token: token.clone(),
            max_keys,
            ..PaginatedListOptions::default()
        };
        let mut failures = 0;
        loop {
            let asked = async {
                let store = self.store(&place).await?;
                let page = store.list_paginated(Some(prefix), options()).await;
                let page = page.map_err(|error| self.error(&place, &error))?;
                let objects = page.result.objects.into_iter().map(|found| self.object(found));
                Ok((objects.collect::<Result<_, _>>()?, page.page_token))
            };
            match self.within(&place, asked).await {
                Err(error) => self.pause(&mut failures, error).await?,
                found => return found,
            }
        }
    }

    fn object(&self, found: ObjectMeta) -> Result<Object, S3Error> {
        let key = found.location.as_ref();
        let Some(etag) = found.e_tag else {
            let said = "it lists objects without an ETag, by which a change would be noticed";
            return Err(self.refused(&self.shown(key), said));
        };
        Ok(Object {
            name: key.strip_prefix(&self.0.place.prefix).unwrap_or(key).to_owned(),
            size: found.size,
            modified: found.last_modified,
            etag: etag.trim_matches('"').to_owned(),
            key: found.location,
        })
    }

    /// The bytes of an object from one of them on, once the store has begun to send them.
    pub(crate) async fn begin(
        &self,
        object: &Object,
        from: u64,
    ) -> Result<BoxStream<'static, object_store::Result<bytes::Bytes>>, S3Error> {
        let place = self.shown(object.key.as_ref());
        let options = GetOptions {
            if_match: Some(format!("\"{}\"", object.etag)),
            range: Some(GetRange::Bounded(from..object.size)),
            ..GetOptions::default()
        };
        let asked = async {
            let found = self.store(&place).await?.get_opts(&object.key, options).await;
            let found = found.map_err(|error| match self.error(&place, &error) {
                // In a bucket that was listed a moment ago.
                S3Error::NoBucket { system, .. } => {
                    S3Error::Changed { system, place: place.clone() }
                }
                error => error,
            })?;
            // For stores that do not know `If-Match`.
            let etag = found.meta.e_tag.as_deref().map(|etag| etag.trim_matches('"'));
            if etag != Some(&*object.etag) || found.meta.size != object.size {
                return Err(S3Error::Changed { system: self.system(), place: place.clone() });
            }
            Ok(found.into_stream())
        };
        self.within(&place, asked).await
    }

    /// Waits before the next try of what failed.
    ///
    /// # Errors
    /// The error, when there shall be none.
    pub(crate) async fn pause(&self, failures: &mut u32, error: S3Error) -> Result<(), S3Error> {
        *failures += 1;
        if !error.is_transient() || *failures >= self.0.connection.tries {
            return Err(error);
        }
        tracing::debug!("try {failures} failed: {error}");
        tokio::time::sleep(Policy::default().pause(*failures)).await;
        Ok(())
    }

    /// Waits for an answer as long as one try may take.
    pub(crate) async fn within<T>(
        &self,
        place: &str,
        asked: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, S3Error> {
        let limit = self.0.connection.timeout;
        match tokio::time::timeout(limit, asked).await {
            Ok(answered) => answered,
            Err(_) => {
                Err(self.unavailable(place, format!("no answer within {} s", limit.as_secs_f64())))
            }
        }
    }

    /// The client, once there are credentials.
    pub(crate) async fn store(&self, place: &str) -> Result<&AmazonS3, S3Error> {
        let store = self.0.store.get_or_try_init(|| async {
            let inner = Arc::clone(&self.0);
            let made = tokio::task::spawn_blocking(move || connect(&inner)).await;
            let made = made.map_err(|error| self.unavailable(place, error_chain(&error)))?;
            made.map_err(|error| self.refused(place, error_chain(&error)))
        });
        let store = store.await?;
        match store.credentials().get_credential().await {
            Ok(_) => Ok(store),
            Err(error) => Err(self.without_credentials(place, &error)),
        }
    }

    fn without_credentials(&self, place: &str, error: &object_store::Error) -> S3Error {
        let busy = |status: u16| status == 429 || status >= 500;
        let said = match (refusal(error), transport(error)) {
            (Some(refusal), _) if busy(refusal.status) => {
                return self.unavailable(place, format!("no credentials so far: {refusal}"));
            }
            (Some(refusal), _) => format!("none were given: {refusal}"),
            (None, Some(cause)) if named_by_environment() => {
                return self.unavailable(place, format!("no credentials so far: {cause}"));
            }
            (None, Some(cause)) => format!(
                "the environment names none, and this machine has no role ({cause}); set \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
            ),
            (None, None) => error_chain(error),
        };
        S3Error::Denied { system: self.system(), place: place.to_owned(), said }
    }

    /// What a failed call means.
    pub(crate) fn error(&self, place: &str, error: &object_store::Error) -> S3Error {
        let Some(refusal) = refusal(error) else {
            return match transport(error) {
                Some(cause) => self.unavailable(place, cause),
                None => self.refused(place, format!("its answer is none of S3's: {error}")),
            };
        };
        let (system, place, said) = (self.system(), place.to_owned(), refusal.to_string());
        match (refusal.status, &*refusal.code) {
            (429 | 500.., _) | (_, "SlowDown" | "RequestTimeout" | "InternalError") => {
                S3Error::Unavailable { system, place, said }
            }
            (401 | 403, _) | (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
                S3Error::Denied { system, place, said }
            }
            (412 | 416, _) | (_, "NoSuchKey") => S3Error::Changed { system, place },
            (404, _) => S3Error::NoBucket { system, bucket: self.0.place.bucket.clone() },
            _ => S3Error::Refused { system, place, said },
        }
    }

    /// Where the store is, for messages.
    pub(crate) fn system(&self) -> String {
        let Connection { region, endpoint_url, .. } = &self.0.connection;
        endpoint_url
            .as_ref()
            .map_or_else(|| format!("S3 in {region}"), |url| format!("S3 at {url}"))
    }

    /// A key of the bucket, for messages.
    pub(crate) fn shown(&self, key: &str) -> String {
        format!("{}{}/{key}", Place::SCHEME, self.0.place.bucket)
    }

    pub(crate) fn unavailable(&self, place: &str, said: impl Into<String>) -> S3Error {
        let (system, said) = (self.system(), said.into());
        S3Error::Unavailable { system, place: place.to_owned(), said }
    }

    fn refused(&self, place: &str, said: impl Into<String>) -> S3Error {
        let (system, said) = (self.system(), said.into());
        S3Error::Refused { system, place: place.to_owned(), said }
    }
}

/// Makes the client. Blocks: it reads the system's certificates.
fn connect(inner: &Inner) -> object_store::Result<AmazonS3> {
    let Inner { place, connection, .. } = inner;
    let builder = match &connection.keys {
        Some(Keys(id, secret)) => {
            AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret.reveal())
        }
        None => of_environment(),
    };
    let builder = builder
        .with_region(&connection.region)
        .with_bucket_name(&place.bucket)
        .with_http_connector(Refusing::default())
        .with_client_options(connection.options.clone())
        // Tries are counted here alone.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    match &connection.endpoint_url {
        Some(url) => builder.with_endpoint(url),
        // Amazon's certificates are for one name below its own; other servers have no name for each bucket.
        None => builder.with_virtual_hosted_style_request(!place.bucket.contains('.')),
    }
    .build()
}

fn of_environment() -> AmazonS3Builder {
    let all = AmazonS3Builder::from_env();
    // Where the machine's role is asked for, if not at the usual address.
    let keys = CREDENTIALS.into_iter().chain([AmazonS3ConfigKey::MetadataEndpoint]);
    keys.fold(AmazonS3Builder::new(), |builder, key| match set(&all, &key) {
        Some(value) => builder.with_config(key, value),
        None => builder,
    })
}

/// Whether the environment says where credentials come from, so that the machine's role is not asked for.
fn named_by_environment() -> bool {
    let all = AmazonS3Builder::from_env();
    CREDENTIALS.iter().any(|key| set(&all, key).is_some())
}

/// A variable that is empty says nothing.
fn set(environment: &AmazonS3Builder, key: &AmazonS3ConfigKey) -> Option<String> {
    environment.get_config_value(key).filter(|value| !value.is_empty())
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// What the server answered in place of what was asked for.
fn refusal(error: &object_store::Error) -> Option<&Refusal> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Why there was no whole answer.
fn transport(error: &object_store::Error) -> Option<String> {
    let broken = chain(error).find(|error| error.is::<HttpError>())?;
    broken.source().map(error_chain)
}
