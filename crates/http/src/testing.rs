//! Servers that misbehave as they are told, for the fault tests of every adapter: one that answers by
//! itself, and a relay in front of a real one.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::BaseUrl;

/// How long a silent server keeps its caller waiting, at most.
const SILENCE: Duration = Duration::from_secs(60);

/// What the server does about a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Writes this and keeps the connection.
    Text(String),
    /// Writes this (maybe nothing) and closes the connection.
    Cut(String),
    /// Writes this (maybe nothing) and keeps the caller waiting.
    Silence(String),
}

impl Reply {
    /// A whole answer with further header lines, each ended by `\r\n`.
    #[must_use]
    pub fn of(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Text(format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// An answer without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::of(status, "", "")
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::of(status, "content-type: application/json\r\n", &body.to_string())
    }
}

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Number of the connection, from 0.
    pub connection: usize,
    /// Such as `GET /path`.
    pub line: String,
    /// Header lines, names in lower case.
    pub headers: Vec<String>,
    /// The body, as far as it is text.
    pub body: String,
    bytes: Vec<u8>,
}

impl Asked {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

type Answer = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A server that answers by a script or a rule; its threads end with the test program.
pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers the first request with the first reply and so on; the last one stays.
    #[must_use]
    pub fn new(script: &[Reply]) -> Self {
        let script = script.to_vec();
        let last = script.last().cloned().unwrap_or_else(|| Reply::status(500));
        Self::answering(move |_, number| script.get(number).unwrap_or(&last).clone())
    }

    /// Answers each request, of which this is the so-manyth from 0, by a rule.
    ///
    /// # Panics
    /// When this machine has no free port.
    #[must_use]
    pub fn answering(rule: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, rule): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(rule));
        let address = listen(move |connection, stream| {
            serve(connection, stream, &kept, rule.as_ref());
        });
        Self { address, asked }
    }

    /// Where it listens, with a path, so that paths are joined rather than replaced.
    ///
    /// # Panics
    /// Never: it is an address.
    #[must_use]
    pub fn url(&self) -> BaseUrl {
        format!("http://{}/base/", self.address).parse().expect("an address")
    }

    /// Where it listens: host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes connections, each on a thread of its own; gives the address.
fn listen(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let handle = Arc::clone(&handle);
            if let Ok(stream) = stream {
                thread::spawn(move || handle(connection, stream));
            }
        }
    });
    address
}

fn serve(connection: usize, mut stream: TcpStream, kept: &Mutex<Vec<Asked>>, rule: &Answer) {
    let Ok(readable) = stream.try_clone() else { return };
    let mut reader = BufReader::new(readable);
    while let Some(asked) = read(connection, &mut reader) {
        let number = {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(asked.clone());
            kept.len() - 1
        };
        let reply = rule(&asked, number);
        let (Reply::Text(text) | Reply::Cut(text) | Reply::Silence(text)) = &reply;
        // A caller that has heard enough hangs up.
        drop(stream.write_all(text.as_bytes()));
        match reply {
            Reply::Text(_) if asked.header("connection") == Some("close") => return,
            Reply::Text(_) => {}
            Reply::Cut(_) => return drop(stream.shutdown(Shutdown::Both)),
            Reply::Silence(_) => thread::sleep(SILENCE),
        }
    }
}

/// Reads one request with the body that its length announces; chunked ones too.
fn read(connection: usize, reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0).trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines
        .into_iter()
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}: {}", name.to_ascii_lowercase(), value.trim()),
            None => line,
        })
        .collect();
    let value = |name: &str| headers.iter().find_map(|line| line.strip_prefix(name));
    let expects = value("expect: ").is_some();
    if expects {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let bytes = match value("content-length: ") {
        Some(length) => {
            let mut body = vec![0; length.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            body
        }
        None if value("transfer-encoding: ").is_some() => chunks(reader)?,
        None => vec![],
    };
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Some(Asked { connection, line, headers, body, bytes })
}

fn chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut part = vec![0; length + 2];
        reader.read_exact(&mut part).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(part.get(..length)?);
    }
}

