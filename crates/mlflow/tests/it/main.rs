//! The registry on a real MLflow server (`cargo xtask services up mlflow mlflow_auth`), with its
//! faults put in between, and on servers that answer as no MLflow would.

mod answers;
mod client;
mod credentials;
mod damage;
mod faults;
mod races;
mod server;
mod suite;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mloop_core::version::files;
use mloop_core::{FixedClock, Manifest, ModelName, Sha256Digest};
use mloop_http::{BaseUrl, Client, Credentials, Policy, Service};
use mloop_mlflow::MlflowRegistry;
use mloop_platform::Registration;
use mloop_platform::conformance::samples;
use mloop_services::Services;
use tempfile::TempDir;

/// Address of the bench's server.
fn url() -> String {
    Services::running().mlflow().url.clone()
}

/// A service at an address, with time-outs and pauses of a test.
fn service(url: &str, timeout: Duration, credentials: Credentials) -> Service {
    let policy =
        Policy { timeout, tries: 2, first_pause: Duration::from_millis(2), ..Policy::default() };
    let base: BaseUrl = url.parse().expect("an address");
    Service::new("MLflow", base, Client::new(policy).expect("a client")).with(credentials)
}

/// A registry at an address.
fn registry(url: &str) -> MlflowRegistry {
    impatient(url, Duration::from_secs(60))
}

/// A registry that waits no longer for an answer.
fn impatient(url: &str, timeout: Duration) -> MlflowRegistry {
    let clock = Arc::new(FixedClock(samples::day_one()));
    MlflowRegistry::new(service(url, timeout, Credentials::None), clock)
}

/// A folder with files to be registered, and a model of its own: the server's store outlives a test.
struct Place {
    folder: TempDir,
    model: ModelName,
}

impl Place {
    fn new(test: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let unique = folder.path().file_name().and_then(|name| name.to_str()).expect("text");
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let model = ModelName::new(format!("{test}-{unique}")).expect("a name");
        Self { folder, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A registration of two files whose content depends on the name, blessed.
    fn candidate(&self, name: &str) -> Registration {
        self.with(name, &[(files::WEIGHTS, name), (files::SCHEMA, "{}")])
    }

    /// A registration of these files, blessed; its key depends on the name alone.
    fn with(&self, name: &str, contents: &[(&str, &str)]) -> Registration {
        let folder = self.path(&format!("{name}-{}", contents.len()));
        for (path, text) in contents {
            write(&folder.join(path), text);
        }
        let bytes = contents.iter().map(|(path, text)| (*path, text.as_bytes()));
        let manifest = Manifest::of_bytes(bytes).expect("plain paths");
        Registration {
            model: self.model.clone(),
            key: Sha256Digest::of(format!("{}/{name}", self.model).as_bytes()),
            folder,
            manifest,
            tags: BTreeMap::from([("origin".to_owned(), "test".to_owned())]),
            staging_ready: true,
        }
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}
