//! The notifier against the service bench's Alertmanager, whose webhook keeps what it gets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mloop_core::notification::{Notification, Topic};
use mloop_core::secret::{Secret, SecretError};
use mloop_core::{Secrets, SystemClock, error_chain};
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_platform::conformance::{Repeats, check_notifier, samples};
use mloop_platform::{Notifier, NotifierRegistry, PlatformDeps, PlatformError, send_slack_alert};
use mloop_services::Services;
use serde_json::{Value, json};

/// Every reference leads to this.
struct OneSecret;

impl Secrets for OneSecret {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new("hunter2"))
    }

    fn in_file(&self, _path: &Path) -> Result<Secret, SecretError> {
        Ok(Secret::new("hunter2"))
    }
}

fn build(settings: &Value) -> Result<Arc<dyn Notifier>, String> {
    let mut kinds = NotifierRegistry::new("notifier");
    mloop_alertmanager::register_builtin(&mut kinds);
    let deps = PlatformDeps::new("/", Arc::new(SystemClock)).with_secrets(Arc::new(OneSecret));
    kinds.build("alertmanager", "pager", settings, &deps).map_err(|error| format!("{error:?}"))
}

/// A label's value that no other test and no earlier run has.
fn probe() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let moment = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos();
    format!("p{number}-{}-{moment}", std::process::id())
}

fn settings(url: &str, probe: &str) -> Value {
    json!({"url": url, "labels": {"probe": probe}, "http": {"timeout_secs": 2}})
}

/// The alerts that the Alertmanager has of a probe, by its own API.
fn alerts(url: &str, probe: &str) -> Vec<Value> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the Alertmanager");
    let path = format!("/api/v2/alerts?filter=probe%3D%22{probe}%22");
    let head = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\naccept: application/json\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains(" 200 "), "{answer}");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let url = Services::running().alertmanager().url.clone();
    let probe = probe();
    let notifier = build(&settings(&url, &probe)).expect("a notifier");
    let received = |id: &str| {
        let has_id = |alert: &Value| alert["annotations"]["message_id"] == id;
        alerts(&url, &probe).iter().filter(|alert| has_id(alert)).count()
    };
    check_notifier(notifier.as_ref(), Repeats::Dropped, &received).await;
}

/// What the webhook got of a probe, once there is something.
fn webhook(received: &Path, probe: &str) -> Value {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        let text = std::fs::read_to_string(received).expect("the file of the webhook");
        let ours = text.lines().find(|line| line.contains(probe));
        // The last line may still be on its way.
        if let Some(call) = ours.and_then(|line| serde_json::from_str(line).ok()) {
            return call;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the webhook was not called in 30 s");
}

#[tokio::test]
async fn people_get_what_the_message_says() {
    let services = Services::running();
    let bench = services.alertmanager();
    let probe = probe();
    let notifier = build(&settings(&bench.url, &probe)).expect("a notifier");
    let notification = Notification {
        topic: Topic::Monitoring,
        title: "fashion@production: alert – drift".to_owned(),
        text: "v3 answered 1500 requests.\n- brightness: psi 0.31 <0.2>".to_owned(),
        ..samples::notification("run-1")
    };
    notifier.notify(&notification).await.expect("posted");
    let call = webhook(&bench.received, &probe);
    let alert = call["alerts"]
        .as_array()
        .and_then(|all| all.iter().find(|alert| alert["labels"]["probe"] == json!(probe)));
    let alert = alert.expect("the alert");
    assert_eq!(alert["status"], "firing");
    assert_eq!(
        alert["labels"],
        json!({
            "alertname": "MloopMonitoring",
            "model": "fashion",
            "target": "production",
            "severity": "warning",
            "probe": probe,
        })
    );
    assert_eq!(alert["annotations"]["summary"], notification.title);
    assert_eq!(alert["annotations"]["description"], notification.text);
    assert_eq!(alert["annotations"]["message_id"], "run-1");
    assert_eq!(alert["startsAt"], "2026-03-01T00:00:00Z");
}

#[tokio::test]
async fn the_next_bad_window_prolongs_an_alert_and_a_job_is_one_of_its_own() {
    let url = Services::running().alertmanager().url.clone();
    let probe = probe();
    let notifier = build(&settings(&url, &probe)).expect("a notifier");
    let window = |id: &str, title: &str| Notification {
        topic: Topic::Monitoring,
        title: title.to_owned(),
        ..samples::notification(id)
    };
    notifier.notify(&window("run-1", "first")).await.expect("posted");
    let first = alerts(&url, &probe);
    notifier.notify(&window("run-2", "second")).await.expect("posted");
    let second = alerts(&url, &probe);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0]["fingerprint"], second[0]["fingerprint"]);
    assert_eq!(second[0]["annotations"]["summary"], "second");
    assert!(second[0]["endsAt"].as_str() >= first[0]["endsAt"].as_str());

    let episode = samples::episode(&samples::subject("production"), 1);
    send_slack_alert(notifier.as_ref(), &episode, samples::day_one()).await.expect("posted");
    let all = alerts(&url, &probe);
    assert_eq!(all.len(), 2);
    assert!(all.iter().any(|alert| alert["labels"]["alertname"] == "MloopRetraining"));
}

