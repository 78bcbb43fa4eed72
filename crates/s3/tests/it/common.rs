//! Buckets of tests, and the pieces of S3's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mloop_core::SystemClock;
use mloop_http::testing::{Reply, Server};
use mloop_platform::PlatformDeps;
use mloop_s3::testing::TestBucket;
use mloop_s3::{Bucket, Object, Reading, S3Error, S3Settings};
use mloop_services::Services;

pub(crate) fn moto() -> String {
    Services::running().moto().url.clone()
}

/// A bucket that no other test has.
pub(crate) async fn test_bucket() -> TestBucket {
    TestBucket::create(&moto(), &bucket_name()).await
}

pub(crate) fn bucket_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("mloop-s3-{}-{count}", std::process::id())
}

pub(crate) fn built(settings: &S3Settings, place: &str) -> Bucket {
    let deps = PlatformDeps::new(std::env::temp_dir(), Arc::new(SystemClock));
    settings.bucket("path", place, &deps).expect("settings")
}

/// The bucket `models` of a server, below `captured/`; three tries of a second each.
pub(crate) fn captured(url: &str) -> Bucket {
    let mut settings = S3Settings::of_test(url);
    settings.timeout_secs = 1;
    built(&settings, "s3://models/captured")
}

pub(crate) fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// All bytes, or the error.
pub(crate) async fn read(mut reading: Reading) -> Result<Vec<u8>, S3Error> {
    let mut found = vec![];
    while let Some(part) = reading.next().await? {
        found.extend_from_slice(&part);
    }
    Ok(found)
}

/// A list of one page: keys and sizes.
pub(crate) fn list(objects: &[(&str, u64)], next: Option<&str>) -> Reply {
    let contents: String = objects
        .iter()
        .map(|(key, size)| {
            format!(
                "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;tag&quot;</ETag>\
                 <LastModified>2026-03-01T12:00:00.000Z</LastModified></Contents>"
            )
        })
        .collect();
    let next = next.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    let next = next.unwrap_or_default();
    Reply::of(
        200,
        "content-type: application/xml\r\n",
        &format!("<?xml version=\"1.0\"?><ListBucketResult>{contents}{next}</ListBucketResult>"),
    )
}

/// A refusal as S3 words it.
pub(crate) fn refusal(status: u16, code: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words of {code}</Message>\
         <CanonicalRequest>x-amz-security-token:hunter2</CanonicalRequest></Error>"
    );
    Reply::of(status, "content-type: application/xml\r\n", &body)
}

/// Head of an answer with bytes of an object of ten, from one of them on.
pub(crate) fn head(from: usize, etag: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial\r\ncontent-length: {}\r\ncontent-range: bytes {from}-9/10\r\n\
         etag: \"{etag}\"\r\nlast-modified: Sun, 01 Mar 2026 12:00:00 GMT\r\n\r\n",
        10 - from
    )
}

pub(crate) const TEN: &str = "0123456789";

/// An object of ten bytes, as a server lists it.
pub(crate) async fn listed() -> Object {
    let server = Server::new(&[list(&[("captured/ten.jsonl", 10)], None)]);
    let mut objects = captured(&url(&server)).list("", "", 10).await.expect("listed");
    objects.pop().expect("one")
}
