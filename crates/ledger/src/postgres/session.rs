//! Statements on a connection. Each is sent in one message with the types of its parameters, so that
//! it costs one round trip, and nothing is prepared that a pooler would lose.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::connection::Connection;
use crate::error::Failure;
use crate::migrate::Found;
use crate::session::{Dialect, Session};
use crate::value::{Kind, Row, Value};

type Cause = Box<dyn Error + Sync + Send>;

impl Value {
    fn type_of(&self) -> Type {
        match self {
            Self::Text(_) | Self::Null(Kind::Text) => Type::TEXT,
            Self::Json(_) => Type::JSON,
            Self::Bytes(_) => Type::BYTEA,
            Self::Integer(_) | Self::Null(Kind::Integer) => Type::INT8,
            Self::Real(_) | Self::Null(Kind::Real) => Type::FLOAT8,
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Cause> {
        match self {
            Self::Text(text) | Self::Json(text) => text.as_str().to_sql(&Type::TEXT, out),
            Self::Bytes(bytes) => bytes.to_sql(&Type::BYTEA, out),
            Self::Integer(number) => number.to_sql(&Type::INT8, out),
            Self::Real(number) => number.to_sql(&Type::FLOAT8, out),
            Self::Null(_) => Ok(IsNull::Yes),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::TEXT, Type::JSON, Type::BYTEA, Type::INT8, Type::FLOAT8].contains(of)
    }

    to_sql_checked!();
}

impl FromSql<'_> for Value {
    fn from_sql(of: &Type, raw: &[u8]) -> Result<Self, Cause> {
        Ok(match *of {
            Type::INT8 => Self::Integer(i64::from_sql(of, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(of, raw)?),
            Type::BYTEA => Self::Bytes(Vec::from_sql(of, raw)?),
            Type::JSON => Self::Json(String::from_sql(&Type::TEXT, raw)?),
            _ => Self::Text(String::from_sql(&Type::TEXT, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Cause> {
        Ok(Self::Null(Kind::Text))
    }

    fn accepts(of: &Type) -> bool {
        <Self as ToSql>::accepts(of)
    }
}

impl Session for Connection {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    /// An advisory lock: it also holds what has no row yet. Two names of one number only wait for
    /// each other needlessly.
    fn lock(&mut self, what: &str) -> Result<(), Failure> {
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text";
        self.query(sql, &[format!("mloop {what}").into()]).map(|_| ())
    }

    fn execute(&mut self, sql: &str, values: &[Value]) -> Result<(), Failure> {
        let values = typed(values);
        self.wait(async |client| client.execute_typed(sql, &values).await).map(|_| ())
    }

    fn query(&mut self, sql: &str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        let values = typed(values);
        let rows = self.wait(async |client| client.query_typed(sql, &values).await)?;
        let cells = |row: tokio_postgres::Row| {
            let cells = (0..row.len()).map(|column| row.try_get(column));
            Ok(Row(cells.collect::<Result<_, tokio_postgres::Error>>()?))
        };
        rows.into_iter().map(cells).collect()
    }

    fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        self.wait(async |client| client.batch_execute(sql).await)
    }

    fn found(&mut self) -> Result<Found, Failure> {
        let sql = "SELECT current_setting('server_encoding'), count(*),
                          count(*) FILTER (WHERE relname = 'meta'),
                          count(*) FILTER (WHERE NOT has_schema_privilege(nspname, 'USAGE'))
                   FROM pg_catalog.pg_class
                   JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
                   WHERE nspname = 'mloop' AND relkind IN ('r', 'p', 'v', 'm', 'f')";
        let rows = self.query(sql, &[])?;
        let Some(row) = rows.first() else { return Err(Failure::Column(0)) };
        if row.text(0)? != "UTF8" {
            return Ok(Found::Other(format!(
                "the database keeps texts as {}, which cannot hold all of them; make one with ENCODING 'UTF8' TEMPLATE template0",
                row.text(0)?
            )));
        }
        if row.count(3)? > 0 {
            // What may not be seen looks like what is not there; named with its schema, the server
            // says which right is missing.
            self.query("SELECT key FROM mloop.meta", &[])?;
        }
        Ok(match (row.count(1)?, row.count(2)?) {
            (0, _) => Found::Nothing,
            (_, 0) => {
                let problem = "the schema `mloop` of the database holds tables, but no ledger; use another database, or rename that schema";
                Found::Other(problem.to_owned())
            }
            _ => Found::Ledger,
        })
    }
}

fn typed(values: &[Value]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), value.type_of())).collect()
}
