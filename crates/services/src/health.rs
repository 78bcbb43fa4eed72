//! Asking a service whether it is there, with nothing but the standard library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One question takes no longer than this, connecting and answering each. A scheduler under load
/// may take seconds for its health page.
const PATIENCE: Duration = Duration::from_secs(10);

/// No health page is longer.
const LONGEST: u64 = 64 * 1024;

/// What to ask, and what a healthy service answers.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// GET: status 200, and a text that occurs at least so many times in the answer.
    Http { port: u16, path: String, text: &'static str, times: usize },
    /// The banner of an SMTP server.
    Smtp { port: u16 },
    /// A PostgreSQL server that asks this user to authenticate.
    Postgres { port: u16, username: String },
    /// Nothing to ask: there is no server.
    Nothing,
}

impl Probe {
    /// A GET that is answered with status 200.
    pub(crate) fn page(port: u16, path: &str) -> Self {
        Self::Http { port, path: path.to_owned(), text: "", times: 0 }
    }

    /// Who is asked, for people.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Http { port, .. } => format!("http://127.0.0.1:{port}"),
            Self::Smtp { port } | Self::Postgres { port, .. } => format!("127.0.0.1:{port}"),
            Self::Nothing => String::new(),
        }
    }

    /// Whether somebody listens there, whatever the answer would be.
    pub(crate) fn is_listened_to(&self) -> bool {
        let port = match self {
            Self::Http { port, .. } | Self::Smtp { port } | Self::Postgres { port, .. } => *port,
            Self::Nothing => return false,
        };
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE).is_ok()
    }

    /// Asks once.
    ///
    /// # Errors
    /// What kept the service from giving the healthy answer, for people.
    pub(crate) fn ask(&self) -> Result<(), String> {
        match self {
            Self::Http { port, path, text, times } => {
                let answer = get(*port, path).map_err(|error| error.to_string())?;
                let status = answer.lines().next().unwrap_or_default();
                if status.split(' ').nth(1) != Some("200") {
                    return Err(format!("{path} answers `{status}`"));
                }
                let found = answer.matches(text).take(*times).count();
                if found == *times {
                    Ok(())
                } else {
                    Err(format!("{path} has {text} {found} times"))
                }
            }
            Self::Smtp { port } => {
                let banner = exchange(*port, b"", 4).map_err(|error| error.to_string())?;
                if banner == b"220 " {
                    Ok(())
                } else {
                    Err(String::from_utf8_lossy(&banner).into())
                }
            }
            Self::Postgres { port, username } => {
                let answer = exchange(*port, &startup(username), 1);
                match answer.map_err(|error| error.to_string())?.as_slice() {
                    b"R" => Ok(()),
                    _ => Err("the server does not take connections yet".to_owned()),
                }
            }
            Self::Nothing => Ok(()),
        }
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Head and body of the answer, which may be chunked: good enough to look for a text.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = vec![];
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Says something and reads the first bytes of the answer.
fn exchange(port: u16, said: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    let mut stream = connect(port)?;
    stream.write_all(said)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// PostgreSQL's first message: its length, version 3.0, and who wants in.
fn startup(username: &str) -> Vec<u8> {
    let body = [b"\0\x03\0\0user\0", username.as_bytes(), b"\0database\0postgres\0\0"].concat();
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server for one connection, and its port.
    fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(answer.as_bytes()).expect("sent");
            // Whatever was asked is read, or closing would reset the connection.
            stream.shutdown(std::net::Shutdown::Write).expect("shut");
            drop(stream.read_to_end(&mut vec![]));
        });
        port
    }

    #[test]
    fn only_the_healthy_answer_is_healthy() {
        let page = |text: &'static str, times| {
            move |port| Probe::Http { port, path: "/health".to_owned(), text, times }
        };
        let ok = "HTTP/1.1 200 OK\r\n\r\nhealthy, healthy";
        assert_eq!(page("healthy", 2)(answering(ok)).ask(), Ok(()));
        let few = page("healthy", 3)(answering(ok)).ask().expect_err("one is not healthy");
        assert_eq!(few, "/health has healthy 2 times");
        let starting = page("", 0)(answering("HTTP/1.1 503 Starting\r\n\r\n")).ask();
        assert_eq!(starting, Err("/health answers `HTTP/1.1 503 Starting`".to_owned()));
        assert_eq!(Probe::Smtp { port: answering("220 localhost\r\n") }.ask(), Ok(()));
        assert!(Probe::Smtp { port: answering("421 busy\r\n") }.ask().is_err());
        let postgres = |port| Probe::Postgres { port, username: "mloop".to_owned() };
        assert_eq!(postgres(answering("R...")).ask(), Ok(()));
        assert!(postgres(answering("E...")).ask().is_err());
    }
}
