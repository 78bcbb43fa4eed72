//! Calling other programs, and the places that all commands know.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What went wrong, for people.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The root of the workspace. Checkouts may share a target folder, so that this program may have been
/// built in another one than cargo runs it in.
pub(crate) fn root() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built, PathBuf::from);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// Where downloads are kept between checkouts.
pub(crate) fn cache() -> Outcome<PathBuf> {
    if let Some(folder) = std::env::var_os("MLOOP_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").ok_or("neither MLOOP_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/mloop"))
}

/// Where cargo builds to.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that called this program, without what it told this program of itself: build scripts that look
/// at such variables would take a build from here for another one, and make it anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    let of_xtask =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| of_xtask.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end with this program's own streams.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = show(command);
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// Set by SIGINT and SIGTERM once [`watch_signals`] was called.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The process group of the command that [`run_guarded`] runs now; 0 for none.
static GUARDED: AtomicI32 = AtomicI32::new(0);

/// From now on SIGINT and SIGTERM do not end this program, which has something to put right first:
/// they set [`INTERRUPTED`] and are handed on to what [`run_guarded`] runs.
pub(crate) fn watch_signals() -> Outcome {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("signals: {error}"))?;
    std::thread::spawn(move || {
        for number in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            let signal = if number == SIGINT { Signal::INT } else { Signal::TERM };
            if let Some(group) = Pid::from_raw(GUARDED.load(Ordering::SeqCst)) {
                kill_process_group(group, signal).unwrap_or(());
            }
        }
    });
    Ok(())
}

/// Runs a command to its end in a process group of its own, to which the signals of
/// [`watch_signals`] go: cargo's own children would outlive a cargo that alone is told to end.
pub(crate) fn run_guarded(command: &mut Command) -> Outcome {
    let shown = show(command);
    let told = |error: std::io::Error| format!("{shown}: {error}");
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn().map_err(told)?;
    GUARDED.store(i32::try_from(child.id()).unwrap_or_default(), Ordering::SeqCst);
    if INTERRUPTED.load(Ordering::SeqCst) {
        // The signal came before the group was known.
        child.kill().map_err(told)?;
    }
    let status = child.wait();
    GUARDED.store(0, Ordering::SeqCst);
    match status.map_err(told)? {
        status if status.success() => Ok(()),
        status => Err(format!("{shown}: {status}")),
    }
}

/// Runs a command quietly; what it said is told only when it fails.
pub(crate) fn quietly(command: &mut Command) -> Outcome<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown}: {}\n{}", output.status, said.trim()))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a stage and tells how long it took.
pub(crate) fn stage(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    println!("== {name}");
    let began = Instant::now();
    let outcome = work();
    let seconds = began.elapsed().as_secs_f64();
    println!("== {name}: {} in {seconds:.0} s", if outcome.is_ok() { "done" } else { "FAILED" });
    outcome
}