/// What a relay does about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Hands it on, and the answer back.
    None,
    /// Closes the connection before the service heard of it.
    CutBefore,
    /// Lets the service do it, and closes the connection in place of its answer.
    CutAfter,
    /// Answers with this status; the service does not hear of it.
    Status(u16),
    /// Lets the service do it, and answers with this status.
    StatusAfter(u16),
    /// Never answers; the service does not hear of it.
    Silent,
    /// Lets the service do it, and never answers.
    SilentAfter,
}

type Rule = dyn Fn(&Asked) -> Fault + Send + Sync;

/// Stands in front of a real service and spoils what it is told to. Its threads end with the program.
pub struct Relay {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    kept_waiting: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay in front of the service at `host:port`; `rule` says what becomes of each request.
    ///
    /// # Panics
    /// When this machine has no free port.
    #[must_use]
    pub fn new(target: &str, rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, rule): (_, Arc<Rule>) = (Arc::clone(&asked), Arc::new(rule));
        let target = target.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let kept_waiting = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&kept_waiting);
        let address = listen(move |connection, stream| {
            drop(relay(connection, stream, &target, &kept, rule.as_ref(), &waiting));
        });
        Self { address, asked, kept_waiting }
    }

    /// A relay that spoils requests by their number, from 0, and hands on all later ones.
    #[must_use]
    pub fn scripted(target: &str, faults: &[Fault]) -> Self {
        let faults = Mutex::new(VecDeque::from(faults.to_vec()));
        Self::new(target, move |_| {
            let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
            faults.pop_front().unwrap_or(Fault::None)
        })
    }

    /// Where it listens, as an address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many callers were left without an answer so far, all that the service did for them done.
    #[must_use]
    pub fn kept_waiting(&self) -> usize {
        self.kept_waiting.load(Ordering::SeqCst)
    }

    /// What passed by so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn relay(
    connection: usize,
    mut stream: TcpStream,
    target: &str,
    kept: &Mutex<Vec<Asked>>,
    rule: &Rule,
    waiting: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(asked) = read(connection, &mut reader) {
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        match rule(&asked) {
            Fault::None => {
                let answer = hand_on(target, &asked)?;
                stream.write_all(&answer)?;
                // The service's answer ends with its connection, and so does this one.
                return stream.shutdown(Shutdown::Both);
            }
            Fault::CutBefore => return stream.shutdown(Shutdown::Both),
            Fault::CutAfter => {
                hand_on(target, &asked)?;
                return stream.shutdown(Shutdown::Both);
            }
            Fault::Status(status) => say(&mut stream, status)?,
            Fault::StatusAfter(status) => {
                hand_on(target, &asked)?;
                say(&mut stream, status)?;
            }
            fault @ (Fault::Silent | Fault::SilentAfter) => {
                if fault == Fault::SilentAfter {
                    hand_on(target, &asked)?;
                }
                waiting.fetch_add(1, Ordering::SeqCst);
                thread::sleep(SILENCE);
            }
        }
    }
    Ok(())
}

fn say(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let Reply::Text(text) = Reply::status(status) else { return Ok(()) };
    stream.write_all(text.as_bytes())
}

/// Sends the request to the service over a connection of its own; the whole answer as it came.
fn hand_on(target: &str, asked: &Asked) -> std::io::Result<Vec<u8>> {
    let mut service = TcpStream::connect(target)?;
    let mut head = format!("{} HTTP/1.1\r\nconnection: close\r\n", asked.line);
    let dropped = ["connection: ", "transfer-encoding: ", "content-length: ", "expect: "];
    for line in
        asked.headers.iter().filter(|line| !dropped.iter().any(|name| line.starts_with(name)))
    {
        // The service must see the address that it knows itself by.
        let line = if line.starts_with("host: ") { &format!("host: {target}") } else { line };
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", asked.bytes.len()));
    service.write_all(head.as_bytes())?;
    service.write_all(&asked.bytes)?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer)?;
    Ok(answer)
}
