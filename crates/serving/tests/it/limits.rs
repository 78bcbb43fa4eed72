//! What slow, greedy and many callers can make the server do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

#[test]
fn a_full_queue_answers_503_at_once_and_ping_still_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = start_ready(folder.path(), |settings| settings.limits.queue = 1);
    let body = tiny_image(1);
    let headers = [JSON];
    let call = Call::post("/invocations", &headers, body.as_bytes());
    let slow = call.begin(server.addresses.listen, 5).expect("sends");
    server.await_in_flight("default", 1);

    let refused = server.invoke("/invocations");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.code(), "overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    let began = Instant::now();
    assert_eq!(server.get("/ping").status, 200);
    assert!(began.elapsed() < Duration::from_secs(2));

    assert_eq!(slow.finish().expect("answers").status, 200);
    assert_eq!(server.invoke("/invocations").status, 200);
}

#[test]
fn a_body_that_does_not_arrive_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = start_ready(folder.path(), |settings| {
        settings.limits.body_timeout = Duration::from_millis(50);
    });
    let body = tiny_image(1);
    let call = Call::post("/invocations", &[JSON], body.as_bytes());
    let reply = call.begin(server.addresses.listen, 5).expect("sends").reply().expect("answers");
    assert_eq!((reply.status, reply.code().as_str()), (408, "body_timeout"));
}

#[test]
fn a_head_that_does_not_arrive_ends_the_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = start_ready(folder.path(), |settings| {
        settings.limits.head_timeout = Duration::from_millis(50);
    });
    let mut stream = TcpStream::connect(server.addresses.listen).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("sets");
    stream.write_all(b"GET /ping HTT").expect("writes");
    let mut answer = Vec::new();
    // Closed or reset, but not waiting for ever: that would be a time-out here.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn many_callers_at_once_are_all_answered_and_ping_never_waits_behind_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, digest) = start_ready(folder.path(), |_| {});
    std::thread::scope(|scope| {
        let ask =
            || (0..50).filter(|_| digest_header(&server.invoke("/invocations")) == Some(digest));
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(move || ask().count())).collect();
        while !callers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let began = Instant::now();
            assert_eq!(server.get("/ping").status, 200);
            assert!(began.elapsed() < Duration::from_secs(2), "SageMaker's limit");
        }
        let answered: usize = callers.into_iter().map(|caller| caller.join().expect("ends")).sum();
        assert_eq!(answered, 400);
    });
    assert_eq!(server.endpoint("default")["requests"], 400);
    assert_eq!(server.endpoint("default")["in_flight"], 0);
}

#[test]
fn what_has_begun_is_answered_after_the_stop_and_nothing_new_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut server, digest) = start_ready(folder.path(), |_| {});
    let body = tiny_image(1);
    let call = Call::post("/invocations", &[JSON], body.as_bytes());
    let begun = call.begin(server.addresses.listen, 5).expect("sends");
    server.await_in_flight("default", 1);
    drop(server.stop.take());
    let refused = || Call::get("/ping").send(server.addresses.listen).is_err();
    eventually("new connections are refused", refused);
    let reply = begun.finish().expect("answers");
    assert_eq!((reply.status, digest_header(&reply)), (200, Some(digest)));
    assert_eq!(server.stop(), Drained::Clean);
}

#[test]
fn draining_ends_even_when_a_caller_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = start_ready(folder.path(), |settings| {
        settings.limits.drain = Duration::from_millis(100);
    });
    let body = tiny_image(1);
    let call = Call::post("/invocations", &[JSON], body.as_bytes());
    let begun = call.begin(server.addresses.listen, 5).expect("sends");
    server.await_in_flight("default", 1);
    assert_eq!(server.stop(), Drained::CutOff(1));
    assert!(begun.finish().is_err());
}
