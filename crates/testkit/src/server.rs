//! A model server on free ports of the loopback, ended with the value that stands for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mloop_core::SystemClock;
use mloop_deployer::{DeployerRegistry, Endpoints};
use mloop_platform::PlatformDeps;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{KitError, program};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct ModelServer {
    child: Child,
    folder: PathBuf,
    listen: String,
    admin: String,
}

impl ModelServer {
    /// Starts a server that keeps its state, capture and log below `folder`.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time.
    pub fn start(folder: &Path) -> Result<Self, KitError> {
        std::fs::create_dir_all(folder).map_err(KitError::io("making the server's folder"))?;
        let address_file = folder.join("address.json");
        // A file of an earlier server would be taken for this one's.
        drop(std::fs::remove_file(&address_file));
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(folder.join("server.log"));
        let log = log.map_err(KitError::io("opening the server's log"))?;
        let mut command = Command::new(program::path("model_server")?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--address-file").arg(&address_file);
        command.arg("--state").arg(folder.join("state"));
        command.arg("--capture").arg(folder.join("capture"));
        command.args(["--capture-max-bytes", "2000000000", "--capture-max-age-days", "7"]);
        command.args(["--capture-flush-ms", "100"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().map_err(KitError::io("starting model_server"))?;
        match wait_for_addresses(&mut child, &address_file) {
            Ok((listen, admin)) => Ok(Self { child, folder: folder.to_path_buf(), listen, admin }),
            Err(error) => {
                end(&mut child, Signal::KILL);
                Err(error)
            }
        }
    }

    /// Base address of the data plane.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Base address of the administration plane.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Root of the captured traffic.
    #[must_use]
    pub fn capture(&self) -> PathBuf {
        self.folder.join("capture")
    }

    /// Id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The platform that deployments see.
    ///
    /// # Errors
    /// When the deployer refuses its settings.
    pub fn endpoints(&self) -> Result<Endpoints, KitError> {
        let mut registry = DeployerRegistry::new("deployer");
        mloop_local::register_deployers(&mut registry);
        let deps = PlatformDeps::new(self.folder.clone(), Arc::new(SystemClock));
        let settings = serde_json::json!({"url": self.url(), "admin_url": self.admin_url()});
        registry
            .build("local", "local", &settings, &deps)
            .map_err(|error| KitError::Failed(error.to_string()))
    }

    /// Kills it without a chance to clean up, as a power cut would.
    pub fn kill(mut self) {
        end(&mut self.child, Signal::KILL);
    }

    /// Leaves it running and forgets it; gives its process id.
    #[must_use]
    pub fn leave(self) -> u32 {
        let pid = self.child.id();
        std::mem::forget(self);
        pid
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        end(&mut self.child, Signal::TERM);
    }
}

fn wait_for_addresses(child: &mut Child, file: &Path) -> Result<(String, String), KitError> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let told =
            std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if let Some(told) = told {
            let address = |key: &str| told[key].as_str().map(str::to_owned);
            if let (Some(listen), Some(admin)) = (address("listen"), address("admin")) {
                return Ok((listen, admin));
            }
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(KitError::Failed(format!(
                "model_server ended with {status}; see server.log"
            )));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(KitError::Failed("model_server does not listen; see server.log".to_owned()))
}

/// Ends a process that is ours, by its id, and waits for it.
fn end(child: &mut Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // One that is gone already is what is wanted.
        kill_process(pid, signal).unwrap_or_default();
    }
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    drop(child.kill());
    drop(child.wait());
}
