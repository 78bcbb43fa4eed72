//! Statements on a connection; a transaction is one, too.

use rusqlite::types::{ToSqlOutput, Value as Raw, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::error::Failure;
use crate::migrate::Found;
use crate::session::{Dialect, Session};
use crate::value::{Kind, Row, Value};

/// "mlop": what tells a ledger from other people's SQLite files.
const APPLICATION_ID: i32 = 0x6D6C_6F70;

/// What makes the empty ledger.
pub(crate) const BEGINNING: &str = "
    PRAGMA application_id = 0x6D6C6F70;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;";

/// Statements on that connection.
pub(crate) struct SqliteSession<'a>(pub(crate) &'a Connection);

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Text(text) | Self::Json(text) => ToSqlOutput::Borrowed(text.as_str().into()),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(bytes.as_slice().into()),
            Self::Integer(number) => ToSqlOutput::Owned(Raw::Integer(*number)),
            Self::Real(number) => ToSqlOutput::Owned(Raw::Real(*number)),
            Self::Null(_) => ToSqlOutput::Owned(Raw::Null),
        })
    }
}

/// Parameters as SQLite numbers them.
fn dialect(sql: &str) -> String {
    sql.replace('$', "?")
}

fn value(found: ValueRef<'_>, column: usize) -> Result<Value, Failure> {
    Ok(match found {
        ValueRef::Null => Value::Null(Kind::Text),
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => {
            Value::from(std::str::from_utf8(text).map_err(|_| Failure::Column(column))?)
        }
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    })
}

impl Session for SqliteSession<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    /// A transaction that writes has the write lock from its beginning on, which is all.
    fn lock(&mut self, _what: &str) -> Result<(), Failure> {
        Ok(())
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), Failure> {
        self.0.prepare_cached(&dialect(sql))?.execute(params_from_iter(values))?;
        Ok(())
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let mut statement = self.0.prepare_cached(&dialect(sql))?;
        let width = statement.column_count();
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows = vec![];
        while let Some(row) = found.next()? {
            let cells = (0..width).map(|column| value(row.get_ref(column)?, column));
            rows.push(Row(cells.collect::<Result<_, _>>()?));
        }
        Ok(rows)
    }

    fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.execute_batch(sql)?)
    }

    fn found(&mut self) -> Result<Found, Failure> {
        let sql = "SELECT count(*) FROM sqlite_schema";
        let tables: u32 = self.0.query_row(sql, [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(Found::Nothing);
        }
        let id: i32 = self.0.pragma_query_value(None, "application_id", |row| row.get(0))?;
        if id == APPLICATION_ID {
            return Ok(Found::Ledger);
        }
        let problem = "the file is a SQLite database, but no ledger of mloop; choose another path";
        Ok(Found::Other(problem.to_owned()))
    }
}
