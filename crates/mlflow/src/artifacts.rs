//! The server's own artifact store: files go and come by the server.

use std::path::Path;
use std::time::Duration;

use mloop_core::version::{FileEntry, files};
use mloop_core::{Manifest, Sha256Digest, VersionRef};
use mloop_http::{Method, Received, Request, Response};
use mloop_platform::PlatformError;
use serde_json::Value;

use crate::api::{Code, Operation};

/// Scheme of addresses inside of the store.
const SCHEME: &str = "mlflow-artifacts:/";

/// Where the interface of the store begins.
const STORE: [&str; 4] = ["api", "2.0", "mlflow-artifacts", "artifacts"];

/// MLflow's description of a model.
pub(crate) const MLMODEL: &str = "MLmodel";

/// A store that replaces files in place shows parts of them for a moment, while a racing
/// registration writes the same bytes again: damage is only what a second look finds too.
const SECOND_LOOK: Duration = Duration::from_millis(500);

const BYTES: &str = "application/octet-stream";

/// A folder of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place(Vec<String>);

impl Place {
    /// Reads an address that the server told. Only its own store is fine: an address of anything
    /// else comes from whoever could write the registry.
    pub(crate) fn parse(address: &str) -> Result<Self, String> {
        let refused = |why: &str| {
            let shown: String = address.chars().take(200).collect();
            format!("the files are at `{shown}`, {why}")
        };
        let Some(path) = address.strip_prefix(SCHEME).filter(|path| !path.starts_with('/')) else {
            return Err(refused(
                "which is not the server's own store: mloop reads and writes `mlflow-artifacts:/…` \
                 alone, so start the server with `--serve-artifacts` and without \
                 `--default-artifact-root`",
            ));
        };
        let parts: Vec<String> = path.trim_end_matches('/').split('/').map(str::to_owned).collect();
        let plain = |part: &String| {
            let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part != "." && part != ".." && part.chars().all(sound)
        };
        if !parts.iter().all(plain) {
            return Err(refused("which is no plain path; somebody tampered with it"));
        }
        Ok(Self(parts))
    }

    fn parts<'a>(&'a self, file: &'a str) -> Vec<&'a str> {
        let folder = self.0.iter().map(String::as_str);
        STORE.into_iter().chain(folder).chain(file.split('/')).collect()
    }
}

