//! AWS as moto plays it.

use std::time::Duration;

use super::{Ground, entry, service};
use crate::BenchError;
use crate::engine::{Launch, Task};
use crate::entries::{Entry, Moto};
use crate::process::Stop;

pub(super) fn prepare(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("moto")?;
    let python = ground.environment("moto", "boto3")?;
    let port = ground.port("moto").to_string();
    let mut command = service(python.with_file_name("moto_server"), &folder);
    command.args(["-H", "127.0.0.1", "-p", &port]);
    let moto = Moto { url: format!("http://127.0.0.1:{port}") };
    Ok(Launch {
        tasks: vec![Task { name: "moto", command, stop: Stop::Everybody }],
        probe: moto.probe(),
        deadline: Duration::from_secs(120),
        entry: entry(&moto)?,
    })
}
