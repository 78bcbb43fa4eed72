//! What the demo and the tests share: running the binaries, a server, a camera, traffic.

pub mod camera;
pub mod configs;
pub mod images;
pub mod jobs;
pub mod program;
pub mod server;
pub mod small;
pub mod traffic;

use std::path::PathBuf;

/// Why a piece of the kit did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A program is not where a build puts it.
    #[error("{} is not there; `cargo build --workspace` makes it", .0.display())]
    NotBuilt(PathBuf),
    /// The system did not do as asked.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// Something took too long or ended too early.
    #[error("{0}")]
    Failed(String),
}

impl KitError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }
}
