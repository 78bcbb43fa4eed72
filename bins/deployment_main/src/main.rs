//! Brings a version to production: `deployment_main --help`.

mod args;
mod compose;
mod exit;
mod kinds;
mod preview;

fn main() -> std::process::ExitCode {
    mloop_cli::run(compose::deploy)
}
