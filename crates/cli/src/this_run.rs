//! Which run this process is, for the last line of a failure.

use std::sync::OnceLock;

use mloop_core::RunId;

static THIS_RUN: OnceLock<RunId> = OnceLock::new();

/// Says which run this process does: from now on the last line of a failure carries its id, also of
/// a panic and of a stop. A process does one run, so that a second call changes nothing.
pub fn this_run_is(id: RunId) {
    // The first name stays.
    drop(THIS_RUN.set(id));
}

/// The id that the last line of a failure carries.
pub(crate) fn this_run() -> Option<&'static str> {
    THIS_RUN.get().map(RunId::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_name() {
        let (first, second) = (RunId::derive(&["first"]), RunId::derive(&["second"]));
        this_run_is(first.clone());
        this_run_is(second);
        assert_eq!(this_run(), Some(first.as_str()));
    }
}
