//! The server as its callers see it, each test with a server of its own on a free loopback port.

mod capture;
mod contract;
mod endpoints;
mod limits;
mod start;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mloop_core::metrics::MetricFamily;
use mloop_core::{Sha256Digest, SystemClock};
use mloop_serving::testing::client::{Call, Reply};
use mloop_serving::testing::{tiny_image, write_tiny_version};
use mloop_serving::{Addresses, Drained, Render, ServeError, Server, Settings};
use serde_json::{Value, json};
use tokio::sync::oneshot;

const JSON: (&str, &str) = ("content-type", "application/json");

/// A server on a thread of its own.
struct Running {
    addresses: Addresses,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Drained>>,
}

/// Settings for loopback and free ports.
fn settings() -> Settings {
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    Settings { listen: any, admin: any, ..Settings::new() }
}

fn render() -> Render {
    Arc::new(|families: &[MetricFamily]| format!("{families:#?}"))
}

fn try_start(settings: Settings) -> Result<Running, ServeError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (told, addresses) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            match Server::bind(settings, Arc::new(SystemClock), render()).await {
                Ok(server) => {
                    told.send(Ok(server.addresses())).expect("awaited");
                    server.serve(async { stopped.await.unwrap_or_default() }).await
                }
                Err(error) => {
                    told.send(Err(error)).expect("awaited");
                    Drained::Clean
                }
            }
        })
    });
    let addresses = addresses.recv().expect("told")?;
    Ok(Running { addresses, stop: Some(stop), thread: Some(thread) })
}

fn start(settings: Settings) -> Running {
    try_start(settings).expect("starts")
}

/// A server whose default endpoint serves a tiny version, ready; and the version's digest.
fn start_ready(folder: &Path, change: impl FnOnce(&mut Settings)) -> (Running, Sha256Digest) {
    let (model, digest) = version(folder, 1);
    let mut settings = Settings { model: Some(model), ..settings() };
    change(&mut settings);
    let server = start(settings);
    server.await_ping(200);
    (server, digest)
}

/// A tiny version in a folder of its own.
fn version(folder: &Path, seed: u32) -> (PathBuf, Sha256Digest) {
    let path = folder.join(format!("version-{seed}"));
    let digest = write_tiny_version(&path, seed).expect("writes");
    (path, digest)
}

impl Running {
    fn get(&self, path: &str) -> Reply {
        Call::get(path).send(self.addresses.listen).expect("answers")
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Call::post(path, headers, body).send(self.addresses.listen).expect("answers")
    }

    fn invoke(&self, path: &str) -> Reply {
        self.post(path, &[JSON], tiny_image(9).as_bytes())
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/admin/endpoints{path}");
        let call = Call { method, path: &path, headers: &[JSON], body: body.as_bytes() };
        call.send(self.addresses.admin).expect("answers")
    }

    fn put(&self, name: &str, version: &(PathBuf, Sha256Digest), expected: &Value) -> Reply {
        let body = json!({
            "folder": version.0, "digest": version.1, "version": 7, "expected": expected
        });
        self.admin("PUT", &format!("/{name}"), &body)
    }

    fn endpoint(&self, name: &str) -> Value {
        self.admin("GET", &format!("/{name}"), &Value::Null).json()
    }

    fn await_ping(&self, status: u16) {
        eventually(&format!("/ping answers {status}"), || self.get("/ping").status == status);
    }

    fn await_in_flight(&self, name: &str, count: u64) {
        let what = format!("{count} requests in flight at {name}");
        eventually(&what, || self.endpoint(name)["in_flight"] == count);
    }

    /// Stops, and tells how it ended.
    fn stop(mut self) -> Drained {
        self.end().expect("runs")
    }

    fn end(&mut self) -> Option<Drained> {
        drop(self.stop.take());
        Some(self.thread.take()?.join().expect("no panic"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks again and again until it is so; fails after a while.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn digest_header(reply: &Reply) -> Option<Sha256Digest> {
    let header = reply.headers.get(mloop_core::attributes::CUSTOM_ATTRIBUTES_HEADER)?;
    mloop_core::attributes::digest_of(header)
}
