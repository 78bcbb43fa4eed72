//! SIGKILL at calls of real services, before their effect and after it, and at points in between: the
//! same run, called again each time, has one effect. SIGSTOP directly before a change of production that
//! another copy then makes in another way. Start the bench with `cargo xtask services up`; the binaries
//! must come from a build that holds `mloop-testkit`: `cargo build --workspace`.

#[path = "../../../crates/kubernetes/tests/it/cluster.rs"]
#[expect(dead_code, reason = "shared with the submitter's own tests, which ask more of it")]
mod cluster;
mod configured;
mod dag;
#[path = "../shared/database.rs"]
mod database;
mod late;
mod monitoring;
mod production;
mod registration;
#[path = "../shared/runs.rs"]
mod runs;
mod stand;
mod submission;
mod trap;
mod world;
