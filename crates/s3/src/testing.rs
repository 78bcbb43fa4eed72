//! A bucket of a test, on a server that takes any signature.

use bytes::Bytes;
use futures::TryStreamExt as _;
use mloop_core::Secret;
use mloop_http::{Client, Method, Policy, Request};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::store::{Bucket, Connection, Keys};
use crate::{Place, S3Settings};

/// Key id and secret key of all tests.
pub const KEYS: [&str; 2] = ["test", "test"];

impl S3Settings {
    /// For a server, with keys in place of the environment's.
    ///
    /// # Panics
    /// Never: these are settings.
    #[must_use]
    pub fn of_test(url: &str) -> Self {
        Self {
            region: "us-east-1".to_owned(),
            endpoint_url: Some(url.to_owned()),
            allow_http: false,
            ca_file: None,
            connect_timeout_secs: 2,
            timeout_secs: 20,
            tries: 3,
            keys: None,
        }
        .with_keys(KEYS)
    }

    /// The same, with keys in place of the environment's.
    #[must_use]
    pub fn with_keys(self, [id, secret]: [&str; 2]) -> Self {
        Self { keys: Some(Keys(id.to_owned(), Secret::new(secret))), ..self }
    }
}

/// A bucket that can be written to, too.
#[derive(Debug, Clone)]
pub struct TestBucket {
    /// Address of the server.
    pub url: String,
    /// Name of the bucket.
    pub name: String,
    bucket: Bucket,
}

impl TestBucket {
    /// Makes a bucket of this name.
    ///
    /// # Panics
    /// When the server does not make it.
    pub async fn create(url: &str, name: &str) -> Self {
        let base = url.parse().expect("an address");
        let made = Request::new(Method::Put, &base, &[name]).header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request",
        );
        let client = Client::new(Policy::default()).expect("a client");
        let answer = client.send(&made).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.excerpt(500));
        Self::of(url, name)
    }

    /// A bucket that is there, or is not.
    ///
    /// # Panics
    /// When that is no name of a bucket.
    #[must_use]
    pub fn of(url: &str, name: &str) -> Self {
        let place: Place = format!("s3://{name}").parse().expect("a place");
        let connection = Connection {
            region: "us-east-1".to_owned(),
            endpoint_url: Some(url.to_owned()),
            options: object_store::ClientOptions::new().with_allow_http(true),
            timeout: std::time::Duration::from_secs(30),
            tries: 3,
            keys: Some(Keys(KEYS[0].to_owned(), Secret::new(KEYS[1]))),
        };
        let bucket = Bucket::new(place, connection);
        Self { url: url.to_owned(), name: name.to_owned(), bucket }
    }

    /// Writes an object.
    ///
    /// # Panics
    /// When the store does not take it; so do the others.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) {
        let store = self.bucket.store(key).await.expect("a client");
        store.put(&path(key), content.into().into()).await.expect("written");
    }

    /// Removes an object.
    ///
    /// # Panics
    /// As [`TestBucket::put`].
    pub async fn remove(&self, key: &str) {
        let store = self.bucket.store(key).await.expect("a client");
        store.delete(&path(key)).await.expect("removed");
    }

    /// All objects below a prefix, by key.
    ///
    /// # Panics
    /// As [`TestBucket::put`].
    pub async fn read_all(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let store = self.bucket.store(prefix).await.expect("a client");
        let listed: Vec<_> = store.list(Some(&path(prefix))).try_collect().await.expect("listed");
        let mut found = vec![];
        for object in listed {
            let content = store.get(&object.location).await.expect("there").bytes().await;
            found.push((object.location.to_string(), content.expect("read")));
        }
        found.sort();
        found
    }
}

fn path(key: &str) -> Path {
    Path::parse(key).expect("a key")
}
