//! Prometheus, the Pushgateway and the Alertmanager with a webhook behind it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Ground, entry, service};
use crate::engine::{Launch, Task};
use crate::entries::{Alertmanager, Entry, Prometheus, Pushgateway};
use crate::install::Package;
use crate::process::Stop;
use crate::{BenchError, place};

/// Each is there within a second; the first scrape takes six.
const DEADLINE: Duration = Duration::from_secs(60);

/// One of Debian's three, whose packages are named like their programs.
fn program(ground: &Ground<'_>, name: &'static str) -> Result<PathBuf, BenchError> {
    let package = Package { name, program: name, libraries: false };
    Ok(ground.installer.programs(&package)?.folder.join(name))
}

pub(super) fn pushgateway(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("pushgateway")?;
    let program = program(ground, "prometheus-pushgateway")?;
    let address = ground.address("pushgateway");
    let mut command = service(program, &folder);
    command.arg(format!("--web.listen-address={address}"));
    let pushgateway = Pushgateway { url: format!("http://{address}") };
    Ok(Launch {
        tasks: vec![Task { name: "pushgateway", command, stop: Stop::Everybody }],
        probe: pushgateway.probe(),
        deadline: DEADLINE,
        entry: entry(&pushgateway)?,
    })
}

pub(super) fn alertmanager(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("alertmanager")?;
    let python = ground.environment("smtp", "smtp")?;
    let program = with_templates(program(ground, "prometheus-alertmanager")?, &folder)?;
    let (address, webhook) = (ground.address("alertmanager"), ground.address("webhook"));
    let received = folder.join("received.jsonl");
    place::write(&received, "")?;
    let settings = folder.join("alertmanager.yml");
    place::write(
        &settings,
        &format!(
            "route: {{ receiver: bench, group_by: ['...'], group_wait: 0s, group_interval: 1s }}\n\
             receivers:\n- name: bench\n  webhook_configs:\n  - url: http://{webhook}/\n"
        ),
    )?;
    let mut command = service(program, &folder);
    command.arg(format!("--config.file={}", settings.display()));
    command.arg(format!("--storage.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
    let mut sink = service(python, &folder);
    sink.arg(place::sources().join("webhook_sink.py")).arg("--received").arg(&received);
    sink.args(["--port", &ground.port("webhook").to_string()]);
    let alertmanager = Alertmanager { url: format!("http://{address}"), received };
    Ok(Launch {
        tasks: vec![
            Task { name: "webhook", command: sink, stop: Stop::Everybody },
            Task { name: "alertmanager", command, stop: Stop::Everybody },
        ],
        probe: alertmanager.probe(),
        deadline: DEADLINE,
        entry: entry(&alertmanager)?,
    })
}

/// Where Debian's Alertmanager looks for its templates: compiled in, and there only once the package is
/// installed.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
/// As many bytes, and wherever the process works.
const WORKING_FOLDER: &str = "/proc/self/cwd/./././././././././.";
const _: () = assert!(TEMPLATES.len() == WORKING_FOLDER.len());

/// An Alertmanager that finds its templates: where the package was only unpacked, a copy of the program that
/// looks for them in the folder that it works in.
fn with_templates(program: PathBuf, folder: &Path) -> Result<PathBuf, BenchError> {
    let templates = ["default.tmpl", "email.tmpl"];
    if Path::new(TEMPLATES).join(templates[0]).exists() {
        return Ok(program);
    }
    let copying = |path: &Path| BenchError::io(format!("copying {}", path.display()));
    let root = program.ancestors().nth(3).unwrap_or(&program);
    for name in templates {
        let from = root.join(&TEMPLATES[1..]).join(name);
        fs::copy(&from, folder.join(name)).map_err(copying(&from))?;
    }
    let mut bytes = fs::read(&program).map_err(copying(&program))?;
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(TEMPLATES.len()).position(is_templates) {
        at += found;
        bytes[at..at + TEMPLATES.len()].copy_from_slice(WORKING_FOLDER.as_bytes());
    }
    let own = folder.join("alertmanager");
    let write = || {
        fs::write(&own, bytes)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755))
    };
    write().map_err(copying(&own))?;
    Ok(own)
}

fn is_templates(bytes: &[u8]) -> bool {
    bytes == TEMPLATES.as_bytes()
}

pub(super) fn prometheus(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("prometheus")?;
    let program = program(ground, "prometheus")?;
    let address = ground.address("prometheus");
    let settings = folder.join("prometheus.yml");
    let (pushed, alerts) = (ground.address("pushgateway"), ground.address("alertmanager"));
    place::write(
        &settings,
        &format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             storage: {{ tsdb: {{ out_of_order_time_window: 3h }} }}\n\
             alerting:\n  alertmanagers:\n  - static_configs: [{{ targets: ['{alerts}'] }}]\n\
             rule_files: ['rules/*.yml']\n\
             scrape_configs:\n\
             - job_name: pushgateway\n  honor_labels: true\n  \
               static_configs: [{{ targets: ['{pushed}'] }}]\n\
             - job_name: prometheus\n  static_configs: [{{ targets: ['{address}'] }}]\n"
        ),
    )?;
    let mut command = service(program, &folder);
    command.arg(format!("--config.file={}", settings.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address={address}")).args([
        "--storage.tsdb.retention.time=1d",
        "--web.enable-lifecycle",
        "--web.enable-remote-write-receiver",
    ]);
    let prometheus = Prometheus { url: format!("http://{address}") };
    Ok(Launch {
        tasks: vec![Task { name: "prometheus", command, stop: Stop::Everybody }],
        probe: prometheus.probe(),
        deadline: DEADLINE,
        entry: entry(&prometheus)?,
    })
}
