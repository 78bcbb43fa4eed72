//! The service bench: the real services that adapter tests speak to.
//!
//! `cargo xtask services up` installs and starts them on loopback and writes one file that says where
//! each is; a test reads it:
//!
//! ```no_run
//! let services = mloop_services::Services::running();
//! let mlflow = services.mlflow();
//! println!("{}", mlflow.url);
//! ```
//!
//! A test never starts a service and never goes on without one: [`Services`] panics with the command
//! that starts what is missing. docs/services.md says what is installed, and where.
#![expect(
    clippy::disallowed_methods,
    reason = "a tool of tests and of xtask, outside of mloop's own layers"
)]

mod bench;
mod bounded;
mod engine;
mod entries;
mod health;
mod install;
mod place;
mod process;
mod reader;
mod record;
mod service;
mod start;

use std::path::PathBuf;

pub use bench::{Bench, Started};
pub use bounded::run_within;
pub use entries::{
    Airflow, Alertmanager, Mlflow, MlflowAuth, Moto, Postgres, Prometheus, Pushgateway, Python,
    Smtp,
};
pub use reader::Services;
pub use service::Service;

/// Why the bench could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The system did not do as asked.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file of the bench is there and cannot be understood.
    #[error("{} is not a file of this bench: {problem}; once it is removed, `cargo xtask services up` makes a new one", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another program failed, or a service did; the text says all that is known.
    #[error("{0}")]
    Failed(String),
}

impl BenchError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }
}
