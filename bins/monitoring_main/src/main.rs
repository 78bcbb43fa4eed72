//! Judges one window of a model's traffic: `monitoring_main --help`.

mod args;
mod check;
mod compose;
mod dry_run;
mod kinds;
mod late;
mod reference;
mod replay;
mod show;
mod wait;

fn main() -> std::process::ExitCode {
    mloop_cli::run(compose::monitor)
}
