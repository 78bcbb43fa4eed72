//! Experiments and runs: what the training was, for people to look at and compare.

use chrono::{DateTime, Utc};
use mloop_platform::PlatformError;
use serde_json::{Value, json};

use crate::answers::{ExperimentFound, ExperimentId, RunAnswer, RunMade, RunsFound};
use crate::api::{Code, Operation};
use crate::history::History;
use crate::registry::Inputs;
use crate::tags;

/// A run of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: String,
    /// The moment that all its metrics get, so that logging them again changes nothing.
    started_ms: i64,
    /// Ids of the logged models among its outputs.
    models: Vec<String>,
}

impl From<RunAnswer> for Run {
    fn from(answer: RunAnswer) -> Self {
        let models = answer.outputs.model_outputs.into_iter().map(|output| output.model_id);
        Self {
            id: answer.info.run_id,
            started_ms: answer.info.start_time,
            models: models.collect(),
        }
    }
}

impl Operation<'_> {
    /// The id of an experiment, which is made if need be.
    pub(crate) async fn experiment(&self, name: &str) -> Result<String, PlatformError> {
        if let Some(id) = self.find_experiment(name).await? {
            return Ok(id);
        }
        // Names are unique: of two that are made at once, one is told that it exists.
        let request = self.post("experiments/create", &json!({ "name": name })).repeatable();
        match self.asked::<ExperimentId>(&request).await? {
            Ok(made) => Ok(made.experiment_id),
            Err(refusal) if refusal.code == Code::Exists => {
                self.find_experiment(name).await?.ok_or(refusal.error)
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    async fn find_experiment(&self, name: &str) -> Result<Option<String>, PlatformError> {
        let request = self.get("experiments/get-by-name").query("experiment_name", name);
        let found = match self.asked::<ExperimentFound>(&request).await? {
            Ok(found) => found.experiment,
            Err(refusal) if refusal.code == Code::Missing => return Ok(None),
            Err(refusal) => return Err(refusal.error),
        };
        if found.lifecycle_stage == "deleted" {
            let problem = format!(
                "the experiment `{name}` was deleted on the server: restore it there, or name another \
                 one by `experiment`"
            );
            return Err(PlatformError::invalid(&self.doing, problem));
        }
        Ok(Some(found.experiment_id))
    }

    /// The run of these inputs: the one that is there, else a new one.
    pub(crate) async fn run(
        &self,
        experiment: &str,
        inputs: &Inputs,
        now: DateTime<Utc>,
    ) -> Result<Run, PlatformError> {
        if let Some(run) = self.find_run(experiment, inputs).await? {
            return Ok(run);
        }
        let made = self.create_run(experiment, inputs, now).await;
        if made.as_ref().is_err_and(|error| !error.is_transient()) {
            return made;
        }
        // Also after a lost answer: the run may be there.
        let found = self.find_run(experiment, inputs).await?;
        match (found, made) {
            (Some(run), Ok(made)) if made.id != run.id => {
                self.mark_run(&made.id, &run.id, now).await?;
                Ok(run)
            }
            (Some(run), _) => Ok(run),
            (None, made) => made,
        }
    }

    async fn create_run(
        &self,
        experiment: &str,
        inputs: &Inputs,
        now: DateTime<Utc>,
    ) -> Result<Run, PlatformError> {
        let mut all = inputs.tags(None);
        for (key, value) in [("mlflow.source.name", "mloop"), ("mlflow.source.type", "JOB")] {
            all.push(json!({ "key": key, "value": value }));
        }
        let body = json!({
            "experiment_id": experiment,
            "run_name": format!("{}-{}", self.model, inputs.key.short(12)),
            "start_time": now.timestamp_millis(),
            "tags": all,
        });
        let made: RunMade = self.done(&self.post("runs/create", &body)).await?;
        Ok(made.run.into())
    }

    async fn find_run(
        &self,
        experiment: &str,
        inputs: &Inputs,
    ) -> Result<Option<Run>, PlatformError> {
        let body = json!({
            "experiment_ids": [experiment],
            "filter": inputs.filter(),
            "order_by": ["attributes.start_time ASC"],
            "max_results": 100,
        });
        let request = self.post("runs/search", &body).repeatable();
        let found: RunsFound = self.done(&request).await?;
        let runs = found.runs.into_iter().map(Run::from);
        Ok(runs.min_by(|a, b| (a.started_ms, &a.id).cmp(&(b.started_ms, &b.id))))
    }

    /// Marks a run that lost a race, so that people do not take it for one that goes on.
    async fn mark_run(
        &self,
        id: &str,
        winner: &str,
        now: DateTime<Utc>,
    ) -> Result<(), PlatformError> {
        let tag = json!({ "run_id": id, "key": tags::DUPLICATE_OF, "value": winner });
        self.written(&self.post("runs/set-tag", &tag)).await?;
        self.end_run(id, "KILLED", now).await
    }

    /// Logs parameters, metrics and data sets; again without an effect.
    pub(crate) async fn log(&self, run: &Run, history: &History) -> Result<(), PlatformError> {
        for mut batch in history.batches(run.started_ms) {
            batch["run_id"] = json!(run.id);
            self.written(&self.post("runs/log-batch", &batch)).await?;
        }
        let datasets = history.datasets();
        if datasets.is_empty() {
            return Ok(());
        }
        let body = json!({ "run_id": run.id, "datasets": datasets });
        self.written(&self.post("runs/log-inputs", &body)).await
    }

    /// Names a logged model as an output of a run, which the server does only once.
    pub(crate) async fn link(&self, run: &Run, model: &str) -> Result<(), PlatformError> {
        let linked = |run: &Run| run.models.iter().any(|known| known == model);
        if linked(run) {
            return Ok(());
        }
        let body = json!({ "run_id": run.id, "models": [{ "model_id": model, "step": 0 }] });
        let refused = match self.asked::<Value>(&self.post("runs/outputs", &body)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(refusal)) => refusal.error,
            Err(error) => error,
        };
        // A second time is refused with the server's own trouble with its database.
        let now: RunMade = self.done(&self.get("runs/get").query("run_id", &run.id)).await?;
        if linked(&now.run.into()) { Ok(()) } else { Err(refused) }
    }

    pub(crate) async fn end_run(
        &self,
        id: &str,
        status: &str,
        now: DateTime<Utc>,
    ) -> Result<(), PlatformError> {
        let end = now.timestamp_millis();
        let body = json!({ "run_id": id, "status": status, "end_time": end });
        self.written(&self.post("runs/update", &body)).await
    }
}
