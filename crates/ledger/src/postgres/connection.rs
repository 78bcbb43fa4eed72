//! One connection, with the small runtime that drives it.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mloop_platform::PlatformError;
use tokio::runtime::Runtime;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, NoTls, Socket};

use super::settings::Server;
use crate::error::Failure;
use crate::migrate::{MIGRATIONS, SCHEMA_VERSION, check, migrate};
use crate::session::Session as _;

/// How much longer than the server's own limit an answer is waited for: usually the server says
/// itself that the time is up, which tells more.
const GRACE: Duration = Duration::from_secs(2);

/// How long one step of a migration may take. Others wait for their own limit and end as transient.
const MIGRATION: Duration = Duration::from_secs(600);

/// What makes the empty ledger. Someone who may not make schemas can be given an empty one.
const BEGINNING: &str = "
    DO $$ BEGIN
        IF to_regnamespace('mloop') IS NULL THEN CREATE SCHEMA mloop; END IF;
    END $$;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);";

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To see whether the ledger can be used; nothing is made or migrated.
    Look,
    Read,
    Write,
}

/// Why a connection ended, once it did.
type End = Arc<OnceLock<tokio_postgres::Error>>;

/// A connection. Its runtime belongs to nobody else and runs during calls alone, so that no other
/// that ends leaves a call without its timer half-way.
pub(super) struct Connection {
    runtime: Runner,
    client: Client,
    end: End,
    patience: Duration,
    /// The ledger is there, and as new as this release.
    is_ready: bool,
}

/// A runtime that may be dropped anywhere: it is not waited for. The server rolls back what was
/// under way.
struct Runner(Option<Runtime>);

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Runner {
    fn new() -> Result<Self, Failure> {
        Ok(Self(Some(tokio::runtime::Builder::new_current_thread().enable_all().build()?)))
    }

    /// Waits for an answer of the server, but not for ever.
    fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let late = || Failure::Late { seconds: limit.as_secs() };
        let runtime = self.0.as_ref().ok_or_else(late)?;
        let answer = runtime.block_on(async { tokio::time::timeout(limit, call).await });
        Ok(answer.map_err(|_| late())??)
    }

    async fn connect<T>(server: &Server, tls: T, end: End) -> Result<Client, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = server.config.connect(tls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Nobody else sets it.
                end.get_or_init(|| error);
            }
        });
        Ok(client)
    }
}

impl Connection {
    /// Connects.
    pub(super) fn open(server: &Server) -> Result<Self, Failure> {
        let (runtime, end) = (Runner::new()?, End::default());
        let encryption = server.trust.connector().map_err(|problem| {
            Failure::Refused(PlatformError::invalid("connecting to the ledger", problem))
        })?;
        let limit = server.connect_timeout;
        let client = match encryption {
            Some(tls) => runtime.within(limit, Runner::connect(server, tls, end.clone())),
            None => runtime.within(limit, Runner::connect(server, NoTls, end.clone())),
        }?;
        Ok(Self { runtime, client, end, patience: server.statement_timeout, is_ready: false })
    }

    /// Waits for an answer of the server.
    pub(super) fn wait<T>(
        &self,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let answer = self.runtime.within(self.patience + GRACE, call(&self.client));
        answer.map_err(|failure| match &failure {
            Failure::Postgres(error) if error.is_closed() => self.why_closed(failure),
            _ => failure,
        })
    }

    /// What the server said when it closed the connection, if it did.
    fn why_closed(&self, failure: Failure) -> Failure {
        match self.end.get() {
            Some(error) => Failure::Closed(mloop_core::error_chain(error)),
            None => failure,
        }
    }

    /// Begins a transaction, on a ledger that is in order; says whether there is one. Without a
    /// ledger, only writing begins one: it makes the ledger.
    pub(super) fn begin(&mut self, access: Access) -> Result<bool, Failure> {
        if !self.is_ready && !self.get_ready(access)? {
            return Ok(false);
        }
        self.start(access)?;
        Ok(true)
    }

    /// Checks the ledger; makes and migrates it where that is asked for.
    fn get_ready(&mut self, access: Access) -> Result<bool, Failure> {
        let doing = "opening the ledger";
        self.start(Access::Look)?;
        let level = check(self, MIGRATIONS, doing)?;
        self.finish("COMMIT")?;
        self.is_ready = level.version >= SCHEMA_VERSION;
        let is_missing = level.version == 0;
        if self.is_ready || access == Access::Look || (is_missing && access == Access::Read) {
            return Ok(self.is_ready);
        }
        self.start(Access::Write)?;
        self.grow(doing)?;
        self.finish("COMMIT")?;
        self.is_ready = true;
        Ok(true)
    }

    /// Migrates. Waiting for another that migrates has the usual limit, the steps have their own.
    fn grow(&mut self, doing: &str) -> Result<(), Failure> {
        self.lock("migration")?;
        let usual = self.patience;
        let (step, lock) = (MIGRATION.as_millis(), usual.as_millis());
        self.batch(&format!(
            "SET LOCAL statement_timeout = {step}; SET LOCAL lock_timeout = {lock}"
        ))?;
        self.patience = MIGRATION;
        let grown = migrate(self, BEGINNING, MIGRATIONS, doing);
        self.patience = usual;
        grown
    }

    /// Begins. Nothing is set for longer than the transaction, so that poolers that hand connections
    /// around between transactions do no harm; and what was committed survives a power cut whatever
    /// the server's own setting.
    fn start(&mut self, access: Access) -> Result<(), Failure> {
        let mode = if access == Access::Write { "READ WRITE" } else { "READ ONLY" };
        let millis = self.patience.as_millis();
        self.batch(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED {mode};
             SET LOCAL search_path = mloop, pg_temp;
             SET LOCAL statement_timeout = {millis};
             SET LOCAL idle_in_transaction_session_timeout = {millis};
             SELECT set_config('synchronous_commit', 'on', true)
             WHERE current_setting('synchronous_commit') = 'off'"
        ))
    }

    /// Ends a transaction.
    pub(super) fn finish(&mut self, how: &str) -> Result<(), Failure> {
        self.batch(how)
    }
}
