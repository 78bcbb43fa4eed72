//! The calls that are measured. Each time an adapter is made anew, as a process of a DAG's task does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mloop_airflow::register_submitters;
use mloop_core::deployment::EndpointState;
use mloop_core::secret::{Secret, SecretError, Secrets};
use mloop_core::version::files;
use mloop_core::{
    EndpointName, Finding, Manifest, ModelName, MonitoringOutcome, MonitoringReport, Sha256Digest,
    SystemClock,
};
use mloop_deployer::conformance::{Candidate, sample_version};
use mloop_deployer::{Always, DeployRequest, Endpoints, Invocation, SwitchRequest};
use mloop_mlflow::register_models;
use mloop_platform::conformance::samples;
use mloop_platform::fakes::InMemoryLedger;
use mloop_platform::{ModelRegistryKinds, PlatformDeps, Registration, SubmitterRegistry};
use mloop_prometheus::{families, register_builtin};
use mloop_reporter::conformance::{judged, sample_report};
use mloop_reporter::{ReporterDeps, ReporterRegistry};
use mloop_serving::testing::{tiny_image, write_tiny_version};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;
use crate::services::{Addresses, Bench, KEYS, REGION, until};

/// Series that a push has.
const SERIES: usize = 1_000;

/// Bytes of the weights of a version that is registered: as many as the demo's network has.
const WEIGHTS: usize = 1_700_000;

/// Cap on series of a reporter; higher than what is pushed.
const CAP: usize = 2_000;

/// How often each work can be done.
const REPEATS: u32 = 40;

pub(crate) enum Work {
    Register(Register),
    Push(Box<Push>),
    Airflow(Submit),
    SageMaker(Submit),
    Deploy(Deploy),
}

/// All works; each can be done [`REPEATS`] times.
pub(crate) fn all(bench: &Bench) -> Outcome<Vec<Work>> {
    Ok(vec![
        Work::Push(Box::new(Push::new(bench)?)),
        Work::Airflow(Submit::new(bench)),
        Work::SageMaker(Submit::new(bench)),
        Work::Register(Register::new(bench)?),
        Work::Deploy(Deploy::new(bench)?),
    ])
}

impl Work {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Register(_) => {
                format!("MLflow: register a version of {:.1} MB", WEIGHTS as f64 / 1e6)
            }
            Self::Push(push) => {
                format!("Pushgateway: push {} series", series(&push.report))
            }
            Self::Airflow(_) => "Airflow: submit a training job".to_owned(),
            Self::SageMaker(_) => "SageMaker (simulator): submit a training job".to_owned(),
            Self::Deploy(_) => {
                "SageMaker (simulator): deploy to staging, ask it, switch, ask production"
                    .to_owned()
            }
        }
    }

    pub(crate) async fn call(&self, at: &Addresses) -> Outcome {
        match self {
            Self::Register(work) => work.call(at).await,
            Self::Push(work) => work.call(at).await,
            Self::Airflow(work) => work.to_airflow(at).await,
            Self::SageMaker(work) => work.to_sagemaker(at).await,
            Self::Deploy(work) => work.call(at).await,
        }
    }
}

/// Every secret is this one.
struct One(String);

impl Secrets for One {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }

    fn in_file(&self, _path: &Path) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }
}

fn deps(secret: &str) -> PlatformDeps {
    PlatformDeps::new("/", Arc::new(SystemClock)).with_secrets(Arc::new(One(secret.to_owned())))
}

/// Registers a new version of a model of this run.
pub(crate) struct Register {
    folder: TempDir,
    model: ModelName,
    manifest: Manifest,
    count: AtomicU64,
}

