//! Logged models: the places of the files.

use mloop_platform::PlatformError;
use serde_json::json;

use crate::answers::{LoggedFound, LoggedInfo, LoggedMade};
use crate::api::Operation;
use crate::artifacts::Place;
use crate::registry::Inputs;
use crate::tags;

/// `status` of a logged model whose files are complete.
const READY: &str = "LOGGED_MODEL_READY";

/// A logged model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) created_ms: i64,
    /// The run that it is an output of.
    pub(crate) run: String,
    pub(crate) is_ready: bool,
    /// Whether this very registration made it, so that nothing can be in its place yet.
    pub(crate) is_new: bool,
}

impl Logged {
    /// How a model version names it as its source.
    pub(crate) fn source(&self) -> String {
        format!("models:/{}", self.id)
    }
}

impl Operation<'_> {
    /// The logged model of these inputs: the one that is there, else a new one.
    pub(crate) async fn logged(
        &self,
        experiment: &str,
        inputs: &Inputs,
        run: &str,
    ) -> Result<Logged, PlatformError> {
        if let Some(logged) = self.find_logged(experiment, inputs).await? {
            return Ok(logged);
        }
        let made = self.create_logged(experiment, inputs, run).await;
        if made.as_ref().is_err_and(|error| !error.is_transient()) {
            return made;
        }
        let found = self.find_logged(experiment, inputs).await?;
        match (found, made) {
            (Some(logged), Ok(made)) if made.id != logged.id => {
                self.mark_logged(&made.id, &logged.id).await?;
                Ok(logged)
            }
            (Some(logged), Ok(_)) => Ok(Logged { is_new: true, ..logged }),
            (Some(logged), Err(_)) => Ok(logged),
            (None, made) => made,
        }
    }

    async fn create_logged(
        &self,
        experiment: &str,
        inputs: &Inputs,
        run: &str,
    ) -> Result<Logged, PlatformError> {
        let body = json!({
            "experiment_id": experiment,
            "name": self.model,
            "model_type": "mloop",
            "source_run_id": run,
            "tags": inputs.tags(None),
        });
        let made: LoggedMade = self.done(&self.post("logged-models", &body)).await?;
        self.logged_of(made.model.info)
    }

    async fn find_logged(
        &self,
        experiment: &str,
        inputs: &Inputs,
    ) -> Result<Option<Logged>, PlatformError> {
        let body = json!({
            "experiment_ids": [experiment],
            "filter": inputs.filter(),
            "order_by": [{ "field_name": "creation_timestamp", "ascending": true }],
            "max_results": 50,
        });
        let request = self.post("logged-models/search", &body).repeatable();
        let found: LoggedFound = self.done(&request).await?;
        let age = |info: &LoggedInfo| (info.creation_timestamp_ms, info.model_id.clone());
        let first = found.models.into_iter().map(|model| model.info).min_by_key(age);
        first.map(|info| self.logged_of(info)).transpose()
    }

    fn logged_of(&self, info: LoggedInfo) -> Result<Logged, PlatformError> {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if info.model_id.is_empty() || !info.model_id.chars().all(sound) {
            return Err(self.conflict("the server told an id of a logged model that is none"));
        }
        let place = Place::parse(&info.artifact_uri)
            .map_err(|problem| PlatformError::invalid(&self.doing, problem))?;
        Ok(Logged {
            id: info.model_id,
            place,
            created_ms: info.creation_timestamp_ms,
            run: info.source_run_id,
            is_ready: info.status == READY,
            is_new: false,
        })
    }

    /// Says that all files are there.
    pub(crate) async fn finish_logged(&self, logged: &Logged) -> Result<(), PlatformError> {
        if logged.is_ready {
            return Ok(());
        }
        let body = json!({ "model_id": logged.id, "status": READY });
        self.written(&self.patch(&format!("logged-models/{}", logged.id), &body)).await
    }

    /// Marks one that lost a race.
    pub(crate) async fn mark_logged(&self, id: &str, winner: &str) -> Result<(), PlatformError> {
        let tag = json!({ "key": tags::DUPLICATE_OF, "value": winner });
        let body = json!({ "model_id": id, "tags": [tag] });
        self.written(&self.patch(&format!("logged-models/{id}/tags"), &body)).await
    }
}
