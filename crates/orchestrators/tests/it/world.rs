//! A small world: one model, one target, everything in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::InferenceAnswer;
use mloop_core::deployment::DeploymentVerdict;
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::report::{MONITORING_FORMAT, MonitoringReport, ReportWindow};
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::version::{aliases, files};
use mloop_core::{
    Clock, EndpointName, EpisodeId, Finding, JobId, ModelName, ModelVersion, MonitoringOutcome,
    RunId, Sha256Digest, Status, Subject, TargetName, VersionRef, Window,
};
use mloop_deployer::{
    Answer, DeployError, Deployer, EndpointClient, Endpoints, InMemoryEndpoints, Invocation,
};
use mloop_orchestrators::gate::{FirstModel, GateConfig};
use mloop_orchestrators::smoke::SmokeConfig;
use mloop_orchestrators::{
    CVTrainingOrchestrator, DeploymentConfig, DeploymentDeps, DeploymentOrchestrator, LeaseConfig,
    TrainingConfig, TrainingDeps,
};
use mloop_platform::fakes::{
    FixedSources, InMemoryLedger, InMemoryModelRegistry, RecordingNotifier, SteppedClock,
};
use mloop_platform::{Journal, LabelledRow, Leases, ModelRegistry, TrafficLimit};
use mloop_trainer::{FakeTrainer, Silent, Training};

pub(crate) fn at(hour: i64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a moment");
    start + TimeDelta::hours(hour)
}

pub(crate) fn subject() -> Subject {
    Subject {
        model: ModelName::new("fashion").expect("a name"),
        target: TargetName::new("production").expect("a name"),
    }
}

pub(crate) fn lease() -> LeaseConfig {
    LeaseConfig {
        instance: "host-1".to_owned(),
        ttl: Duration::from_secs(600),
        wait: Duration::from_millis(20),
        poll: Duration::from_millis(1),
    }
}

pub(crate) fn staging() -> EndpointName {
    EndpointName::new("fashion-staging").expect("a name")
}

pub(crate) fn production() -> EndpointName {
    EndpointName::new("fashion").expect("a name")
}