impl Operation<'_> {
    fn artifact(&self, method: Method, place: &Place, file: &str) -> Request {
        self.service.request(method, &place.parts(file))
    }

    /// Puts a file of the disk into the store, in a stream.
    pub(crate) async fn put_file(
        &self,
        place: &Place,
        file: &str,
        from: &Path,
    ) -> Result<(), PlatformError> {
        self.put(self.artifact(Method::Put, place, file).file(BYTES, from)).await
    }

    /// Puts bytes into the store.
    pub(crate) async fn put_bytes(
        &self,
        place: &Place,
        file: &str,
        bytes: Vec<u8>,
    ) -> Result<(), PlatformError> {
        self.put(self.artifact(Method::Put, place, file).body(BYTES, bytes)).await
    }

    async fn put(&self, request: Request) -> Result<(), PlatformError> {
        let answer = self.judged(self.service.call(&self.doing, &request).await)?;
        if answer.is_success() {
            return Ok(());
        }
        Err(self.refusal(&answer).error)
    }

    /// A small file of the store; none when it is not there.
    pub(crate) async fn read(
        &self,
        place: &Place,
        file: &str,
    ) -> Result<Option<Vec<u8>>, PlatformError> {
        let request = self.artifact(Method::Get, place, file);
        let answer = self.judged(self.service.call(&self.doing, &request).await)?;
        Ok(self.found(answer)?.map(|answer| answer.body))
    }

    /// Whether the store has a file with these bytes, put into a file of the disk if one is named.
    pub(crate) async fn holds(
        &self,
        place: &Place,
        entry: &FileEntry,
        into: Option<&Path>,
    ) -> Result<bool, PlatformError> {
        let request = self.artifact(Method::Get, place, &entry.path);
        let sent = match into {
            Some(path) => self.service.download(&self.doing, &request, path, entry.size).await,
            None => self.service.digest(&self.doing, &request, entry.size).await,
        };
        // More bytes than the file has are another file.
        if matches!(sent, Err(PlatformError::Conflict { .. })) {
            return Ok(false);
        }
        let found = self.found(self.judged(sent)?)?;
        let wanted = Received { bytes: entry.size, sha256: entry.sha256 };
        Ok(found.and_then(|answer| answer.received) == Some(wanted))
    }

    fn found(&self, answer: Response) -> Result<Option<Response>, PlatformError> {
        if answer.is_success() {
            return Ok(Some(answer));
        }
        let refusal = self.refusal(&answer);
        if refusal.code == Code::Missing { Ok(None) } else { Err(refusal.error) }
    }

    /// A file with these bytes, or an error; see [`Operation::holds`].
    pub(crate) async fn take(
        &self,
        place: &Place,
        entry: &FileEntry,
        into: Option<&Path>,
    ) -> Result<(), PlatformError> {
        if self.holds(place, entry, into).await? {
            return Ok(());
        }
        tokio::time::sleep(SECOND_LOOK).await;
        if self.holds(place, entry, into).await? {
            return Ok(());
        }
        let problem = format!(
            "`{}` on the server is missing, or not the file that was registered: damaged, or replaced \
             by somebody",
            entry.path
        );
        Err(self.conflict(problem))
    }

    /// The manifest of a version, of which this is the digest.
    pub(crate) async fn manifest(
        &self,
        place: &Place,
        version: &VersionRef,
    ) -> Result<Manifest, PlatformError> {
        for pause in [SECOND_LOOK, Duration::ZERO] {
            let found = self.read(place, files::MANIFEST).await?;
            let manifest = found.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
            match manifest.filter(|manifest| manifest.digest() == version.digest) {
                Some(manifest) => return Ok(manifest),
                None => tokio::time::sleep(pause).await,
            }
        }
        let problem = format!(
            "`{}` on the server is missing, or not the one registered: damaged, or replaced by somebody",
            files::MANIFEST
        );
        Err(self.conflict(problem))
    }

    /// Reads back all files of a version, and compares them with its digest.
    pub(crate) async fn verify(
        &self,
        place: &Place,
        version: &VersionRef,
    ) -> Result<(), PlatformError> {
        let manifest = self.manifest(place, version).await?;
        for entry in manifest.files() {
            self.take(place, entry, None).await?;
        }
        let described = self.read(place, MLMODEL).await?;
        if described.and_then(|bytes| digest_of(&bytes)) == Some(version.digest) {
            return Ok(());
        }
        let problem = format!("`{MLMODEL}` on the server is missing, or describes other files");
        Err(self.conflict(problem))
    }
}

/// The digest of the files that an `MLmodel` of ours describes.
fn digest_of(mlmodel: &[u8]) -> Option<Sha256Digest> {
    let value: Value = serde_json::from_slice(mlmodel).ok()?;
    value.pointer("/flavors/mloop/digest")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_store_is_read() {
        let place = Place::parse("mlflow-artifacts:/1/models/m-0a/artifacts").expect("a place");
        assert_eq!(
            place.parts("reference/schema.json").join("/"),
            "api/2.0/mlflow-artifacts/artifacts/1/models/m-0a/artifacts/reference/schema.json"
        );
        for hostile in [
            "",
            "/etc",
            "file:///etc",
            "mlflow-artifacts:/",
            "mlflow-artifacts:/../../etc",
            "mlflow-artifacts:/1/./models",
            "mlflow-artifacts:/1/%2e%2e/models",
            "mlflow-artifacts:/1/..%2fmodels",
            "mlflow-artifacts:/1/a\\..\\b",
            "mlflow-artifacts:/1//models",
            "mlflow-artifacts:/1?query",
            "mlflow-artifacts://elsewhere.example/1/models",
            "http://169.254.169.254/latest/meta-data",
            "s3://somebody/elses",
            "runs:/r/model",
            "dbfs:/x",
        ] {
            let problem = Place::parse(hostile).expect_err(hostile);
            assert!(problem.contains(hostile), "{problem}");
        }
    }
}
