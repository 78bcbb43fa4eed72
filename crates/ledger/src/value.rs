//! Values of columns and rows, the same for both databases.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::error::Failure;

/// What a missing value would have been: PostgreSQL wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Real,
}

/// The value of one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    /// A whole record. SQLite keeps it as text; PostgreSQL as `json`, which is the same text, but
    /// can be asked for its parts.
    Json(String),
    Bytes(Vec<u8>),
    Integer(i64),
    Real(f64),
    Null(Kind),
}

impl Value {
    /// A record as it stands in the column `body`.
    pub(crate) fn json(record: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::Json(serde_json::to_string(record)?))
    }

    /// The word that a unit variant has in JSON.
    pub(crate) fn word(variant: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self::Text(match serde_json::to_value(variant)? {
            serde_json::Value::String(word) => word,
            other => other.to_string(),
        }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A moment as it stands in the tables: fixed length, so that texts sort like moments.
impl From<DateTime<Utc>> for Value {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::Text(moment.to_rfc3339_opts(SecondsFormat::Nanos, true))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(i64::from(number))
    }
}

/// A counter: integers of the databases end at 2^63, which no counter reaches.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// Which kind of value a type becomes, for when there is none.
pub(crate) trait Column: Into<Value> {
    const KIND: Kind;
}

impl Column for &str {
    const KIND: Kind = Kind::Text;
}
impl Column for &String {
    const KIND: Kind = Kind::Text;
}
impl Column for String {
    const KIND: Kind = Kind::Text;
}
impl Column for DateTime<Utc> {
    const KIND: Kind = Kind::Text;
}
impl Column for u64 {
    const KIND: Kind = Kind::Integer;
}
impl Column for f64 {
    const KIND: Kind = Kind::Real;
}

impl<T: Column> From<Option<T>> for Value {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Null(T::KIND), Into::into)
    }
}

/// A row of an answer, column by column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<Value>);

impl Row {
    pub(crate) fn text(&self, column: usize) -> Result<&str, Failure> {
        match self.0.get(column) {
            Some(Value::Text(text) | Value::Json(text)) => Ok(text),
            _ => Err(Failure::Column(column)),
        }
    }

    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<&str>, Failure> {
        match self.0.get(column) {
            Some(Value::Null(_)) => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    /// Bytes; none where there are none.
    pub(crate) fn optional_bytes(&self, column: usize) -> Result<Option<&[u8]>, Failure> {
        match self.0.get(column) {
            Some(Value::Null(_)) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            _ => Err(Failure::Column(column)),
        }
    }

    /// A moment as [`Value::from`] writes it.
    pub(crate) fn moment(&self, column: usize) -> Result<DateTime<Utc>, Failure> {
        self.text(column)?.parse().map_err(|_| Failure::Column(column))
    }

    /// A number that cannot be negative.
    pub(crate) fn count(&self, column: usize) -> Result<u64, Failure> {
        match self.0.get(column) {
            Some(Value::Integer(number)) => {
                u64::try_from(*number).map_err(|_| Failure::Column(column))
            }
            _ => Err(Failure::Column(column)),
        }
    }

    /// The number of a revision.
    pub(crate) fn revision(&self, column: usize) -> Result<u32, Failure> {
        u32::try_from(self.count(column)?).map_err(|_| Failure::Column(column))
    }

    pub(crate) fn real(&self, column: usize) -> Result<f64, Failure> {
        match self.0.get(column) {
            Some(Value::Real(number)) => Ok(*number),
            _ => Err(Failure::Column(column)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_sort_as_texts() {
        let early: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a moment");
        let late = early + chrono::TimeDelta::nanoseconds(1);
        let [Value::Text(first), Value::Text(second)] = [early, late].map(Value::from) else {
            panic!("moments are texts")
        };
        assert_eq!(first, "2026-03-01T00:00:00.000000000Z");
        assert!(first < second);
    }

    #[test]
    fn a_row_of_another_shape_is_told() {
        let row = Row(vec![Value::Integer(-1), Value::from("text"), Value::Null(Kind::Real)]);
        assert_eq!(row.text(1).expect("a text"), "text");
        assert_eq!(row.optional_text(2).expect("a column"), None);
        for (column, result) in [
            (0, row.count(0).map(|_| ())),
            (1, row.real(1).map(|_| ())),
            (3, row.optional_text(3).map(|_| ())),
        ] {
            let error = result.expect_err("another type");
            assert!(matches!(error, Failure::Column(found) if found == column), "{error:?}");
        }
    }
}
