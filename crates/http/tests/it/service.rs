//! Settings of a connection, and what the answers of a service mean.

use std::sync::Arc;

use mloop_core::{FixedClock, Secret};
use mloop_http::testing::{Reply, Server};
use mloop_http::{Client, Credentials, HttpSettings, Method, Policy, Service};
use mloop_platform::{BuildError, PlatformDeps, PlatformError};
use serde_json::{Value, json};

fn service(server: &Server, credentials: Credentials) -> Service {
    let policy = Policy { tries: 1, ..Policy::default() };
    let client = Client::new(policy).expect("a client");
    Service::new("the store", server.url(), client).with(credentials)
}

#[tokio::test]
async fn answers_that_mean_the_same_everywhere_become_errors() {
    type Is = fn(&PlatformError) -> bool;
    let denied: Is = |error| matches!(error, PlatformError::Denied { .. });
    let unavailable: Is = |error| matches!(error, PlatformError::Unavailable { .. });
    for (status, is) in [
        (401, denied),
        (403, denied),
        (408, unavailable),
        (429, unavailable),
        (500, unavailable),
        (503, unavailable),
    ] {
        let server = Server::new(&[Reply::of(status, "", "no  such\nluck")]);
        let service = service(&server, Credentials::None);
        let error = service.call("asking", &service.request(Method::Get, &[])).await;
        let error = error.expect_err("no answer to use");
        assert!(is(&error), "{status}: {error:?}");
        let told = mloop_core::error_chain(&error);
        assert!(told.contains("no such luck") && told.contains(server.address()), "{told}");
    }
    for status in [200, 204, 400, 404, 409, 422] {
        let server = Server::new(&[Reply::status(status)]);
        let service = service(&server, Credentials::None);
        let answer = service.call("asking", &service.request(Method::Get, &[])).await;
        assert_eq!(answer.expect("the caller judges").status, status);
    }
}

#[tokio::test]
async fn an_answer_of_something_else_is_told() {
    let server = Server::new(&[Reply::of(200, "", "<html>")]);
    let service = service(&server, Credentials::None);
    let answer = service.call("asking", &service.request(Method::Get, &[])).await.expect("one");
    let error = service.decode::<Value>("asking", &answer).expect_err("no JSON");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("is this address that of the store"), "{error}");
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let basic =
        Credentials::Basic { username: "mloop".to_owned(), password: Secret::new("hunter2") };
    for (credentials, expected) in [
        (basic, "Basic bWxvb3A6aHVudGVyMg=="),
        (Credentials::Bearer(Secret::new("hunter2")), "Bearer hunter2"),
    ] {
        let server = Server::new(&[Reply::status(401)]);
        let service = service(&server, credentials);
        let error = service.call("asking", &service.request(Method::Get, &[])).await;
        let error = error.expect_err("refused");
        assert_eq!(server.asked()[0].header("authorization"), Some(expected));
        assert!(!format!("{error:?} {service:?}").contains("hunter2"), "{error:?}");
    }
}

fn settings(value: Value) -> HttpSettings {
    serde_json::from_value(value).expect("settings")
}

#[test]
fn plain_http_to_another_machine_must_be_asked_for() {
    let usual = settings(json!({}));
    for (text, fine) in [
        ("https://models.internal:5000/mlflow", true),
        ("http://127.0.0.1:5000", true),
        ("http://localhost:5000", true),
        ("http://10.0.0.7:5000", false),
        ("http://models.internal", false),
        ("ftp://models.internal", false),
    ] {
        assert_eq!(usual.address("url", text).is_ok(), fine, "{text}");
        assert_eq!(usual.secret_address("webhook_url_env", text).is_ok(), fine, "{text}");
    }
    let open = settings(json!({"allow_http": true}));
    assert!(open.address("url", "http://models.internal").is_ok());
    let error = usual.address("url", "http://models.internal").expect_err("refused").to_string();
    assert!(error.contains("`http.allow_http: true`"), "{error}");
}

#[test]
fn settings_that_make_no_sense_name_their_key() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("empty.pem"), "").expect("written");
    let deps = PlatformDeps::new(folder.path(), Arc::new(FixedClock(chrono::DateTime::UNIX_EPOCH)));
    for (value, key) in [
        (json!({"timeout_secs": 0}), "http.timeout_secs"),
        (json!({"connect_timeout_secs": 0}), "http.connect_timeout_secs"),
        (json!({"ca_file": "none.pem"}), "http.ca_file"),
        (json!({"ca_file": "empty.pem"}), "http.ca_file"),
    ] {
        let error = settings(value).client(&deps).expect_err(key);
        assert!(matches!(&error, BuildError::Settings { path, .. } if path == key), "{error:?}");
    }
    assert!(settings(json!({"timeout_secs": 5})).client(&deps).is_ok());
}
