//! Training: a job file in, a version in the registry out. Needs no ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mloop_core::evaluation::GateVerdict;
use mloop_core::failpoint::reach;
use mloop_core::job::JobSpec;
use mloop_core::version::{aliases, files, tags};
use mloop_core::{JobId, ModelVersion, Sha256Digest};
use mloop_platform::files::{Claim, claim};
use mloop_platform::{
    LabelledRow, LabelledTraffic, ModelRegistry, ProfileBuilder, TrafficLimit, TrafficSource,
};
use mloop_trainer::{Progress, StopFlag, Trained, Training, TrainingRequest};

use crate::assembling::{Assembly, MODEL_FILES, Parts};
use crate::evaluation::{Evaluation, EvaluationOrchestrator, EvaluationRequest, Rival};
use crate::gate::GateConfig;
use crate::reference::{fetched, read_json, remove_unlisted};
use crate::split::{Split, newest, split};
use crate::training_result::{TrafficUse, TrainingResult};
use crate::{OrchestratorError, points};

/// Folder, in that of a job, of the version's files until it is registered.
const VERSION: &str = "version";

/// What training speaks to.
pub struct TrainingDeps {
    /// Labelled production traffic; none where there is no production yet.
    pub traffic: Option<Arc<dyn TrafficSource>>,
    /// Trains and evaluates.
    pub training: Training,
    /// Holds the version in production, and takes the new one.
    pub registry: Arc<dyn ModelRegistry>,
    /// Makes the reference profile.
    pub builder: Arc<dyn ProfileBuilder>,
    /// Told how far the training has come.
    pub progress: Arc<dyn Progress>,
}

/// What training is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingConfig {
    /// Folder of the jobs' folders, each named by its job id: checkpoints, the champion's files and
    /// those of the version until it is registered, then removed. A repeat must find it again to go
    /// on where a killed run ended.
    pub work: PathBuf,
    /// Share of the labelled traffic that is held out, 0 to 1; see [`crate::split`].
    pub fresh_share: f64,
    /// How much labelled traffic is read at most, the newest.
    pub traffic_limit: TrafficLimit,
    /// Golden cases that go with the version.
    pub golden_cases: usize,
    /// Whether the reference gets new bins instead of those of the version before.
    pub rebin: bool,
    /// Bound of the latency objective, µs.
    pub latency_objective_micros: Option<u64>,
    /// What the gate asks.
    pub gate: GateConfig,
}

impl TrainingConfig {
    /// The folder of a job.
    #[must_use]
    pub fn folder_of(&self, job: &JobId) -> PathBuf {
        self.work.join(job.as_str())
    }

    /// Claims a job's folder, as [`CVTrainingOrchestrator::run`] does, for whoever writes into it before.
    ///
    /// # Errors
    /// [`OrchestratorError::Busy`] while another process holds it; when the disk failed.
    pub fn claim(&self, job: &JobId) -> Result<Claim, OrchestratorError> {
        let folder = self.folder_of(job);
        let claimed = claim(&folder).map_err(OrchestratorError::io("claiming", &folder))?;
        claimed.ok_or_else(|| OrchestratorError::Busy {
            doing: format!("training {job}"),
            folder: folder.display().to_string(),
        })
    }
}

/// So many times the rows that the gate needs are asked for, since how many are held out is chance.
const ROOM: f64 = 1.25;

/// Trains, evaluates and registers versions of an image classifier.
pub struct CVTrainingOrchestrator {
    deps: TrainingDeps,
    config: TrainingConfig,
}

impl CVTrainingOrchestrator {
    /// Puts the parts together; calls nobody.
    #[must_use]
    pub fn new(deps: TrainingDeps, config: TrainingConfig) -> Self {
        Self { deps, config }
    }

    /// Does a job: a version with the gate's verdict stands in the registry afterwards, ready for
    /// staging only if it was blessed. Killed anywhere, a repeat goes on; done once, a repeat
    /// gives the same version, whatever became of data and champion since. A second run of the job beside
    /// the first touches nothing.
    ///
    /// # Errors
    /// When data, registry or disk failed; [`TrainError::Stopped`](mloop_trainer::TrainError) or
    /// [`OrchestratorError::Stopped`] after a stop, the state saved; [`OrchestratorError::Busy`].
    pub async fn run(
        &self,
        job: &JobSpec,
        stop: &StopFlag,
    ) -> Result<TrainingResult, OrchestratorError> {
        let work = self.config.folder_of(&job.job_id);
        let _claim = self.config.claim(&job.job_id)?;
        let result = self.under(&work, job, stop).await?;
        clear(&work);
        Ok(result)
    }

