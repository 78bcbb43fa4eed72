//! The notifier against a server that answers as Slack documents. Slack itself is not asked.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mloop_core::secret::{Secret, SecretError};
use mloop_core::{Secrets, SystemClock, error_chain};
use mloop_http::testing::{Asked, Reply, Server};
use mloop_platform::conformance::{Repeats, check_notifier, samples};
use mloop_platform::{Notifier, NotifierRegistry, PlatformDeps, PlatformError, send_slack_alert};
use serde_json::{Value, json};

/// What no message may hold.
const SECRET: &str = "T0AAAAAAA/B0BBBBBBB/hunter2hunter2";

/// The notifier whose secret file holds this address.
fn build(address: &str, http: &Value) -> Result<Arc<dyn Notifier>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("webhook");
    std::fs::write(&file, format!("{address}\n")).expect("written");
    let mut kinds = NotifierRegistry::new("notifier");
    mloop_slack::register_builtin(&mut kinds);
    let deps = PlatformDeps::new(folder.path(), Arc::new(SystemClock));
    let deps = deps.with_secrets(Arc::new(Files));
    let settings = json!({"webhook_url_file": "webhook", "http": http});
    kinds.build("slack", "chat", &settings, &deps).map_err(|error| format!("{error:?}"))
}

/// Secrets from files alone.
struct Files;

impl Secrets for Files {
    fn in_env(&self, name: &str) -> Result<Secret, SecretError> {
        Err(SecretError::NotInEnvironment(name.to_owned()))
    }

    fn in_file(&self, path: &Path) -> Result<Secret, SecretError> {
        let text = std::fs::read_to_string(path).expect("the secret");
        Ok(Secret::new(text.trim()))
    }
}

fn at(server: &Server) -> Arc<dyn Notifier> {
    let address = format!("http://{}/services/{SECRET}", server.address());
    build(&address, &json!({"timeout_secs": 1})).expect("a notifier")
}

fn ok() -> Reply {
    Reply::of(200, "content-type: text/html\r\n", "ok")
}

