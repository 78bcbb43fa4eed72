//! The policy, against a server that misbehaves in every way it names.

mod data;
mod files;
mod service;
mod slow;
mod tls;

use std::error::Error as _;
use std::time::{Duration, Instant};

use mloop_http::testing::{Reply, Server};
use mloop_http::{BaseUrl, Client, HttpError, Method, Policy, Request, Response};
use serde_json::json;

const IDEMPOTENT: [Method; 3] = [Method::Get, Method::Put, Method::Delete];

fn policy() -> Policy {
    Policy {
        timeout: Duration::from_millis(300),
        max_answer_bytes: 1000,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_secs(1),
        ..Policy::default()
    }
}

fn client() -> Client {
    Client::new(policy()).expect("a client")
}

async fn call(server: &Server, method: Method) -> Result<Response, HttpError> {
    client().send(&Request::new(method, &server.url(), &["path"])).await
}

#[tokio::test]
async fn transient_answers_are_repeated_where_that_is_safe() {
    for status in [429, 502, 503, 504] {
        let script = [Reply::status(status), Reply::status(status), Reply::of(200, "", "done")];
        for method in IDEMPOTENT {
            let server = Server::new(&script);
            let answer = call(&server, method).await.expect("an answer");
            assert_eq!((answer.status, &*answer.body), (200, b"done".as_slice()), "{method:?}");
            assert_eq!(server.asked().len(), 3, "{method:?} {status}");
        }
        let server = Server::new(&script);
        let answer = call(&server, Method::Post).await.expect("an answer");
        assert_eq!((answer.status, server.asked().len()), (status, 1), "POST is sent once");
    }
}

