//! Model versions and aliases.

use std::collections::BTreeMap;

use chrono::DateTime;
use mloop_core::version::tags::KEY;
use mloop_core::{ModelVersion, Sha256Digest, VersionRef};
use mloop_http::Request;
use mloop_platform::PlatformError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answers::{DownloadUri, VersionAnswer, VersionInfo, VersionsFound, map};
use crate::api::{Code, Operation, Refusal};
use crate::artifacts::Place;
use crate::logged::Logged;
use crate::registry::Inputs;
use crate::tags;

/// Versions of one page; an answer stays far below what the client takes.
const PAGE: &str = "200";

/// Most pages, so that a server that always has one more cannot keep a run for ever.
const MAX_PAGES: usize = 500;

/// Versions of a model, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// Those that count, newest first; one for each key.
    pub(crate) versions: Vec<ModelVersion>,
    /// Those that lost a race and are not marked yet, each with the number that won.
    pub(crate) unmarked: Vec<(u64, u64)>,
}

impl Operation<'_> {
    /// Versions of the model: all of them, or those of one key.
    pub(crate) async fn versions(
        &self,
        key: Option<&Sha256Digest>,
    ) -> Result<Sorted, PlatformError> {
        let mut filter = format!("name='{}'", self.model);
        if let Some(key) = key {
            filter.push_str(&format!(" and tags.`{KEY}` = '{key}'"));
        }
        let mut token = String::new();
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut request = self
                .get("model-versions/search")
                .query("filter", &filter)
                .query("order_by", "version_number DESC")
                .query("max_results", PAGE);
            if !token.is_empty() {
                request = request.query("page_token", &token);
            }
            let page: VersionsFound = self.done(&request).await?;
            found.extend(page.model_versions);
            token = page.next_page_token;
            if token.is_empty() {
                return Ok(self.sorted(found));
            }
        }
        Err(self.conflict(format!("the server tells of more than {MAX_PAGES} pages of versions")))
    }

    fn sorted(&self, found: Vec<VersionInfo>) -> Sorted {
        let ours = found.into_iter().filter_map(|info| self.ours(info));
        sorted(ours.map(|version| (version.version.number, version)).collect())
    }

    /// A version that mloop registered; others have no place in the loop.
    fn ours(&self, info: VersionInfo) -> Option<ModelVersion> {
        let tags = map(info.tags);
        let is_ours = tags.contains_key(KEY) && tags.contains_key(tags::DIGEST);
        let version = || {
            let digest = tags.get(tags::DIGEST)?.parse().ok()?;
            let number = u64::try_from(info.version).ok()?;
            let created_at = DateTime::from_timestamp_millis(info.creation_timestamp)?;
            let version = VersionRef { number, digest };
            let (model, source) = (self.model.clone(), info.source.clone());
            let sound = info.name == self.model.as_str() && info.status == "READY";
            sound.then(|| ModelVersion { model, version, created_at, source, tags: tags.clone() })
        };
        let version = version().filter(|_| is_ours);
        if is_ours && version.is_none() {
            tracing::warn!(
                model = %self.model, number = info.version, status = info.status,
                "a version of mloop's on the MLflow server is left out: it is not ready, or its tags \
                 were changed"
            );
        }
        version
    }

    /// Makes a version of the files of a logged model.
    pub(crate) async fn create_version(
        &self,
        inputs: &Inputs,
        logged: &Logged,
    ) -> Result<(), PlatformError> {
        let body = json!({
            "name": self.model,
            "source": logged.source(),
            "run_id": logged.run,
            "model_id": logged.id,
            "tags": inputs.tags(Some(inputs.gate_passed)),
        });
        let request = self.post("model-versions/create", &body);
        match self.asked_of_model::<VersionAnswer>(&request).await? {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.code != Code::Missing => return Err(refusal.error),
            Err(_) => {}
        }
        // The first version of the model: the model comes first. Nothing was made, so this call may
        // be sent again.
        let model = self.post("registered-models/create", &json!({ "name": self.model }));
        match self.asked::<Value>(&model.repeatable()).await? {
            Err(refusal) if refusal.code != Code::Exists => return Err(refusal.error),
            _ => {}
        }
        self.done::<VersionAnswer>(&request).await.map(drop)
    }

    /// Sends a request about the model. Where users have rights, a server refuses everything about a
    /// model that it does not know; that is told as missing.
    async fn asked_of_model<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<Result<T, Refusal>, PlatformError> {
        let denied = match self.asked(request).await {
            Err(denied @ PlatformError::Denied { .. }) => denied,
            other => return other,
        };
        let model = self.get("registered-models/get").query("name", self.model.as_str());
        match self.asked::<Value>(&model).await? {
            Err(refusal) if refusal.code == Code::Missing => {
                Ok(Err(Refusal { code: Code::Missing, error: denied }))
            }
            _ => Err(denied),
        }
    }

    pub(crate) async fn tag_version(
        &self,
        number: u64,
        key: &str,
        value: &str,
    ) -> Result<(), PlatformError> {
        let version = number.to_string();
        let body = json!({ "name": self.model, "version": version, "key": key, "value": value });
        self.written(&self.post("model-versions/set-tag", &body)).await
    }

    /// Where the files of a version are.
    pub(crate) async fn place_of(&self, version: &VersionRef) -> Result<Place, PlatformError> {
        let number = version.number.to_string();
        let request = self.get("model-versions/get-download-uri");
        let request = request.query("name", self.model.as_str()).query("version", &number);
        match self.asked_of_model::<DownloadUri>(&request).await? {
            Ok(found) => {
                Place::parse(&found.artifact_uri).map_err(|problem| self.conflict(problem))
            }
            Err(refusal) if refusal.code == Code::Missing => {
                Err(self.conflict("the server has no such version, or its files were deleted"))
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    /// The version that an alias names, as the server tells of it.
    pub(crate) async fn aliased(&self, alias: &str) -> Result<Option<VersionRef>, PlatformError> {
        let request = self.get("registered-models/alias");
        let request = request.query("name", self.model.as_str()).query("alias", alias);
        let info = match self.asked_of_model::<VersionAnswer>(&request).await? {
            Ok(found) => found.model_version,
            // An alias that names nothing is called an invalid value.
            Err(refusal) if matches!(refusal.code, Code::Missing | Code::InvalidValue) => {
                return Ok(None);
            }
            Err(refusal) => return Err(refusal.error),
        };
        let number = info.version;
        let version = self.ours(info).ok_or_else(|| {
            let problem = format!(
                "the alias names version {number}, which mloop did not register: move it to a version \
                 of mloop's, or delete it"
            );
            self.conflict(problem)
        })?;
        Ok(Some(version.version))
    }

    pub(crate) async fn set_alias(
        &self,
        alias: &str,
        version: &VersionRef,
    ) -> Result<(), PlatformError> {
        let number = version.number.to_string();
        let missing =
            || PlatformError::invalid(&self.doing, format!("there is no version {version}"));
        let request = self.get("model-versions/get");
        let request = request.query("name", self.model.as_str()).query("version", &number);
        let info = match self.asked_of_model::<VersionAnswer>(&request).await? {
            Ok(found) => found.model_version,
            Err(refusal) if refusal.code == Code::Missing => return Err(missing()),
            Err(refusal) => return Err(refusal.error),
        };
        let is_set = info.aliases.iter().any(|known| known == alias);
        if self.ours(info).is_none_or(|known| known.version != *version) {
            return Err(missing());
        }
        if is_set {
            return Ok(());
        }
        let body = json!({ "name": self.model, "alias": alias, "version": number });
        self.written(&self.post("registered-models/alias", &body)).await
    }

    pub(crate) async fn remove_alias(&self, alias: &str) -> Result<(), PlatformError> {
        let body = json!({ "name": self.model, "alias": alias });
        let request = self.delete("registered-models/alias", &body);
        match self.asked_of_model::<Value>(&request).await? {
            Err(refusal) if refusal.code != Code::Missing => Err(refusal.error),
            _ => Ok(()),
        }
    }
}

/// Of the versions of one key the one with the lowest number counts, unless it is marked: the
/// server gives a number only after the ones below it can be seen, so that everybody who made one
/// agrees on it.
fn sorted(found: BTreeMap<u64, ModelVersion>) -> Sorted {
    let mut winners: BTreeMap<String, u64> = BTreeMap::new();
    let mut sorted = Sorted::default();
    for (number, version) in found {
        if version.tags.contains_key(tags::DUPLICATE_OF) {
            continue;
        }
        let key = version.tags.get(KEY).cloned().unwrap_or_default();
        match winners.get(&key) {
            Some(winner) => sorted.unmarked.push((number, *winner)),
            None => {
                winners.insert(key, number);
                sorted.versions.push(version);
            }
        }
    }
    sorted.versions.reverse();
    sorted
}

#[cfg(test)]
mod tests {
    use mloop_platform::conformance::samples;

    use super::*;

    #[test]
    fn the_lowest_number_of_a_key_counts() {
        let version = |number: u64, key: &str, duplicate: bool| {
            let mut version = samples::version(number);
            version.tags.insert(KEY.to_owned(), key.to_owned());
            if duplicate {
                version.tags.insert(tags::DUPLICATE_OF.to_owned(), "0".to_owned());
            }
            (number, version)
        };
        for (found, counting, unmarked) in [
            (vec![], vec![], vec![]),
            (vec![version(1, "a", false), version(2, "b", false)], vec![2, 1], vec![]),
            (vec![version(9, "a", false), version(10, "a", false)], vec![9], vec![(10, 9)]),
            (vec![version(9, "a", false), version(10, "a", true)], vec![9], vec![]),
            // The winner was deleted: what is marked never counts, what is not marked does.
            (vec![version(2, "a", true), version(3, "a", false)], vec![3], vec![]),
            (vec![version(2, "a", true)], vec![], vec![]),
            (
                vec![version(1, "a", false), version(2, "a", false), version(3, "a", false)],
                vec![1],
                vec![(2, 1), (3, 1)],
            ),
        ] {
            let sorted = sorted(found.into_iter().collect());
            let numbers: Vec<u64> =
                sorted.versions.iter().map(|version| version.version.number).collect();
            assert_eq!((numbers, sorted.unmarked), (counting, unmarked));
        }
    }
}
