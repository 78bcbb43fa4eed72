//! Files that are sent and received in a stream.

use std::time::Duration;

use mloop_core::Sha256Digest;
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_http::{BaseUrl, Client, HttpError, Method, Policy, Received, Request};

fn client() -> Client {
    let policy = Policy {
        timeout: Duration::from_millis(500),
        max_answer_bytes: 10,
        first_pause: Duration::from_millis(2),
        ..Policy::default()
    };
    Client::new(policy).expect("a client")
}

#[tokio::test]
async fn a_file_is_sent_whole_again_after_a_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights");
    let content = "0123456789".repeat(50_000);
    std::fs::write(&path, &content).expect("written");
    let server = Server::new(&[Reply::Cut(String::new()), Reply::status(200)]);
    let request = Request::new(Method::Put, &server.url(), &["weights"]).file("x/y", &path);
    assert_eq!(client().send(&request).await.expect("an answer").status, 200);
    for asked in server.asked() {
        assert_eq!(asked.header("content-length"), Some("500000"));
        assert_eq!(asked.header("content-type"), Some("x/y"));
        assert!(asked.body == content, "every try sends all of it");
    }
    assert_eq!(server.asked().len(), 2);

    let request = Request::new(Method::Put, &server.url(), &[]).file("x/y", path.join("none"));
    let error = client().send(&request).await.expect_err("there is no such file");
    assert!(matches!(error, HttpError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_is_received_up_to_its_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("received");
    let content = "abc".repeat(100_000);
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n{}", &content[..1000]);
    let server = Server::new(&[Reply::Cut(half), Reply::of(200, "", &content)]);
    let request = Request::new(Method::Get, &server.url(), &["weights"]);
    let answer = client().download(&request, &path, 300_000).await.expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(std::fs::read_to_string(&path).expect("a file") == content, "whole");
    let whole = Received { bytes: 300_000, sha256: Sha256Digest::of(content.as_bytes()) };
    assert_eq!(answer.received, Some(whole), "the digest is of the try that succeeded");

    let error = client().download(&request, &path, 299_999).await.expect_err("too large");
    assert!(matches!(error, HttpError::TooLarge { limit: 299_999, .. }), "{error:?}");

    let missing = Server::new(&[Reply::of(404, "", "gone")]);
    let other = folder.path().join("other");
    let request = Request::new(Method::Get, &missing.url(), &[]);
    let answer = client().download(&request, &other, 9).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (404, b"gone".as_slice()));
    assert!(!other.exists(), "only an answer of success is written");
}

#[tokio::test]
async fn a_digest_is_taken_without_a_file() {
    let content = "abc".repeat(100_000);
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n{}", &content[..1000]);
    let server = Server::new(&[Reply::Cut(half), Reply::of(200, "", &content)]);
    let request = Request::new(Method::Get, &server.url(), &["weights"]);
    let answer = client().digest(&request, 300_000).await.expect("an answer");
    let whole = Received { bytes: 300_000, sha256: Sha256Digest::of(content.as_bytes()) };
    assert_eq!((answer.received, answer.body.len()), (Some(whole), 0));

    let error = client().digest(&request, 299_999).await.expect_err("too large");
    assert!(matches!(error, HttpError::TooLarge { limit: 299_999, .. }), "{error:?}");

    let empty = Server::new(&[Reply::status(200)]);
    let request = Request::new(Method::Get, &empty.url(), &[]);
    let nothing = Received { bytes: 0, sha256: Sha256Digest::of(b"") };
    let answer = client().digest(&request, 0).await.expect("an answer");
    assert_eq!(answer.received, Some(nothing));

    let missing = Server::new(&[Reply::of(404, "", "gone")]);
    let request = Request::new(Method::Get, &missing.url(), &[]);
    let answer = client().digest(&request, 9).await.expect("an answer");
    assert_eq!((answer.received, answer.body.as_slice()), (None, b"gone".as_slice()));
}

#[tokio::test]
async fn a_relay_spoils_what_it_is_told_to() {
    let server = Server::new(&[Reply::of(200, "", "done")]);
    for (fault, status, heard) in [
        (Fault::None, Some(200), 1),
        (Fault::CutBefore, None, 0),
        (Fault::CutAfter, None, 1),
        (Fault::Status(503), Some(503), 0),
        (Fault::StatusAfter(500), Some(500), 1),
        (Fault::Silent, None, 0),
    ] {
        let before = server.asked().len();
        let relay = Relay::scripted(server.address(), &[fault]);
        let base: BaseUrl = relay.url().parse().expect("an address");
        let request = Request::new(Method::Post, &base, &["a"]).body("text/plain", b"b".to_vec());
        let sent = client().send(&request).await;
        assert_eq!(sent.as_ref().ok().map(|answer| answer.status), status, "{fault:?}: {sent:?}");
        assert_eq!(server.asked().len() - before, heard, "{fault:?}");
        assert_eq!(relay.asked().len(), 1);
    }
}
