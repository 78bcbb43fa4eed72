//! What the server answers, as far as it is used. Absent keys are empty: an empty search is `{}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// A tag.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Tag {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
}

/// Tags as a map.
pub(crate) fn map(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

/// `experiments/create`.
#[derive(Debug, Deserialize)]
pub(crate) struct ExperimentId {
    pub(crate) experiment_id: String,
}

/// `experiments/get-by-name`.
#[derive(Debug, Deserialize)]
pub(crate) struct ExperimentFound {
    pub(crate) experiment: Experiment,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Experiment {
    pub(crate) experiment_id: String,
    #[serde(default)]
    pub(crate) lifecycle_stage: String,
}

/// `runs/create` and `runs/get`.
#[derive(Debug, Deserialize)]
pub(crate) struct RunMade {
    pub(crate) run: RunAnswer,
}

/// `runs/search`.
#[derive(Debug, Deserialize)]
pub(crate) struct RunsFound {
    #[serde(default)]
    pub(crate) runs: Vec<RunAnswer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunAnswer {
    pub(crate) info: RunInfo,
    #[serde(default)]
    pub(crate) outputs: RunOutputs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RunInfo {
    pub(crate) run_id: String,
    #[serde(deserialize_with = "number")]
    pub(crate) start_time: i64,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct RunOutputs {
    #[serde(default)]
    pub(crate) model_outputs: Vec<ModelOutput>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ModelOutput {
    pub(crate) model_id: String,
}

/// `logged-models`.
#[derive(Debug, Deserialize)]
pub(crate) struct LoggedMade {
    pub(crate) model: LoggedAnswer,
}

/// `logged-models/search`.
#[derive(Debug, Deserialize)]
pub(crate) struct LoggedFound {
    #[serde(default)]
    pub(crate) models: Vec<LoggedAnswer>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LoggedAnswer {
    pub(crate) info: LoggedInfo,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LoggedInfo {
    pub(crate) model_id: String,
    pub(crate) artifact_uri: String,
    #[serde(deserialize_with = "number")]
    pub(crate) creation_timestamp_ms: i64,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) source_run_id: String,
}

/// `model-versions/create` and others that tell of one version.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionAnswer {
    pub(crate) model_version: VersionInfo,
}

/// `model-versions/search`.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionsFound {
    #[serde(default)]
    pub(crate) model_versions: Vec<VersionInfo>,
    #[serde(default)]
    pub(crate) next_page_token: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VersionInfo {
    pub(crate) name: String,
    /// A text on the wire.
    #[serde(deserialize_with = "number")]
    pub(crate) version: i64,
    #[serde(deserialize_with = "number")]
    pub(crate) creation_timestamp: i64,
    #[serde(default)]
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) tags: Vec<Tag>,
    /// Only told of a single version, not by a search.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
}

/// `model-versions/get-download-uri`.
#[derive(Debug, Deserialize)]
pub(crate) struct DownloadUri {
    #[serde(default)]
    pub(crate) artifact_uri: String,
}

/// An integer that comes as a number or as a text of digits.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_search_is_an_empty_object() {
        let none = serde_json::from_value::<VersionsFound>(json!({})).expect("an answer");
        assert!(none.model_versions.is_empty() && none.next_page_token.is_empty());
        assert!(serde_json::from_value::<RunsFound>(json!({})).expect("one").runs.is_empty());
        assert!(serde_json::from_value::<LoggedFound>(json!({})).expect("one").models.is_empty());
    }

    #[test]
    fn numbers_come_as_numbers_and_as_texts() {
        for version in [json!("7"), json!(7)] {
            let value = json!({"name": "m", "version": version, "creation_timestamp": "12"});
            let version = serde_json::from_value::<VersionInfo>(value).expect("a version");
            assert_eq!((version.version, version.creation_timestamp), (7, 12));
        }
        for version in [json!("seven"), json!(null), json!(7.5), json!("99999999999999999999")] {
            let value = json!({"name": "m", "version": version, "creation_timestamp": 1});
            assert!(serde_json::from_value::<VersionInfo>(value).is_err());
        }
    }

    #[test]
    fn a_run_with_numbers_that_are_none_is_read() {
        let value = json!({"runs": [{
            "info": {"run_id": "r", "start_time": 5},
            "data": {"metrics": [{"key": "loss", "value": "NaN", "timestamp": 1, "step": 1}]},
            "inputs": {},
            "outputs": {"model_outputs": [{"model_id": "m-1", "step": 0}]},
        }]});
        let found = serde_json::from_value::<RunsFound>(value).expect("an answer");
        assert_eq!(found.runs[0].outputs.model_outputs[0].model_id, "m-1");
    }
}
