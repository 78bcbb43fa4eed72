//! What a job does at its start, so that it outlives whoever started it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::setsid;

use crate::disk;
use crate::process::{ProcessId, own_session};

/// Why a job could not detach itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Another process runs this job already; there is nothing left to do.
    #[error("another process runs this job and holds {}", file.display())]
    Taken {
        /// The file that it holds.
        file: PathBuf,
    },
    /// The system refused a session of its own.
    #[error("the job cannot have a session of its own; start it through the job submitter")]
    Session(#[source] io::Error),
    /// The pid file cannot be written.
    #[error("writing the pid file {}; check that its folder can be written", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// Detaches this process from its caller: a session of its own, so that a signal to the caller's
/// group does not reach it; then the pid file, which tells the submitter that this is done.
///
/// Call it before anything else. The claim on the job, a lock beside the pid file, is held until
/// this process ends: of two that were started for one job, by a submitter that was killed and by
/// its repeat, one gets through.
///
/// # Errors
/// [`SessionError`]; then this process must end without having done anything.
pub fn detach(pid_file: &Path) -> Result<(), SessionError> {
    let failed = |cause| SessionError::File { file: pid_file.to_path_buf(), cause };
    let claim = pid_file.with_extension("claim");
    let held = disk::open_private(&claim).map_err(failed)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SessionError::Taken { file: claim }),
        Err(TryLockError::Error(cause)) => return Err(failed(cause)),
    }
    match setsid() {
        Ok(_) => {}
        Err(Errno::PERM) if leads_a_session() => {}
        Err(error) => return Err(SessionError::Session(error.into())),
    }
    let text = serde_json::to_vec(&ProcessId::own()).map_err(|error| failed(error.into()))?;
    disk::replace(pid_file, &text).map_err(failed)?;
    // Closing the file would give the claim back.
    std::mem::forget::<File>(held);
    Ok(())
}

/// Whether this process leads its session already, started by `setsid` or the like.
///
/// The session is read from `/proc`: in a container whose processes belong to a session outside of
/// it, `getsid` answers 0, which `rustix` takes for impossible.
fn leads_a_session() -> bool {
    own_session() == Some(std::process::id())
}
