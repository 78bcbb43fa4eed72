//! A store that misbehaves: the whole answer, or an error that says what can be done, and never less than
//! was there.

use std::time::{Duration, Instant};

use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_s3::{S3Error, S3Settings};

use crate::common::{TEN, built, captured, head, list, listed, read, refusal, test_bucket, url};

#[tokio::test]
async fn an_object_that_breaks_off_is_gone_on_with_where_it_broke_off() {
    let object = listed().await;
    let server = Server::new(&[
        Reply::Cut(head(0, "tag") + "0123"),
        Reply::Cut(head(4, "tag") + "456"),
        Reply::Text(head(7, "tag") + "789"),
    ]);
    let content = read(captured(&url(&server)).read(&object)).await.expect("whole");
    assert_eq!(content, TEN.as_bytes());
    let asked = server.asked();
    let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, ["bytes=0-9", "bytes=4-9", "bytes=7-9"]);
    assert!(asked.iter().all(|asked| asked.header("if-match") == Some("\"tag\"")));
}

#[tokio::test]
async fn an_object_that_always_breaks_off_is_an_error_and_never_short() {
    let object = listed().await;
    let shorter = head(0, "tag").replace("content-length: 10", "content-length: 4");
    for reply in [
        Reply::Cut(head(0, "tag") + "0123"),
        // Ends in order, with fewer bytes than it announced at first.
        Reply::Text(shorter + "0123"),
        Reply::Silence(head(0, "tag") + "0123"),
    ] {
        // Only from the first byte on: whoever goes on elsewhere is told nothing.
        let server = Server::answering(move |asked, _| match asked.header("range") {
            Some("bytes=0-9") => reply.clone(),
            _ => Reply::status(500),
        });
        let began = Instant::now();
        let error = read(captured(&url(&server)).read(&object)).await.expect_err("half");
        assert!(matches!(error, S3Error::Unavailable { .. }), "{error:?}");
        assert_eq!(server.asked().len(), 3, "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{error}");
    }
}

