//! PostgreSQL's errors, sorted by what the caller can do.

use std::error::Error as _;

use mloop_platform::PlatformError;
use tokio_postgres::error::SqlState;

use super::settings::Server;
use crate::error::{Failure, unreadable};

/// Whether the connection ended while nothing was under way on it.
pub(super) fn is_cut(failure: &Failure) -> bool {
    match failure {
        Failure::Closed(_) => true,
        Failure::Postgres(error) => {
            error.is_closed() || is_about_the_network(error) || error.code().is_some_and(says_bye)
        }
        _ => false,
    }
}

fn says_bye(code: &SqlState) -> bool {
    [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::IDLE_SESSION_TIMEOUT]
        .contains(&code)
}

/// Whether the operating system told the error. What TLS finds wrong, and what is no message of
/// PostgreSQL, comes in the same type.
fn is_about_the_network(error: &tokio_postgres::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput};
    let cause = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| !matches!(cause.kind(), InvalidData | InvalidInput))
}

/// A failure in the terms of the contract.
pub(super) fn explain(failure: Failure, doing: &str, server: &Server) -> PlatformError {
    match failure {
        Failure::Refused(error) => error,
        Failure::Postgres(error) => match error.code().map(class) {
            Some(class) => from_server(class, error, doing, server),
            None => from_connection(error, doing, server),
        },
        Failure::Late { .. } | Failure::Closed(_) | Failure::File(_) => {
            PlatformError::unavailable(server.to_string(), doing, failure)
        }
        other => unreadable(&other, doing, &format!("the ledger ({server})")),
    }
}

/// What can be done about an error that the server told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Try again.
    Transient,
    /// The password, the user or its rights.
    Denied,
    /// There is no such database.
    NoDatabase,
    /// A value that PostgreSQL cannot hold.
    Value,
    /// The tables are not as this release left them.
    Changed,
}

fn class(code: &SqlState) -> Class {
    if *code == SqlState::INVALID_CATALOG_NAME {
        return Class::NoDatabase;
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return Class::Denied;
    }
    // A server that takes no writes is being replaced, or is the wrong one: time will tell.
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Class::Transient;
    }
    match &code.code()[..2] {
        "28" => Class::Denied,
        // Connection, transaction state, rollback (serialization, deadlock), resources, objects in
        // use, operator (shutdown, cancelled, time-out), system (input and output).
        "08" | "25" | "40" | "53" | "55" | "57" | "58" => Class::Transient,
        "22" => Class::Value,
        _ => Class::Changed,
    }
}

fn from_server(
    class: Class,
    error: tokio_postgres::Error,
    doing: &str,
    server: &Server,
) -> PlatformError {
    let (user, database) = (server.user(), server.database());
    let told = error.source().map_or_else(String::new, ToString::to_string);
    match class {
        Class::Transient => PlatformError::unavailable(server.to_string(), doing, error),
        Class::Denied => PlatformError::Denied {
            system: format!("{server} (user `{user}`, database `{database}`)"),
            doing: doing.to_owned(),
            cause: error.into(),
        },
        Class::NoDatabase => PlatformError::invalid(
            doing,
            format!(
                "{server} has no database `{database}`; make it there: CREATE DATABASE {database} OWNER {user} ENCODING 'UTF8' TEMPLATE template0"
            ),
        ),
        Class::Value => PlatformError::invalid(
            doing,
            format!(
                "{server} cannot hold a value ({told}); a text must not hold a NUL, and the database must be UTF8"
            ),
        ),
        Class::Changed => PlatformError::conflict(
            doing,
            format!(
                "the ledger ({server}, database `{database}`, schema `mloop`) is not as this release left it ({told}); compare it with a backup, and do not change it by hand"
            ),
        ),
    }
}

/// An error that was found on this side of the connection.
fn from_connection(error: tokio_postgres::Error, doing: &str, server: &Server) -> PlatformError {
    if error.is_closed() || is_about_the_network(&error) {
        return PlatformError::unavailable(server.to_string(), doing, error);
    }
    let told = mloop_core::error_chain(&error);
    if told.contains("password missing") {
        return PlatformError::Denied {
            system: format!("{server} (user `{}`)", server.user()),
            doing: format!(
                "{doing}: a password is asked for and none is set; set `password_env` or `password_file`"
            ),
            cause: error.into(),
        };
    }
    if told.contains("certificate") || told.contains("TLS") {
        let problem = format!(
            "{server} cannot be trusted ({told}); `ca_file` must hold the authority that signed its certificate, which must name this host; a server without TLS needs `ssl = on`, or, on a network that nobody listens to, `tls: disable`"
        );
        return PlatformError::invalid(doing, problem);
    }
    PlatformError::invalid(
        doing,
        format!("{server} does not answer as PostgreSQL does ({told}); check host and port"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_can_be_done() {
        let cases = [
            (SqlState::T_R_SERIALIZATION_FAILURE, Class::Transient),
            (SqlState::T_R_DEADLOCK_DETECTED, Class::Transient),
            (SqlState::QUERY_CANCELED, Class::Transient),
            (SqlState::LOCK_NOT_AVAILABLE, Class::Transient),
            (SqlState::TOO_MANY_CONNECTIONS, Class::Transient),
            (SqlState::DISK_FULL, Class::Transient),
            (SqlState::CANNOT_CONNECT_NOW, Class::Transient),
            (SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT, Class::Transient),
            (SqlState::READ_ONLY_SQL_TRANSACTION, Class::Transient),
            (SqlState::INVALID_PASSWORD, Class::Denied),
            (SqlState::INVALID_AUTHORIZATION_SPECIFICATION, Class::Denied),
            (SqlState::INSUFFICIENT_PRIVILEGE, Class::Denied),
            (SqlState::INVALID_CATALOG_NAME, Class::NoDatabase),
            (SqlState::CHARACTER_NOT_IN_REPERTOIRE, Class::Value),
            (SqlState::UNDEFINED_TABLE, Class::Changed),
            (SqlState::UNIQUE_VIOLATION, Class::Changed),
            (SqlState::DATA_CORRUPTED, Class::Changed),
        ];
        for (code, expected) in cases {
            assert_eq!(class(&code), expected, "{}", code.code());
        }
    }
}
