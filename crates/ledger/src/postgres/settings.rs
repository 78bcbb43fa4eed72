//! The settings, checked, and what they say about the server.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mloop_platform::{BuildError, Ledger, PlatformDeps, Spec};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::PostgresLedger;
use super::tls::Trust;

/// Settings of a ledger of kind `postgres`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// Where: `postgresql://USER@HOST:PORT/DATABASE`, without a password and without parameters;
    /// several `HOST:PORT` with commas between them are tried in turn until one takes writes, and
    /// a socket's folder is written `%2Fvar%2Frun%2Fpostgresql`.
    pub url: String,
    /// Environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// File that holds the password; a relative path starts at the configuration's folder.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether the connection is encrypted; `require` unless every host is this machine.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// PEM file with the authorities that sign the server's certificate; those of the operating
    /// system unless set. A relative path starts at the configuration's folder.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection, seconds.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 600))]
    pub connect_timeout_secs: u64,
    /// How long one statement may take, and a transaction lie idle, seconds; waiting for other
    /// processes counts.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 600))]
    pub statement_timeout_secs: u64,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Encrypted; the server's certificate must be signed by a known authority and name the host.
    Require,
    /// In the clear.
    Disable,
}

fn ten() -> u64 {
    10
}

/// A server, as the settings tell.
pub(super) struct Server {
    pub(super) config: tokio_postgres::Config,
    pub(super) trust: Trust,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgreSQL at ")?;
        let ports = self.config.get_ports();
        for (number, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => write!(f, "{comma}{host}:{port}")?,
                Host::Unix(folder) => write!(f, "{comma}{}:{port}", folder.display())?,
            }
        }
        Ok(())
    }
}

impl Server {
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }
}

impl Spec<Ledger, PlatformDeps> for PostgresSettings {
    const KIND: &'static str = "postgres";

    fn build(self, _name: String, deps: &PlatformDeps) -> Result<Ledger, BuildError> {
        Ok(PostgresLedger::new(self.server(deps)?).ledger())
    }
}

impl PostgresSettings {
    fn server(&self, deps: &PlatformDeps) -> Result<Server, BuildError> {
        let connect_timeout = seconds("connect_timeout_secs", self.connect_timeout_secs)?;
        let statement_timeout = seconds("statement_timeout_secs", self.statement_timeout_secs)?;
        let mut config = parse(&self.url)?;
        let file = self.password_file.as_deref();
        if let Some(password) = deps.secret("password", self.password_env.as_deref(), file)? {
            config.password(password.reveal());
        }
        let tls = self.tls(config.get_hosts())?;
        config.ssl_mode(match tls {
            Tls::Require => SslMode::Require,
            Tls::Disable => SslMode::Disable,
        });
        // The kernel finds out about a peer that is gone while nobody speaks to it.
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(statement_timeout);
        config.connect_timeout(connect_timeout).application_name("mloop");
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let ca_file = self.ca_file.as_ref().map(|path| deps.resolve(path));
        let trust = Trust::new(tls, ca_file.as_deref())
            .map_err(|problem| BuildError::invalid("ca_file", problem))?;
        Ok(Server { config, trust, connect_timeout, statement_timeout })
    }

    fn tls(&self, hosts: &[Host]) -> Result<Tls, BuildError> {
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        if self.tls == Some(Tls::Require) && hosts.iter().any(is_socket) {
            let problem =
                "a socket is not encrypted: its file's rights protect it; leave `tls` out";
            return Err(BuildError::invalid("tls", problem));
        }
        let near = if hosts.iter().all(is_near) { Tls::Disable } else { Tls::Require };
        let tls = self.tls.unwrap_or(near);
        if tls == Tls::Disable && self.ca_file.is_some() {
            let problem = "has no meaning without `tls: require`";
            return Err(BuildError::invalid("ca_file", problem));
        }
        if tls == Tls::Disable && near == Tls::Require {
            tracing::warn!("the connection to the ledger is not encrypted, as `tls: disable` says");
        }
        Ok(tls)
    }
}

fn seconds(key: &str, value: u64) -> Result<Duration, BuildError> {
    if (1..=600).contains(&value) {
        return Ok(Duration::from_secs(value));
    }
    Err(BuildError::invalid(key, format!("{value} is no number of seconds from 1 to 600")))
}

/// Whether what is said to that host stays on this machine.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    }
}