    /// Does the job in a folder of its own.
    async fn under(
        &self,
        work: &Path,
        job: &JobSpec,
        stop: &StopFlag,
    ) -> Result<TrainingResult, OrchestratorError> {
        let versions = self.deps.registry.versions(&job.subject.model).await?;
        if let Some(known) = complete(&versions, tags::JOB_ID, job.job_id.as_str()) {
            tracing::info!(version = %known.version, "the job left its version before");
            return self.adopt(work, job, known, None).await;
        }
        let traffic = self.traffic(job).await?;
        let mut used = TrafficUse {
            unlabelled: traffic.unlabelled,
            quarantined: traffic.quarantined,
            over_limit: traffic.over_limit,
            ..TrafficUse::default()
        };
        let read = traffic.rows.len();
        let asked = job.evidence_from.map(|from| (from, job.as_of));
        let rows = newest(traffic.rows, asked, self.enough());
        used.older = read - rows.len();
        let Split { fresh, training } = split(rows, self.config.fresh_share);
        (used.training, used.fresh) = (training.len(), fresh.len());
        let champion = self.champion(work, job, &versions).await?;
        let request = TrainingRequest {
            traffic: training.into(),
            work: work.join("training"),
            stop: stop.clone(),
            progress: Arc::clone(&self.deps.progress),
        };
        let ids: Vec<&str> = fresh.iter().map(|row| row.id.as_str()).collect();
        let trained_from = self.deps.training.trainer.key(&request).await?;
        let key = self.key(job, trained_from, champion.as_ref(), &ids)?;
        reach(points::TRAINING_PLANNED);
        if let Some(known) = complete(&versions, tags::KEY, &key.to_string()) {
            tracing::info!(version = %known.version, "made from the same inputs before");
            return self.adopt(work, job, known, Some(used)).await;
        }
        check_stop(stop, "preparing the training")?;
        let trained = self.deps.training.trainer.train(&request).await?;
        reach(points::TRAINING_TRAINED);
        check_stop(stop, "evaluating the new version")?;
        let rival = champion.clone();
        let evaluation = self.evaluate(&trained.folder, rival, fresh.into()).await?;
        reach(points::TRAINING_EVALUATED);
        let report = evaluation.report.clone();
        let Trained { folder: model, images } = trained;
        let parts = Parts { job, key, model, champion, evaluation };
        let assembly = Assembly { deps: &self.deps, config: &self.config };
        let registration = assembly.assemble(&work.join(VERSION), parts).await?;
        reach(points::TRAINING_ASSEMBLED);
        let version = self.deps.registry.register(&registration).await?;
        reach(points::TRAINING_REGISTERED);
        self.wait_for_deployment(&version).await?;
        let result = TrainingResult::of(job, &version, report);
        Ok(TrainingResult { images: Some(images), traffic: Some(used), ..result })
    }

    /// Makes `challenger` name a version that may be deployed, unless it or a newer one serves or
    /// waits already.
    async fn wait_for_deployment(&self, version: &ModelVersion) -> Result<(), OrchestratorError> {
        let (registry, model) = (&self.deps.registry, &version.model);
        if !version.is_staging_ready() {
            return Ok(());
        }
        for alias in [aliases::CHAMPION, aliases::CHALLENGER] {
            let named = registry.alias(model, alias).await?;
            if named.is_some_and(|named| named.number >= version.version.number) {
                return Ok(());
            }
        }
        Ok(registry.set_alias(model, aliases::CHALLENGER, &version.version).await?)
    }

    /// The result of a version that was there already.
    async fn adopt(
        &self,
        work: &Path,
        job: &JobSpec,
        known: &ModelVersion,
        used: Option<TrafficUse>,
    ) -> Result<TrainingResult, OrchestratorError> {
        let folder = self.fetch(work, known, &[files::EVALUATION]).await?;
        let evaluation = read_json(&folder.join(files::EVALUATION))?;
        if work.join(VERSION).is_dir() {
            // What is left of a run that was killed between the registration and its end. A job that
            // came to its end is done: its version may have been deployed since, and taken back.
            self.wait_for_deployment(known).await?;
        }
        let result = TrainingResult::of(job, known, evaluation);
        Ok(TrainingResult { adopted: true, traffic: used, ..result })
    }

