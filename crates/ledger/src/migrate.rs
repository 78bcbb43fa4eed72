//! The tables, and how they grow: numbered, additive migrations, the same ones in both databases.

use mloop_platform::PlatformError;

use crate::error::Failure;
use crate::session::{Session, first};

/// A step to the next version of the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// What it adds, in the dialect of SQLite and in that of PostgreSQL. It removes and renames
    /// nothing, so that older releases go on working.
    pub(crate) sql: [&'static str; 2],
    /// The oldest schema version whose release may still write afterwards; its own number when
    /// older releases would write rows that lack something.
    pub(crate) min_writer: u32,
    /// The release that brought it.
    pub(crate) release: &'static str,
}

/// All of them; the first makes version 1.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        sql: [
            include_str!("migrations/sqlite/0001_initial.sql"),
            include_str!("migrations/postgres/0001_initial.sql"),
        ],
        min_writer: 1,
        release: "0.1.0",
    },
    // Who does not know revisions would overwrite evidence.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0002_run_revisions.sql"),
            include_str!("migrations/postgres/0002_run_revisions.sql"),
        ],
        min_writer: 2,
        release: "0.1.0",
    },
    // Who does not know ways back would drop them when it saves a deployment, and bring the version
    // forward again that is being taken back.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0003_way_back.sql"),
            include_str!("migrations/postgres/0003_way_back.sql"),
        ],
        min_writer: 3,
        release: "0.1.0",
    },
    // Who does not know whom a message is about would queue what nobody finds.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0004_outbox_subject.sql"),
            include_str!("migrations/postgres/0004_outbox_subject.sql"),
        ],
        min_writer: 4,
        release: "0.1.0",
    },
    // Who does not know which deployment a run is about would tell a verdict that nobody finds told.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0005_run_deployment.sql"),
            include_str!("migrations/postgres/0005_run_deployment.sql"),
        ],
        min_writer: 5,
        release: "0.1.0",
    },
    // Who does not write down its calls would make late ones that nothing explains.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0006_change_calls.sql"),
            include_str!("migrations/postgres/0006_change_calls.sql"),
        ],
        min_writer: 6,
        release: "0.1.0",
    },
    // Who does not know of pauses tries messages too often, and loses none.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0007_outbox_retries.sql"),
            include_str!("migrations/postgres/0007_outbox_retries.sql"),
        ],
        min_writer: 1,
        release: "0.1.0",
    },
    // Who does not know packed profiles cannot read them, and would count merged windows again.
    Migration {
        sql: [
            include_str!("migrations/sqlite/0008_packed_profiles.sql"),
            include_str!("migrations/postgres/0008_packed_profiles.sql"),
        ],
        min_writer: 8,
        release: "0.1.0",
    },
];

/// The version of the schema that this release writes.
pub const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// What a file or database holds, before its tables are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the first write makes a ledger of it.
    Nothing,
    /// A ledger.
    Ledger,
    /// Something else; with what to do.
    Other(String),
}

/// What a ledger says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Level {
    /// Its schema version; 0 when it is empty.
    pub(crate) version: u32,
    /// Below this schema version nobody may write.
    pub(crate) min_writer: u32,
    /// The release to get then.
    pub(crate) release: String,
}

/// Reads how far the ledger is, and refuses what is none and what is too new.
pub(crate) fn check(
    session: &mut dyn Session,
    known: &[Migration],
    doing: &str,
) -> Result<Level, Failure> {
    let level = level(session, doing)?;
    let ours = known.len() as u32;
    if level.min_writer > ours {
        let problem = format!(
            "the ledger has schema {} and may be written by mloop {} or later; this is mloop {} with schema {ours}: upgrade it",
            level.version,
            level.release,
            env!("CARGO_PKG_VERSION"),
        );
        return Err(PlatformError::invalid(doing, problem).into());
    }
    Ok(level)
}

fn level(session: &mut dyn Session, doing: &str) -> Result<Level, Failure> {
    match session.found()? {
        Found::Nothing => return Ok(Level { version: 0, min_writer: 0, release: String::new() }),
        Found::Other(problem) => return Err(PlatformError::conflict(doing, problem).into()),
        Found::Ledger => {}
    }
    let mut number = |key: &str| -> Result<u32, Failure> {
        let number = meta(session, key)?.and_then(|text| text.parse().ok());
        number.ok_or_else(|| {
            let problem = format!(
                "the table `meta` of the ledger does not say its `{key}`; restore a backup"
            );
            PlatformError::conflict(doing, problem).into()
        })
    };
    Ok(Level {
        version: number("schema_version")?,
        min_writer: number("min_writer")?,
        release: meta(session, "min_writer_release")?.unwrap_or_default(),
    })
}

