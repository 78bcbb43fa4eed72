//! Trains, evaluates and registers one version of a model: `training_main --help`.

mod args;
mod compose;
mod job;
mod kinds;
mod preview;
mod progress;

fn main() -> std::process::ExitCode {
    mloop_cli::run(compose::train)
}
