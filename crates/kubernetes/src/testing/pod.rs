//! A pod as a process of this machine: its files, its command, its end.
//!
//! There are no containers, so the command's program must be one of this machine. Paths of volumes, and
//! that of the termination message, are replaced in the command and in the environment by those of
//! folders that stand for them; that for `/tmp` is `TMPDIR`, since files of this machine may be below.
//! User, limits and security context are not enforced.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::manifest::CONTAINER;

/// The end of the termination message that a kubelet keeps, in bytes.
const MESSAGE_BYTES: u64 = 4096;

/// Where files of this machine may be, so that it is not replaced.
const TMP: &str = "/tmp";

/// Exit code of a container that could not be started.
pub(super) const NOT_STARTED: i32 = 128;

/// What pods find in the namespace: by name, files or keys with their contents.
#[derive(Default)]
pub(super) struct Given {
    pub(super) config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) secrets: BTreeMap<String, BTreeMap<String, String>>,
}

/// The training container of a pod, at work.
pub(super) struct Container {
    child: Child,
    message: PathBuf,
    /// From the order to stop until it is killed.
    pub(super) grace: Duration,
    /// Gone with the pod.
    _folder: TempDir,
}

impl Container {
    /// Starts the training container of a pod. Claims are folders in `claims`, which outlive it.
    pub(super) fn start(pod: &Value, given: &Given, claims: &Path) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let container = containers.into_iter().find(|one| one["name"] == CONTAINER);
        let container = container.ok_or("no container that trains")?;
        let mut places = places(pod, container, given, folder.path(), claims)?;
        let message = folder.path().join("termination-log");
        File::create(&message).map_err(|error| error.to_string())?;
        places.push((text(&container["terminationMessagePath"]), message.clone()));
        let words = container["command"].as_array().into_iter().flatten();
        let words: Vec<String> = words.map(|word| here(&text(word), &places)).collect();
        let [program, arguments @ ..] = words.as_slice() else {
            return Err("no command, and this node has no images".to_owned());
        };
        let mut command = Command::new(program);
        // Of this machine a container would see nothing.
        command.args(arguments).env_clear().envs(environment(container, given, &places)?);
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        Ok(Self { child, message, grace: Duration::from_secs(grace), _folder: folder })
    }

    /// Exit code and termination message, once it has ended.
    pub(super) fn ended(&mut self) -> Option<(i32, String)> {
        let status = self.child.try_wait().ok()??;
        Some((exit_code(status), tail(&self.message).unwrap_or_default()))
    }

    /// SIGTERM.
    pub(super) fn stop(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended meanwhile is what is wanted.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
    }

    /// SIGKILL, and its end.
    pub(super) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// As a shell and a kubelet tell a death by signal.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES)))?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Paths in the container, and the folders that stand for them.
type Places = Vec<(String, PathBuf)>;

/// A word, its path replaced if it is one within a volume.
fn here(word: &str, places: &Places) -> String {
    let place = places.iter().find_map(|(path, folder)| {
        let rest = word.strip_prefix(path.as_str()).filter(|_| path != TMP)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", folder.display()))
    });
    place.unwrap_or_else(|| word.to_owned())
}

/// Fills the volumes that the container mounts.
fn places(
    pod: &Value,
    container: &Value,
    given: &Given,
    folder: &Path,
    claims: &Path,
) -> Result<Places, String> {
    let mut places = vec![];
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let name = text(&mount["name"]);
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let volume = volumes.into_iter().find(|volume| volume["name"] == *name);
        let volume = volume.ok_or_else(|| format!("no volume {name}"))?;
        let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
        let at = claim.map_or_else(|| folder.join(&name), |claim| claims.join(claim));
        fs::create_dir_all(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        for (file, text) in files(pod, volume, given)? {
            fs::write(at.join(&file), text).map_err(|error| format!("{file}: {error}"))?;
        }
        places.push((text(&mount["mountPath"]), at));
    }
    Ok(places)
}

/// The files that a volume brings.
fn files(pod: &Value, volume: &Value, given: &Given) -> Result<BTreeMap<String, String>, String> {
    if let Some(name) = volume["configMap"]["name"].as_str() {
        let found = given.config_maps.get(name).cloned();
        return found.ok_or_else(|| format!("configmap \"{name}\" not found"));
    }
    let items = volume["downwardAPI"]["items"].as_array().into_iter().flatten();
    let annotation = |item: &Value| {
        let path = text(&item["fieldRef"]["fieldPath"]);
        let key = path.strip_prefix("metadata.annotations['")?.strip_suffix("']")?.to_owned();
        Some((text(&item["path"]), text(&pod["metadata"]["annotations"][key])))
    };
    items.map(|item| annotation(item).ok_or_else(|| format!("unknown field {item}"))).collect()
}

fn environment(
    container: &Value,
    given: &Given,
    places: &Places,
) -> Result<BTreeMap<String, String>, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let tmp = places.iter().find(|(path, _)| path == TMP);
    all.extend(tmp.map(|(_, folder)| ("TMPDIR".to_owned(), folder.display().to_string())));
    for variable in container["env"].as_array().into_iter().flatten() {
        let reference = &variable["valueFrom"]["secretKeyRef"];
        let value = match (reference["name"].as_str(), reference["key"].as_str()) {
            (Some(name), Some(key)) => {
                let found = given.secrets.get(name).and_then(|secret| secret.get(key)).cloned();
                found.ok_or_else(|| format!("secret \"{name}\" with key \"{key}\" not found"))?
            }
            _ => here(&text(&variable["value"]), places),
        };
        all.insert(text(&variable["name"]), value);
    }
    Ok(all)
}