fn meta(session: &mut dyn Session, key: &str) -> Result<Option<String>, Failure> {
    let row = first(session, "SELECT value FROM meta WHERE key = $1", &[key.into()])?;
    row.map(|row| Ok(row.text(0)?.to_owned())).transpose()
}

/// Brings a ledger to the newest version that is known here. The session is one transaction, which
/// others that migrate wait for: of two processes one migrates and the other finds it done.
/// `beginning` is what makes the empty ledger.
pub(crate) fn migrate(
    session: &mut dyn Session,
    beginning: &str,
    known: &[Migration],
    doing: &str,
) -> Result<(), Failure> {
    session.lock("migration")?;
    let before = check(session, known, doing)?;
    if before.version >= known.len() as u32 {
        return Ok(());
    }
    if before.version == 0 {
        session.batch(beginning)?;
    }
    let mut after = before.clone();
    for migration in &known[before.version as usize..] {
        session.batch(migration.sql[session.dialect() as usize])?;
        after.version += 1;
        if migration.min_writer > after.min_writer {
            after.min_writer = migration.min_writer;
            migration.release.clone_into(&mut after.release);
        }
    }
    write_facts(session, &after)?;
    tracing::info!(from = before.version, to = after.version, "ledger migrated");
    Ok(())
}

fn write_facts(session: &mut dyn Session, level: &Level) -> Result<(), Failure> {
    let facts = [
        ("schema_version", level.version.to_string()),
        ("min_writer", level.min_writer.to_string()),
        ("min_writer_release", level.release.clone()),
    ];
    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    for (key, value) in facts {
        session.execute(sql, &[key.into(), value.into()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::{Connection, TransactionBehavior};

    use super::*;
    use crate::sqlite::{BEGINNING, SqliteSession};

    const NEXT: Migration = Migration {
        sql: ["ALTER TABLE runs ADD COLUMN note TEXT"; 2],
        min_writer: 1,
        release: "0.2.0",
    };
    const AFTER: Migration = Migration {
        sql: ["CREATE TABLE extra (x INTEGER) STRICT"; 2],
        min_writer: SCHEMA_VERSION + 2,
        release: "0.3.0",
    };

    fn memory() -> Connection {
        Connection::open_in_memory().expect("memory")
    }

    fn grow(connection: &mut Connection, known: &[Migration]) -> Result<(), Failure> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        migrate(&mut SqliteSession(&transaction), BEGINNING, known, "testing")?;
        Ok(transaction.commit()?)
    }

    fn version(connection: &Connection) -> u32 {
        level(&mut SqliteSession(connection), "testing").expect("a ledger").version
    }

    #[test]
    fn a_ledger_grows_step_by_step_and_keeps_its_rows() {
        let mut connection = memory();
        assert_eq!(version(&connection), 0);
        grow(&mut connection, &MIGRATIONS[..1]).expect("version 1");
        assert_eq!(version(&connection), 1);
        let insert =
            "INSERT INTO runs VALUES ('r', 'k', 'm', 't', NULL, NULL, NULL, 'a', 'a', 'o', '{}')";
        connection.execute(insert, []).expect("a row");
        let all = [MIGRATIONS, &[NEXT, AFTER]].concat();
        for _ in 0..2 {
            grow(&mut connection, &all).expect("all steps, also twice");
        }
        assert_eq!(version(&connection), SCHEMA_VERSION + 2);
        let rows: u32 = connection
            .query_row("SELECT count(*) FROM runs WHERE note IS NULL AND revision = 1", [], |row| {
                row.get(0)
            })
            .expect("the new column");
        assert_eq!(rows, 1);
    }

    #[test]
    fn an_older_release_may_write_as_long_as_min_writer_allows() {
        let mut connection = memory();
        grow(&mut connection, &[MIGRATIONS, &[NEXT]].concat()).expect("one more");
        grow(&mut connection, MIGRATIONS).expect("additive: this release still writes");
        assert_eq!(version(&connection), SCHEMA_VERSION + 1, "and leaves the newer tables alone");

        grow(&mut connection, &[MIGRATIONS, &[NEXT, AFTER]].concat()).expect("two more");
        let refusal = grow(&mut connection, MIGRATIONS).expect_err("too new");
        assert!(matches!(refusal, Failure::Refused(PlatformError::Invalid { .. })), "{refusal:?}");
        assert!(refusal.to_string().contains("mloop 0.3.0 or later"), "{refusal}");
    }

    #[test]
    fn who_would_drop_a_way_back_may_not_write() {
        let mut connection = memory();
        let before = &MIGRATIONS[..2];
        grow(&mut connection, before).expect("the schema that knows no way back");
        let insert = "INSERT INTO deployments VALUES
            ('d', 'm', 't', 2, 'x', 1, 'o', NULL, NULL, '{\"way_back\": \"rolled_back\"}'),
            ('e', 'm', 't', 1, 'y', 1, 'o', 'c', 'switched', '{}')";
        connection.execute(insert, []).expect("rows");
        grow(&mut connection, MIGRATIONS).expect("this release");
        let sql = "SELECT id FROM deployments WHERE way_back = 'rolled_back'";
        let found: String = connection.query_row(sql, [], |row| row.get(0)).expect("one");
        assert_eq!(found, "d", "what stood in the body is found by its column");
        let refusal = grow(&mut connection, before).expect_err("too old");
        assert!(matches!(refusal, Failure::Refused(PlatformError::Invalid { .. })), "{refusal:?}");
    }

    #[test]
    fn messages_that_wait_are_found_by_whom_they_are_about() {
        let mut connection = memory();
        let before = &MIGRATIONS[..3];
        grow(&mut connection, before).expect("the schema that knows no subject");
        let body = "{\"subject\": {\"model\": \"fashion\", \"target\": \"production\"}}";
        let insert = "INSERT INTO outbox (id, body) VALUES ('m', $1)";
        connection.execute(insert, [body]).expect("a row");
        grow(&mut connection, MIGRATIONS).expect("this release");
        let sql = "SELECT id FROM outbox WHERE model = 'fashion' AND target = 'production'";
        let found: String = connection.query_row(sql, [], |row| row.get(0)).expect("one");
        assert_eq!(found, "m");
        let refusal = grow(&mut connection, before).expect_err("too old");
        assert!(matches!(refusal, Failure::Refused(PlatformError::Invalid { .. })), "{refusal:?}");
    }

    #[test]
    fn verdicts_that_were_told_are_found_by_their_deployment() {
        let mut connection = memory();
        let before = &MIGRATIONS[..4];
        grow(&mut connection, before).expect("the schema that knows no deployment of a run");
        let body = "{\"body\": {\"deployment\": \"d\"}}";
        for (id, kind) in [("r", "deployment"), ("s", "monitoring")] {
            let insert =
                "INSERT INTO runs (run_id, kind, model, target, as_of, moment, outcome, body)
                          VALUES ($1, $2, 'm', 't', 'a', 'a', 'switched', $3)";
            connection.execute(insert, [id, kind, body]).expect("a row");
        }
        grow(&mut connection, MIGRATIONS).expect("this release");
        let sql = "SELECT group_concat(run_id) FROM runs WHERE deployment = 'd'";
        let found: String = connection.query_row(sql, [], |row| row.get(0)).expect("one");
        assert_eq!(found, "r");
        let refusal = grow(&mut connection, before).expect_err("too old");
        assert!(matches!(refusal, Failure::Refused(PlatformError::Invalid { .. })), "{refusal:?}");
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut connection = memory();
        grow(&mut connection, MIGRATIONS).expect("a ledger");
        let broken = Migration { sql: ["CREATE TABLE half (x); NONSENSE"; 2], ..NEXT };
        grow(&mut connection, &[MIGRATIONS, &[broken]].concat()).expect_err("broken");
        assert_eq!(version(&connection), SCHEMA_VERSION);
        assert!(connection.prepare("SELECT * FROM half").is_err(), "half a migration");
    }

    #[test]
    fn a_stranger_s_database_is_left_alone() {
        let mut connection = memory();
        connection.execute_batch("CREATE TABLE theirs (x)").expect("a table");
        let refusal = grow(&mut connection, MIGRATIONS).expect_err("a stranger's");
        assert!(matches!(refusal, Failure::Refused(PlatformError::Conflict { .. })), "{refusal:?}");
    }

    /// The tables, indices and columns that a migration makes.
    fn names(sql: &str) -> BTreeSet<&str> {
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default().trim());
        let made = lines.map(|line| {
            let made = line.strip_prefix("ALTER TABLE ").map_or(line, |rest| {
                rest.split_once("ADD COLUMN ").map_or(rest, |(_, column)| column)
            });
            let end = if made.starts_with("CREATE") { '(' } else { ' ' };
            made.split(end).next().unwrap_or_default().trim()
        });
        made.filter(|name| !name.is_empty() && !name.starts_with(')')).collect()
    }

    #[test]
    fn both_databases_have_the_same_tables_and_columns() {
        for migration in MIGRATIONS {
            let [sqlite, postgres] = migration.sql.map(names);
            assert!(!sqlite.is_empty());
            assert_eq!(sqlite, postgres);
        }
    }
}
