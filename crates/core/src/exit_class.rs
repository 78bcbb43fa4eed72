//! What a caller can do about an error.

/// What a caller can do about an error; a command line gives each class its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitClass {
    /// The configuration or the request must change.
    Configuration,
    /// Credentials or permissions do not suffice.
    Credentials,
    /// The same call may succeed later.
    Transient,
    /// Another run is at work.
    LeaseHeld,
    /// Something outside is not as mloop left it: a person must look.
    NeedsPerson,
    /// Stopped on request, the state saved.
    Stopped,
    /// A bug in mloop.
    Bug,
}

/// An error that knows what a caller can do about it.
pub trait Classified: std::error::Error {
    /// What a caller can do.
    fn exit_class(&self) -> ExitClass;
}
