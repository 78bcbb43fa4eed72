//! What every binary promises the DAG that calls it.
//!
//! Logs go to standard error. The last line of all output is one compact JSON object on standard
//! output, whatever happens short of SIGKILL; `--result-file` writes it too. The exit code is one
//! of [`Exit`]. What people asked to see stands above it. Nothing else in mloop writes to standard output.
//!
//! A binary is a [`Program`] and a call of [`run`]:
//!
//! ```no_run
//! use mloop_cli::{CommonArgs, Exit, Outcome, Program};
//!
//! /// Says that all is well.
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     common: CommonArgs,
//! }
//!
//! impl Program for Args {
//!     const SCHEMA: &'static str = "mloop.example/1";
//!
//!     fn common(&self) -> &CommonArgs {
//!         &self.common
//!     }
//!
//!     fn config_schema() -> serde_json::Value {
//!         serde_json::json!({"type": "object"})
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     mloop_cli::run(|_args: Args, _stop| async {
//!         Ok(Outcome::new(Exit::Done, serde_json::json!({"outcome": "ok"})))
//!     })
//! }
//! ```

mod args;
mod exit;
mod failure;
mod instance;
mod logging;
mod output;
mod progress;
mod run;
mod screen;
mod stop;
mod this_run;

pub use args::{CommonArgs, LogFormat, Program, WaitArgs, moment};
pub use exit::Exit;
pub use failure::{Failure, Outcome};
pub use instance::instance;
pub use progress::ProgressLine;
pub use run::run;
pub use screen::{screen_has_colors, screen_width};
pub use stop::Stop;
pub use this_run::this_run_is;
