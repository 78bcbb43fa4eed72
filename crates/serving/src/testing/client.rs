//! A client that can do what a well-behaved one never would: stop in the middle of a request.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer, so that a test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Such as `/ping`.
    pub path: &'a str,
    /// Headers beside `host`, `content-length` and `connection`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `error.code` of the body; empty when there is none.
    #[must_use]
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A request of which a part has been sent.
#[derive(Debug)]
pub struct Unfinished {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl<'a> Call<'a> {
    /// `GET` without headers.
    #[must_use]
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: &[], body: b"" }
    }

    /// `POST` of a body with headers.
    #[must_use]
    pub fn post(path: &'a str, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Self {
        Self { method: "POST", path, headers, body }
    }

    /// Sends it over a connection of its own, and reads the answer.
    ///
    /// # Errors
    /// When the connection fails or no whole answer comes.
    pub fn send(&self, to: SocketAddr) -> io::Result<Reply> {
        self.begin(to, self.body.len())?.finish()
    }

    /// Sends the head and the first `bytes` of the body.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn begin(&self, to: SocketAddr, bytes: usize) -> io::Result<Unfinished> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Self { method, path, headers, body } = self;
        let length = body.len();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n"
        );
        for (name, value) in *headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let (now, rest) = body.split_at(bytes.min(length));
        stream.write_all(head.as_bytes())?;
        stream.write_all(now)?;
        Ok(Unfinished { stream, rest: rest.to_vec() })
    }
}

impl Unfinished {
    /// Sends the rest and reads the answer.
    ///
    /// # Errors
    /// When the connection fails or no whole answer comes.
    pub fn finish(mut self) -> io::Result<Reply> {
        self.stream.write_all(&self.rest)?;
        self.reply()
    }

    /// Reads the answer without sending the rest.
    ///
    /// # Errors
    /// When the connection fails or no whole answer comes.
    pub fn reply(mut self) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("no whole answer: {text:?}"))
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(bytes.get(..end)?).ok()?.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: BTreeMap<String, String> = lines.map(header).collect::<Option<_>>()?;
    let body = bytes.get(end + 4..)?.to_vec();
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    (length.is_none_or(|length: usize| length == body.len())).then_some(Reply {
        status,
        headers,
        body,
    })
}
