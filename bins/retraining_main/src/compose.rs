//! Puts retraining together from its configuration, and runs it once.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use mloop_cli::{Exit, Failure, Outcome, Stop, instance, this_run_is};
use mloop_config::{Combination, ConfigError, Document, RetrainConfig, secrets};
use mloop_core::Sha256Digest;
use mloop_orchestrators::plan::Limits;
use mloop_orchestrators::{
    LeaseConfig, RetrainConfig as Settings, RetrainDeps, RetrainOrchestrator, RetrainRequest,
    Stopping, deliver_waiting,
};
use mloop_platform::{Ledger, PlatformDeps};
use mloop_triggers::{Combination as Policy, Mode};

use crate::args::{GRACE, RetrainingArgs};
use crate::kinds::Kinds;
use crate::preview;

/// Decides, and submits at most one job.
pub(crate) async fn retrain(args: RetrainingArgs, stop: Stop) -> Result<Outcome, Failure> {
    let common = &args.common;
    let document = Document::read(common.config()?)?;
    let platform = PlatformDeps::new(document.folder(), common.clock()).with_secrets(secrets());
    let Parts { deps, settings } = Parts::build(&document, &platform, args.wait.wait_timeout())?;
    if common.check {
        return preview::check(&deps, &settings).await;
    }
    let as_of = common.as_of.unwrap_or_else(|| platform.clock.now());
    let (outbox, notifiers) = (Arc::clone(&deps.outbox), deps.notifiers.clone());
    let subject = settings.subject.clone();
    let flow = RetrainOrchestrator::new(deps, settings);
    let request = RetrainRequest { as_of: Some(as_of) };
    if common.dry_run {
        return preview::preview(&flow, &request).await;
    }
    this_run_is(flow.run_id(as_of));
    let signal = stop.clone();
    let flow = flow.stopping_at(Stopping::when(async move { signal.raised().await }, GRACE));
    let result = flow.run(&request).await.map_err(Failure::of);
    // What is not told in time, or could not be told just now, waits for the next run.
    let was_tried = result.as_ref().is_ok_and(|result| !result.notification_failures.is_empty());
    if !stop.is_raised() && !was_tried {
        deliver_waiting(outbox.as_ref(), &subject, &notifiers).await;
    }
    let result = result?;
    Outcome::of(if result.outcome.has_job() { Exit::Done } else { Exit::NothingToDo }, &result)
}

struct Parts {
    deps: RetrainDeps,
    settings: Settings,
}

impl Parts {
    fn build(
        document: &Document,
        platform: &PlatformDeps,
        wait: Duration,
    ) -> Result<Self, ConfigError> {
        let kinds = Kinds::new();
        let (config, mut problems) = document.decode::<RetrainConfig>();
        let parts = config.and_then(|config| {
            let ledger = problems.build("ledger", &config.ledger, &kinds.ledgers, platform);
            let registry = problems.build("registry", &config.registry, &kinds.models, platform);
            let submitter =
                problems.build("submitter", &config.submitter, &kinds.submitters, platform);
            let triggers = problems.build_all("triggers", &config.triggers, &kinds.triggers, &());
            let notifiers =
                problems.build_all("notifiers", &config.notifiers, &kinds.notifiers, platform);
            let ledger: Ledger = ledger?;
            let deps = RetrainDeps {
                journal: ledger.journal,
                leases: ledger.leases,
                registry: registry?,
                submitter: submitter?,
                outbox: ledger.outbox,
                notifiers,
                triggers,
                policy: Box::new(policy(&config)),
                clock: Arc::clone(&platform.clock),
            };
            let settings = settings(&config, document, wait);
            Some(Self { deps, settings })
        });
        problems.finish_with(parts)
    }
}

fn policy(config: &RetrainConfig) -> Policy {
    let mode = match config.combination {
        Combination::Any => Mode::Any,
        Combination::All => Mode::All,
    };
    Policy { mode, allow_on_broken: config.allow_on_broken }
}

fn settings(config: &RetrainConfig, document: &Document, wait: Duration) -> Settings {
    let cooldown = TimeDelta::hours(config.cooldown_hours.into());
    Settings {
        subject: config.subject(),
        config_digest: Sha256Digest::of(document.value().to_string().as_bytes()),
        limits: Limits { cooldown, max_attempts: config.max_attempts },
        max_restarts: config.max_restarts,
        lookback: TimeDelta::hours(config.history_hours.into()),
        traffic_lookback: TimeDelta::hours(config.traffic_lookback_hours.into()),
        lease: LeaseConfig {
            instance: instance(),
            ttl: Duration::from_secs(config.lease_secs),
            wait,
            poll: Duration::from_millis(500),
        },
    }
}
