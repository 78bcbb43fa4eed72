//! How what an endpoint serves is changed, remembered and restored.

use std::path::PathBuf;
use std::sync::Arc;

use mloop_core::{EndpointName, Sha256Digest, error_chain, failpoint};
use serde::Deserialize;

use crate::app::App;
use crate::endpoints::{Endpoint, EndpointView};
use crate::error::Refusal;
use crate::model::{LoadedModel, ModelError};
use crate::store::{Assignment, Assignments, KeepError, StoreError};

/// The wanted state of an endpoint: body of `PUT /admin/endpoints/{name}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Folder of the version's files, readable by the server.
    folder: PathBuf,
    /// Digest that the files must have.
    digest: Sha256Digest,
    /// The registry's number of the version.
    version: Option<u64>,
    /// What the caller believes to serve now.
    expected: Expected,
}

/// What the caller believes to serve: `{"any": true}` or `{"digest": hex | null}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    #[serde(default)]
    any: bool,
    #[serde(default)]
    digest: Option<Sha256Digest>,
}

/// The version to begin with, and the digest that it must have.
#[derive(Debug, Clone)]
pub(crate) struct FirstModel {
    pub(crate) folder: PathBuf,
    pub(crate) digest: Option<Sha256Digest>,
}

/// What is to be done about a wanted version.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// It serves already.
    Keep,
    /// Load it and switch.
    Switch,
    /// A version serves that is neither wanted nor expected.
    Conflict(Sha256Digest),
}

fn decide(serving: Option<Sha256Digest>, wanted: &Wanted) -> Decision {
    match serving {
        Some(digest) if digest == wanted.digest => Decision::Keep,
        Some(digest) if !wanted.expected.any && wanted.expected.digest != Some(digest) => {
            Decision::Conflict(digest)
        }
        _ => Decision::Switch,
    }
}

