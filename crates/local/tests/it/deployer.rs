//! What the deployer makes of a server's answers; its contract is held against the real server in
//! that server's tests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use mloop_core::{EndpointName, Sha256Digest};
use mloop_deployer::conformance::sample_version;
use mloop_deployer::{Always, BuildError, DeployError, DeployerRegistry, Endpoints, SwitchRequest};
use serde_json::{Value, json};

use crate::deps;

/// A server that answers each method in its own way, whatever the path.
fn server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve_one(&stream.expect("accepted"), &answer);
        }
    });
    format!("http://{address}")
}

/// Answers one request and closes the connection.
fn serve_one(mut stream: &TcpStream, answer: &impl Fn(&str) -> (u16, String)) {
    let mut reader = BufReader::new(stream);
    let (mut method, mut length) = (String::new(), 0);
    for line in reader.by_ref().lines() {
        let line = line.expect("a line");
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.parse().expect("a number");
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).expect("the body");
    let (status, body) = answer(&method);
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}", body.len());
    write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}").expect("answered");
}

fn built(settings: &Value) -> Result<Endpoints, BuildError> {
    let mut kinds = DeployerRegistry::new("deployer");
    mloop_local::register_deployers(&mut kinds);
    kinds.build("local", "local", settings, &deps(".".as_ref()))
}

fn platform(url: &str) -> Endpoints {
    built(&json!({"url": url, "admin_url": url})).expect("built")
}

fn production() -> EndpointName {
    EndpointName::new("production").expect("a name")
}

/// What the server tells of an endpoint that serves this.
fn told(digest: Sha256Digest) -> (u16, String) {
    let told = json!({
        "name": "production", "digest": digest, "version": 1, "previous": null,
        "state": "in_service", "detail": "", "requests": 0, "in_flight": 0,
    });
    (200, told.to_string())
}

fn refusal(status: u16) -> (u16, String) {
    (status, json!({"error": {"code": "some_code", "message": "the server's words"}}).to_string())
}

fn kind(error: &DeployError) -> &'static str {
    match error {
        DeployError::Unavailable { .. } => "unavailable",
        DeployError::Denied { .. } => "denied",
        DeployError::Refused { .. } => "refused",
        DeployError::Conflict { .. } => "conflict",
        _ => "another",
    }
}

#[tokio::test]
async fn a_refused_change_is_told_by_what_can_be_done() {
    let serving = sample_version(1, "serving").version.digest;
    for (status, expected) in [
        // Somebody changed it between the look and the change: the server compares again.
        (409, "conflict"),
        (401, "denied"),
        (403, "denied"),
        (400, "refused"),
        (404, "refused"),
        (413, "refused"),
        (422, "refused"),
        (302, "refused"),
        (429, "unavailable"),
        (500, "unavailable"),
        (503, "unavailable"),
    ] {
        let url = server(move |method| match method {
            "GET" => told(serving),
            _ => refusal(status),
        });
        let request = SwitchRequest {
            endpoint: production(),
            version: sample_version(2, "wanted"),
            folder: PathBuf::from("/versions/2"),
            current: Some(serving),
            permission: Arc::new(Always),
        };
        let error = platform(&url).deployer.switch_to_production(&request).await;
        let error = error.expect_err("the server refused");
        assert_eq!(kind(&error), expected, "{status}: {error:?}");
        assert!(error.to_string().starts_with("switching production to v2 ("), "{error}");
        let words = expected == "denied" || error.to_string().contains("the server's words");
        assert!(words, "{error}");
    }
}

#[tokio::test]
async fn another_servers_answers_are_not_taken_for_an_endpoints() {
    for (status, body) in [
        (200, "<html>It works!</html>"),
        (200, r#"{"name": "production"}"#),
        (404, "<html>not found</html>"),
        (404, r#"{"error": {"code": "NoSuchKey", "message": "gone"}}"#),
        (204, ""),
    ] {
        let url = server(move |_| (status, body.to_owned()));
        let platform = platform(&url);
        let described = platform.deployer.describe(&production()).await.map(drop);
        let listed = platform.janitor.endpoints().await.map(drop);
        for error in [described, listed].map(|result| result.expect_err("it is another server")) {
            assert_eq!(kind(&error), "refused", "{status} {body}: {error:?}");
            assert!(error.to_string().contains("check `admin_url`"), "{error}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_their_key() {
    let good = json!({"url": "http://127.0.0.1:8080", "admin_url": "http://127.0.0.1:8081"});
    assert!(built(&good).is_ok());
    for (key, value) in [
        ("url", json!("127.0.0.1:8080")),
        ("admin_url", json!("ftp://127.0.0.1:8081")),
        ("admin_url", json!("http://admin:secret@127.0.0.1:8081")),
        ("change_timeout_secs", json!(0)),
        ("invoke_timeout_secs", json!(0)),
        ("invoke_timeout_secs", json!(-1)),
        ("timeout", json!(1)),
    ] {
        let mut settings = good.clone();
        settings[key] = value;
        let error = built(&settings).err().expect("refused");
        assert!(matches!(&error, BuildError::Settings { path, .. } if path == key), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
