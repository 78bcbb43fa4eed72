//! Puts monitoring together from its configuration, and runs it once.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use mloop_cli::{Exit, Failure, Outcome, Stop, this_run_is};
use mloop_config::{ConfigError, Document, MonitoringConfig, secrets};
use mloop_core::Sha256Digest;
use mloop_orchestrators::{
    FalseAlarmBudget, MonitoringConfig as Settings, MonitoringDeps, MonitoringOrchestrator,
    MonitoringRequest,
};
use mloop_platform::{Ledger, PlatformDeps};
use mloop_reporter::ReporterDeps;

use crate::args::{Command, MonitoringArgs, ReferenceCommand};
use crate::check::check;
use crate::kinds::Kinds;
use crate::late::Late;
use crate::show::show;
use crate::{reference, replay, wait};

/// Judges the window of the arguments.
pub(crate) async fn monitor(args: MonitoringArgs, _stop: Stop) -> Result<Outcome, Failure> {
    let common = &args.common;
    let document = Document::read(common.config()?)?;
    let platform = PlatformDeps::new(document.folder(), common.clock()).with_secrets(secrets());
    let mut parts = Parts::build(&document, &platform)?;
    if common.check {
        return check(&parts, platform.clock.now()).await;
    }
    match &args.command {
        Some(Command::Reference(ReferenceCommand::Build(build))) => {
            return reference::build(parts, &build.request(common.as_of)?, common.dry_run).await;
        }
        Some(Command::Show(which)) => return show(parts, which).await,
        Some(Command::Replay(replay)) => return replay::replay(parts, replay.span()?).await,
        None => {}
    }
    if common.dry_run {
        parts.make_read_only();
    }
    let window = args.window()?;
    if common.as_of.is_none() {
        wait::until_settled(window, parts.settle, platform.clock.as_ref()).await;
    }
    let request = MonitoringRequest { window, as_of: common.as_of, version: args.version };
    let flow = MonitoringOrchestrator::new(parts.deps, parts.settings);
    drop(flow.run_id(&request).await.map(this_run_is));
    let mut result = flow.run(&request).await;
    // The reporters of an alert have just delivered what waits.
    if !common.dry_run && !result.as_ref().is_ok_and(|result| result.alerting) {
        let undelivered = parts.late.deliver().await;
        result.iter_mut().for_each(|result| result.reporter_failures.extend(undelivered.clone()));
    }
    if result.is_ok() {
        flow.merge_old_days().await;
    }
    Outcome::of(Exit::Done, &result.map_err(Failure::of)?)
}

/// Everything that a run or a look needs.
pub(crate) struct Parts {
    pub(crate) deps: MonitoringDeps,
    pub(crate) settings: Settings,
    settle: Duration,
    pub(crate) late: Late,
}

impl Parts {
    fn build(document: &Document, platform: &PlatformDeps) -> Result<Self, ConfigError> {
        let kinds = Kinds::new();
        let (config, mut problems) = document.decode::<MonitoringConfig>();
        let parts = config.and_then(|config| {
            let ledger = problems.build("ledger", &config.ledger, &kinds.ledgers, platform);
            let registry = problems.build("registry", &config.registry, &kinds.models, platform);
            let sources = problems.build("source", &config.source, &kinds.sources, platform);
            let latency = &config.latency_source;
            let latency = problems.build("latency_source", latency, &kinds.latency, platform);
            let monitors = problems.build_all("monitors", &config.monitors, &kinds.monitors, &());
            let notifiers = &config.notifiers;
            let notifiers = problems.build_all("notifiers", notifiers, &kinds.notifiers, platform);
            let ledger: Ledger = ledger?;
            let late = Late { outbox: ledger.outbox, subject: config.subject(), notifiers };
            let (outbox, notifiers) = (Arc::clone(&late.outbox), late.notifiers.clone());
            let deps = ReporterDeps { platform: platform.clone(), notifiers, outbox };
            let reporters = &config.reporters;
            let reporters = problems.build_all("reporters", reporters, &kinds.reporters, &deps);
            let deps = MonitoringDeps {
                journal: ledger.journal,
                profiles: ledger.profiles,
                source: sources?.profiles,
                latency: latency?,
                registry: registry?,
                monitors,
                reporters,
                clock: Arc::clone(&platform.clock),
            };
            let settle = Duration::from_secs(config.settle_secs);
            Some(Self { deps, settings: settings(&config, document), settle, late })
        });
        problems.finish_with(parts)
    }
}

fn settings(config: &MonitoringConfig, document: &Document) -> Settings {
    Settings {
        subject: config.subject(),
        config_digest: Sha256Digest::of(document.value().to_string().as_bytes()),
        stale_after: Some(TimeDelta::hours(config.stale_after_hours.into())),
        label_delay: TimeDelta::hours(config.label_delay_hours.into()),
        max_blind_windows: config.max_blind_windows,
        false_alarms: config.false_alarms_per_month.map(|per_month| FalseAlarmBudget {
            per_month,
            windows_per_month: config.windows_per_month,
        }),
        work: document.resolve(&config.work),
    }
}
