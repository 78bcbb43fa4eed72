//! The settings, checked before anything is sent.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use mloop_platform::{BuildError, Notifier, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::notifier::EmailNotifier;
use crate::session::{Encryption, Server};

/// Most recipients of one mail: every server must take this many (RFC 5321, 4.5.3.1.8).
const MAX_RECIPIENTS: usize = 100;

/// Settings of kind `email`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// Name or address of the SMTP server; its certificate must be for this name.
    host: String,
    /// Its port; when left out 587, with `tls: implicit` 465, with `tls: none` 25.
    #[serde(default)]
    port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    tls: Tls,
    /// Whether `tls: none` is fine for a server that is not this machine.
    #[serde(default)]
    allow_plain: bool,
    /// Certificates in PEM format that are trusted in addition to the system's.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Name to log in with; none: without logging in.
    #[serde(default)]
    username: Option<String>,
    /// Environment variable that holds the password.
    #[serde(default)]
    password_env: Option<String>,
    /// File that holds the password.
    #[serde(default)]
    password_file: Option<PathBuf>,
    /// Sender, such as `mloop <mloop@example.org>`.
    from: String,
    /// Recipients, at most 100. One that must get each message whatever becomes of the others has a
    /// notifier of its own.
    to: Vec<String>,
    /// How this machine calls itself to the server; its address on loopback when left out.
    #[serde(default)]
    hello_name: Option<String>,
    /// Longest time in seconds to connect; 2 when left out.
    #[serde(default = "two")]
    connect_timeout_secs: u64,
    /// Longest time in seconds that sending one mail may take as a whole; 30 when left out.
    #[serde(default = "thirty")]
    timeout_secs: u64,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// By STARTTLS, without which nothing is sent.
    #[default]
    Starttls,
    /// From the first byte on.
    Implicit,
    /// Not at all.
    None,
}

fn two() -> u64 {
    2
}

fn thirty() -> u64 {
    30
}

impl Spec<Arc<dyn Notifier>, PlatformDeps> for EmailSettings {
    const KIND: &'static str = "email";

    fn build(self, name: String, deps: &PlatformDeps) -> Result<Arc<dyn Notifier>, BuildError> {
        let from = mailbox("from", &self.from)?;
        let to = self.recipients()?;
        let server = Arc::new(self.server(deps)?);
        let clock = Arc::clone(&deps.clock);
        Ok(Arc::new(EmailNotifier { name, server, from, to, only: None, clock }))
    }
}

impl EmailSettings {
    fn recipients(&self) -> Result<Vec<Mailbox>, BuildError> {
        if !(1..=MAX_RECIPIENTS).contains(&self.to.len()) {
            let problem = format!("{} recipients: from 1 to {MAX_RECIPIENTS}", self.to.len());
            return Err(BuildError::invalid("to", problem));
        }
        let all = self.to.iter().enumerate();
        all.map(|(index, text)| mailbox(&format!("to[{index}]"), text)).collect()
    }

    fn server(&self, deps: &PlatformDeps) -> Result<Server, BuildError> {
        let credentials = self.credentials(deps)?;
        let encryption = self.encryption(deps)?;
        let hello = match &self.hello_name {
            None => ClientId::default(),
            Some(name) if is_host_name(name) => ClientId::Domain(name.clone()),
            Some(_) => return Err(BuildError::invalid("hello_name", "is not the name of a host")),
        };
        let port = self.port.unwrap_or(match self.tls {
            Tls::Starttls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        });
        if !is_host_name(&self.host) && self.host.parse::<IpAddr>().is_err() {
            return Err(BuildError::invalid("host", "is neither a host's name nor an address"));
        }
        Ok(Server {
            host: self.host.clone(),
            port,
            encryption,
            credentials,
            hello,
            connect_timeout: seconds("connect_timeout_secs", self.connect_timeout_secs)?,
            timeout: seconds("timeout_secs", self.timeout_secs)?,
        })
    }

    fn credentials(&self, deps: &PlatformDeps) -> Result<Option<Credentials>, BuildError> {
        let (env, file) = (self.password_env.as_deref(), self.password_file.as_deref());
        let password = deps.secret("password", env, file)?;
        match (&self.username, password) {
            (None, None) => Ok(None),
            (Some(name), Some(password)) => {
                Ok(Some(Credentials::new(name.clone(), password.reveal().to_owned())))
            }
            (Some(_), None) => {
                let problem = "`username` needs `password_env` or `password_file`";
                Err(BuildError::invalid("username", problem))
            }
            (None, Some(_)) => {
                let problem = "the password is nobody's: set `username`";
                Err(BuildError::invalid("username", problem))
            }
        }
    }

    fn encryption(&self, deps: &PlatformDeps) -> Result<Encryption, BuildError> {
        match self.tls {
            Tls::Starttls => Ok(Encryption::Starttls(self.parameters(deps)?)),
            Tls::Implicit => Ok(Encryption::Implicit(self.parameters(deps)?)),
            Tls::None if self.allow_plain || is_loopback(&self.host) => Ok(Encryption::None),
            Tls::None => {
                let problem = "`none` to another machine can be read on the way: use `starttls` or \
                               `implicit`, or set `allow_plain: true`";
                Err(BuildError::invalid("tls", problem))
            }
        }
    }

    fn parameters(&self, deps: &PlatformDeps) -> Result<TlsParameters, BuildError> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.ca_file {
            let wrong = |problem| BuildError::invalid("ca_file", problem);
            builder = builder.add_root_certificate(read(&deps.resolve(file)).map_err(wrong)?);
        }
        builder.build().map_err(|error| BuildError::invalid("tls", error.to_string()))
    }
}

fn read(path: &Path) -> Result<Certificate, String> {
    let shown = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Err(format!("{shown} holds no certificate in PEM format"));
    }
    Certificate::from_pem(&pem).map_err(|error| format!("{shown}: {error}"))
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn mailbox(key: &str, text: &str) -> Result<Mailbox, BuildError> {
    let mailbox: Mailbox = text.parse().map_err(|error| {
        let problem = format!(
            "`{text}` is no address ({error}); write `someone@example.org` or `Name <someone@example.org>`"
        );
        BuildError::invalid(key, problem)
    })?;
    if mailbox.email.to_string().is_ascii() {
        return Ok(mailbox);
    }
    let problem = format!(
        "`{text}`: only ASCII addresses are sent to; write a domain of other letters in Punycode (xn--…)"
    );
    Err(BuildError::invalid(key, problem))
}

fn seconds(key: &str, value: u64) -> Result<Duration, BuildError> {
    if !(1..=3_600).contains(&value) {
        return Err(BuildError::invalid(key, format!("{value} is out of range: from 1 to 3600")));
    }
    Ok(Duration::from_secs(value))
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
