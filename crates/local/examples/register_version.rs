//! Registers the files of a folder, as `training_main` does: `register_version REGISTRY MODEL FOLDER`.
//! The key is the digest of the files. Writes the version's number.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use mloop_core::version::files;
use mloop_core::{Manifest, ModelName, SystemClock};
use mloop_local::DirectoryRegistry;
use mloop_platform::{ModelRegistry as _, Registration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(model), Some(folder)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: register_version REGISTRY MODEL FOLDER".into());
    };
    let folder = PathBuf::from(folder);
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join(files::MANIFEST))?)?;
    let registration = Registration {
        model: ModelName::new(model)?,
        key: manifest.digest(),
        folder,
        manifest,
        tags: BTreeMap::new(),
        staging_ready: true,
    };
    let registry = DirectoryRegistry::new(root.into(), Arc::new(SystemClock));
    let version = registry.register(&registration).await?;
    writeln!(std::io::stdout(), "{}", version.version.number)?;
    Ok(())
}
