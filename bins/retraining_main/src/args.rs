//! The command line.

use std::time::Duration;

use clap::Parser;
use mloop_cli::{CommonArgs, Program, WaitArgs};

use crate::kinds::Kinds;

/// How long a run may take to come to a safe point once it is to end; the rest of
/// [`Program::STOP_GRACE`] is for giving the lease back.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  retraining_main --config configs/retrain_config.yaml
      closes finished jobs, asks the triggers, and submits at most one job for one cause
  retraining_main --config configs/retrain_config.yaml --dry-run
      says what it would decide, and changes nothing
  retraining_main --config configs/retrain_config.yaml --as-of 2026-03-01T13:00:00Z
      decides as of that moment

Exit codes. 0: a job was submitted, or the one of this cause was found; 99: no retraining (no, held
or cannot tell); 20: configuration or usage; 21: credentials refused; 30: try again; 31: another run
holds the lease; 40: a person is needed; 1: a bug; 143: stopped.";

/// Decides whether a model is to be trained anew, and starts one job for one cause
#[derive(Debug, Parser)]
#[command(name = "retraining_main", after_help = EXAMPLES)]
pub(crate) struct RetrainingArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

impl Program for RetrainingArgs {
    const SCHEMA: &'static str = "mloop.retraining/1";

    /// The run ends between two jobs, of which the submitter's answers are the longest; Kubernetes
    /// kills after 30 s.
    const STOP_GRACE: Duration = Duration::from_secs(25);

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn config_schema() -> serde_json::Value {
        Kinds::schema()
    }
}