#[tokio::test]
async fn more_bytes_than_were_listed_are_left_and_other_bytes_refused() {
    let object = listed().await;
    // A store that knows neither `If-Match` nor ranges of its own objects well.
    for (reply, changed) in [
        (Reply::Text(head(0, "another") + TEN), true),
        (refusal(412, "PreconditionFailed"), true),
        (refusal(416, "InvalidRange"), true),
        (refusal(404, "NoSuchKey"), true),
        (refusal(404, "NoSuchBucket"), true),
        (Reply::of(200, "etag: \"tag\"\r\n", TEN), false),
        (Reply::Text(head(0, "tag").replace("0-9/10", "0-4/5")), true),
    ] {
        let server = Server::new(std::slice::from_ref(&reply));
        let error = read(captured(&url(&server)).read(&object)).await.expect_err("refused");
        assert_eq!(matches!(error, S3Error::Changed { .. }), changed, "{reply:?}: {error:?}");
        assert_eq!(matches!(error, S3Error::Refused { .. }), !changed, "{reply:?}: {error:?}");
        assert_eq!(server.asked().len(), 1, "it does not pass: {reply:?}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for fault in [
        Reply::status(500),
        refusal(503, "SlowDown"),
        refusal(400, "RequestTimeout"),
        Reply::Cut(String::new()),
        Reply::Silence(String::new()),
    ] {
        let page = list(&[("captured/a.jsonl", 10)], None);
        let server = Server::new(&[fault.clone(), fault.clone(), page]);
        let found = captured(&url(&server)).list("", "", 10).await.expect("the third try");
        assert_eq!((found.len(), &*found[0].name), (1, "a.jsonl"), "{fault:?}");

        let server = Server::new(std::slice::from_ref(&fault));
        let error = captured(&url(&server)).list("", "", 10).await.expect_err("never");
        assert!(matches!(error, S3Error::Unavailable { .. }), "{error:?}");
        assert_eq!(server.asked().len(), 3, "{fault:?}");
        assert_eq!(error.platform("listing").exit_class(), ExitClass::Transient);
    }
}

#[tokio::test]
async fn a_real_store_behind_a_bad_line_is_listed_and_read() {
    let test = test_bucket().await;
    test.put("captured/a.jsonl", TEN).await;
    let target = test.url.trim_start_matches("http://").to_owned();
    let faults = [
        Fault::CutAfter,
        Fault::Status(500),
        Fault::None,
        Fault::CutBefore,
        Fault::SilentAfter,
        Fault::None,
    ];
    let relay = Relay::scripted(&target, &faults);
    let mut settings = S3Settings::of_test(&relay.url());
    settings.timeout_secs = 2;
    let bucket = built(&settings, &format!("s3://{}/captured", test.name));
    let found = bucket.list("", "", 10).await.expect("listed");
    assert_eq!(read(bucket.read(&found[0])).await.expect("read"), TEN.as_bytes());
    assert_eq!(relay.asked().len(), 6);
}

#[tokio::test]
async fn refusals_say_what_can_be_done_and_nothing_that_was_signed() {
    use ExitClass::{Configuration, Credentials};
    for (reply, class) in [
        (refusal(403, "AccessDenied"), Credentials),
        (refusal(403, "InvalidAccessKeyId"), Credentials),
        (refusal(403, "SignatureDoesNotMatch"), Credentials),
        (refusal(403, "RequestTimeTooSkewed"), Credentials),
        (refusal(400, "ExpiredToken"), Credentials),
        (refusal(401, "Unauthorized"), Credentials),
        (refusal(404, "NoSuchBucket"), Configuration),
        (refusal(301, "PermanentRedirect"), Configuration),
        (refusal(400, "AuthorizationHeaderMalformed"), Configuration),
        (refusal(400, "InvalidBucketName"), Configuration),
        (Reply::of(200, "content-type: text/html\r\n", "<html>hello</html>"), Configuration),
        (Reply::of(200, "", "<ListBucketResult><Contents>"), Configuration),
        (Reply::of(200, "", ""), Configuration),
        (list(&[("captured//a.jsonl", 1)], None), Configuration),
    ] {
        let server = Server::new(std::slice::from_ref(&reply));
        let error = captured(&url(&server)).list("", "", 10).await.expect_err("refused");
        assert_eq!(server.asked().len(), 1, "it does not pass: {reply:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let told = error.platform("listing");
        assert_eq!(told.exit_class(), class, "{reply:?}: {told}");
        assert!(!mloop_core::error_chain(&told).contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_within_the_limits() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = captured(&nobody).list("", "", 10).await.expect_err("refused");
    assert!(matches!(error, S3Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_list_goes_on_over_its_pages_and_ends() {
    let server = Server::new(&[
        list(&[("captured/a.jsonl", 1), ("captured/b.txt", 1)], Some("two")),
        Reply::status(503),
        list(&[], Some("three")),
        list(&[("captured/c.jsonl", 1)], None),
    ]);
    let found = captured(&url(&server)).list("", ".jsonl", 10).await.expect("listed");
    let names: Vec<_> = found.iter().map(|object| &*object.name).collect();
    assert_eq!(names, ["a.jsonl", "c.jsonl"]);
    let asked = server.asked();
    let tokens = ["two", "two", "three"].map(|token| format!("continuation-token={token}"));
    for (asked, token) in asked[1..].iter().zip(tokens) {
        assert!(asked.line.contains(&token), "{}", asked.line);
    }

    // A server that knows no pages gives the first one again and again.
    let server = Server::new(&[list(&[("captured/b.txt", 1)], Some("again"))]);
    let error = captured(&url(&server)).list("", ".jsonl", 10).await.expect_err("no end");
    assert!(error.to_string().contains("does not end"), "{error}");
}
