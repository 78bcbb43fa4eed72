//! Exit codes: what a caller can tell without reading a word.

use mloop_core::exit_class::ExitClass;

/// Every exit code of every binary. A DAG retries only [`Exit::Transient`], [`Exit::LeaseHeld`],
/// [`Exit::Stopped`] and deaths by signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It was done, or had been done before: a window measured (whatever was found), a job
    /// submitted or adopted, a version blessed, traffic switched.
    Done = 0,
    /// A bug of mloop.
    Bug = 1,
    /// Training: the gate rejected the new version.
    Rejected = 10,
    /// Training: too little data for the gate to tell.
    Inconclusive = 11,
    /// Deployment: the smoke tests failed; production was not touched.
    SmokeTestsFailed = 12,
    /// Deployment: the new version was rolled back.
    RolledBack = 13,
    /// The configuration or the arguments must change.
    Config = 20,
    /// Credentials or permissions do not suffice.
    Denied = 21,
    /// Something could not be reached or was busy: try again.
    Transient = 30,
    /// Another run holds the lease: try again later.
    LeaseHeld = 31,
    /// Remote state needs a person.
    NeedsPerson = 40,
    /// Nothing to do: no retraining (no, held or cannot tell), nothing newer to deploy.
    NothingToDo = 99,
    /// Stopped by SIGTERM after saving: run again to go on.
    Stopped = 143,
}

impl Exit {
    /// All of them, ascending.
    pub const ALL: [Self; 13] = [
        Self::Done,
        Self::Bug,
        Self::Rejected,
        Self::Inconclusive,
        Self::SmokeTestsFailed,
        Self::RolledBack,
        Self::Config,
        Self::Denied,
        Self::Transient,
        Self::LeaseHeld,
        Self::NeedsPerson,
        Self::NothingToDo,
        Self::Stopped,
    ];

    /// The number that the caller sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitClass> for Exit {
    fn from(class: ExitClass) -> Self {
        match class {
            ExitClass::Configuration => Self::Config,
            ExitClass::Credentials => Self::Denied,
            ExitClass::Transient => Self::Transient,
            ExitClass::LeaseHeld => Self::LeaseHeld,
            ExitClass::NeedsPerson => Self::NeedsPerson,
            ExitClass::Stopped => Self::Stopped,
            ExitClass::Bug => Self::Bug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_promised_ones() {
        let promised = [0, 1, 10, 11, 12, 13, 20, 21, 30, 31, 40, 99, 143];
        assert_eq!(Exit::ALL.map(Exit::code), promised);
    }

    #[test]
    fn the_documentation_has_a_row_for_each() {
        let page = include_str!("../../../docs/exit-codes.md");
        let mut rows: Vec<u8> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, Exit::ALL.map(Exit::code));
    }
}
