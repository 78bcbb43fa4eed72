//! PostgreSQL: a new cluster at each start.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Ground, entry, random, service};
use crate::engine::{Launch, Task};
use crate::entries::{Entry, Postgres};
use crate::install::{Package, Programs, call};
use crate::process::Stop;
use crate::{BenchError, place};

const PACKAGE: Package = Package { name: "postgresql", program: "postgres", libraries: true };

/// Debian's `nobody`, as whom the server runs when root calls: it refuses to run as root.
const NOBODY: u32 = 65_534;

pub(super) fn prepare(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("postgres")?;
    let programs = ground.installer.programs(&PACKAGE)?;
    let (admin, password) = ("mloop".to_owned(), random(16)?);
    let port = ground.port("postgres");
    let data = folder.join("data");
    place::make(&data)?;
    if is_root() {
        let owner = Some(NOBODY);
        std::os::unix::fs::chown(&data, owner, owner)
            .map_err(BenchError::io(format!("giving {} to nobody", data.display())))?;
    }
    let password_file = folder.join("password");
    place::write(&password_file, &password)?;
    let mut make = unprivileged(&programs, "initdb", &folder);
    make.arg("--pgdata").arg(&data).arg("--pwfile").arg(&password_file);
    make.args(["--username", &admin, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]);
    let made = call(make.arg("--no-sync"));
    std::fs::remove_file(&password_file).map_err(BenchError::io("removing a password file"))?;
    made?;
    let mut command = unprivileged(&programs, "postgres", &folder);
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "shared_buffers=32MB",
        "jit=off",
        // Tests kill clients, not the machine; without this the disk is what they would measure.
        "fsync=off",
    ] {
        command.args(["-c", setting]);
    }
    let url = format!("postgresql://{admin}:{password}@127.0.0.1:{port}/postgres");
    let postgres = Postgres { url, admin, password, port, programs: programs.folder };
    Ok(Launch {
        tasks: vec![Task { name: "postgres", command, stop: Stop::Leader }],
        probe: postgres.probe(),
        deadline: Duration::from_secs(60),
        entry: entry(&postgres)?,
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program that root must not run. As nobody it keeps the right to look into folders that are
/// root's alone, such as a checkout or a cache below /root.
fn unprivileged(programs: &Programs, name: &str, folder: &Path) -> Command {
    let program = programs.folder.join(name);
    let mut command = if is_root() {
        let mut command = service("setpriv", folder);
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
        command.args(["--clear-groups", "--inh-caps=+dac_override"]);
        command.args(["--ambient-caps=+dac_override", "--"]).arg(program);
        command
    } else {
        service(program, folder)
    };
    programs.lend(&mut command);
    command
}
