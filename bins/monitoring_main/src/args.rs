//! The command line.

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use mloop_cli::{CommonArgs, Exit, Failure, Program};
use mloop_core::{RunId, Window};
use mloop_orchestrators::{BuildReference, Which};

use crate::kinds::Kinds;

const EXAMPLES: &str = "\
Examples:
  monitoring_main --config configs/monitoring_config.yaml \\
      --window-start 2026-03-01T12:00:00Z --window-end 2026-03-01T13:00:00Z
      judges one hour of the version that served then
  monitoring_main --config configs/monitoring_config.yaml --dry-run \\
      --window-start 2026-03-01T12:00:00Z --window-end 2026-03-01T13:00:00Z
      the same, but records nothing and tells nobody
  monitoring_main reference build --config configs/monitoring_config.yaml
      makes the reference of a model that was not trained here, of a table of its predictions
  monitoring_main replay --config configs/monitoring_config.yaml \\
      --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
      what the configuration as it stands would have found in the windows of a month
  monitoring_main show --config configs/monitoring_config.yaml
      shows what the newest run found, and what moved
  monitoring_main --config configs/monitoring_config.yaml --check
      validates the configuration and reaches ledger, registry, traffic and reporters, read-only

Exit codes. 0: measured, whatever was found: `outcome` of the last line is ok, alert,
insufficient_data, broken or replayed; 20: configuration or usage; 21: credentials refused;
30: try again; 40: a person is needed; 1: a bug; 143: stopped.";

const SHOW: &str = "\
Examples:
  monitoring_main show --config configs/monitoring_config.yaml
      what the newest run found
  monitoring_main show --config configs/monitoring_config.yaml \\
      --window-start 2026-03-01T12:00:00Z --window-end 2026-03-01T13:00:00Z
      what the newest run over this hour found
  monitoring_main show --config configs/monitoring_config.yaml --run run-7d9c17b55d33bbf47fd9
      what this run found

The last line is JSON, as of every run: `outcome` is what the window was found to be.
Exit codes: monitoring_main --help; 20 also when there is no such run.";

const REFERENCE: &str = "\
Examples:
  monitoring_main reference build --config configs/monitoring_config.yaml
      of all rows of the source
  monitoring_main reference build --config configs/monitoring_config.yaml \\
      --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z
      of those of a month, on the bins of the reference before
  monitoring_main reference build --config configs/monitoring_config.yaml --rebin
      on new bins

Take traffic in which all was well, and none that the model was trained on.
Exit codes: monitoring_main --help";

const REPLAY: &str = "\
Examples:
  monitoring_main replay --config changed.yaml \\
      --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
      what the changed configuration would have found in the windows of a month

Reads the profiles that earlier runs stored, and no traffic; records nothing and tells nobody.
Exit codes: monitoring_main --help";

/// Judges one window of a model's traffic: drift, fairness, latency, performance
#[derive(Debug, Parser)]
#[command(name = "monitoring_main", after_help = EXAMPLES, subcommand_negates_reqs = true)]
pub(crate) struct MonitoringArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

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

/// What else can be done.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// What traffic of a model should look like
    #[command(subcommand)]
    Reference(ReferenceCommand),

    /// Judge the windows of the past once more, as the configuration now stands
    #[command(after_help = REPLAY)]
    Replay(ReplayArgs),

    /// Show what a run found: the newest one's verdict, findings, and the columns that moved
    #[command(after_help = SHOW)]
    Show(ShowArgs),
}

/// What can be done with references.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReferenceCommand {
    /// Make the reference of a model that was not trained here
    #[command(after_help = REFERENCE)]
    Build(BuildArgs),
}

/// Which rows a reference is made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct BuildArgs {
    /// Time of the first row, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment, requires = "to")]
    from: Option<DateTime<Utc>>,

    /// Time after the last row
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment, requires = "from")]
    to: Option<DateTime<Utc>>,

    /// New bins and groups, though there is a reference whose could be kept
    #[arg(long)]
    rebin: bool,
}

/// Which windows are replayed.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReplayArgs {
    /// Windows that start at this time or later, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    from: DateTime<Utc>,

    /// And end at this time or before
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    to: DateTime<Utc>,
}

impl ReplayArgs {
    /// From when to when.
    pub(crate) fn span(&self) -> Result<Window, Failure> {
        Window::new(self.from, self.to).map_err(Failure::with(Exit::Config))
    }
}

/// Which run to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// First moment of a window: show the newest run over it
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment, requires = "window_end")]
    window_start: Option<DateTime<Utc>>,

    /// The first moment after that window
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment, requires = "window_start")]
    window_end: Option<DateTime<Utc>>,

    /// Show this run
    #[arg(long, value_name = "ID", conflicts_with = "window_start")]
    run: Option<RunId>,

    /// No colours, though it is a terminal
    #[arg(long)]
    pub(crate) no_color: bool,
}

impl ShowArgs {
    /// The run to show.
    pub(crate) fn which(&self) -> Result<Which, Failure> {
        if let Some(run) = &self.run {
            return Ok(Which::Run(run.clone()));
        }
        let window = self.window_start.zip(self.window_end);
        let window = window.map(|(start, end)| Window::new(start, end)).transpose();
        let window = window.map_err(Failure::with(Exit::Config))?;
        Ok(window.map_or(Which::Newest, Which::Window))
    }
}

impl BuildArgs {
    /// The reference to make.
    pub(crate) fn request(&self, as_of: Option<DateTime<Utc>>) -> Result<BuildReference, Failure> {
        let window = self.from.zip(self.to).map(|(from, to)| Window::new(from, to));
        let window = window.transpose().map_err(Failure::with(Exit::Config))?;
        Ok(BuildReference { window, as_of, rebin: self.rebin })
    }
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
