//! All tests, with the set-up that they need.

use std::process::Command;

use crate::services;
use crate::shell::{Outcome, cargo, quietly, run as call, run_guarded, stage};

pub(crate) fn run() -> Outcome {
    stage("set-up", set_up)?;
    // Everything is built before the first test runs: tests call the binaries of other packages.
    stage("build", || call(cargo().args(["build", "--locked", "--workspace", "--all-targets"])))?;
    services::around(|| {
        stage("tests", || {
            // One failure hides no other.
            run_guarded(cargo().args(["test", "--locked", "--workspace", "--no-fail-fast"]))
        })
    })
}

/// The DAGs are Python, and most services come as Python packages; nothing else beside cargo is
/// needed.
fn set_up() -> Outcome {
    let complete = ["-c", "import ensurepip, venv"];
    if quietly(Command::new("python3").args(complete)).is_ok() {
        return Ok(());
    }
    println!("python3 with venv is missing; installing it with apt-get");
    quietly(Command::new("apt-get").arg("update"))?;
    let install = ["install", "-y", "--no-install-recommends", "python3-venv"];
    quietly(Command::new("apt-get").args(install)).map(drop)
}
