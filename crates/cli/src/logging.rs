//! Log lines on standard error, kept apart from a progress bar there.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{CommonArgs, LogFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress;

/// The filter of log lines was not understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log filter `{filter}` is not understood; write it like info or info,mloop_ledger=debug"
)]
struct BadFilter {
    filter: String,
    #[source]
    cause: tracing_subscriber::filter::ParseError,
}

/// Starts logging; a second call in one process changes nothing.
pub(crate) fn start(args: &CommonArgs) -> Result<(), Failure> {
    let filter = args
        .log_level
        .clone()
        .or_else(|| mloop_config::environment::variable("RUST_LOG"))
        .unwrap_or_else(|| "info".to_owned());
    let parsed = EnvFilter::try_new(&filter)
        .map_err(|cause| Failure::new(Exit::Config, BadFilter { filter, cause }))?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(LogLines);
    let lines = lines.with_ansi(io::stderr().is_terminal());
    let started = match args.log_format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}

struct LogLines;

struct LogLine(Vec<u8>);

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(Vec::new())
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        progress::above(|| {
            // A log that nobody reads any more must not end the run.
            drop(io::stderr().write_all(&self.0));
        });
    }
}
