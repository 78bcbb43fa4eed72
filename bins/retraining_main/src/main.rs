//! Decides whether a model is to be trained anew, and asks for it: `retraining_main --help`.

mod args;
mod compose;
mod kinds;
mod preview;

fn main() -> std::process::ExitCode {
    mloop_cli::run(compose::retrain)
}