impl Register {
    fn new(bench: &Bench) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let noise = (0_u64..)
            .flat_map(|block| Sha256Digest::of(&block.to_le_bytes()).to_string().into_bytes());
        let weights: Vec<u8> = noise.take(WEIGHTS).collect();
        let contents = [(files::WEIGHTS, &weights[..]), (files::SCHEMA, b"{}")];
        for (name, bytes) in contents {
            let path = folder.path().join(name);
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, bytes)?;
        }
        let manifest = Manifest::of_bytes(contents)?;
        let model = ModelName::new(format!("bench-{}", bench.unique))?;
        Ok(Self { folder, model, manifest, count: AtomicU64::new(0) })
    }

    async fn call(&self, at: &Addresses) -> Outcome {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut kinds = ModelRegistryKinds::new("registry");
        register_models(&mut kinds);
        let settings = json!({ "url": at.mlflow });
        let registry = kinds.build("mlflow", "models", &settings, &deps(""))?;
        let registration = Registration {
            model: self.model.clone(),
            key: Sha256Digest::of(format!("{}/{number}", self.model).as_bytes()),
            folder: self.folder.path().to_path_buf(),
            manifest: self.manifest.clone(),
            tags: [("origin".to_owned(), "bench".to_owned())].into(),
            staging_ready: true,
        };
        let version = registry.register(&registration).await?;
        if !version.is_staging_ready() {
            return Err("the version is not ready".into());
        }
        Ok(())
    }
}

/// Replaces one group.
pub(crate) struct Push {
    report: MonitoringReport,
    job: String,
}

fn series(report: &MonitoringReport) -> usize {
    families(report, CAP).iter().map(|family| family.samples.len()).sum()
}

impl Push {
    fn new(bench: &Bench) -> Outcome<Self> {
        let mut report = sample_report(MonitoringOutcome::Alert);
        let finding = report.findings.first().ok_or("a finding")?.clone();
        while series(&report) < SERIES {
            let check = format!("check_{}", report.findings.len());
            report.findings.push(Finding { check, ..finding.clone() });
        }
        Ok(Self { report, job: format!("bench-{}", bench.unique) })
    }

    async fn call(&self, at: &Addresses) -> Outcome {
        let mut kinds = ReporterRegistry::new("reporter");
        register_builtin(&mut kinds);
        let platform = deps("");
        let outbox = InMemoryLedger::new(Arc::clone(&platform.clock));
        let deps = ReporterDeps { platform, notifiers: vec![], outbox };
        let settings = json!({ "url": at.gateway, "job": self.job, "max_series": CAP });
        let reporter = kinds.build("prometheus_pushgateway", "metrics", &settings, &deps)?;
        Ok(reporter.report(&judged(self.report.clone())).await?)
    }
}

/// Submits a new job.
pub(crate) struct Submit {
    dag: String,
    user: (String, String),
    bucket: String,
    unique: String,
    count: AtomicU64,
}

impl Submit {
    fn new(bench: &Bench) -> Self {
        Self {
            dag: bench.dag.clone(),
            user: bench.user.clone(),
            bucket: bench.bucket.clone(),
            unique: bench.unique.clone(),
            count: AtomicU64::new(0),
        }
    }

    fn job(&self) -> mloop_core::job::JobSpec {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        samples::job(&format!("{}-{number}", self.unique))
    }

    async fn to_airflow(&self, at: &Addresses) -> Outcome {
        let mut kinds = SubmitterRegistry::new("submitter");
        register_submitters(&mut kinds);
        let settings = json!({"url": at.airflow, "dag_id": self.dag, "task_id": "train",
            "username": self.user.0, "password_env": "AIRFLOW_PASSWORD"});
        let submitter = kinds.build("airflow", "jobs", &settings, &deps(&self.user.1))?;
        // Airflow takes a while until it knows a new DAG: the first repetition is not measured.
        if self.count.load(Ordering::Relaxed) == 0 {
            until("the DAG is known", async || Ok(submitter.probe().await.ok())).await?;
        }
        submitter.submit_training_job(&self.job()).await?;
        Ok(())
    }

