//! From arguments to exit code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::Value;

use crate::args::{CommonArgs, Program};
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::stop::{Stop, listen};
use crate::this_run::this_run;
use crate::{logging, output};

/// Runs a binary: reads its arguments, starts logging, calls `work`, writes the last line.
///
/// Wrong arguments are [`Exit::Config`], a panic is [`Exit::Bug`], and SIGTERM or SIGINT is
/// [`Exit::Stopped`] once `work` has returned or [`Program::STOP_GRACE`] is over; each with its last
/// line.
pub fn run<P, W, F>(work: W) -> ExitCode
where
    P: Program,
    W: FnOnce(P, Stop) -> F,
    F: Future<Output = Result<Outcome, Failure>>,
{
    match P::try_parse() {
        Ok(args) => run_with(args, work),
        Err(error) => end_of_parsing::<P>(&error),
    }
}

fn run_with<P, W, F>(args: P, work: W) -> ExitCode
where
    P: Program,
    W: FnOnce(P, Stop) -> F,
    F: Future<Output = Result<Outcome, Failure>>,
{
    let common = args.common().clone();
    if let Some(shell) = common.completions {
        let mut command = P::command();
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut text);
        output::print(&String::from_utf8_lossy(&text));
        return ExitCode::SUCCESS;
    }
    if common.print_schema {
        output::print(&format!("{:#}\n", P::config_schema()));
        return ExitCode::SUCCESS;
    }
    let ended = logging::start(&common).and_then(|()| guarded(args, work));
    finish::<P>(ended, &common)
}

/// Calls `work` where a panic and a signal cannot take the last line away.
fn guarded<P, W, F>(args: P, work: W) -> Result<Outcome, Failure>
where
    P: Program,
    W: FnOnce(P, Stop) -> F,
    F: Future<Output = Result<Outcome, Failure>>,
{
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::with(Exit::Transient))?;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let (sender, stop) = Stop::new();
            tokio::spawn(listen(sender));
            tokio::select! {
                ended = work(args, stop.clone()) => ended,
                () = grace_is_over::<P>(&stop) => Err(Failure::new(Exit::Stopped, Stopped)),
            }
        })
    }));
    // Work on blocking threads is safe to be killed; waiting for it could take hours.
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| Err(Failure::new(Exit::Bug, Panicked::of(panic.as_ref()))))
}

async fn grace_is_over<P: Program>(stop: &Stop) {
    stop.raised().await;
    tokio::time::sleep(P::STOP_GRACE).await;
}

fn finish<P: Program>(ended: Result<Outcome, Failure>, common: &CommonArgs) -> ExitCode {
    let came_to_an_outcome = ended.is_ok();
    let (mut exit, line) = match ended {
        Ok(mut outcome) => {
            if let Some(text) = outcome.text.take() {
                output::print(&format!("{}\n", text.trim_end_matches('\n')));
            }
            (outcome.exit, outcome.line(P::SCHEMA))
        }
        Err(failure) => {
            tell(&failure.to_string());
            (failure.exit(), failure.line(P::SCHEMA, this_run()))
        }
    };
    if let Some(path) = &common.termination_message
        && let Err(error) = output::write_short(path, &line)
    {
        // The exit code says the same in short.
        tell(&mloop_core::error_chain(&error));
    }
    let written =
        common.result_file.as_deref().map_or(Ok(()), |path| output::write_result(path, &line));
    if let Err(error) = written {
        tell(&mloop_core::error_chain(&error));
        // The caller waits for the file: what was done stands, and a repeat writes it.
        exit = if came_to_an_outcome { Exit::Transient } else { exit };
    }
    last_line(&line);
    ExitCode::from(exit.code())
}

fn last_line(line: &Value) {
    output::print(&format!("{line}\n"));
}

fn tell(message: &str) {
    // Before logging has started, and when its filter is off, the message must still come out.
    if tracing::event_enabled!(tracing::Level::ERROR) {
        tracing::error!("{message}");
    } else {
        crate::progress::above(|| {
            use std::io::Write;
            drop(writeln!(std::io::stderr(), "error: {message}"));
        });
    }
}

/// `--help` and `--version` are answers; everything else that clap says is a usage error.
fn end_of_parsing<P: Program>(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        output::print(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    if let Err(unread) = error.print() {
        tracing::debug!("nobody reads standard error: {unread}");
    }
    let message = error.render().to_string();
    let message = message.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    last_line(&Failure::new(Exit::Config, message).line(P::SCHEMA, None));
    ExitCode::from(Exit::Config.code())
}

/// The caller ended the run.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; what was done is saved, run again to go on")]
struct Stopped;

/// A bug.
#[derive(Debug, thiserror::Error)]
#[error("a bug of mloop, please report it with the log: {0}")]
struct Panicked(String);

impl Panicked {
    fn of(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "a panic without a message".to_owned()))
    }
}
