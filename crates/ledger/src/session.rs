//! What the flows of the ledger need of a database: statements within one transaction.
//!
//! The flows (journal, leases, profiles, outbox) are written once, over this trait. Their SQL is what
//! both databases understand; parameters are written `$1`, `$2` …

use crate::error::Failure;
use crate::migrate::Found;
use crate::value::{Row, Value};

/// Which SQL is spoken, where the two differ; in the order of the texts of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// Seconds since 1970 by the database's own clock, at this very statement. PostgreSQL's `now()`
    /// would be the start of the transaction, before it waited for a lock.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "unixepoch('subsec')",
            #[cfg(feature = "postgres")]
            Self::Postgres => "extract(epoch FROM clock_timestamp())::double precision",
        }
    }
}

/// One transaction, or a series of reads.
pub(crate) trait Session {
    fn dialect(&self) -> Dialect;

    /// Waits until no other transaction holds what is named, then holds it to the end of this one.
    /// A flow that decides on what it reads takes one lock before it reads. One alone, so that no
    /// two transactions wait for each other.
    fn lock(&mut self, what: &str) -> Result<(), Failure>;

    /// Runs a statement without an answer.
    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), Failure>;

    /// Runs a query.
    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure>;

    /// Runs statements without parameters.
    fn batch(&mut self, sql: &str) -> Result<(), Failure>;

    /// What there is before the tables are looked into.
    fn found(&mut self) -> Result<Found, Failure>;
}

/// The first row of an answer.
pub(crate) fn first(
    session: &mut dyn Session,
    sql: &str,
    values: &[Value],
) -> Result<Option<Row>, Failure> {
    Ok(session.query(sql, values)?.into_iter().next())
}

/// Inserts one row, given column by column; `conflict` says what becomes of one that is there.
pub(crate) fn insert<const N: usize>(
    session: &mut dyn Session,
    table: &str,
    row: [(&str, Value); N],
    conflict: &str,
) -> Result<(), Failure> {
    let columns = row.each_ref().map(|(column, _)| *column);
    let values = row.map(|(_, value)| value);
    session.execute(&insertion(table, &columns, 1, conflict), &values)
}

/// Most rows of one statement: SQLite takes 32,766 parameters, PostgreSQL 65,535.
const ROWS: usize = 1_000;

/// Inserts rows that are not there yet, in as few statements as possible.
pub(crate) fn insert_all<const N: usize>(
    session: &mut dyn Session,
    table: &str,
    columns: [&str; N],
    rows: &[[Value; N]],
) -> Result<(), Failure> {
    for chunk in rows.chunks(ROWS) {
        let sql = insertion(table, &columns, chunk.len(), "");
        session.execute(&sql, chunk.as_flattened())?;
    }
    Ok(())
}

fn insertion(table: &str, columns: &[&str], rows: usize, conflict: &str) -> String {
    let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
    let row = |number: usize| {
        let first = number * columns.len() + 1;
        let places: Vec<String> =
            (first..first + columns.len()).map(|place| format!("${place}")).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT INTO {table} ({}) VALUES {} {conflict}", names.join(", "), rows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_over_all_rows() {
        let sql = insertion("t", &["a", "group"], 2, "ON CONFLICT DO NOTHING");
        let expected =
            r#"INSERT INTO t ("a", "group") VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING"#;
        assert_eq!(sql, expected);
    }
}
