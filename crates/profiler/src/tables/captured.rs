//! Captured requests and answers of any model, as columns of text: a row for each row of a request.

use mloop_core::capture::{CaptureRecord, Encoding, Payload};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::fields::Fields;
use super::text::{Csv, text_of};
use crate::scan::Unreadable;

/// The column of the moment in which a request was answered.
pub(crate) const TIME: &str = "inference_time";

/// The column of its id: the caller's, else the platform's; of a request of several rows with their
/// number, from 0, behind a `#`.
pub(crate) const ID: &str = "inference_id";

/// Names of what requests and answers hold where they do not name it themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapturedColumns {
    /// Of the fields of a request's rows: of CSV, of lists in JSON, and of a bare value.
    #[serde(default)]
    pub input: Vec<String>,
    /// Of the fields of an answer's rows.
    #[serde(default)]
    pub output: Vec<String>,
}

/// The names that a captured line's rows have.
pub(crate) fn names(line: &str, named: &CapturedColumns) -> Option<Vec<String>> {
    let rows = rows(line, named).ok()?;
    Some(rows.into_iter().flat_map(Fields::into_keys).collect())
}

/// The rows of a captured line: the request's, each with what the answer says of it.
pub(super) fn rows(line: &str, names: &CapturedColumns) -> Result<Vec<Fields>, Unreadable> {
    let record = CaptureRecord::parse(line)?;
    let data = &record.capture_data;
    let side = |payload: Option<&Payload>, names: &[String]| {
        payload.map(|payload| fields(payload, names)).transpose()
    };
    let input = side(data.endpoint_input.as_ref(), &names.input)?;
    let output = side(data.endpoint_output.as_ref(), &names.output)?;
    let mut rows = match (input, output) {
        (Some(input), Some(output)) if input.len() == output.len() => {
            let mut rows = input;
            rows.iter_mut().zip(output).for_each(|(row, answer)| row.extend(answer));
            rows
        }
        (Some(input), Some(output)) => {
            let problem =
                format!("the request has {} rows, the answer {}", input.len(), output.len());
            return Err(Unreadable::new(problem));
        }
        (Some(rows), None) | (None, Some(rows)) => rows,
        (None, None) => return Err(Unreadable::new("neither request nor answer was captured")),
    };
    let (id, is_one) = (record.id(), rows.len() == 1);
    for (number, row) in rows.iter_mut().enumerate() {
        let id = if is_one { id.to_owned() } else { format!("{id}#{number}") };
        row.insert(ID.to_owned(), id);
        row.insert(TIME.to_owned(), record.event_metadata.inference_time.to_rfc3339());
    }
    Ok(rows)
}

/// The rows of a body.
fn fields(payload: &Payload, names: &[String]) -> Result<Vec<Fields>, Unreadable> {
    let bytes = payload.bytes()?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Unreadable::new("a body is not text"))?;
    let essence = payload.observed_content_type.as_deref().unwrap_or_default();
    let is_csv = match payload.encoding {
        Encoding::Csv => true,
        Encoding::Json => false,
        // Whatever a platform has no name for: the type of the content tells, then its first letter.
        Encoding::Base64 if essence.starts_with("text/csv") => true,
        Encoding::Base64 if essence.contains("json") => false,
        Encoding::Base64 => !text.trim_start().starts_with(['{', '[', '"']),
    };
    if is_csv {
        let mut csv = Csv::new();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        return lines.map(|line| named(csv.fields(line)?.into_iter().map(some), names)).collect();
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return of_json(&value, names);
    }
    // JSON lines.
    let mut rows = vec![];
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value = serde_json::from_str(line);
        let value: Value =
            value.map_err(|_| Unreadable::new("a body is neither JSON nor JSON lines"))?;
        rows.extend(of_json(&value, names)?);
    }
    Ok(rows)
}

/// The rows of a JSON value: a list of rows, a map of columns, an object with one list of rows in it
/// (`instances`, `predictions`), or one row.
fn of_json(value: &Value, names: &[String]) -> Result<Vec<Fields>, Unreadable> {
    match value {
        Value::Array(rows) if rows.iter().any(|row| row.is_array() || row.is_object()) => {
            rows.iter().map(|row| row_of(row, names)).collect()
        }
        // Bare values: one of each row where each row has one, else the fields of one row.
        Value::Array(values) if names.len() == 1 => {
            values.iter().map(|value| named(std::iter::once(text_of(value)), names)).collect()
        }
        Value::Object(object) => {
            let lists: Vec<_> = object.iter().filter(|(_, value)| value.is_array()).collect();
            match lists.as_slice() {
                [(_, list)] if object.len() == 1 && !names.contains(&lists[0].0.clone()) => {
                    of_json(list, names)
                }
                all if !all.is_empty() && all.len() == object.len() => by_column(all),
                _ => Ok(vec![row_of(value, names)?]),
            }
        }
        _ => Ok(vec![row_of(value, names)?]),
    }
}

/// Columns of equal length, turned into rows.
fn by_column(columns: &[(&String, &Value)]) -> Result<Vec<Fields>, Unreadable> {
    let lists: Option<Vec<_>> =
        columns.iter().map(|(name, list)| Some((*name, list.as_array()?))).collect();
    let lists = lists.unwrap_or_default();
    let length = lists.first().map_or(0, |(_, list)| list.len());
    if lists.iter().any(|(_, list)| list.len() != length) {
        return Err(Unreadable::new("its columns differ in length"));
    }
    let row = |index: usize| {
        let fields = lists
            .iter()
            .filter_map(|(name, list)| Some(((*name).clone(), text_of(list.get(index)?)?)));
        fields.collect()
    };
    Ok((0..length).map(row).collect())
}

