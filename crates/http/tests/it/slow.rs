//! Peers that are slow: what moves may take its time, what does not is given up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mloop_http::{BaseUrl, Client, HttpError, Method, Policy, Request};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_millis(500);

fn client(lowest_rate: u64) -> Client {
    let policy = Policy { timeout: LIMIT, lowest_rate, tries: 1, ..Policy::default() };
    Client::new(policy).expect("a client")
}

/// A server for one connection, with small buffers of its own.
fn server<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> BaseUrl {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 << 10).expect("set");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        serve(stream).await;
    });
    format!("http://{address}").parse().expect("an address")
}

/// A file of so many MiB, and its folder.
fn file(mib: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights");
    std::fs::write(&path, vec![7; mib << 20]).expect("written");
    (folder, path)
}

/// Reads `bytes` at about 8 MiB per second.
async fn read_slowly(stream: &mut TcpStream, bytes: usize) {
    let (mut part, mut taken, began) = (vec![0; 64 << 10], 0, Instant::now());
    while taken < bytes {
        let read = stream.read(&mut part).await.expect("read");
        assert!(read > 0, "all is sent");
        taken += read;
        let due = Duration::from_secs_f64(taken as f64 / f64::from(8 << 20));
        sleep(due.saturating_sub(began.elapsed())).await;
    }
}

async fn put(client: &Client, base: &BaseUrl, path: &std::path::Path) -> Result<u16, HttpError> {
    let request = Request::new(Method::Put, base, &["weights"]).file("x/y", path);
    client.send(&request).await.map(|answer| answer.status)
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_file_however_long_it_takes() {
    let (_folder, path) = file(24);
    let base = server(async |mut stream| {
        read_slowly(&mut stream, 24 << 20).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("told");
        sleep(LIMIT).await;
    });
    let began = Instant::now();
    let status = put(&client(64 << 10), &base, &path).await.expect("it moves");
    assert_eq!(status, 200);
    let lasted = began.elapsed();
    assert!(lasted > 4 * LIMIT, "the limit of silence is none of the whole: {lasted:?}");
}

#[tokio::test]
async fn a_reader_that_stops_is_given_up() {
    let (_folder, path) = file(32);
    for read in [0, 1 << 20] {
        let base = server(async move |mut stream| {
            read_slowly(&mut stream, read).await;
            sleep(Duration::from_secs(60)).await;
        });
        let began = Instant::now();
        let error = put(&client(1), &base, &path).await.expect_err("nothing moves");
        assert!(matches!(error, HttpError::TimedOut { after: LIMIT, .. }), "{error:?}");
        let lasted = began.elapsed();
        assert!(lasted >= LIMIT && lasted < 6 * LIMIT, "{lasted:?}");
    }
}

#[tokio::test]
async fn the_answer_to_a_file_is_waited_for_as_long_as_it_may_take_to_be_stored() {
    // 2 MiB: a quarter of a second beside the limit.
    let (_folder, path) = file(2);
    let base = server(async |mut stream| {
        read_slowly(&mut stream, 2 << 20).await;
        sleep(Duration::from_secs(60)).await;
    });
    let began = Instant::now();
    let error = put(&client(64 << 10), &base, &path).await.expect_err("no answer");
    let expected = LIMIT + Duration::from_millis(250);
    assert!(matches!(error, HttpError::TimedOut { after, .. } if after == expected), "{error:?}");
    let lasted = began.elapsed();
    assert!(lasted >= expected && lasted < 6 * LIMIT, "{lasted:?}");
}

/// Answers with `bytes` bytes, one each 50 ms.
async fn trickle(mut stream: TcpStream, bytes: usize) {
    let mut head = vec![0; 4096];
    assert!(stream.read(&mut head).await.expect("read") > 0);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("told");
    for _ in 0..bytes {
        // A caller that has waited enough hangs up.
        if stream.write_all(b"x").await.is_err() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn an_answer_that_trickles_is_given_up_when_it_is_too_slow() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("received");
    for to_file in [true, false] {
        let base = server(|stream| trickle(stream, 1 << 20));
        let request = Request::new(Method::Get, &base, &["weights"]);
        let (client, began) = (client(64 << 10), Instant::now());
        let asked = if to_file {
            client.download(&request, &path, 1 << 20).await
        } else {
            client.digest(&request, 1 << 20).await
        };
        let error = asked.expect_err("it would take a day");
        assert!(matches!(error, HttpError::TooSlow { lowest: 65_536, .. }), "{error:?}");
        assert!(error.is_transient());
        let lasted = began.elapsed();
        assert!(lasted >= LIMIT && lasted < 6 * LIMIT, "{lasted:?}");
    }

    // The same pace is fine where it is allowed, for longer than the limit of silence.
    let base = server(|stream| trickle(stream, 40));
    let request = Request::new(Method::Get, &base, &["weights"]);
    let began = Instant::now();
    let answer = client(1).download(&request, &path, 40).await.expect("it moves");
    assert_eq!(answer.received.expect("a body").bytes, 40);
    assert!(began.elapsed() > 3 * LIMIT);
}

#[tokio::test]
async fn an_answer_of_failure_to_a_file_has_its_time_too() {
    let (_folder, path) = file(1);
    let base = server(async |mut stream| {
        read_slowly(&mut stream, 1 << 20).await;
        let head = b"HTTP/1.1 500 No\r\ncontent-length: 100000\r\n\r\n";
        stream.write_all(head).await.expect("told");
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    let began = Instant::now();
    let error = put(&client(1), &base, &path).await.expect_err("it trickles");
    assert!(matches!(error, HttpError::TimedOut { after: LIMIT, .. }), "{error:?}");
    assert!(began.elapsed() < 6 * LIMIT);
}
