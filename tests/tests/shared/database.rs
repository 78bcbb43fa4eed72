//! Databases of tests.

use mloop_services::Services;

/// A database of its own on the bench's server; removed at the end.
pub(crate) struct Database {
    pub(crate) name: String,
    admin: tokio_postgres::Config,
}

impl Database {
    /// An empty database whose name begins like this.
    pub(crate) fn new(name: &str) -> Self {
        Self::copy_of("template0", name)
    }

    /// A database with all that is in another one, to which nobody may be connected.
    pub(crate) fn copy_of(template: &str, name: &str) -> Self {
        let name = format!("{name}_{}", std::process::id());
        let admin = Services::running().postgres().url.parse().expect("an address");
        let database = Self { name, admin };
        database.ask(&format!("CREATE DATABASE {} TEMPLATE {template}", database.name));
        database
    }

    fn ask(&self, sql: &str) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) =
                self.admin.connect(tokio_postgres::NoTls).await.expect("the bench");
            tokio::spawn(connection);
            client.batch_execute(sql).await.expect("done");
        });
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.ask(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
