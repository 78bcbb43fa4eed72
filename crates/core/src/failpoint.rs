//! Named places at which a test can kill the process.
//!
//! Compiled to nothing unless the feature `testing` is on; released binaries never have it.

/// Announces that this point is reached, and waits there to be killed, when the environment
/// variable `MLOOP_FAILPOINT` names it: what a power cut at this line would leave is what is left.
///
/// `name@N` holds at the N-th passing (from 1). The announcement is the file named by
/// `MLOOP_FAILPOINT_MARK`, so that a test knows that its SIGKILL landed here and not later; once the
/// test removes that file, the process goes on, as one does that was stopped for long. A file named
/// by `MLOOP_FAILPOINT_TRACE` gets a line for each passing of any point, so that a test knows all
/// places to kill at. Without the feature this does nothing.
#[cfg(not(feature = "testing"))]
pub fn reach(_name: &str) {}

/// Announces that this point is reached, and waits there to be killed (see the crate's feature
/// `testing`).
#[cfg(feature = "testing")]
#[expect(clippy::disallowed_methods, reason = "a test hook, absent from released binaries")]
pub fn reach(name: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU32, Ordering};
    static PASSED: AtomicU32 = AtomicU32::new(0);

    if let Some(trace) = std::env::var_os("MLOOP_FAILPOINT_TRACE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(trace);
        // A trace that cannot be written shows as a test without places to kill at.
        drop(file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes())));
    }
    let Ok(wanted) = std::env::var("MLOOP_FAILPOINT") else { return };
    let (point, count) = wanted.split_once('@').unwrap_or((&wanted, "1"));
    if point != name || count.parse() != Ok(PASSED.fetch_add(1, Ordering::SeqCst) + 1) {
        return;
    }
    let mark = std::env::var_os("MLOOP_FAILPOINT_MARK").map(std::path::PathBuf::from);
    // A mark that cannot be written shows as a test that waits in vain.
    let marked = mark.filter(|mark| std::fs::write(mark, name).is_ok());
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(60) {
        std::thread::sleep(std::time::Duration::from_millis(5));
        if marked.as_ref().is_some_and(|mark| !mark.exists()) {
            return;
        }
    }
    std::process::abort();
}
