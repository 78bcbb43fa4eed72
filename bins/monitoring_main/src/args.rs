//! The command line.

use chrono::{DateTime, Utc};
use clap::Parser;
use mloop_cli::{CommonArgs, Exit, Failure, Program};
use mloop_core::Window;

use crate::kinds::Kinds;

const EXAMPLES: &str = "\
Examples:
  monitoring_main --config configs/monitoring_config.yaml \\
      --window-start 2026-03-01T12:00:00Z --window-end 2026-03-01T13:00:00Z
      judges one hour of the version that served then
  monitoring_main --config configs/monitoring_config.yaml --dry-run \\
      --window-start 2026-03-01T12:00:00Z --window-end 2026-03-01T13:00:00Z
      the same, but records nothing and tells nobody
  monitoring_main --config configs/monitoring_config.yaml --check
      validates the configuration and reaches ledger, registry, traffic and reporters, read-only

Exit codes. 0: measured, whatever was found: `outcome` of the last line is ok, alert,
insufficient_data or broken; 20: configuration or usage; 21: credentials refused; 30: try again;
40: a person is needed; 1: a bug; 143: stopped.";

/// Judges one window of a model's traffic: drift, fairness, latency, performance
#[derive(Debug, Parser)]
#[command(name = "monitoring_main", after_help = EXAMPLES)]
pub(crate) struct MonitoringArgs {
    /// The window's first moment, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    #[arg(required_unless_present_any = ["check", "print_schema", "completions"])]
    pub(crate) window_start: Option<DateTime<Utc>>,

    /// The first moment after the window
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    #[arg(required_unless_present_any = ["check", "print_schema", "completions"])]
    pub(crate) window_end: Option<DateTime<Utc>>,

    /// Judge this version of the model instead of the one that served longest in the window
    #[arg(long, value_name = "NUMBER")]
    pub(crate) version: Option<u64>,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl MonitoringArgs {
    /// The window to judge.
    pub(crate) fn window(&self) -> Result<Window, Failure> {
        let (Some(start), Some(end)) = (self.window_start, self.window_end) else {
            let message = "which window? Add --window-start and --window-end";
            return Err(Failure::new(Exit::Config, message));
        };
        Window::new(start, end).map_err(Failure::with(Exit::Config))
    }
}

impl Program for MonitoringArgs {
    const SCHEMA: &'static str = mloop_core::report::MONITORING_FORMAT;

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn config_schema() -> serde_json::Value {
        Kinds::schema()
    }
}