/// Everything outside, and the time.
pub(crate) struct World {
    pub(crate) clock: Arc<SteppedClock>,
    pub(crate) ledger: Arc<InMemoryLedger>,
    pub(crate) registry: Arc<InMemoryModelRegistry>,
    pub(crate) endpoints: Arc<InMemoryEndpoints>,
    pub(crate) people: Arc<RecordingNotifier>,
    pub(crate) traffic: Arc<FixedSources>,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(InMemoryEndpoints::new())
    }

    pub(crate) fn with(endpoints: InMemoryEndpoints) -> Self {
        let clock = Arc::new(SteppedClock::new(at(0)));
        let time: Arc<dyn Clock> = clock.clone();
        Self {
            ledger: InMemoryLedger::new(time.clone()),
            registry: Arc::new(InMemoryModelRegistry::new(time)),
            endpoints: Arc::new(endpoints),
            people: Arc::new(RecordingNotifier::new("people")),
            traffic: FixedSources::new(),
            folder: tempfile::tempdir().expect("a folder"),
            clock,
        }
    }

    pub(crate) fn hours_pass(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(3600 * hours));
    }

    pub(crate) async fn versions(&self) -> Vec<ModelVersion> {
        self.registry.versions(&subject().model).await.expect("versions")
    }

    /// A training whose model is right on these shares of the frozen and the fresh set. Models are
    /// told apart by `weights`.
    pub(crate) fn training(
        &self,
        weights: &str,
        accuracies: &[(&str, f64, f64)],
        gate: GateConfig,
    ) -> CVTrainingOrchestrator {
        self.training_with(fake_training(weights, accuracies), gate)
    }

    /// The work folder that all trainings share.
    pub(crate) fn training_work(&self) -> PathBuf {
        self.folder.path().join("training")
    }

    pub(crate) fn training_with(
        &self,
        training: Training,
        gate: GateConfig,
    ) -> CVTrainingOrchestrator {
        self.training_of(self.registry.clone(), training, gate)
    }

    /// A training as [`World::training`] has it, over another registry.
    pub(crate) fn training_over(
        &self,
        registry: Arc<dyn ModelRegistry>,
        weights: &str,
        accuracies: &[(&str, f64, f64)],
        gate: GateConfig,
    ) -> CVTrainingOrchestrator {
        self.training_of(registry, fake_training(weights, accuracies), gate)
    }

    fn training_of(
        &self,
        registry: Arc<dyn ModelRegistry>,
        training: Training,
        gate: GateConfig,
    ) -> CVTrainingOrchestrator {
        CVTrainingOrchestrator::new(
            self.training_deps(registry, training),
            self.training_config(gate),
        )
    }

    pub(crate) fn training_deps(
        &self,
        registry: Arc<dyn ModelRegistry>,
        training: Training,
    ) -> TrainingDeps {
        TrainingDeps {
            traffic: Some(self.traffic.clone()),
            training,
            registry,
            builder: self.traffic.clone(),
            progress: Arc::new(Silent),
        }
    }

    pub(crate) fn training_config(&self, gate: GateConfig) -> TrainingConfig {
        TrainingConfig {
            work: self.training_work(),
            fresh_share: 0.5,
            traffic_limit: TrafficLimit { rows: 10_000, bytes: 1 << 20 },
            golden_cases: 3,
            rebin: false,
            latency_objective_micros: None,
            gate,
        }
    }

    pub(crate) fn add_labelled(&self, rows: usize, from: DateTime<Utc>) {
        self.add_labelled_at(DateTime::<Utc>::MIN_UTC, rows, from);
    }

    pub(crate) fn add_labelled_at(&self, arrived: DateTime<Utc>, rows: usize, from: DateTime<Utc>) {
        let row = |index: usize| LabelledRow {
            id: format!("{from}-{index}"),
            time: from + TimeDelta::seconds(index as i64),
            content_type: "image/png".to_owned(),
            body: vec![1, 2, 3],
            label: "a".to_owned(),
            attributes: BTreeMap::new(),
        };
        self.traffic.add_labelled_at(arrived, (0..rows).map(row));
    }

    pub(crate) fn deployment(&self, instance: &str) -> DeploymentOrchestrator {
        self.deployment_with(instance, |_, _| {})
    }

    /// A deployment of which the test changes something first.
    pub(crate) fn deployment_with(
        &self,
        instance: &str,
        change: impl FnOnce(&mut DeploymentDeps, &mut DeploymentConfig),
    ) -> DeploymentOrchestrator {
        let ledger = self.ledger.ledger();
        let mut deps = DeploymentDeps {
            journal: ledger.journal,
            leases: ledger.leases,
            outbox: ledger.outbox,
            registry: self.registry.clone(),
            endpoints: Endpoints {
                deployer: self.endpoints.clone(),
                client: Arc::new(Talking(self.endpoints.clone())),
                janitor: self.endpoints.clone(),
            },
            notifiers: vec![self.people.clone()],
            clock: self.clock.clone(),
        };
        let mut config = DeploymentConfig {
            subject: subject(),
            config_digest: Sha256Digest::of(b"deployment"),
            staging: staging(),
            production: production(),
            keep_staging: false,
            work: self.folder.path().join("deployment"),
            smoke: SmokeConfig {
                warmup_requests: 1,
                latency_requests: 5,
                ..SmokeConfig::default()
            },
            verify_requests: 5,
            patience: Duration::from_millis(30),
            poll: Duration::from_millis(1),
            lease: LeaseConfig { instance: instance.to_owned(), ..lease() },
        };
        change(&mut deps, &mut config);
        DeploymentOrchestrator::new(deps, config)
    }

    /// The versions that `champion`, `previous_champion` and `challenger` name.
    pub(crate) async fn aliases(&self) -> [Option<u64>; 3] {
        let mut named = [None; 3];
        let names = [aliases::CHAMPION, aliases::PREVIOUS_CHAMPION, aliases::CHALLENGER];
        for (slot, alias) in named.iter_mut().zip(names) {
            let version = self.registry.alias(&subject().model, alias).await.expect("an answer");
            *slot = version.map(|version| version.number);
        }
        named
    }

    /// Marks a version as the one that waits for deployment, as training does.
    pub(crate) async fn waits(&self, version: &ModelVersion) {
        let set = self.registry.set_alias(&version.model, aliases::CHALLENGER, &version.version);
        set.await.expect("a version");
    }

    /// A blessed version whose golden cases the endpoints answer as expected.
    pub(crate) fn add_version(&self, content: &str) -> ModelVersion {
        let golden = golden_line("a");
        self.registry.add(
            &subject().model,
            &[(files::WEIGHTS, content.as_bytes()), (files::GOLDEN, golden.as_bytes())],
        )
    }

    pub(crate) async fn verdicts(&self) -> Vec<(u64, u32, Option<DeploymentVerdict>)> {
        let mut found = self.ledger.deployments(&subject()).await.expect("deployments");
        found.sort_by_key(|one| (one.version.number, one.attempt));
        found.iter().map(|one| (one.version.number, one.attempt, one.verdict)).collect()
    }

    /// What an earlier deployment of a version left: it serves, and the ledger knows.
    pub(crate) async fn serves(&self, version: &ModelVersion) {
        let lease = self.ledger.acquire("setup", "setup", Duration::from_secs(1)).await;
        let lease = lease.expect("a lease");
        let deployment = mloop_core::deployment::Deployment {
            id: mloop_core::deployment::Deployment::id_of(&subject(), &version.version, 1),
            subject: subject(),
            version: version.version,
            version_created_at: version.created_at,
            attempt: 1,
            previous: None,
            opened_at: self.clock.now(),
            verdict: Some(DeploymentVerdict::Switched),
            closed_at: Some(self.clock.now()),
            way_back: None,
        };
        self.ledger.save_deployment(&lease, &deployment).await.expect("saved");
        self.ledger.release(&lease).await.expect("released");
    }

    /// Puts a version into production behind mloop's back.
    pub(crate) async fn endpoints_serve(&self, version: &ModelVersion) {
        let request = mloop_deployer::DeployRequest {
            endpoint: production(),
            version: version.clone(),
            folder: self.folder.path().to_owned(),
            permission: Arc::new(mloop_deployer::Always),
        };
        self.endpoints.deploy_model(&request).await.expect("deployed");
    }

    /// Records a monitoring run of the hour that ends at `hour`.
    pub(crate) async fn monitored(
        &self,
        version: VersionRef,
        hour: i64,
        outcome: MonitoringOutcome,
    ) {
        self.record(report(version, hour, outcome)).await;
    }

    /// Records a drifted hour that ends at `hour`, whose labels are those of an hour so much earlier.
    pub(crate) async fn monitored_late(&self, version: VersionRef, hour: i64, late: Option<i64>) {
        let window = |late| Window::new(at(hour - late - 1), at(hour - late)).expect("an hour");
        let label_window = late.map(window);
        let report = report(version, hour, MonitoringOutcome::Alert);
        self.record(MonitoringReport { label_window, ..report }).await;
    }

    async fn record(&self, report: MonitoringReport) {
        let (version, outcome) = (report.version, report.outcome);
        let record = RunRecord {
            run_id: report.run_id.clone(),
            kind: RunKind::Monitoring,
            subject: subject(),
            version: Some(version.digest),
            window: Some(report.window.bounds),
            as_of: report.as_of,
            outcome: outcome.as_str().to_owned(),
            body: serde_json::to_value(&report).expect("json"),
        };
        self.ledger.record_run(&record).await.expect("recorded");
    }
}

