//! Where a ledger is: what both databases can be asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_core::FixedClock;
use mloop_core::registry::KindRegistry;
use mloop_core::secret::{Secret, SecretError, Secrets};
use mloop_platform::conformance::samples;
use mloop_platform::{BuildError, Ledger, PlatformDeps};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::database;

/// The only secret of a test.
struct Password(String);

impl Secrets for Password {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }

    fn in_file(&self, path: &Path) -> Result<Secret, SecretError> {
        let problem = "tests have none".to_owned();
        Err(SecretError::File { path: path.display().to_string(), problem })
    }
}

/// Builds a ledger as a program does, from what stands in its configuration.
pub(crate) fn build(kind: &str, settings: &Value, password: &str) -> Result<Ledger, BuildError> {
    let clock = Arc::new(FixedClock(samples::day_one()));
    let secrets = Arc::new(Password(password.to_owned()));
    let deps = PlatformDeps::new("/", clock).with_secrets(secrets);
    let mut kinds = KindRegistry::new("ledger");
    mloop_ledger::register_builtin(&mut kinds);
    kinds.build(kind, "ledger", settings, &deps)
}

/// A place for a ledger.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) kind: &'static str,
    pub(crate) settings: Value,
    pub(crate) password: String,
}

impl Place {
    pub(crate) fn file(path: &Path) -> Self {
        let settings = json!({ "path": path.to_str().expect("a plain path") });
        Self { kind: "sqlite", settings, password: String::new() }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        build(self.kind, &self.settings, &self.password).expect("settings of a ledger")
    }

    /// The same, with another setting.
    pub(crate) fn with(&self, key: &str, value: impl Into<Value>) -> Self {
        let mut other = self.clone();
        other.settings[key] = value.into();
        other
    }

    fn path(&self) -> Option<PathBuf> {
        self.settings["path"].as_str().map(PathBuf::from)
    }

    /// The number that a query gives.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        match self.path() {
            Some(path) => Connection::open(path)
                .and_then(|connection| connection.query_row(sql, [], |row| row.get(0)))
                .expect("a count"),
            None => database::number(self, sql),
        }
    }

    pub(crate) fn execute(&self, sql: &str) {
        match self.path() {
            Some(path) => Connection::open(path)
                .and_then(|connection| connection.execute_batch(sql))
                .expect("a statement"),
            None => database::execute(self, sql),
        }
    }

    /// Rows of each table that a walk of [`crate::parts::walk`] fills.
    pub(crate) fn rows(&self) -> Vec<(&'static str, i64)> {
        let tables = [
            "runs",
            "verdicts",
            "profiles",
            "profile_schemas",
            "merged_profiles",
            "episodes",
            "jobs",
            "model_versions",
            "deployments",
            "deployment_journal",
            "change_calls",
            "outbox",
            "deliveries",
        ];
        tables.map(|table| (table, self.count(&format!("SELECT count(*) FROM {table}")))).to_vec()
    }

    /// Nothing is damaged, and no row lacks what it refers to. PostgreSQL holds both by itself.
    pub(crate) fn assert_sound(&self) {
        let Some(path) = self.path() else { return };
        let connection = Connection::open(path).expect("the file");
        let verdict: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("a verdict");
        assert_eq!(verdict, "ok");
        let mut orphans = connection.prepare("PRAGMA foreign_key_check").expect("a check");
        assert!(!orphans.exists([]).expect("a check"), "rows without what they refer to");
    }
}
