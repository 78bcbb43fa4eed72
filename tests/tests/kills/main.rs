//! SIGKILL at every fail point and at random moments, through the real binaries: whatever was under
//! way, the next run ends with one job, one version, one switch, one record of each.
//!
//! The binaries must come from a build that holds `mloop-testkit`, which switches the fail points
//! on: `cargo build --workspace`.

mod copies;
mod end;
mod moments;
mod points;
mod restores;
mod retrainings;
mod rollbacks;
#[path = "../shared/runs.rs"]
mod runs;
mod stops;
mod world;
