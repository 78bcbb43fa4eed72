//! Puts deployment together from its configuration, and does what the subcommand asks.

use std::sync::Arc;
use std::time::Duration;

use mloop_cli::{CommonArgs, Exit, Failure, Outcome, Stop, instance, this_run_is};
use mloop_config::{ConfigError, DeploymentConfig, Document, secrets};
use mloop_core::{Sha256Digest, SystemClock};
use mloop_orchestrators::smoke::SmokeConfig;
use mloop_orchestrators::{
    DeploymentConfig as Settings, DeploymentDeps, DeploymentOrchestrator, DeploymentRequest,
    LeaseConfig, Stopping, deliver_waiting,
};
use mloop_platform::{Ledger, PlatformDeps};

use crate::args::{Command, DeploymentArgs, GRACE, Wanted};
use crate::exit::exit_of;
use crate::kinds::Kinds;
use crate::preview::{check, preview};

/// Does what the subcommand asks.
pub(crate) async fn deploy(args: DeploymentArgs, stop: Stop) -> Result<Outcome, Failure> {
    let common = &args.common;
    let document = Document::read(common.config()?)?;
    let wanted = args.command.and_then(Command::wanted);
    let wait = wanted.map_or(Duration::ZERO, |wanted| wanted.wait);
    let (deps, settings) = build(&document, common, wait)?;
    if common.check {
        return check(&deps, &settings).await.map_err(Failure::of);
    }
    if args.command.is_none() {
        let problem = "do what? Add a subcommand, such as run; see --help";
        return Err(Failure::new(Exit::Config, problem));
    }
    let Some(Wanted { task, version, again, .. }) = wanted else {
        let status = DeploymentOrchestrator::new(deps, settings).status().await;
        return Outcome::of(Exit::Done, &status.map_err(Failure::of)?);
    };
    if common.dry_run {
        return preview(task, version, again, &deps, &settings).await.map_err(Failure::of);
    }
    let stopping = Stopping::when(async move { stop.raised().await }, GRACE);
    let as_of = common.as_of.unwrap_or_else(|| deps.clock.now());
    let request = DeploymentRequest { version, again, as_of: Some(as_of) };
    let (outbox, notifiers) = (Arc::clone(&deps.outbox), deps.notifiers.clone());
    let subject = settings.subject.clone();
    let flow = DeploymentOrchestrator::new(deps, settings).stopping_at(stopping);
    this_run_is(flow.run_id(task, &request, as_of));
    let result = flow.perform(task, &request).await.map_err(Failure::of)?;
    // Who could not be told just now is tried again by the next run.
    if result.notification_failures.is_empty() {
        deliver_waiting(outbox.as_ref(), &subject, &notifiers).await;
    }
    Outcome::of(exit_of(result.outcome), &result)
}

fn build(
    document: &Document,
    common: &CommonArgs,
    wait: Duration,
) -> Result<(DeploymentDeps, Settings), ConfigError> {
    let kinds = Kinds::new();
    let platform = PlatformDeps::new(document.folder(), common.clock()).with_secrets(secrets());
    let (config, mut problems) = document.decode::<DeploymentConfig>();
    let built = config.and_then(|config| {
        let ledger = problems.build("ledger", &config.ledger, &kinds.ledgers, &platform);
        let registry = problems.build("registry", &config.registry, &kinds.models, &platform);
        let endpoints = problems.build("deployer", &config.deployer, &kinds.deployers, &platform);
        let notifiers =
            problems.build_all("notifiers", &config.notifiers, &kinds.notifiers, &platform);
        let smoke: SmokeConfig = problems.section("smoke_tests", &config.smoke_tests)?;
        if let Some((key, problem)) = smoke.problem() {
            problems.add(&format!("smoke_tests.{key}"), problem);
        }
        let ledger: Ledger = ledger?;
        let deps = DeploymentDeps {
            journal: ledger.journal,
            leases: ledger.leases,
            outbox: ledger.outbox,
            registry: registry?,
            endpoints: endpoints?,
            notifiers,
            // `--as-of` tells which run this is; the journal has the times at which things were done.
            clock: Arc::new(SystemClock),
        };
        Some((deps, settings(&config, smoke, document, wait)))
    });
    problems.finish_with(built)
}

fn settings(
    config: &DeploymentConfig,
    smoke: SmokeConfig,
    document: &Document,
    wait: Duration,
) -> Settings {
    let poll = Duration::from_millis(config.bake.poll_ms);
    Settings {
        subject: config.subject(),
        config_digest: Sha256Digest::of(document.value().to_string().as_bytes()),
        staging: config.staging_endpoint.clone(),
        production: config.production_endpoint.clone(),
        keep_staging: config.keep_staging,
        work: document.resolve(&config.work),
        smoke,
        verify_requests: config.bake.verify_requests,
        patience: Duration::from_secs(config.bake.patience_secs),
        poll,
        lease: LeaseConfig {
            instance: instance(),
            ttl: Duration::from_secs(config.lease_secs),
            wait,
            poll,
        },
    }
}