    async fn traffic(&self, job: &JobSpec) -> Result<LabelledTraffic, OrchestratorError> {
        match (&self.deps.traffic, &job.traffic) {
            (_, None) => Ok(LabelledTraffic::default()),
            (Some(source), Some(window)) => {
                Ok(source.labelled(window, job.as_of, self.config.traffic_limit).await?)
            }
            (None, Some(window)) => Err(OrchestratorError::invalid(
                format!("reading the labelled traffic of {window}"),
                "the job asks for it, but the configuration names no traffic source; add one",
            )),
        }
    }

    /// Rows of labelled traffic of which enough are held out for the gate.
    fn enough(&self) -> usize {
        let TrainingConfig { fresh_share, gate, .. } = &self.config;
        if *fresh_share > 0.0 {
            (ROOM * gate.min_rows as f64 / fresh_share).ceil() as usize
        } else {
            0
        }
    }

    /// The version to beat, its files fetched now: that of the job, else the registry's champion.
    async fn champion(
        &self,
        work: &Path,
        job: &JobSpec,
        versions: &[ModelVersion],
    ) -> Result<Option<Rival>, OrchestratorError> {
        let model = &job.subject.model;
        let named = match job.champion {
            Some(version) => Some(version),
            None => self.deps.registry.alias(model, aliases::CHAMPION).await?,
        };
        let Some(wanted) = named else { return Ok(None) };
        let found = versions.iter().find(|version| version.version == wanted);
        let version = found.ok_or_else(|| {
            let doing = format!("fetching the version in production, {wanted} of `{model}`");
            let problem = "the registry does not have it; restore it, or correct the job file";
            OrchestratorError::needs_person(doing, problem)
        })?;
        let wanted = [MODEL_FILES[0], MODEL_FILES[1], files::SCHEMA, files::REFERENCE];
        let folder = self.fetch(work, version, &wanted).await?;
        remove_unlisted(&folder)?;
        Ok(Some(Rival { version: version.version, folder }))
    }

    async fn fetch(
        &self,
        work: &Path,
        version: &ModelVersion,
        wanted: &[&str],
    ) -> Result<PathBuf, OrchestratorError> {
        fetched(self.deps.registry.as_ref(), version, work, Some(wanted)).await
    }

    /// Digest of everything that the version's files depend on.
    fn key(
        &self,
        job: &JobSpec,
        trained_from: Sha256Digest,
        champion: Option<&Rival>,
        fresh: &[&str],
    ) -> Result<Sha256Digest, OrchestratorError> {
        let config = &self.config;
        let inputs = serde_json::json!({
            "subject": job.subject,
            "trained_from": trained_from,
            "champion": champion.map(|rival| rival.version),
            "fresh": fresh,
            "as_of": job.as_of,
            "gate": config.gate,
            "golden_cases": config.golden_cases,
            "rebin": config.rebin,
            "latency_objective_micros": config.latency_objective_micros,
        });
        Sha256Digest::of_json(&inputs).map_err(OrchestratorError::damaged("the job's inputs"))
    }

    async fn evaluate(
        &self,
        model: &Path,
        champion: Option<Rival>,
        fresh: Arc<[LabelledRow]>,
    ) -> Result<Evaluation, OrchestratorError> {
        let evaluator = Arc::clone(&self.deps.training.evaluator);
        let request = EvaluationRequest { challenger: model.to_owned(), champion, fresh };
        EvaluationOrchestrator::new(evaluator, self.config.gate).evaluate(&request).await
    }
}

fn check_stop(stop: &StopFlag, doing: &str) -> Result<(), OrchestratorError> {
    if stop.is_raised() {
        return Err(OrchestratorError::Stopped { doing: doing.to_owned() });
    }
    Ok(())
}

/// Removes the folder of a job whose version is registered: nothing reads it again.
fn clear(folder: &Path) {
    let removed = std::fs::remove_dir_all(folder);
    if let Err(error) = removed.or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }) {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "the job is done, but its folder stays; remove it");
    }
}

/// A version with this tag that needs nothing more: one that was blessed must also be ready, else
/// a registration was killed before its last step and is to be repeated.
fn complete<'a>(versions: &'a [ModelVersion], name: &str, value: &str) -> Option<&'a ModelVersion> {
    versions.iter().find(|version| {
        let tag = |name| version.tags.get(name).map(String::as_str);
        let blessed = tag(tags::VERDICT) == Some(GateVerdict::Blessed.as_str());
        tag(name) == Some(value) && (!blessed || version.is_staging_ready())
    })
}