#[tokio::test]
async fn a_cut_connection_leaves_one_alert_or_none_and_says_which_may_be() {
    let url = Services::running().alertmanager().url.clone();
    for (faults, expected) in [
        (vec![Fault::CutBefore], 1),
        (vec![Fault::CutAfter], 1),
        (vec![Fault::Status(503), Fault::Status(503)], 1),
        (vec![Fault::StatusAfter(503)], 1),
        (vec![Fault::Status(503); 3], 0),
        (vec![Fault::CutBefore; 3], 0),
        (vec![Fault::CutAfter; 3], 1),
    ] {
        let (relay, probe) = (Relay::scripted(&url, &faults), probe());
        let notifier = build(&settings(&relay.url(), &probe)).expect("a notifier");
        let result = notifier.notify(&samples::notification("m")).await;
        assert_eq!(result.is_ok(), faults.len() < 3, "{faults:?}: {result:?}");
        assert!(result.err().is_none_or(|error| error.is_transient()));
        assert_eq!(alerts(&url, &probe).len(), expected, "{faults:?}");
    }
}

#[tokio::test]
async fn answers_end_in_the_error_that_says_what_to_do() {
    enum Kind {
        Later,
        Denied,
        Invalid,
    }
    let refusal = json!({"code": 602, "message": "labels in body is required"});
    for (reply, kind, told) in [
        (Reply::status(500), Kind::Later, "500"),
        (Reply::of(429, "retry-after: 600\r\n", ""), Kind::Later, "429"),
        (Reply::status(401), Kind::Denied, "401"),
        (Reply::of(403, "", "no"), Kind::Denied, "403"),
        (Reply::json(400, &refusal), Kind::Invalid, "labels in body is required"),
        (Reply::status(404), Kind::Invalid, "404"),
        (Reply::of(302, "location: http://127.0.0.1:1/\r\n", ""), Kind::Invalid, "302"),
    ] {
        let server = Server::new(&[reply]);
        let mut settings = settings(&server.url().to_string(), "x");
        settings["token_env"] = json!("TOKEN");
        let notifier = build(&settings).expect("a notifier");
        let error = notifier.notify(&samples::notification("m")).await.expect_err(told);
        let is_it = match kind {
            Kind::Later => error.is_transient(),
            Kind::Denied => matches!(error, PlatformError::Denied { .. }),
            Kind::Invalid => matches!(error, PlatformError::Invalid { .. }),
        };
        assert!(is_it, "{told}: {error:?}");
        assert!(error_chain(&error).contains(told), "{}", error_chain(&error));
        assert!(!format!("{error:?}").contains("hunter2"));
        let asked = &server.asked()[0];
        assert_eq!(asked.line, "POST /base/api/v2/alerts");
        assert_eq!(asked.header("authorization"), Some("Bearer hunter2"));
    }
}

#[tokio::test]
async fn an_address_that_is_not_its_own_is_the_configurations_fault() {
    let url = Services::running().alertmanager().url.clone();
    let mut settings = settings(&url, "x");
    settings["url"] = json!(format!("{url}/nowhere"));
    let notifier = build(&settings).expect("a notifier");
    let error = notifier.notify(&samples::notification("m")).await.expect_err("no such path");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn basic_credentials_are_sent() {
    let server = Server::new(&[Reply::status(200)]);
    let mut settings = settings(&server.url().to_string(), "x");
    settings["username"] = json!("mloop");
    settings["password_file"] = json!("password");
    let notifier = build(&settings).expect("a notifier");
    notifier.notify(&samples::notification("m")).await.expect("posted");
    // mloop:hunter2
    let expected = "Basic bWxvb3A6aHVudGVyMg==";
    assert_eq!(server.asked()[0].header("authorization"), Some(expected));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, told) in [
        (json!({}), "url"),
        (json!({"url": "alerts.example.org"}), "url"),
        (json!({"url": "http://alerts.example.org"}), "allow_http"),
        (json!({"url": "https://a.example.org", "labels": {"severity": "x"}}), "labels.severity"),
        (json!({"url": "https://a.example.org", "labels": {"te-am": "x"}}), "labels.te-am"),
        (json!({"url": "https://a.example.org", "active_minutes": 0}), "active_minutes"),
        (json!({"url": "https://a.example.org", "username": "u"}), "username"),
        (json!({"url": "https://a.example.org", "password_env": "P"}), "username"),
        (
            json!({"url": "https://a.example.org", "username": "u", "password_env": "P", "token_env": "T"}),
            "username",
        ),
    ] {
        let Err(error) = build(&settings) else { panic!("{settings} was taken") };
        assert!(error.contains(told), "{settings}: {error}");
    }
    let plain = json!({"url": "http://alerts.example.org", "http": {"allow_http": true}});
    assert!(build(&plain).is_ok());
}
