//! What tells this process from every other one that runs the same command.

/// The host's name and the process's id, such as `worker-3-4711`: for leases, so that a copy of a
/// run is known for one.
#[must_use]
pub fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "host",
        name => name,
    };
    format!("{host}-{}", std::process::id())
}
