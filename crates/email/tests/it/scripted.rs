//! An SMTP server without encryption that refuses what it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// No reply at all.
pub(crate) const SILENCE: &str = "(silence)";

/// Answers each step well but for those of the script; its threads end with the test program.
pub(crate) struct Scripted {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Steps are `connect`, the verbs of commands, and `.` for the end of a mail; an empty reply cuts
    /// the connection, [`SILENCE`] leaves it open.
    pub(crate) fn new(script: &[(&str, &str)]) -> Self {
        let mut replies = BTreeMap::from(
            [
                ("connect", "220 ready"),
                ("EHLO", "250-here\r\n250 AUTH PLAIN"),
                ("AUTH", "235 2.7.0 in"),
                ("MAIL", "250 2.1.0 taken"),
                ("RCPT", "250 2.1.5 taken"),
                ("DATA", "354 go on"),
                (".", "250 2.0.0 kept"),
                ("QUIT", "221 2.0.0 bye"),
            ]
            .map(|(step, reply)| (step.to_owned(), reply.to_owned())),
        );
        replies.extend(script.iter().map(|(step, reply)| ((*step).into(), (*reply).into())));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(vec![]));
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            // A client that goes away ends its conversation.
            listener.incoming().flatten().for_each(|stream| drop(talk(&stream, &replies, &kept)));
        });
        Self { port, heard }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Every line so far.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn talk(
    stream: &TcpStream,
    replies: &BTreeMap<String, String>,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let say = |mut stream: &TcpStream, step: &str| {
        let reply = replies.get(step).map_or("500 what?", String::as_str);
        match reply {
            "" => stream.shutdown(std::net::Shutdown::Both),
            SILENCE => Ok(()),
            reply => stream.write_all(format!("{reply}\r\n").as_bytes()),
        }
    };
    say(stream, "connect")?;
    let mut in_mail = false;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
        let step = if in_mail { line.as_str() } else { line.split(' ').next().unwrap_or("") };
        if in_mail && step != "." {
            continue;
        }
        in_mail = step == "DATA" && replies.get("DATA").is_some_and(|reply| reply.starts_with('3'));
        say(stream, step)?;
    }
    Ok(())
}
