//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Parser;
use mloop_cli::{CommonArgs, Program};

use crate::kinds::Kinds;

const EXAMPLES: &str = "\
Examples:
  training_main --config configs/training_config.yaml
      trains a first version: without traffic nothing can be better than what serves
  training_main --config configs/training_config.yaml \\
      --traffic-start 2026-03-01T00:00:00Z --traffic-end 2026-03-08T00:00:00Z
      trains the next one by hand: against the champion, on that week's labelled traffic
  training_main --config configs/training_config.yaml --job-file jobs/job-1.json
      trains what retraining_main asked for: against the champion, on the traffic it names

Killed or stopped at any moment, the same call goes on from the last checkpoint.

Exit codes. 0: blessed, registered as staging_ready; 10: the gate rejected the new version; 11: the
gate could not tell; 20: configuration or usage; 21: credentials refused; 30: try again;
31: another process is at this job; 40: a person is needed; 1: a bug; 143: stopped after saving.";

/// Trains, evaluates and registers one version of a model
#[derive(Debug, Parser)]
#[command(name = "training_main", after_help = EXAMPLES)]
pub(crate) struct TrainingArgs {
    /// The job to do, as retraining_main wrote it
    #[arg(long, value_name = "FILE")]
    pub(crate) job_file: Option<PathBuf>,

    /// First moment of labelled traffic to learn from and to be judged on, RFC 3339; a job file names
    /// its own
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    #[arg(requires = "traffic_end", conflicts_with = "job_file")]
    pub(crate) traffic_start: Option<DateTime<Utc>>,

    /// The first moment after that traffic
    #[arg(long, value_name = "TIME", value_parser = mloop_cli::moment)]
    #[arg(requires = "traffic_start", conflicts_with = "job_file")]
    pub(crate) traffic_end: Option<DateTime<Utc>>,

    /// Folder for checkpoints, instead of the configuration's `work`
    #[arg(long, value_name = "DIR")]
    pub(crate) work: Option<PathBuf>,

    /// Leave the caller's session first, so that a signal to its group does not end the job
    #[arg(long, hide = true, requires = "pid_file")]
    pub(crate) own_session: bool,

    /// Write the process id there once the session is left
    #[arg(long, value_name = "FILE", hide = true, requires = "own_session")]
    pub(crate) pid_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl Program for TrainingArgs {
    const SCHEMA: &'static str = "mloop.training/1";

    /// A checkpoint takes a second or two; Kubernetes kills after 30 s.
    const STOP_GRACE: Duration = Duration::from_secs(25);

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn config_schema() -> serde_json::Value {
        Kinds::schema()
    }
}
