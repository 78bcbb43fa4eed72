//! Objects in S3, each written once.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use base64::Engine as _;
use mloop_core::Sha256Digest;

use crate::connection::Clients;
use crate::failure::{Class, Failure};

/// Under which the digest of an object's content stands in its metadata.
const DIGEST: &str = "mloop-sha256";

/// `s3://bucket/prefix`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    prefix: String,
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not of the form s3://bucket/prefix");
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.bytes().all(plain) {
            return Err(wrong());
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.split('/').any(|part| part == ".." || part == ".") || prefix.len() > 512 {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{bucket}{slash}{prefix}")
    }
}

impl Location {
    /// A place below this one.
    pub(crate) fn join(&self, below: &str) -> Self {
        let Self { bucket, prefix } = self;
        let prefix = if prefix.is_empty() { below.to_owned() } else { format!("{prefix}/{below}") };
        Self { bucket: bucket.clone(), prefix }
    }

    pub(crate) fn key(&self) -> &str {
        &self.prefix
    }
}

/// Bytes for S3, with their digest.
pub(crate) enum Content<'a> {
    File { path: &'a Path, digest: Sha256Digest, bytes: u64 },
    Bytes(&'a [u8]),
}

impl Content<'_> {
    fn digest(&self) -> Sha256Digest {
        match self {
            Self::File { digest, .. } => *digest,
            Self::Bytes(bytes) => Sha256Digest::of(bytes),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => *bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    async fn stream(&self) -> Result<ByteStream, Failure> {
        match self {
            Self::File { path, .. } => {
                let read = ByteStream::from_path(path).await;
                read.map_err(|error| Failure::here(Class::Refused, error.to_string()))
            }
            Self::Bytes(bytes) => Ok(ByteStream::from(bytes.to_vec())),
        }
    }
}

/// Writes an object that is not there yet; one with the same content is adopted, one with another is
/// [`Class::Exists`].
pub(crate) async fn put_once(
    clients: &Clients,
    at: &Location,
    content: &Content<'_>,
    kms_key: Option<&str>,
) -> Result<(), Failure> {
    if is_there(clients, at, content).await? {
        return Ok(());
    }
    let digest = content.digest();
    let mut call = clients
        .upload
        .put_object()
        .bucket(&at.bucket)
        .key(at.key())
        .body(content.stream().await?)
        // S3 compares what arrives with it.
        .checksum_sha256(base64(digest.as_bytes()))
        .metadata(DIGEST, digest.to_string())
        .if_none_match("*");
    if let Some(key) = kms_key {
        call = call.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id(key);
    }
    let Err(error) = call.send().await else { return Ok(()) };
    let failure = Failure::of(error);
    // Another copy was faster, or the answer was lost: what is there decides.
    match failure.class {
        Class::Exists | Class::Busy if is_there(clients, at, content).await? => Ok(()),
        _ => Err(failure),
    }
}

/// Whether an object has this content.
async fn is_there(
    clients: &Clients,
    at: &Location,
    content: &Content<'_>,
) -> Result<bool, Failure> {
    let found = clients.s3.head_object().bucket(&at.bucket).key(at.key()).send().await;
    let found = match found.map_err(Failure::of) {
        Ok(found) => found,
        Err(failure) if failure.is_missing() => return Ok(false),
        Err(failure) => return Err(failure),
    };
    let digest = found.metadata().and_then(|metadata| metadata.get(DIGEST)).cloned();
    let bytes = found.content_length().and_then(|length| u64::try_from(length).ok());
    if digest == Some(content.digest().to_string()) && bytes == Some(content.len()) {
        return Ok(true);
    }
    let problem = format!(
        "{at} is there with other content, and objects are never replaced; find out who wrote it, \
         and remove it or choose another prefix"
    );
    Err(Failure::here(Class::Exists, problem))
}

/// The content of an object of at most `limit` bytes; none when there is no such object.
pub(crate) async fn read(
    clients: &Clients,
    at: &Location,
    limit: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let answer = clients.s3.get_object().bucket(&at.bucket).key(at.key()).send().await;
    let mut answer = match answer.map_err(Failure::of) {
        Ok(answer) => answer,
        Err(failure) if failure.is_missing() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut bytes = vec![];
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk.map_err(|error| Failure::here(Class::Busy, error.to_string()))?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > limit {
            let problem = format!("{at} has more than {limit} bytes");
            return Err(Failure::here(Class::Refused, problem));
        }
    }
    Ok(Some(bytes))
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_joined() {
        for (text, expected) in [
            ("s3://models/mloop/", Some("s3://models/mloop/a/b")),
            ("s3://models", Some("s3://models/a/b")),
            ("https://models/mloop", None),
            ("s3://M/x", None),
            ("s3://models/../x", None),
        ] {
            let place = text.parse::<Location>().ok();
            assert_eq!(place.map(|place| place.join("a/b").to_string()).as_deref(), expected);
        }
    }
}
