//! A binary in forty lines, which ends in every way that a binary can: the tests run it.

use std::process::ExitCode;
use std::time::Duration;

use mloop_cli::{CommonArgs, Exit, Failure, Outcome, Program, Stop, screen_width};
use serde_json::json;

/// Ends in the way that is asked for
#[derive(clap::Parser)]
struct Args {
    /// The way
    way: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

impl Program for Args {
    const SCHEMA: &'static str = "mloop.example/1";
    const STOP_GRACE: Duration = Duration::from_millis(500);

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn config_schema() -> serde_json::Value {
        json!({"type": "object"})
    }
}

async fn work(args: Args, stop: Stop) -> Result<Outcome, Failure> {
    match args.way.as_deref() {
        Some("nothing") => Ok(Outcome::new(Exit::NothingToDo, json!({"outcome": "no"}))),
        Some("show") => {
            let outcome = Outcome::new(Exit::Done, json!({"outcome": "ok"}));
            Ok(outcome.below(format!("{} columns\n{{\"of\": \"text\"}}", screen_width())))
        }
        Some("panic") => panic!("the impossible happened"),
        Some("hang") => std::future::pending().await,
        Some("save") => {
            stop.raised().await;
            Ok(Outcome::new(Exit::Stopped, json!({"outcome": "stopped", "saved": true})))
        }
        Some("config") => args.common.config().map(|file| {
            let file = file.display().to_string();
            Outcome::new(Exit::Done, json!({"outcome": "ok", "config": file}))
        }),
        Some(other) => Err(Failure::new(Exit::Transient, format!("cannot do\n`{other}`"))),
        None => {
            let now = args.common.clock().now();
            Ok(Outcome::new(Exit::Done, json!({"outcome": "ok", "now": now.to_rfc3339()})))
        }
    }
}

fn main() -> ExitCode {
    mloop_cli::run(work)
}
