//! A relay in front of a server that cuts or holds up connections as it is told.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes everything on.
    None,
    /// Cuts the connection instead of passing on the n-th `COMMIT` from now (from 1).
    BeforeCommit(u32),
    /// Passes on the n-th `COMMIT` from now, and cuts the connection instead of passing on its answer.
    AfterCommit(u32),
    /// Passes nothing on any more, and keeps the connections.
    Silence,
}

struct State {
    fault: Fault,
    connections: Vec<TcpStream>,
}

type Shared = Arc<Mutex<State>>;

/// The relay. Its threads end with their connections.
pub(crate) struct Relay {
    pub(crate) port: u16,
    state: Shared,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Fault::None);
        self.cut();
    }
}

impl Relay {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State { fault: Fault::None, connections: vec![] }));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                carry(&client, &server, &shared);
            }
        });
        Self { port, state }
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.state.lock().expect("no panic").fault = fault;
    }

    /// Cuts all connections, now.
    pub(crate) fn cut(&self) {
        for connection in self.state.lock().expect("no panic").connections.drain(..) {
            // It may be closed already.
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

fn carry(client: &TcpStream, server: &TcpStream, state: &Shared) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    for stream in [client, server] {
        stream.set_nodelay(true).expect("an option");
        state.lock().expect("no panic").connections.push(copy(stream));
    }
    for (from, to, is_answer) in [(client, server, false), (server, client, true)] {
        let (mut from, mut to, state) = (copy(from), copy(to), state.clone());
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(length) = from.read(&mut buffer) {
                let bytes = &buffer[..length];
                if length == 0 || !pass(bytes, is_answer, &state, &mut to) {
                    break;
                }
            }
            drop(to.shutdown(Shutdown::Both));
            drop(from.shutdown(Shutdown::Both));
        });
    }
}

/// Passes bytes on, or not; false cuts the connection.
fn pass(bytes: &[u8], is_answer: bool, state: &Shared, to: &mut TcpStream) -> bool {
    while state.lock().expect("no panic").fault == Fault::Silence {
        thread::sleep(Duration::from_millis(5));
    }
    let is_commit = !is_answer && bytes.windows(7).any(|window| window == b"COMMIT\0");
    let mut state = state.lock().expect("no panic");
    match &mut state.fault {
        Fault::BeforeCommit(left) if is_commit => {
            *left -= 1;
            if *left == 0 {
                state.fault = Fault::None;
                return false;
            }
        }
        Fault::AfterCommit(left) if is_commit => *left -= 1,
        Fault::AfterCommit(0) if is_answer => {
            state.fault = Fault::None;
            return false;
        }
        _ => {}
    }
    drop(state);
    to.write_all(bytes).is_ok()
}
