//! Why a flow did not come to an outcome.

use std::path::Path;

use mloop_core::exit_class::{Classified, ExitClass};
use mloop_deployer::DeployError;
use mloop_platform::PlatformError;
use mloop_trainer::TrainError;

/// Why a flow did not come to an outcome. A crossed limit, a refused gate or a failed smoke test
/// is an outcome and never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrchestratorError {
    /// An outside system: source, registry, submitter, notifier or ledger.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The platform that serves.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// Trainer or evaluator.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// What was asked for makes no sense as things stand.
    #[error("{doing}: {problem}")]
    Invalid {
        /// What was being done.
        doing: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Something is not as mloop left it.
    #[error("{doing}: {problem}")]
    NeedsPerson {
        /// What was being done.
        doing: String,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// It is taking longer than the configuration allows to wait for; run again to go on.
    #[error("{doing}: {problem}; run again to go on waiting")]
    NotYet {
        /// What was being waited for.
        doing: String,
        /// How it stands.
        problem: String,
    },
    /// Another run is at the same work.
    #[error("{doing}: another run is at it in {folder}; run again once it has ended")]
    Busy {
        /// What was to be done.
        doing: String,
        /// The folder that the other holds.
        folder: String,
    },
    /// A stop was asked for, the state is saved.
    #[error("stopped while {doing}; run again to go on")]
    Stopped {
        /// What was being done.
        doing: String,
    },
    /// The disk failed.
    #[error("{doing} {path}")]
    Io {
        /// What was being done, such as `reading`.
        doing: &'static str,
        /// With which file.
        path: String,
        /// The system's own error.
        #[source]
        cause: std::io::Error,
    },
    /// A file or record of mloop's own making cannot be read back.
    #[error("{what} cannot be read: it is damaged, or a newer release wrote it")]
    Damaged {
        /// Which file or record.
        what: String,
        /// Where in it.
        #[source]
        cause: serde_json::Error,
    },
}

impl OrchestratorError {
    pub(crate) fn invalid(doing: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { doing: doing.into(), problem: problem.into() }
    }

    pub(crate) fn needs_person(doing: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::NeedsPerson { doing: doing.into(), problem: problem.into() }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::Io { doing, path, cause }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |cause| Self::Damaged { what, cause }
    }
}

impl Classified for OrchestratorError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Platform(error) => error.exit_class(),
            Self::Deploy(error) => error.exit_class(),
            Self::Train(error) => error.exit_class(),
            Self::Invalid { .. } => ExitClass::Configuration,
            Self::NeedsPerson { .. } | Self::Damaged { .. } => ExitClass::NeedsPerson,
            Self::NotYet { .. } | Self::Io { .. } => ExitClass::Transient,
            Self::Busy { .. } => ExitClass::LeaseHeld,
            Self::Stopped { .. } => ExitClass::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_class_of_what_a_caller_can_do() {
        let platform = |error: PlatformError| OrchestratorError::from(error).exit_class();
        let deploy = |error: DeployError| OrchestratorError::from(error).exit_class();
        let train = |error: TrainError| OrchestratorError::from(error).exit_class();
        let text = || "x".to_owned();
        let table = [
            (platform(PlatformError::unavailable("s", "d", "c")), ExitClass::Transient),
            (platform(PlatformError::invalid("d", "p")), ExitClass::Configuration),
            (platform(PlatformError::conflict("d", "p")), ExitClass::NeedsPerson),
            (
                platform(PlatformError::LeaseHeld { name: text(), holder: text(), until: text() }),
                ExitClass::LeaseHeld,
            ),
            (platform(PlatformError::LeaseLost { name: text(), fence: 1 }), ExitClass::LeaseHeld),
            (
                deploy(DeployError::Denied { system: text(), doing: text(), cause: "c".into() }),
                ExitClass::Credentials,
            ),
            (
                deploy(DeployError::Conflict { doing: text(), problem: text() }),
                ExitClass::NeedsPerson,
            ),
            (train(TrainError::Stopped { step: 3 }), ExitClass::Stopped),
            (train(TrainError::Data { doing: text(), problem: text() }), ExitClass::Configuration),
        ];
        for (row, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {row}");
        }
    }
}
