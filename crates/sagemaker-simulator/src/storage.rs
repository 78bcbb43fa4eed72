//! The object store.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use flate2::read::GzDecoder;

use crate::settings;

/// Objects that a job's channel may have.
const MAX_OBJECTS: usize = 10_000;

/// An S3, or a server that speaks its protocol.
#[derive(Debug, Clone)]
pub(crate) struct Storage(Client);

/// What went wrong, for people: it becomes a `FailureReason`.
pub(crate) type Problem = String;

impl Storage {
    pub(crate) async fn new(region: &str, settings: &settings::Storage) -> Self {
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
        if let Some((id, secret)) = &settings.credentials {
            loader =
                loader.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(true);
        config.set_endpoint_url(settings.endpoint_url.clone());
        Self(Client::from_conf(config.build()))
    }

    /// Writes an object to a file, its folder made where needed.
    pub(crate) async fn fetch(&self, url: &str, file: &Path) -> Result<(), Problem> {
        let (bucket, key) = split(url)?;
        let answer = self.0.get_object().bucket(bucket).key(key).send().await;
        let answer = answer.map_err(|error| problem("reading", url, &error))?;
        let unwritten = |error: io::Error| format!("writing {}: {error}", file.display());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(unwritten)?;
        }
        let mut target = File::create(file).map_err(unwritten)?;
        let mut body = answer.body;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| problem("reading", url, &error))?;
            target.write_all(&chunk).map_err(unwritten)?;
        }
        Ok(())
    }

    /// Writes a file to an object.
    pub(crate) async fn store(&self, file: &Path, url: &str) -> Result<(), Problem> {
        let body = ByteStream::from_path(file).await.map_err(|error| error.to_string())?;
        self.put(body, url).await
    }

    /// Writes an object.
    pub(crate) async fn write(&self, content: Bytes, url: &str) -> Result<(), Problem> {
        self.put(content.into(), url).await
    }

    async fn put(&self, body: ByteStream, url: &str) -> Result<(), Problem> {
        let (bucket, key) = split(url)?;
        let sent = self.0.put_object().bucket(bucket).key(key).body(body).send().await;
        sent.map(drop).map_err(|error| problem("writing", url, &error))
    }

    /// Writes all objects below a prefix into a folder.
    pub(crate) async fn fetch_all(&self, url: &str, folder: &Path) -> Result<(), Problem> {
        let (bucket, prefix) = split(url)?;
        let keys = self.keys(bucket, prefix).await?;
        for key in keys {
            let below = key.strip_prefix(prefix).unwrap_or(&key).trim_start_matches('/');
            let name =
                if below.is_empty() { key.rsplit('/').next().unwrap_or(&key) } else { below };
            let Some(path) = inside(folder, name) else {
                return Err(format!("the key {key} leads out of its folder"));
            };
            self.fetch(&format!("s3://{bucket}/{key}"), &path).await?;
        }
        Ok(())
    }

    /// Writes all files of a folder to objects below a prefix.
    pub(crate) async fn store_all(&self, folder: &Path, url: &str) -> Result<(), Problem> {
        for path in files(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let below = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            self.store(&path, &format!("{}/{below}", url.trim_end_matches('/'))).await?;
        }
        Ok(())
    }

    async fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Problem> {
        let (mut keys, mut token) = (vec![], None);
        loop {
            let page = self.0.list_objects_v2().bucket(bucket).prefix(prefix);
            let page = page.set_continuation_token(token).send().await;
            let page = page.map_err(|error| problem("listing", prefix, &error))?;
            let found = page.contents().iter().filter_map(|object| object.key());
            keys.extend(found.filter(|key| !key.ends_with('/')).map(str::to_owned));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() || keys.len() > MAX_OBJECTS {
                return Ok(keys);
            }
        }
    }
}

/// Unpacks a `.tar.gz`. Blocks.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| format!("{} is no model.tar.gz: {error}", archive.display());
    let file = File::open(archive).map_err(failed)?;
    tar::Archive::new(GzDecoder::new(file)).unpack(folder).map_err(failed)
}

/// Packs a folder as a `.tar.gz`. Blocks.
pub(crate) fn pack(folder: &Path, archive: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| format!("packing {}: {error}", folder.display());
    let file = File::create(archive).map_err(failed)?;
    let writer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut builder = tar::Builder::new(writer);
    builder.append_dir_all(".", folder).map_err(failed)?;
    builder.into_inner().and_then(flate2::write::GzEncoder::finish).map(drop).map_err(failed)
}

/// All files below a folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut waiting) = (vec![], vec![folder.to_path_buf()]);
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name)
        .components()
        .all(|component| matches!(component, std::path::Component::Normal(_)));
    plain.then(|| folder.join(name))
}

fn split(url: &str) -> Result<(&str, &str), Problem> {
    let rest = url.strip_prefix("s3://").ok_or_else(|| format!("{url} is no s3:// address"))?;
    rest.split_once('/').ok_or_else(|| format!("{url} has no key"))
}

fn problem(doing: &str, what: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    format!("{doing} {what}: {}", mloop_core::error_chain(error))
}