fn body(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).expect("JSON")
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let server = Server::new(&[ok()]);
    let received = |id: &str| {
        server.asked().iter().filter(|asked| asked.body.contains(&format!("`{id}`"))).count()
    };
    check_notifier(at(&server).as_ref(), Repeats::Delivered, &received).await;
    let first = &server.asked()[0];
    assert_eq!(first.line, format!("POST /services/{SECRET}"));
    assert_eq!(first.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_submitted_job_is_told_with_its_reasons() {
    let server = Server::new(&[ok()]);
    let episode = samples::episode(&samples::subject("production"), 1);
    send_slack_alert(at(&server).as_ref(), &episode, samples::day_one()).await.expect("told");
    let message = body(&server.asked()[0]);
    let title = message["blocks"][0]["text"]["text"].as_str().expect("a title");
    assert!(title.contains(episode.job.id.as_str()), "{title}");
    for reason in &episode.reasons {
        assert!(message["blocks"][1]["text"]["text"].as_str().expect("text").contains(reason));
    }
}

async fn answered(replies: &[Reply]) -> (Result<(), PlatformError>, Vec<Asked>) {
    let server = Server::new(replies);
    let result = at(&server).notify(&samples::notification("m")).await;
    if let Err(error) = &result {
        for text in [error_chain(error), format!("{error:?}")] {
            assert!(!text.contains("hunter2") && !text.contains("T0AAAAAAA"), "{text}");
        }
    }
    (result, server.asked())
}

#[tokio::test]
async fn each_answer_ends_in_the_error_that_says_what_to_do() {
    enum Kind {
        Later,
        Denied,
        Invalid,
    }
    let echo = format!("Cannot POST /services/{SECRET}");
    for (status, headers, said, kind, told) in [
        (429, "retry-after: 60\r\n", "rate_limited", Kind::Later, "rate_limited"),
        (500, "", "rollup_error", Kind::Later, "rollup_error"),
        (503, "", "<html>busy</html>", Kind::Later, "503"),
        (403, "", "invalid_token", Kind::Denied, "make a new one"),
        (403, "", "action_prohibited", Kind::Denied, "administrators"),
        (404, "", "no_service", Kind::Denied, "revoked"),
        (404, "", echo.as_str(), Kind::Denied, "404"),
        (410, "", "channel_is_archived", Kind::Denied, "archived"),
        (302, "location: http://127.0.0.1:1/\r\n", "", Kind::Invalid, "302"),
        (200, "", "<html>Sign in</html>", Kind::Invalid, "incoming webhook"),
    ] {
        let (result, asked) = answered(&[Reply::of(status, headers, said)]).await;
        let error = result.expect_err(said);
        let is_it = match kind {
            Kind::Later => error.is_transient(),
            Kind::Denied => matches!(error, PlatformError::Denied { .. }),
            Kind::Invalid => matches!(error, PlatformError::Invalid { .. }),
        };
        assert!(is_it, "{status} {said}: {error:?}");
        assert!(error_chain(&error).contains(told), "{status}: {}", error_chain(&error));
        assert_eq!(asked.len(), 1, "{status} {said}");
    }
}

#[tokio::test]
async fn blocks_that_are_refused_become_plain_text_once() {
    let refusal = Reply::of(400, "", "invalid_blocks");
    let (result, asked) = answered(&[refusal.clone(), ok()]).await;
    result.expect("taken as text");
    let [blocks, plain] = [body(&asked[0]), body(&asked[1])];
    assert!(blocks["blocks"].is_array() && plain["blocks"].is_null());
    assert!(plain["text"].as_str().expect("text").contains("psi 0.31, bound 0.2"));

    let (result, asked) = answered(&[refusal]).await;
    let error = result.expect_err("taken in no form");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("invalid_blocks"), "{error}");
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn a_short_wait_is_waited_for_and_a_long_one_left_to_the_next_run() {
    let busy = |secs: u64| Reply::of(429, &format!("retry-after: {secs}\r\n"), "rate_limited");
    let begun = Instant::now();
    let (result, asked) = answered(&[busy(1), ok()]).await;
    result.expect("taken after a second");
    assert_eq!(asked.len(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(1));

    // A moment, by the server's own clock.
    let until = |moment: &str| {
        let headers = format!("date: Sat, 28 Nov 2026 06:00:00 GMT\r\nretry-after: {moment}\r\n");
        Reply::of(429, &headers, "rate_limited")
    };
    let begun = Instant::now();
    let (result, asked) = answered(&[until("Sat, 28 Nov 2026 06:00:01 GMT"), ok()]).await;
    result.expect("taken after a second");
    assert_eq!(asked.len(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (result, asked) = answered(&[until("Sat, 28 Nov 2026 07:00:00 GMT"), ok()]).await;
    assert!(result.expect_err("too long").is_transient());
    assert_eq!(asked.len(), 1);

    let begun = Instant::now();
    let (result, asked) = answered(&[busy(3_600), ok()]).await;
    assert!(result.expect_err("too long").is_transient());
    assert_eq!(asked.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(30));

    let (result, asked) = answered(&[busy(0)]).await;
    assert!(result.expect_err("busy for ever").is_transient());
    assert_eq!(asked.len(), 3, "not for ever");
}

#[tokio::test]
async fn a_connection_that_fails_is_not_tried_twice_and_may_succeed_later() {
    for reply in [
        Reply::Cut(String::new()),
        Reply::Cut("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no".to_owned()),
        Reply::Silence(String::new()),
    ] {
        let (result, asked) = answered(std::slice::from_ref(&reply)).await;
        let error = result.expect_err("no answer");
        assert!(error.is_transient(), "{reply:?}: {error:?}");
        // It may have been posted: the next run posts it again rather than this one.
        assert_eq!(asked.len(), 1, "{reply:?}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let dead = build(&format!("http://{address}/{SECRET}"), &json!({})).expect("a notifier");
    let error = dead.notify(&samples::notification("m")).await.expect_err("nobody there");
    assert!(error.is_transient(), "{error:?}");
    assert!(!error_chain(&error).contains("hunter2"), "{}", error_chain(&error));
}

#[test]
fn what_is_no_webhook_is_refused_without_being_shown() {
    let hooks = format!("https://hooks.slack.com/services/{SECRET}");
    assert!(build(&hooks, &json!({})).is_ok());
    for (address, http) in [
        (SECRET.to_owned(), json!({})),
        (format!("ftp://hooks.slack.com/{SECRET}"), json!({})),
        (format!("http://chat.internal/{SECRET}"), json!({})),
        (hooks, json!({"timeout_secs": 0})),
    ] {
        let Err(error) = build(&address, &http) else { panic!("{address} was taken") };
        assert!(!error.contains("hunter2"), "{error}");
    }
    let plain = format!("http://chat.internal/{SECRET}");
    assert!(build(&plain, &json!({"allow_http": true})).is_ok());
}
