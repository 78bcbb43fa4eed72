//! What the tests of this package share: the workspace as cargo sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use serde::Deserialize;

/// `tests/vendors.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Vendor crate → the one own crate that may depend on it.
    pub owners: BTreeMap<String, String>,
    /// Third-party crates that all may use.
    pub free: Free,
    /// Program or crate → crates that it must not compile.
    pub unreachable: BTreeMap<String, Vec<String>>,
    /// Licences.
    pub licences: Licences,
    /// Crate → why it may not come in.
    pub banned: BTreeMap<String, String>,
}

/// Crates that all may use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Free {
    /// Their names.
    pub helpers: BTreeSet<String>,
}

/// Licences that may come in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licences {
    /// SPDX identifiers, with their exceptions.
    pub allowed: BTreeSet<String>,
    /// Crates without such an identifier, whose licence a person has read.
    pub read: BTreeSet<String>,
}

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rules.
///
/// # Panics
/// When the file is not there or is malformed.
#[must_use]
pub fn rules() -> Rules {
    let text = std::fs::read_to_string(root().join("tests/vendors.toml")).expect("the rules");
    toml::from_str(&text).expect("the rules are TOML")
}

/// The workspace with everything that it resolves to.
///
/// # Panics
/// When cargo cannot tell.
#[must_use]
pub fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).other_options(vec!["--locked".to_owned()]);
    command.exec().expect("cargo metadata")
}

/// Names of the normal and build dependencies of a package.
pub fn dependencies(package: &Package) -> impl Iterator<Item = &str> {
    let wanted = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
    wanted.map(|dependency| dependency.name.as_str())
}

/// Names of all packages that compiling `program` with its default features compiles, by the features that
/// it asks for: those that others of the workspace ask for do not count.
///
/// # Panics
/// When there is no such package.
#[must_use]
pub fn compiled_by(program: &str) -> BTreeSet<String> {
    let mut tree = Command::new("cargo");
    tree.args([
        "tree",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--package",
        program,
    ]);
    let told = tree.current_dir(root()).output().expect("cargo tree");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let names = String::from_utf8(told.stdout).expect("UTF-8");
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
