//! The SMTP server: `tests/services/smtp_sink.py` over aiosmtpd.

use std::time::Duration;

use super::{Ground, entry, random, service};
use crate::engine::{Launch, Task};
use crate::entries::{Entry, Smtp};
use crate::process::Stop;
use crate::{BenchError, place};

pub(super) fn prepare(ground: &Ground<'_>) -> Result<Launch, BenchError> {
    let folder = ground.folder("smtp")?;
    let python = ground.environment("smtp", "smtp")?;
    let smtp = Smtp {
        host: "localhost".to_owned(),
        port: ground.port("smtp"),
        username: "mloop".to_owned(),
        password: random(16)?,
        ca_file: folder.join("ca.pem"),
        mailbox: folder.join("mailbox"),
    };
    place::make(&smtp.mailbox)?;
    let mut command = service(python, &folder);
    command.arg(place::sources().join("smtp_sink.py")).args(["--username", &smtp.username]);
    command.args(["--port", &smtp.port.to_string(), "--mailbox"]).arg(&smtp.mailbox);
    command.arg("--ca-file").arg(&smtp.ca_file).env("SMTP_SINK_PASSWORD", &smtp.password);
    Ok(Launch {
        tasks: vec![Task { name: "smtp", command, stop: Stop::Everybody }],
        probe: smtp.probe(),
        deadline: Duration::from_secs(60),
        entry: entry(&smtp)?,
    })
}
