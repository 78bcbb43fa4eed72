//! Puts training together from its configuration, and does one job.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_cli::{Exit, Failure, Outcome, Stop, this_run_is};
use mloop_config::{ConfigError, Document, TrainingConfig, secrets};
use mloop_core::Subject;
use mloop_core::evaluation::GateVerdict;
use mloop_orchestrators::gate::GateConfig;
use mloop_orchestrators::{
    CVTrainingOrchestrator, TrainingConfig as Settings, TrainingDeps, training_run_id,
};
use mloop_platform::{PlatformDeps, Sources, TrafficLimit};
use mloop_profiler::ReferenceBuilder;
use mloop_trainer::StopFlag;

use crate::args::TrainingArgs;
use crate::job;
use crate::kinds::Kinds;
use crate::preview::{data, look};
use crate::progress::Epochs;

/// Does the job of the arguments.
pub(crate) async fn train(args: TrainingArgs, stop: Stop) -> Result<Outcome, Failure> {
    if let Some(pid_file) = &args.pid_file {
        job::leave_session(pid_file)?;
    }
    let common = &args.common;
    let document = Document::read(common.config()?)?;
    let platform = PlatformDeps::new(document.folder(), common.clock()).with_secrets(secrets());
    let Parts { deps, settings, subject } =
        Parts::build(&document, &platform, args.work.as_deref())?;
    let only_look = common.check || common.dry_run;
    let job = match &args.job_file {
        Some(path) => job::read(path, &subject)?,
        None => {
            let data = if common.check { None } else { Some(data(&deps, &settings).await?) };
            let traffic = job::traffic(&args)?;
            let inputs = job::Inputs { config: document.value(), data, traffic };
            job::by_hand(&subject, &inputs, common, &settings, !only_look)?
        }
    };
    if only_look {
        return look(&deps, &settings, &job, common.dry_run).await;
    }
    this_run_is(training_run_id(&job.job_id));
    let flag = StopFlag::default();
    tokio::spawn({
        let flag = flag.clone();
        async move {
            stop.raised().await;
            flag.raise();
        }
    });
    let flow = CVTrainingOrchestrator::new(deps, settings);
    let result = flow.run(&job, &flag).await.map_err(Failure::of)?;
    let exit = match result.outcome {
        GateVerdict::Blessed => Exit::Done,
        GateVerdict::Rejected => Exit::Rejected,
        GateVerdict::Inconclusive => Exit::Inconclusive,
    };
    Outcome::of(exit, &result)
}

struct Parts {
    deps: TrainingDeps,
    settings: Settings,
    subject: Subject,
}

impl Parts {
    fn build(
        document: &Document,
        platform: &PlatformDeps,
        work: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let kinds = Kinds::new();
        let (config, mut problems) = document.decode::<TrainingConfig>();
        let parts = config.and_then(|config| {
            let registry = problems.build("registry", &config.registry, &kinds.models, platform);
            let training = problems.build("trainer", &config.trainer, &kinds.trainers, platform);
            let sources: Option<Sources> = config.traffic.as_ref().and_then(|traffic| {
                problems.build("traffic.source", &traffic.source, &kinds.sources, platform)
            });
            let gate: GateConfig = problems.section("gate", &config.gate)?;
            if let Some((key, problem)) = gate.problem() {
                problems.add(&format!("gate.{key}"), problem);
            }
            let deps = TrainingDeps {
                traffic: sources.map(|sources| sources.traffic),
                training: training?,
                registry: registry?,
                builder: Arc::new(ReferenceBuilder::new()),
                progress: Arc::new(Epochs::new()),
            };
            let work = work.map_or_else(|| document.resolve(&config.work), Path::to_owned);
            Some(Self { deps, settings: settings(&config, gate, work), subject: config.subject() })
        });
        problems.finish_with(parts)
    }
}

fn settings(config: &TrainingConfig, gate: GateConfig, work: PathBuf) -> Settings {
    let traffic = config.traffic.as_ref();
    Settings {
        work,
        fresh_share: traffic.map_or(0.0, |traffic| traffic.fresh_share),
        traffic_limit: traffic.map_or(TrafficLimit { rows: 0, bytes: 0 }, |traffic| TrafficLimit {
            rows: traffic.max_rows,
            bytes: traffic.max_bytes,
        }),
        golden_cases: config.golden_cases,
        rebin: config.rebin,
        latency_objective_micros: config.latency_objective_ms.map(|ms| (ms * 1000.0) as u64),
        gate,
    }
}
