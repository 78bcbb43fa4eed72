//! The project's own commands; `cargo xtask` lists them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]
#![expect(
    clippy::disallowed_methods,
    reason = "a tool of the build, outside of mloop's own layers"
)]

mod bench;
mod data;
mod demo;
mod services;
mod shell;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  demo [--dir DIR] [--keep] [--quick]   build everything and turn the loop once on this machine
  test                                  all set-up that the tests need, services too, then all tests
  services up [NAME …]                  install and start the services that adapter tests speak to
  services down [NAME …]                stop them with all their children
  services status                       tell the health of each
  data                                  fetch, check and cache Fashion-MNIST (70,000 images)
  bench start                           start-up time and size of the release binaries
  bench demo                            what each step of the demo costs
  bench adapters                        what calls to services cost on our side

The demo keeps its work in target/demo unless --dir names another folder; --keep leaves the server
running. What `bench` measured goes to docs/bench/. The cache is $MLOOP_CACHE, else ~/.cache/mloop.

Services: postgres, pushgateway, alertmanager, prometheus, smtp, moto, mlflow, mlflow_auth, airflow,
kubernetes, oracles; without NAME, all. Their addresses go to target/services/services.json, or to the file that
MLOOP_SERVICES names.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"demo", rest)) => demo::run(rest),
        Some((&"test", [])) => test::run(),
        Some((&"data", [])) => data::run(),
        Some((&"services", rest)) => services::run(rest),
        Some((&"bench", [name])) => bench::run(name),
        None | Some((&("help" | "--help" | "-h"), _)) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!("unknown: cargo xtask {}\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