    async fn to_sagemaker(&self, at: &Addresses) -> Outcome {
        let settings = json!({
            "connection": connection(at),
            "role_arn": ROLE,
            "image": image(),
            "command": ["training_main"],
            "jobs": format!("s3://{}/jobs", self.bucket),
            "instance_type": "ml.m5.xlarge",
        });
        let submitter =
            mloop_sagemaker::testing::submitter(serde_json::from_value(settings)?, KEYS);
        submitter.submit_training_job(&self.job()).await?;
        Ok(())
    }
}

const ROLE: &str = "arn:aws:iam::123456789012:role/mloop";

fn image() -> String {
    format!("123456789012.dkr.ecr.us-east-1.amazonaws.com/mloop@sha256:{}", "5".repeat(64))
}

fn connection(at: &Addresses) -> Value {
    json!({"region": REGION, "endpoint_url": at.simulator, "s3_endpoint_url": at.s3})
}

/// Brings a new version to staging and to production.
pub(crate) struct Deploy {
    /// Written beforehand: a deployment starts with files that are there.
    candidates: Vec<Candidate>,
    bucket: String,
    count: AtomicUsize,
    _folder: TempDir,
}

impl Deploy {
    fn new(bench: &Bench) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let candidates = (0..REPEATS).map(|number| candidate(folder.path(), number));
        let candidates = candidates.collect::<Outcome<Vec<_>>>()?;
        let count = AtomicUsize::new(0);
        Ok(Self { candidates, bucket: bench.bucket.clone(), count, _folder: folder })
    }

    async fn call(&self, at: &Addresses) -> Outcome {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let before = number.checked_sub(1).and_then(|before| self.candidates.get(before));
        let current = before.map(|candidate| candidate.version.version.digest);
        let candidate = self.candidates.get(number).ok_or("no version is left")?;
        let Candidate { version, folder } = candidate.clone();
        let settings = json!({
            "connection": connection(at),
            "role_arn": ROLE,
            "image": image(),
            "artifacts": format!("s3://{}/models", self.bucket),
            "production": {"instance_type": "ml.m5.large"},
        });
        let platform = mloop_sagemaker::testing::endpoints(serde_json::from_value(settings)?, KEYS);
        let digest = version.version.digest;
        let endpoint = EndpointName::new(format!("staging-{number}"))?;
        let (shared, files) = (version.clone(), folder.clone());
        let request = DeployRequest {
            endpoint: endpoint.clone(),
            version: shared,
            folder: files,
            permission: Arc::new(Always),
        };
        platform.deployer.deploy_model(&request).await?;
        serves(&platform, &endpoint, digest).await?;
        let endpoint = EndpointName::new("production")?;
        let (endpoint_of, permission) = (endpoint.clone(), Arc::new(Always));
        let request = SwitchRequest { endpoint: endpoint_of, version, folder, current, permission };
        platform.deployer.switch_to_production(&request).await?;
        serves(&platform, &endpoint, digest).await
    }
}

fn candidate(folder: &Path, number: u32) -> Outcome<Candidate> {
    let folder = folder.join(number.to_string());
    let digest = write_tiny_version(&folder, number)?;
    let mut version = sample_version(u64::from(number) + 1, "replaced");
    version.version.digest = digest;
    Ok(Candidate { version, folder })
}

/// Waits until an endpoint has this version and answers with it.
async fn serves(platform: &Endpoints, endpoint: &EndpointName, digest: Sha256Digest) -> Outcome {
    until("the endpoint has the version", async || {
        let found = platform.deployer.describe(endpoint).await?;
        let settled = found.is_some_and(|found| {
            found.state == EndpointState::InService
                && found.pending.is_none()
                && found.configured == Some(digest)
        });
        Ok(settled.then_some(()))
    })
    .await?;
    let content_type = "application/json".to_owned();
    let body = tiny_image(3).into_bytes();
    let request = Invocation { content_type, body, ..Invocation::default() };
    let answer = platform.client.invoke(endpoint, &request).await?;
    if (answer.status, answer.digest) != (200, Some(digest)) {
        return Err(format!("{endpoint} answered {} as {:?}", answer.status, answer.digest).into());
    }
    Ok(())
}