fn row_of(value: &Value, names: &[String]) -> Result<Fields, Unreadable> {
    match value {
        Value::Object(object) => {
            let fields =
                object.iter().filter_map(|(name, value)| Some((name.clone(), text_of(value)?)));
            Ok(fields.collect())
        }
        Value::Array(values) => named(values.iter().map(text_of), names),
        value => named(std::iter::once(text_of(value)), names),
    }
}

/// Fields by the names of the settings.
fn named(
    values: impl Iterator<Item = Option<String>>,
    names: &[String],
) -> Result<Fields, Unreadable> {
    let values: Vec<Option<String>> = values.collect();
    if values.len() != names.len() {
        let problem = format!("a row has {} fields, {} are named", values.len(), names.len());
        return Err(Unreadable::new(problem));
    }
    Ok(names.iter().cloned().zip(values).filter_map(|(name, value)| Some((name, value?))).collect())
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::json;

    use super::*;

    fn body(content_type: &str, encoding: &str, data: &str) -> Value {
        json!({"observedContentType": content_type, "mode": "INPUT", "encoding": encoding, "data": data})
    }

    fn line(input: impl Into<Value>, output: impl Into<Value>) -> String {
        let (input, output): (Value, Value) = (input.into(), output.into());
        let line = json!({
            "captureData": {"endpointInput": input, "endpointOutput": output},
            "eventMetadata": {"eventId": "e", "inferenceTime": "2022-04-18T00:21:48Z"},
            "eventVersion": "0",
        });
        line.to_string()
    }

    fn found(line: &str) -> Vec<(String, String, String)> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let named = CapturedColumns { input: names(&["a", "b"]), output: names(&["score"]) };
        let rows = rows(line, &named).expect("rows");
        let of = |row: &Fields, name: &str| row.get(name).cloned().unwrap_or_default();
        rows.iter()
            .map(|row| (of(row, ID), of(row, "a") + "," + &of(row, "b"), of(row, "score")))
            .collect()
    }

    #[test]
    fn rows_are_found_in_whatever_a_body_is_written_as() {
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let one = vec![("e".to_owned(), "1,x".to_owned(), "0.5".to_owned())];
        let two = vec![
            ("e#0".to_owned(), "1,x".to_owned(), "0.5".to_owned()),
            ("e#1".to_owned(), "2,".to_owned(), "0.75".to_owned()),
        ];
        let csv = || body("text/csv", "CSV", "1,x");
        let score = || body("application/json", "JSON", r#"{"score": 0.5}"#);
        let table = [
            ("CSV and JSON", line(csv(), score()), &one),
            ("a bare number", line(csv(), body("application/json", "JSON", "0.5")), &one),
            (
                "Base64 of CSV",
                line(body("text/csv; charset=utf-8", "BASE64", &base64("1,x\n")), score()),
                &one,
            ),
            ("Base64 of JSON", line(csv(), body("text/html", "BASE64", &base64("[0.5]"))), &one),
            (
                "an object",
                line(body("application/json", "JSON", r#"{"a": 1, "b": "x"}"#), score()),
                &one,
            ),
            (
                "lines of CSV and a list of values",
                line(
                    body("text/csv", "CSV", "1,x\n2,\n"),
                    body("application/json", "JSON", "[0.5, 0.75]"),
                ),
                &two,
            ),
            (
                "instances and predictions",
                line(
                    body("application/json", "JSON", r#"{"instances": [[1, "x"], [2, null]]}"#),
                    body(
                        "application/json",
                        "JSON",
                        r#"{"predictions": [{"score": 0.5}, {"score": 0.75}]}"#,
                    ),
                ),
                &two,
            ),
            (
                "columns",
                line(
                    body("application/json", "JSON", r#"{"a": [1, 2], "b": ["x", null]}"#),
                    body("text/csv", "CSV", "0.5\n0.75\n"),
                ),
                &two,
            ),
            (
                "JSON lines",
                line(
                    body("application/jsonlines", "JSON", "{\"a\": 1, \"b\": \"x\"}\n{\"a\": 2}\n"),
                    body("application/jsonlines", "JSON", "{\"score\": 0.5}\n{\"score\": 0.75}"),
                ),
                &two,
            ),
        ];
        for (name, line, expected) in table {
            assert_eq!(found(&line), *expected, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_unreadable_and_repeats_nothing() {
        let names = CapturedColumns { input: vec!["a".to_owned()], output: vec!["s".to_owned()] };
        let csv = |text| body("text/csv", "CSV", text);
        for (line, expected) in [
            (line(csv("secret\nsecret"), csv("secret")), "the request has 2 rows, the answer 1"),
            (line(csv("secret,secret"), csv("1")), "a row has 2 fields, 1 are named"),
            (
                line(csv("1"), body("application/json", "JSON", "{secret")),
                "neither JSON nor JSON lines",
            ),
            (line(csv("1"), body("x", "BASE64", "secret!")), "not Base64"),
            (
                line(csv("1"), body("application/json", "JSON", r#"{"s": [1], "t": [1, 2]}"#)),
                "differ in length",
            ),
        ] {
            let reason = rows(&line, &names).expect_err(expected).to_string();
            assert!(reason.contains(expected) && !reason.contains("secret"), "{reason}");
        }
    }
}
