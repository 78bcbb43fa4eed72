//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mloop_cli::{CommonArgs, Program, WaitArgs};
use mloop_orchestrators::Task;

use crate::kinds::Kinds;

/// How long a run may take to come to a safe point once it is to end; the rest of
/// [`Program::STOP_GRACE`] is for giving the lease back.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  deployment_main run --config configs/deployment_config.yaml
      the newest candidate: staging, smoke tests, switch
  deployment_main deploy --config configs/deployment_config.yaml
  deployment_main smoke-test --config configs/deployment_config.yaml
  deployment_main switch-to-production --config configs/deployment_config.yaml
      the same in three tasks; each can be killed and repeated
  deployment_main rollback --config configs/deployment_config.yaml
      all traffic back to the version before
  deployment_main run --config configs/deployment_config.yaml --version 7 --again
      a version whose deployment failed before, once more

Exit codes. 0: done, or had been done before; 99: nothing newer to deploy, or nothing under way;
12: the smoke tests failed; 13: rolled back or given up, also where that was asked for;
20: configuration or usage; 21: credentials refused; 30: try again; 31: another run holds the lease;
40: a person is needed; 1: a bug; 143: stopped.";

const RUN: &str = "\
Examples:
  deployment_main run --config configs/deployment_config.yaml
      the newest candidate: staging, smoke tests, switch
  deployment_main run --config configs/deployment_config.yaml --version 7 --again
      a version whose deployment failed before, once more

Exit codes: deployment_main --help";

const DEPLOY: &str = "\
Examples:
  deployment_main deploy --config configs/deployment_config.yaml
      the newest candidate; smoke-test goes on from there
  deployment_main deploy --config configs/deployment_config.yaml --version 7
      another one

Exit codes: deployment_main --help";

const SMOKE_TEST: &str = "\
Example:
  deployment_main smoke-test --config configs/deployment_config.yaml
      after deploy; switch-to-production goes on from there

Exit codes: deployment_main --help";

const SWITCH: &str = "\
Example:
  deployment_main switch-to-production --config configs/deployment_config.yaml
      after smoke-test

Exit codes: deployment_main --help";

const ROLLBACK: &str = "\
Examples:
  deployment_main rollback --config configs/deployment_config.yaml
      all traffic back to the version before; asked again, it goes no further back
  deployment_main rollback --config configs/deployment_config.yaml --version 7
      ends the deployment of version 7 alone

Exit codes: deployment_main --help";

const STATUS: &str = "\
Example:
  deployment_main status --config configs/deployment_config.yaml
      `outcome` of the last line is consistent, under_way, staging_left or inconsistent

Exit codes: deployment_main --help";

/// Brings a version to production: staging, smoke tests, switch, rollback
#[derive(Debug, Parser)]
#[command(name = "deployment_main", after_help = EXAMPLES)]
pub(crate) struct DeploymentArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What to do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// All steps in order
    #[command(after_help = RUN)]
    Run(BeginArgs),
    /// Serve the version at the staging endpoint
    #[command(after_help = DEPLOY)]
    Deploy(BeginArgs),
    /// Test the version at the staging endpoint
    #[command(after_help = SMOKE_TEST)]
    SmokeTest(GoOnArgs),
    /// Give all traffic to the version that passed the smoke tests
    #[command(after_help = SWITCH)]
    SwitchToProduction(GoOnArgs),
    /// Give all traffic back to the version before
    #[command(after_help = ROLLBACK)]
    Rollback(BackArgs),
    /// What serves, and how the last deployment stands; changes nothing
    #[command(after_help = STATUS)]
    Status,
}

/// Arguments of what may begin a deployment.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BeginArgs {
    /// This version instead of the newest candidate
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,

    /// Although a deployment of the version ended before
    #[arg(long, requires = "version")]
    again: bool,

    #[command(flatten)]
    wait: WaitArgs,
}

/// Arguments of what goes on with a deployment.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct GoOnArgs {
    /// The deployment of this version instead of the one under way
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,

    #[command(flatten)]
    wait: WaitArgs,
}

/// Arguments of the way back.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BackArgs {
    /// Only this version: if it serves, or if its deployment never touched production
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,

    #[command(flatten)]
    wait: WaitArgs,
}

/// A task of the flow, and what was said about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) task: Task,
    pub(crate) version: Option<u64>,
    pub(crate) again: bool,
    pub(crate) wait: Duration,
}

impl Command {
    /// What the flow is to do; none: only to tell how things stand.
    pub(crate) fn wanted(self) -> Option<Wanted> {
        let begin = |task, BeginArgs { version, again, wait }: BeginArgs| {
            Some(Wanted { task, version, again, wait: wait.wait_timeout() })
        };
        let go_on = |task, version, wait: WaitArgs| {
            Some(Wanted { task, version, again: false, wait: wait.wait_timeout() })
        };
        match self {
            Self::Run(args) => begin(Task::Run, args),
            Self::Deploy(args) => begin(Task::Deploy, args),
            Self::SmokeTest(args) => go_on(Task::SmokeTest, args.version, args.wait),
            Self::SwitchToProduction(args) => go_on(Task::Switch, args.version, args.wait),
            Self::Rollback(args) => go_on(Task::Rollback, args.version, args.wait),
            Self::Status => None,
        }
    }
}

impl Program for DeploymentArgs {
    const SCHEMA: &'static str = "mloop.deployment/1";

    /// The run ends between two steps or two looks, of which the platform's answers are the longest;
    /// Kubernetes kills after 30 s.
    const STOP_GRACE: Duration = Duration::from_secs(25);

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn config_schema() -> serde_json::Value {
        Kinds::schema()
    }
}
