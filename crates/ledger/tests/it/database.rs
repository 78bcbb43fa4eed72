//! Databases of the bench's server, one for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use mloop_services::{Postgres, Services};
use serde_json::json;
use tokio_postgres::{Client, NoTls};

use crate::place::Place;

/// A database of its own; removed at the end, with whoever is still connected.
pub(crate) struct Database {
    pub(crate) name: String,
    admin: Place,
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let admin = self.admin.clone();
        // In a thread of its own, where a runtime may be made; after a failure it must not panic.
        drop(std::thread::spawn(move || execute(&admin, &sql)).join());
    }
}

impl Database {
    pub(crate) fn new() -> Self {
        Self::with("ENCODING 'UTF8' TEMPLATE template0")
    }

    /// A database that is made in that way.
    pub(crate) fn with(options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ledger_{}_{number}", std::process::id());
        let admin = admin("postgres");
        execute(&admin, &format!("CREATE DATABASE {name} {options}"));
        Self { name, admin }
    }

    /// As the server's administrator.
    pub(crate) fn place(&self) -> Place {
        admin(&self.name)
    }

    /// The same, at another port: a relay's.
    pub(crate) fn behind(&self, port: u16) -> Place {
        let Place { password, .. } = &self.admin;
        place(&server().admin, password, port, &self.name)
    }
}

/// An empty database, and a ledger's place in it.
pub(crate) fn fresh() -> (Database, Place) {
    let database = Database::new();
    let place = database.place();
    (database, place)
}

/// The bench's server.
pub(crate) fn server() -> Postgres {
    Services::running().postgres().clone()
}

pub(crate) fn admin(database: &str) -> Place {
    let server = server();
    place(&server.admin, &server.password, server.port, database)
}

pub(crate) fn place(user: &str, password: &str, port: u16, database: &str) -> Place {
    let url = format!("postgresql://{user}@127.0.0.1:{port}/{database}");
    let settings = json!({ "url": url, "password_env": "PASSWORD" });
    Place { kind: "postgres", settings, password: password.to_owned() }
}

/// Runs statements, each for itself, in the schema of the ledger.
pub(crate) fn execute(place: &Place, sql: &str) {
    with(place, async |client| client.batch_execute(sql).await.expect("statements"));
}

pub(crate) fn number(place: &Place, sql: &str) -> i64 {
    with(place, async |client| client.query_one(sql, &[]).await.expect("a row").get(0))
}

pub(crate) fn with<T>(place: &Place, work: impl AsyncFnOnce(&Client) -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = connect(place).await;
        client.batch_execute("SET search_path = mloop, pg_temp").await.expect("a path");
        work(&client).await
    })
}

/// A connection of the test, past the ledger.
pub(crate) async fn connect(place: &Place) -> Client {
    let url = place.settings["url"].as_str().expect("an address");
    let mut config: tokio_postgres::Config = url.parse().expect("an address");
    let (client, connection) =
        config.password(&place.password).connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// What the server says to statements that it may refuse.
pub(crate) fn refusal(place: &Place, sql: &str) -> String {
    with(place, async |client| {
        let error = client.batch_execute(sql).await.expect_err("a refusal");
        error.as_db_error().expect("of the server").message().to_owned()
    })
}
