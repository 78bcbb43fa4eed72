//! Hands everything through, and counts the HTTP requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;

/// How a request begins.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// What ends the first line of a request; shorter than the head of any.
const VERSION: &[u8] = b" HTTP/1.1";

/// Longest first line that is looked for.
const LINE: usize = 8 << 10;

pub(crate) struct Relay {
    port: u16,
    requests: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// A relay to the service at `http://HOST:PORT`.
    pub(crate) async fn start(url: &str) -> Outcome<Self> {
        let target = url.strip_prefix("http://").ok_or("services of the bench speak plain HTTP")?;
        let target = target.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&target).await {
                    tokio::spawn(pass(client, server, Arc::clone(&counter)));
                }
            }
        });
        Ok(Self { port, requests, task })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, counter: Arc<AtomicU64>) {
    let ((from_client, mut to_client), (mut from_server, to_server)) =
        (client.into_split(), server.into_split());
    let answers = tokio::spawn(async move { copy(&mut from_server, &mut to_client).await.ok() });
    ask(from_client, to_server, &counter).await;
    answers.await.unwrap_or_default();
}

/// Hands requests on. A connection ends like its client's.
async fn ask(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, counter: &AtomicU64) {
    let (mut buffer, mut line) = (vec![0; 64 << 10], vec![]);
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read) else { break };
        for byte in bytes {
            match byte {
                b'\n' => {
                    counter.fetch_add(u64::from(begins_request(&line)), Ordering::Relaxed);
                    line.clear();
                }
                _ if line.len() < LINE => line.push(*byte),
                _ => {}
            }
        }
        if server.write_all(bytes).await.is_err() {
            break;
        }
    }
}

/// Whether this is the first line of a request. The one before it may have ended in the middle of a
/// line, with a body that has no end of its own.
fn begins_request(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(rest) = line.strip_suffix(VERSION) else { return false };
    METHODS.iter().any(|method| {
        let wanted = format!("{method} /");
        rest.windows(wanted.len()).any(|part| part == wanted.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::begins_request;

    #[test]
    fn first_lines_are_told_from_all_others() {
        for line in [&b"GET / HTTP/1.1\r"[..], b"{\"a\": 1}POST /api/2.0/x?y=z HTTP/1.1\r"] {
            assert!(begins_request(line), "{}", String::from_utf8_lossy(line));
        }
        for line in [&b"host: GET /"[..], b"", b"HTTP/1.1 200 OK\r", b"TRACE / HTTP/1.1\r"] {
            assert!(!begins_request(line), "{}", String::from_utf8_lossy(line));
        }
    }
}