#[tokio::test]
async fn the_last_answer_is_returned_when_none_was_better() {
    let server = Server::new(&[Reply::status(503)]);
    let answer = call(&server, Method::Get).await.expect("an answer");
    assert_eq!((answer.status, server.asked().len()), (503, 3));
    let error = answer.success().expect_err("no success");
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn other_answers_are_final() {
    for status in [200, 204, 302, 400, 404, 409, 500] {
        for method in IDEMPOTENT {
            let server = Server::new(&[Reply::status(status), Reply::status(200)]);
            let answer = call(&server, method).await.expect("an answer");
            assert_eq!((answer.status, server.asked().len()), (status, 1), "{method:?}");
            let judged = answer.success();
            assert_eq!(judged.is_ok(), status < 300);
            assert!(!judged.is_err_and(|error| error.is_transient()), "{status}");
        }
    }
}

#[tokio::test]
async fn broken_connections_are_repeated_where_that_is_safe() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for cut in ["", "HTTP/1.1 2", half] {
        let script = [Reply::Cut(cut.to_owned()), Reply::status(200)];
        for method in IDEMPOTENT {
            let server = Server::new(&script);
            let answer = call(&server, method).await.expect("an answer");
            assert_eq!((answer.status, server.asked().len()), (200, 2), "{method:?} {cut:?}");
        }
        let server = Server::new(&script);
        let error = call(&server, Method::Post).await.expect_err("it broke");
        assert!(matches!(error, HttpError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient() && error.source().is_some());
        assert_eq!(server.asked().len(), 1, "POST is sent once: {cut:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_breaks_sends_post_once_too() {
    let server = Server::new(&[Reply::status(200), Reply::Cut(String::new()), Reply::status(200)]);
    let client = client();
    let post = Request::new(Method::Post, &server.url(), &[]);
    client.send(&post).await.expect("an answer");
    client.send(&post).await.expect_err("it broke");
    let connections: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0], "one connection, on which two were sent");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let base: BaseUrl = address.parse().expect("an address");
    let error = client().send(&Request::new(Method::Get, &base, &["x"])).await.expect_err("nobody");
    assert!(matches!(error, HttpError::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert_eq!(error.to_string(), format!("GET {address}/x: no connection, or it broke"));
}

#[tokio::test]
async fn retry_after_is_heeded_as_long_as_it_is_bearable() {
    let told = |secs: &str| Reply::of(503, &format!("retry-after: {secs}\r\n"), "");
    let server = Server::new(&[told("1"), Reply::status(200)]);
    let began = Instant::now();
    assert_eq!(call(&server, Method::Get).await.expect("an answer").status, 200);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");

    let server = Server::new(&[told("2"), Reply::status(200)]);
    let began = Instant::now();
    assert_eq!(call(&server, Method::Get).await.expect("an answer").status, 503);
    assert!(began.elapsed() < Duration::from_secs(2), "too long to wait: the caller decides");
    assert_eq!(server.asked().len(), 1);

    // A moment, by the server's own clock.
    let moment = |text: &str| {
        let date = "date: Sat, 28 Nov 2026 06:00:00 GMT";
        Reply::of(503, &format!("{date}\r\nretry-after: {text}\r\n"), "")
    };
    for (text, status) in
        [("Sat, 28 Nov 2026 06:00:01 GMT", 200), ("Sat, 28 Nov 2026 06:00:02 GMT", 503)]
    {
        let server = Server::new(&[moment(text), Reply::status(200)]);
        let began = Instant::now();
        assert_eq!(call(&server, Method::Get).await.expect("an answer").status, status, "{text}");
        assert_eq!(began.elapsed() >= Duration::from_secs(1), status == 200, "{text}");
    }

    // One without that clock, or nonsense: the own pause.
    let server = Server::new(&[told("Wed, 21 Oct 2099 07:28:00 GMT"), Reply::status(200)]);
    assert_eq!(call(&server, Method::Get).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::new(&[Reply::status(200)]);
        let server =
            Server::new(&[Reply::of(status, &format!("location: {}\r\n", other.url()), "")]);
        let answer = call(&server, Method::Get).await.expect("an answer");
        assert_eq!((answer.status, server.asked().len(), other.asked().len()), (status, 1, 0));
    }
}

#[tokio::test]
async fn connections_are_kept_unless_a_fresh_one_is_asked_for() {
    let server = Server::new(&[Reply::of(200, "", "body")]);
    let client = client();
    for fresh in [false, false, true, true, false, true] {
        let request = Request::new(Method::Post, &server.url(), &[]).fresh_connection(fresh);
        client.clone().send(&request).await.expect("an answer");
    }
    let connections: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2, 0, 3], "the kept one is connection 0");
}

#[tokio::test]
async fn a_silent_server_is_a_time_out() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for text in ["", head] {
        for (method, tries) in [(Method::Post, 1), (Method::Get, 3)] {
            let server = Server::new(&[Reply::Silence(text.to_owned())]);
            let began = Instant::now();
            let error = call(&server, method).await.expect_err("no answer");
            assert!(matches!(error, HttpError::TimedOut { .. }), "{text:?}: {error:?}");
            assert!(
                error.is_transient()
                    && error.to_string().ends_with("no complete answer within 0.3 s"),
                "{error}"
            );
            assert_eq!(server.asked().len(), tries);
            let least = policy().timeout * u32::try_from(tries).expect("few");
            assert!(began.elapsed() >= least, "each try has its whole time");
        }
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit_and_no_further() {
    let fits = "x".repeat(1000);
    let answer = call(&Server::new(&[Reply::of(200, "", &fits)]), Method::Get).await;
    assert_eq!(answer.expect("it fits").body.len(), 1000);

    let promised = "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
    let chunks = format!("{:x}\r\n{}\r\n", 800, "x".repeat(800)).repeat(2);
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    for reply in [
        Reply::of(200, "", &"x".repeat(1001)),
        Reply::Silence(format!("{promised}{}", "x".repeat(1001))),
        Reply::Silence(endless),
    ] {
        let server = Server::new(std::slice::from_ref(&reply));
        let error = call(&server, Method::Get).await.expect_err("too large");
        assert!(matches!(error, HttpError::TooLarge { limit: 1000, .. }), "{error:?}");
        assert!(!error.is_transient());
        assert_eq!(server.asked().len(), 1, "asking again would not make it smaller");
    }
}

#[tokio::test]
async fn what_is_sent_arrives_and_what_is_answered_comes_back() {
    let server = Server::new(&[Reply::of(201, "x-kept: yes\r\n", r#"{"a": 1}"#)]);
    let request = Request::new(Method::Put, &server.url(), &["a/b", "ä?#", "..", "c"])
        .header("x-sent", "yes")
        .json(&json!({"b": 2}));
    let answer = client().send(&request).await.expect("an answer");
    let asked = server.asked().remove(0);
    assert_eq!(asked.line, "PUT /base/a%2Fb/%C3%A4%3F%23/c");
    assert_eq!(asked.body, r#"{"b":2}"#);
    for header in ["x-sent: yes", "content-type: application/json"] {
        assert!(asked.headers.iter().any(|found| found == header), "{:?}", asked.headers);
    }
    assert_eq!((answer.status, answer.header("X-Kept")), (201, Some("yes")));
    assert_eq!(answer.json::<serde_json::Value>().expect("JSON"), json!({"a": 1}));
    assert!(answer.json::<Vec<u8>>().is_err());
}

#[tokio::test]
async fn no_error_holds_what_was_sent_or_answered() {
    const SECRET: &str = "hunter2";
    let large = SECRET.repeat(200);
    let invalid = format!("{SECRET}\n");
    let mut errors = Vec::new();
    for (reply, header) in [
        (Reply::of(401, "", SECRET), SECRET),
        (Reply::of(200, "", &large), SECRET),
        (Reply::Cut(SECRET.to_owned()), SECRET),
        (Reply::Silence(String::new()), SECRET),
        (Reply::status(200), &invalid),
    ] {
        let server = Server::new(&[reply]);
        let request = Request::new(Method::Post, &server.url(), &["path"])
            .header("authorization", header)
            .json(&json!({"password": SECRET}));
        let result = client().send(&request).await;
        errors.push(result.and_then(Response::success).map(drop).expect_err("a failure"));
    }
    let kinds = ["Status", "TooLarge", "Unreachable", "TimedOut", "Invalid"];
    for (error, kind) in errors.iter().zip(kinds) {
        let all = format!("{error:?} {error} {:?}", error.source().map(ToString::to_string));
        assert!(all.starts_with(kind), "{all}");
        assert!(all.contains("POST http://127.0.0.1:"), "it says which call: {all}");
        assert!(!all.contains(SECRET), "{all}");
    }
}

#[test]
fn addresses_are_those_of_services() {
    for text in ["http://127.0.0.1:8080", "http://models.internal/path/", "http://[::1]:1"] {
        let base: BaseUrl = text.parse().expect(text);
        assert_eq!(base.to_string(), text.trim_end_matches('/'));
    }
    for (text, problem) in [
        ("127.0.0.1:8080", "relative URL without a base"),
        ("localhost:8080", "the scheme must be http or https"),
        ("file:///etc/passwd", "the scheme must be http or https"),
        ("http://", "empty host"),
        ("http://user:hunter2@x", "do not belong into an address"),
        ("http://x?token=hunter2", "do not belong into it"),
        ("http://x#hunter2", "do not belong into it"),
    ] {
        let error = text.parse::<BaseUrl>().expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