/// Why an endpoint does not serve what it should.
#[derive(Debug, thiserror::Error)]
enum ChangeFailure {
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the change could not be written down, so it was not made")]
    Remember(#[source] StoreError),
    #[error("loading the version failed in a way that is a bug: see the server's log")]
    Crashed,
}

impl From<ChangeFailure> for Refusal {
    fn from(failure: ChangeFailure) -> Self {
        let message = error_chain(&failure);
        match failure {
            ChangeFailure::Remember(_) | ChangeFailure::Keep(KeepError::Store(_)) => {
                Self::internal(message)
            }
            _ => Self::refused(message),
        }
    }
}

/// Brings an endpoint to the wanted state. One change at a time; requests go on meanwhile.
pub(crate) async fn put(
    app: Arc<App>,
    name: EndpointName,
    wanted: Wanted,
) -> Result<EndpointView, Refusal> {
    let mut remembered = app.remembered.lock().await;
    let is_new = app.endpoints.get(name.as_str()).is_none();
    let most = app.limits.endpoints;
    if is_new && app.endpoints.all().len() >= most {
        return Err(Refusal::refused(format!("there are {most} endpoints, the most allowed")));
    }
    let endpoint = app.endpoints.get_or_make(&name);
    match decide(endpoint.serving().digest(), &wanted) {
        Decision::Keep => renumber(&app, &mut remembered, &endpoint, wanted.version).await?,
        Decision::Switch => switch(&app, &mut remembered, &endpoint, &wanted).await?,
        Decision::Conflict(digest) => {
            return Err(Refusal::conflict(format!(
                "endpoint `{name}` serves {digest}, which is neither the expected version nor the \
                 wanted one: look at who changed it, then name it as expected or expect any"
            )));
        }
    }
    Ok(endpoint.view())
}

async fn renumber(
    app: &Arc<App>,
    remembered: &mut Assignments,
    endpoint: &Endpoint,
    version: Option<u64>,
) -> Result<(), ChangeFailure> {
    let serving = endpoint.serving();
    let (Some(digest), true) = (serving.digest(), version.is_some() && version != serving.version)
    else {
        return Ok(());
    };
    let assignment = Assignment { digest, version, previous: serving.previous };
    remember(app, remembered, endpoint.name(), Some(assignment)).await?;
    endpoint.note(|serving| serving.version = version);
    Ok(())
}

/// Loads the wanted version and lets it answer; what goes wrong is noted at the endpoint, which
/// keeps serving what it served.
async fn switch(
    app: &Arc<App>,
    remembered: &mut Assignments,
    endpoint: &Endpoint,
    wanted: &Wanted,
) -> Result<(), ChangeFailure> {
    endpoint.note(|serving| serving.changing = true);
    let outcome = load_and_switch(app, remembered, endpoint, wanted).await;
    if let Err(failure) = &outcome {
        note_failure(endpoint, failure);
    }
    outcome
}

async fn load_and_switch(
    app: &Arc<App>,
    remembered: &mut Assignments,
    endpoint: &Endpoint,
    wanted: &Wanted,
) -> Result<(), ChangeFailure> {
    let (store, folder, digest) = (app.store.clone(), wanted.folder.clone(), wanted.digest);
    let model = blocking(move || match store {
        Some(store) => Ok(store.keep(&folder, digest)?),
        None => Ok(LoadedModel::load(&folder, Some(digest))?),
    })
    .await?;
    failpoint::reach("serving.kept");
    let previous = endpoint.serving().digest();
    let assignment = Assignment { digest, version: wanted.version, previous };
    // Remembered first: what the answer to this call promises, the next start keeps.
    remember(app, remembered, endpoint.name(), Some(assignment.clone())).await?;
    failpoint::reach("serving.remembered");
    endpoint.switch(Arc::new(model), &assignment);
    tracing::info!(endpoint = %endpoint.name(), %digest, version = wanted.version, "now serves");
    tidy(app, remembered).await;
    Ok(())
}

/// Takes an endpoint away; requests in flight are still answered.
pub(crate) async fn delete(app: Arc<App>, name: EndpointName) -> Result<(), Refusal> {
    let mut remembered = app.remembered.lock().await;
    if app.endpoints.get(name.as_str()).is_none() {
        return Ok(());
    }
    remember(&app, &mut remembered, &name, None).await?;
    app.endpoints.remove(&name);
    tracing::info!(endpoint = %name, "removed");
    tidy(&app, &remembered).await;
    Ok(())
}

/// Serves what the state folder remembers and, at a default endpoint that it does not know, the
/// `model`. A version that cannot serve leaves its endpoint failed, with the reason.
pub(crate) async fn restore(app: Arc<App>, model: Option<FirstModel>) {
    let mut remembered = app.remembered.lock().await;
    for (name, assignment) in remembered.iter() {
        restore_one(&app, name, assignment).await;
    }
    match model {
        Some(_) if remembered.contains_key(&app.default_endpoint) => tracing::info!(
            endpoint = %app.default_endpoint,
            "the state folder remembers what serves here, so the given model is not used"
        ),
        Some(model) => first_model(&app, &mut remembered, model).await,
        None => {}
    }
}

async fn restore_one(app: &Arc<App>, name: &EndpointName, assignment: &Assignment) {
    let Some(store) = app.store.clone() else { return };
    let endpoint = app.endpoints.get_or_make(name);
    endpoint.owe();
    let digest = assignment.digest;
    match blocking(move || Ok(store.load(digest)?)).await {
        Ok(model) => {
            endpoint.restore(Arc::new(model), assignment);
            tracing::info!(endpoint = %name, %digest, version = assignment.version, "restored");
        }
        Err(failure) => note_failure(&endpoint, &failure),
    }
}

async fn first_model(app: &Arc<App>, remembered: &mut Assignments, model: FirstModel) {
    let endpoint = app.endpoints.get_or_make(&app.default_endpoint);
    endpoint.owe();
    let FirstModel { folder, digest } = model.clone();
    match blocking(move || Ok(LoadedModel::load(&folder, digest)?.digest())).await {
        Ok(digest) => {
            let expected = Expected { any: true, digest: None };
            let wanted = Wanted { folder: model.folder, digest, version: None, expected };
            // What goes wrong is noted and logged there; the server stays up and says so.
            drop(switch(app, remembered, &endpoint, &wanted).await);
        }
        Err(failure) => note_failure(&endpoint, &failure),
    }
}

fn note_failure(endpoint: &Endpoint, failure: &ChangeFailure) {
    let detail = error_chain(failure);
    let serves = endpoint.serving().digest().map(|digest| digest.to_string());
    tracing::error!(endpoint = %endpoint.name(), serves, "the version is not served: {detail}");
    endpoint.note(|serving| {
        serving.changing = false;
        serving.detail = detail;
    });
}

/// Writes down what an endpoint serves, or that there is no such endpoint any more.
async fn remember(
    app: &Arc<App>,
    remembered: &mut Assignments,
    name: &EndpointName,
    assignment: Option<Assignment>,
) -> Result<(), ChangeFailure> {
    let mut next = remembered.clone();
    next.remove(name);
    next.extend(assignment.map(|assignment| (name.clone(), assignment)));
    if let Some(store) = app.store.clone() {
        let next = next.clone();
        blocking(move || store.write(&next).map_err(ChangeFailure::Remember)).await?;
    }
    *remembered = next;
    Ok(())
}

/// Removes versions that nobody needs; a failure costs disk space only.
async fn tidy(app: &Arc<App>, remembered: &Assignments) {
    let Some(store) = app.store.clone() else { return };
    let remembered = remembered.clone();
    let tidied = blocking(move || store.tidy(&remembered).map_err(ChangeFailure::Remember)).await;
    if let Err(failure) = tidied {
        tracing::warn!("old versions could not be removed: {}", error_chain(&failure));
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeFailure> + Send + 'static,
) -> Result<T, ChangeFailure> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ChangeFailure::Crashed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_expected_is_a_conflict() {
        let digest = |text: &str| Sha256Digest::of(text.as_bytes());
        let wanted = |any, expected: Option<&str>| Wanted {
            folder: PathBuf::new(),
            digest: digest("new"),
            version: None,
            expected: Expected { any, digest: expected.map(digest) },
        };
        let cases = [
            (None, wanted(false, None), Decision::Switch),
            (None, wanted(false, Some("old")), Decision::Switch),
            (Some("old"), wanted(false, Some("old")), Decision::Switch),
            (Some("old"), wanted(true, None), Decision::Switch),
            (Some("new"), wanted(false, Some("old")), Decision::Keep),
            (Some("new"), wanted(false, None), Decision::Keep),
            (Some("old"), wanted(false, None), Decision::Conflict(digest("old"))),
            (Some("old"), wanted(false, Some("older")), Decision::Conflict(digest("old"))),
            (Some("old"), wanted(false, Some("new")), Decision::Conflict(digest("old"))),
        ];
        for (serving, wanted, expected) in cases {
            assert_eq!(decide(serving.map(digest), &wanted), expected, "{serving:?} {wanted:?}");
        }
    }
}
