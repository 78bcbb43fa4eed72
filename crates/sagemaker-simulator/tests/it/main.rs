//! mloop's adapters against the simulator, with moto as object store: start the bench with
//! `cargo xtask services up moto`.

mod captured;
mod common;
mod deployer;
mod described;
mod faults;
mod jobs;
mod repeats;
mod tls;