/// A trainer and evaluator of models that are right on these shares of the frozen and fresh set.
fn fake_training(weights: &str, accuracies: &[(&str, f64, f64)]) -> Training {
    let accuracies = accuracies
        .iter()
        .map(|(weights, frozen, fresh)| ((*weights).to_owned(), *frozen, *fresh))
        .collect();
    let fake = Arc::new(FakeTrainer { frozen_rows: 1000, accuracies, weights: weights.to_owned() });
    Training { trainer: fake.clone(), evaluator: fake }
}

/// The result of a future of a fake, which never waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("what lies in memory never waits"),
    }
}

pub(crate) fn report(
    version: VersionRef,
    hour: i64,
    outcome: MonitoringOutcome,
) -> MonitoringReport {
    let status = match outcome {
        MonitoringOutcome::Ok => Status::Ok,
        MonitoringOutcome::Alert => Status::Drifted,
        MonitoringOutcome::InsufficientData => Status::InsufficientData,
        MonitoringOutcome::Broken => Status::Broken,
    };
    MonitoringReport {
        schema: MONITORING_FORMAT.to_owned(),
        run_id: RunId::derive(&["monitored", &hour.to_string(), &version.to_string()]),
        subject: subject(),
        version,
        window: ReportWindow {
            bounds: Window::new(at(hour - 1), at(hour)).expect("an hour"),
            rows: 100,
            quarantined: 0,
            other_version: 0,
            mixed: 0,
        },
        outcome,
        findings: vec![finding("drift", status)],
        failures: vec![],
        blind_windows: 0,
        stale: false,
        label_window: None,
        profile: Sha256Digest::of(b"profile"),
        reference: Sha256Digest::of(b"reference"),
        as_of: at(hour),
    }
}

