//! Why an outside system did not do what it was asked to.

use mloop_core::BoxError;
use mloop_core::exit_class::{Classified, ExitClass};

/// Sorted by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The same call may succeed later: unreachable, too slow, or busy.
    #[error("{doing}: {system} cannot be reached or is busy; try again later")]
    Unavailable {
        /// Which system and where.
        system: String,
        /// What was being done.
        doing: String,
        /// The system's own error.
        #[source]
        cause: BoxError,
    },
    /// Some of those that a message was meant for have it, the others may get it later.
    #[error("{doing}: {system} does not take {} for now; each is tried again", missed.join(", "))]
    Partly {
        /// Which system and where.
        system: String,
        /// What was being done.
        doing: String,
        /// Who does not have it: names of [`Notifier::parts`](crate::Notifier::parts).
        missed: Vec<String>,
        /// The system's own words.
        #[source]
        cause: BoxError,
    },
    /// The credentials or permissions do not suffice.
    #[error("{doing}: {system} refused the credentials; check that they are valid and may do this")]
    Denied {
        /// Which system and where.
        system: String,
        /// What was being done.
        doing: String,
        /// The system's own error.
        #[source]
        cause: BoxError,
    },
    /// What was asked for makes no sense or does not exist: the request or the configuration must
    /// change.
    #[error("{doing}: {problem}")]
    Invalid {
        /// What was being done.
        doing: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The remote state is not what mloop left there, or is damaged: a person must look.
    #[error("{doing}: {problem}")]
    Conflict {
        /// What was being done.
        doing: String,
        /// What was found, what was expected, and what to do.
        problem: String,
    },
    /// Another run holds the lease.
    #[error("`{name}` is held by {holder} until {until}; another run is at work")]
    LeaseHeld {
        /// Name of the lease.
        name: String,
        /// Who holds it: the id of its run.
        holder: String,
        /// When it expires unless renewed, RFC 3339.
        until: String,
    },
    /// The lease expired and another run took it: nothing more may be written.
    #[error(
        "the lease `{name}` (fencing number {fence}) is no longer ours: this run was overtaken and stops"
    )]
    LeaseLost {
        /// Name of the lease.
        name: String,
        /// The number that was overtaken.
        fence: u64,
    },
}

impl PlatformError {
    /// Wraps an error of a call that may succeed later.
    pub fn unavailable(
        system: impl Into<String>,
        doing: impl Into<String>,
        cause: impl Into<BoxError>,
    ) -> Self {
        Self::Unavailable { system: system.into(), doing: doing.into(), cause: cause.into() }
    }

    /// A request or configuration that must change.
    pub fn invalid(doing: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { doing: doing.into(), problem: problem.into() }
    }

    /// A state that a person must look at.
    pub fn conflict(doing: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Conflict { doing: doing.into(), problem: problem.into() }
    }

    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Partly { .. } | Self::LeaseHeld { .. })
    }
}

impl Classified for PlatformError {
    fn exit_class(&self) -> ExitClass {
        match self {
            Self::Unavailable { .. } | Self::Partly { .. } => ExitClass::Transient,
            Self::Denied { .. } => ExitClass::Credentials,
            Self::Invalid { .. } => ExitClass::Configuration,
            Self::Conflict { .. } => ExitClass::NeedsPerson,
            Self::LeaseHeld { .. } | Self::LeaseLost { .. } => ExitClass::LeaseHeld,
        }
    }
}