/// Takes an address apart. No message repeats it: somebody may have put a password there.
fn parse(url: &str) -> Result<tokio_postgres::Config, BuildError> {
    let refuse = |problem: &str| Err(BuildError::invalid("url", problem));
    let shape = "must be like postgresql://USER@HOST:PORT/DATABASE";
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"));
    let Some(rest) = rest else { return refuse(shape) };
    if rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return refuse(
            "a password may not stand in a file; write `password_env: NAME` or `password_file: PATH`, and the address without it",
        );
    }
    if rest.contains(['?', '#']) {
        return refuse(
            "parameters are not taken from the address; `tls`, `ca_file`, `connect_timeout_secs` and `statement_timeout_secs` are settings of their own",
        );
    }
    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return refuse(shape) };
    let is_named = |name: Option<&str>| name.is_some_and(|name| !name.is_empty());
    if !is_named(config.get_user()) || !is_named(config.get_dbname()) {
        return refuse("must name the user and the database: postgresql://USER@HOST:PORT/DATABASE");
    }
    if config.get_hosts().is_empty() {
        return refuse("must name the host: postgresql://USER@HOST:PORT/DATABASE");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mloop_core::FixedClock;
    use mloop_platform::conformance::samples;

    use super::*;

    fn settings(url: &str) -> PostgresSettings {
        serde_json::from_value(serde_json::json!({ "url": url })).expect("settings")
    }

    fn server(settings: &PostgresSettings) -> Result<Server, BuildError> {
        let clock = Arc::new(FixedClock(samples::day_one()));
        settings.server(&PlatformDeps::new("/nowhere", clock))
    }

    fn refusal(settings: &PostgresSettings) -> String {
        match server(settings) {
            Ok(server) => panic!("{server} was taken"),
            Err(BuildError::Settings { path, message }) => format!("{path}: {message}"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_address_says_who_and_where() {
        let cases = [
            (
                "postgresql://me@db.example.org:5433/loop",
                "PostgreSQL at db.example.org:5433",
                SslMode::Require,
            ),
            ("postgres://me@localhost/loop", "PostgreSQL at localhost:5432", SslMode::Disable),
            ("postgresql://me@127.0.0.1:9/loop", "PostgreSQL at 127.0.0.1:9", SslMode::Disable),
            ("postgresql://me@[::1]:9/loop", "PostgreSQL at ::1:9", SslMode::Disable),
            ("postgresql://me@a:1,b:2/loop", "PostgreSQL at a:1,b:2", SslMode::Require),
            (
                "postgresql://me@localhost:1,b:2/loop",
                "PostgreSQL at localhost:1,b:2",
                SslMode::Require,
            ),
            ("postgresql://me@%2Frun%2Fpg/loop", "PostgreSQL at /run/pg:5432", SslMode::Disable),
        ];
        for (url, told, mode) in cases {
            let server = server(&settings(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((server.user(), server.database()), ("me", "loop"), "{url}");
            assert_eq!(server.to_string(), told);
            assert_eq!(server.config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn a_bad_address_is_refused_and_not_repeated() {
        let cases = [
            ("postgresql://me:hunter2@db/loop", "url: a password may not stand in a file"),
            ("postgresql://me:hunter2@x@db/loop", "url: a password may not stand in a file"),
            ("postgresql://me@db/loop?password=hunter2", "url: parameters are not taken"),
            ("postgresql://me@db:hunter2/loop", "url: must be like postgresql://USER@HOST"),
            ("host=db password=hunter2", "url: must be like postgresql://USER@HOST"),
            ("postgresql://db/loop", "url: must name the user"),
            ("postgresql://me@db", "url: must name the user"),
            ("postgresql://me@/loop", "url: must name the host"),
        ];
        for (url, expected) in cases {
            let told = refusal(&settings(url));
            assert!(told.starts_with(expected), "{url}: {told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let far = || settings("postgresql://me@db/loop");
        let cases = [
            (PostgresSettings { statement_timeout_secs: 0, ..far() }, "statement_timeout_secs: 0"),
            (PostgresSettings { connect_timeout_secs: 601, ..far() }, "connect_timeout_secs: 601"),
            (
                PostgresSettings {
                    tls: Some(Tls::Require),
                    ..settings("postgresql://me@%2Frun/loop")
                },
                "tls: a socket is not encrypted",
            ),
            (
                PostgresSettings {
                    tls: Some(Tls::Disable),
                    ca_file: Some("ca.pem".into()),
                    ..far()
                },
                "ca_file: has no meaning",
            ),
            (
                PostgresSettings { ca_file: Some("ca.pem".into()), ..far() },
                "ca_file: /nowhere/ca.pem cannot be read",
            ),
            (
                PostgresSettings { password_env: Some("NOT_SET".into()), ..far() },
                "password_env: the environment variable `NOT_SET` is not set",
            ),
        ];
        for (settings, expected) in cases {
            let told = refusal(&settings);
            assert!(told.starts_with(expected), "{told}");
        }
        let open = PostgresSettings { tls: Some(Tls::Disable), ..far() };
        let server = server(&open).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(server.config.get_ssl_mode(), SslMode::Disable, "asked for, it is done");
    }
}