pub(crate) fn finding(monitor: &str, status: Status) -> Finding {
    Finding {
        monitor: monitor.to_owned(),
        check: "check".to_owned(),
        column: None,
        group: None,
        method: "psi".to_owned(),
        value: Some(0.5),
        interval: None,
        threshold: Some(0.1),
        n: 100,
        status,
        detail: None,
    }
}

pub(crate) fn job(name: &str, champion: Option<VersionRef>, traffic: Option<Window>) -> JobSpec {
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: JobId::derive(&[name]),
        subject: subject(),
        cause: Cause {
            episode: EpisodeId::derive(&[name]),
            attempt: 1,
            reasons: vec!["because".to_owned()],
            evidence: vec![],
        },
        champion,
        traffic,
        evidence_from: None,
        as_of: at(0),
    }
}

pub(crate) fn first_allowed() -> GateConfig {
    GateConfig { first_model: FirstModel::Allow, ..GateConfig::default() }
}

pub(crate) fn golden_line(prediction: &str) -> String {
    let case = mloop_core::evaluation::GoldenCase {
        name: "case-0".to_owned(),
        content_type: "image/png".to_owned(),
        body_base64: "AQIDBA==".to_owned(),
        prediction: prediction.to_owned(),
        probabilities: vec![0.9, 0.1],
    };
    serde_json::to_string(&case).expect("json")
}

/// The in-memory endpoints with the body that a real server answers with.
struct Talking(Arc<InMemoryEndpoints>);

#[async_trait]
impl EndpointClient for Talking {
    async fn invoke(
        &self,
        endpoint: &EndpointName,
        invocation: &Invocation,
    ) -> Result<Answer, DeployError> {
        let answer = self.0.invoke(endpoint, invocation).await?;
        let digest = answer.digest.unwrap_or(Sha256Digest::of(b"nobody"));
        // Two bytes are half of the golden image: not an image any more.
        let cut = invocation.body.len() == 2;
        let said = InferenceAnswer {
            prediction: "a".to_owned(),
            confidence: 0.9,
            probabilities: vec![0.9, 0.1],
            features: BTreeMap::new(),
            attributes: BTreeMap::new(),
            embedding: vec![],
            model_digest: digest,
            latency_micros: 10,
        };
        let body = serde_json::to_vec(&said).expect("json");
        let status = if cut && answer.status == 200 { 400 } else { answer.status };
        Ok(Answer { status, body, ..answer })
    }
}

/// The paths of a version's files, fetched anew.
pub(crate) async fn files_of(world: &World, version: &ModelVersion, into: &Path) -> Vec<String> {
    let manifest = world.registry.fetch(version, into).await.expect("files");
    manifest.files().iter().map(|entry| entry.path.clone()).collect()
}
