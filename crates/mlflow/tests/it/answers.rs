//! Servers that answer as no MLflow of ours would: hostile, broken, or something else altogether.

use mloop_core::version::files;
use mloop_core::{ModelVersion, Sha256Digest};
use mloop_http::testing::{Asked, Reply, Server};
use mloop_platform::conformance::samples;
use mloop_platform::{ModelRegistry as _, PlatformError};
use serde_json::{Value, json};

use crate::{Place, registry};

fn at(server: &Server) -> mloop_mlflow::MlflowRegistry {
    registry(&format!("http://{}", server.address()))
}

/// A server that tells this address of a version's files and this manifest.
fn telling(address: &str, manifest: &Value) -> Server {
    let (address, manifest) = (address.to_owned(), manifest.clone());
    Server::answering(move |asked: &Asked, _| {
        if asked.line.contains("get-download-uri") {
            return Reply::json(200, &json!({ "artifact_uri": address }));
        }
        if asked.line.ends_with("/manifest.json") {
            return Reply::json(200, &manifest);
        }
        Reply::of(200, "", "bytes")
    })
}

#[tokio::test]
async fn addresses_outside_of_the_servers_store_are_not_followed() {
    for address in [
        "file:///etc",
        "/etc",
        "http://169.254.169.254/latest/meta-data",
        "https://elsewhere.example/model",
        "s3://bucket/model",
        "mlflow-artifacts:/1/../../etc",
        "mlflow-artifacts:/1/%2e%2e/etc",
        "mlflow-artifacts://elsewhere.example/1",
    ] {
        let place = Place::new("source");
        let server = telling(address, &json!({ "files": [] }));
        let into = place.path("fetched");
        let error = at(&server).fetch(&samples::version(1), &into).await.expect_err(address);
        assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains(address), "{error}");
        assert_eq!(server.asked().len(), 1, "nothing else was asked for");
        assert!(!into.exists());
    }
}

#[tokio::test]
async fn manifests_that_lead_out_of_the_folder_are_refused() {
    for path in ["../escaped", "/tmp/escaped", "a/../../escaped", "a\\..\\b", ""] {
        let place = Place::new("manifest");
        let hostile = json!({ "files": [
            { "path": path, "size": 5, "sha256": Sha256Digest::of(b"bytes") },
        ]});
        let server = telling("mlflow-artifacts:/1/models/m-1/artifacts", &hostile);
        let into = place.path("deep/fetched");
        let error = at(&server).fetch(&samples::version(1), &into).await.expect_err(path);
        assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
        assert!(error.to_string().contains(files::MANIFEST), "{error}");
        assert!(!place.path("deep").exists(), "nothing was written");
    }
}

#[tokio::test]
async fn refusals_say_what_to_do_and_repeat_no_sql() {
    let html = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>";
    let sql = json!({
        "error_code": "BAD_REQUEST",
        "message": "(sqlite3.IntegrityError) [SQL: INSERT INTO inputs VALUES (?)]\n[parameters: 'x']",
    });
    let host = "Invalid Host header - possible DNS rebinding attack detected";
    type Is = fn(&PlatformError) -> bool;
    let invalid: Is = |error| matches!(error, PlatformError::Invalid { .. });
    let denied: Is = |error| matches!(error, PlatformError::Denied { .. });
    let conflict: Is = |error| matches!(error, PlatformError::Conflict { .. });
    let unavailable: Is = |error| matches!(error, PlatformError::Unavailable { .. });
    for (reply, is, words) in [
        (Reply::of(403, "", host), invalid, "start it with `--allowed-hosts`"),
        (Reply::of(403, "", "Permission denied"), denied, "it answered 403: Permission denied"),
        (Reply::of(401, "", "You are not authenticated."), denied, "You are not authenticated."),
        (Reply::json(400, &sql), invalid, "answered 400: BAD_REQUEST"),
        (Reply::of(404, "", html), invalid, "mloop needs MLflow 3 or later"),
        (Reply::of(200, "", html), conflict, "is this address that of MLflow"),
        (Reply::of(302, "location: /login\r\n", ""), invalid, "answered 302"),
        (Reply::json(500, &json!({"error_code": "INTERNAL_ERROR"})), unavailable, "INTERNAL_ERROR"),
        (Reply::json(503, &json!({"error_code": "TEMPORARILY_UNAVAILABLE"})), unavailable, "503"),
    ] {
        let server = Server::new(&[reply]);
        let error = at(&server).versions(&samples::version(1).model).await.expect_err(words);
        let told = mloop_core::error_chain(&error);
        assert!(is(&error) && told.contains(words), "{error:?}: {told}");
        assert!(told.contains(server.address()) && !told.contains("INSERT"), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_always_has_one_more_page_is_left() {
    let server = Server::new(&[Reply::json(200, &json!({ "next_page_token": "more" }))]);
    let error = at(&server).versions(&samples::version(1).model).await.expect_err("endless");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 500);
}

#[tokio::test]
async fn versions_that_make_no_sense_are_left_out() {
    let model = samples::version(1).model;
    let tags = json!([
        { "key": "mloop.key", "value": "k" },
        { "key": "mloop.digest", "value": Sha256Digest::of(b"x") },
    ]);
    let version = |name: &str, number: Value, status: &str, at: i64| {
        json!({
            "name": name, "version": number, "status": status, "creation_timestamp": at,
            "source": "models:/m-1", "tags": tags,
        })
    };
    let name = model.as_str();
    let answer = json!({ "model_versions": [
        version("another", json!("5"), "READY", 1),
        version(name, json!("4"), "FAILED_REGISTRATION", 1),
        version(name, json!("-3"), "READY", 1),
        version(name, json!("2"), "READY", i64::MAX),
        version(name, json!(1), "READY", 1_764_277_000_000),
    ]});
    let server = Server::new(&[Reply::json(200, &answer)]);
    let found: Vec<ModelVersion> = at(&server).versions(&model).await.expect("a list");
    let numbers: Vec<u64> = found.iter().map(|version| version.version.number).collect();
    assert_eq!(numbers, [1]);
}
