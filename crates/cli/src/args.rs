//! Arguments that every binary has.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use mloop_core::{Clock, FixedClock, SystemClock};
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;

/// A binary: its arguments, and what it is known by.
pub trait Program: clap::Parser {
    /// The `schema` of its last line, such as `mloop.monitoring/1`.
    const SCHEMA: &'static str;

    /// How long it may go on after SIGTERM, to save what it has and to give its lease back; without,
    /// it ends at once, which is safe for work that every repeat takes up where it was killed.
    const STOP_GRACE: Duration = Duration::ZERO;

    /// The arguments that every binary has.
    fn common(&self) -> &CommonArgs;

    /// The JSON Schema of its configuration, for `--print-schema`.
    fn config_schema() -> Value;
}

/// Arguments that every binary has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// The configuration; relative paths in it start from its folder
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Only validate the configuration and reach every dependency, read-only
    #[arg(long, global = true)]
    pub check: bool,

    /// Do everything that changes nothing, and say what would be done
    #[arg(long, global = true, conflicts_with = "check")]
    pub dry_run: bool,

    /// Also write the last line to this file, all of it or nothing
    #[arg(long, value_name = "FILE", global = true)]
    pub result_file: Option<PathBuf>,

    /// Also write a short form of the last line, of at most 4096 bytes, to this file in place: for
    /// Kubernetes' termination message
    #[arg(long, value_name = "FILE", global = true)]
    pub termination_message: Option<PathBuf>,

    /// How log lines on standard error look
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,

    /// Which log lines: off, error, warn, info, debug, trace, or a filter such as
    /// `info,mloop_ledger=debug` [default: `RUST_LOG`, else info]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log_level: Option<String>,

    /// The moment to take for now, RFC 3339: for back-fills, and for DAGs woken without an interval
    #[arg(long, value_name = "TIME", global = true, value_parser = moment)]
    pub as_of: Option<DateTime<Utc>>,

    /// Print the JSON Schema of the configuration, and end
    #[arg(long, global = true)]
    pub print_schema: bool,

    /// Print completions for a shell, and end
    #[arg(long, value_name = "SHELL", value_enum, global = true)]
    pub completions: Option<clap_complete::Shell>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// The configuration was not named.
#[derive(Debug, thiserror::Error)]
#[error("no configuration was named: add --config FILE")]
struct NoConfig;

impl CommonArgs {
    /// The configuration file.
    ///
    /// # Errors
    /// [`Exit::Config`] when none was named.
    pub fn config(&self) -> Result<&Path, Failure> {
        self.config.as_deref().ok_or_else(|| Failure::new(Exit::Config, NoConfig))
    }

    /// The time: the machine's, or standing still at `--as-of`.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self.as_of {
            Some(moment) => Arc::new(FixedClock(moment)),
            None => Arc::new(SystemClock),
        }
    }
}

/// The argument of runs that hold a lease.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct WaitArgs {
    /// How many seconds to follow a copy of this very run that is at work already
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait_timeout: u64,
}

impl WaitArgs {
    /// `--wait-timeout`.
    #[must_use]
    pub fn wait_timeout(&self) -> Duration {
        Duration::from_secs(self.wait_timeout)
    }
}

/// Reads a moment with its zone, RFC 3339: a value parser for arguments.
///
/// # Errors
/// What is wrong with the text, and how to write it.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()).map_err(|error| {
        format!("{error}; write it like 2026-03-01T12:00:00Z or 2026-03-01T13:00:00+01:00")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_need_a_zone() {
        let noon = moment("2026-03-01T12:00:00Z").expect("a moment");
        assert_eq!(moment("2026-03-01T13:00:00+01:00"), Ok(noon));
        for bad in ["2026-03-01", "2026-03-01T12:00:00", "now", ""] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
