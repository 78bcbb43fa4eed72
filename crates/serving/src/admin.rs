//! The admin plane: what serves where, shown and changed. Loopback only.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use mloop_core::EndpointName;
use serde_json::{Value, json};

use crate::app::App;
use crate::changes::{self, Wanted};
use crate::endpoints::EndpointView;
use crate::error::Refusal;
use crate::invocations::{no_such_path, wrong_method};

/// Most bytes that the description of a wanted state has.
const MAX_BODY: usize = 64 << 10;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/admin/endpoints", get(list))
        .route("/admin/endpoints/{name}", get(show).put(put).delete(delete))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let views: Vec<EndpointView> =
        app.endpoints.all().iter().map(|endpoint| endpoint.view()).collect();
    Json(json!({"endpoints": views}))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<EndpointView>, Refusal> {
    let missing = || Refusal::not_found(format!("there is no endpoint `{name}`"));
    Ok(Json(app.endpoints.get(&name).ok_or_else(missing)?.view()))
}

async fn put(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<EndpointView>, Refusal> {
    let name = named(&name)?;
    let Json(wanted) = wanted.map_err(|error| Refusal::bad_request(error.body_text()))?;
    to_its_end(changes::put(app, name, wanted)).await.map(Json)
}

async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let name = named(&name)?;
    to_its_end(changes::delete(app, name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(name: &str) -> Result<EndpointName, Refusal> {
    EndpointName::new(name).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// Runs a change to its end even when the caller hangs up: a change half made is none.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let crashed = |_| Err(Refusal::internal("the change failed, which is a bug: see the log"));
    tokio::spawn(change).await.unwrap_or_else(crashed)
}
