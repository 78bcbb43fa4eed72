//! Serves model versions: `model_server serve --help`.

mod args;
mod compose;

fn main() -> std::process::ExitCode {
    mloop_cli::run(compose::serve)
}
