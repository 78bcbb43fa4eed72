//! CSV and JSON lines, as columns of text.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Builder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use serde_json::Value;

use crate::rows::{Fill, POSITION};
use crate::scan::{Batch, Decode, Unreadable};

/// How lines become columns of text: those of these names, empty where a line has none.
#[derive(Debug)]
pub(crate) struct TextDecoder {
    columns: Arc<[String]>,
    schema: SchemaRef,
    is_csv: bool,
}

impl TextDecoder {
    pub(crate) fn new(columns: &Arc<[String]>, is_csv: bool) -> Self {
        let texts = columns.iter().map(|name| Field::new(name, DataType::Utf8, true));
        let position = Field::new(POSITION, DataType::UInt64, false);
        let fields: Vec<Field> = std::iter::once(position).chain(texts).collect();
        Self { columns: Arc::clone(columns), schema: Arc::new(Schema::new(fields)), is_csv }
    }
}

impl Decode for TextDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn batch(&self) -> Box<dyn Batch + '_> {
        Box::new(TextBatch::new(self))
    }
}

pub(crate) struct TextBatch<'a> {
    decoder: &'a TextDecoder,
    /// Of each field of the CSV file at hand, the column that it goes to; none before its header.
    header: Option<Vec<Option<usize>>>,
    csv: Csv,
    fill: Fill,
    position: UInt64Builder,
    texts: Vec<StringBuilder>,
}

impl Batch for TextBatch<'_> {
    fn begin_file(&mut self) {
        self.header = None;
    }

    fn push(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        if self.decoder.is_csv {
            self.push_csv(position, line)
        } else {
            let object = serde_json::from_str::<Value>(line);
            let place =
                |error: &serde_json::Error| format!("it is not JSON (column {})", error.column());
            let object = object.map_err(|error| Unreadable::new(place(&error)))?;
            let object =
                object.as_object().ok_or_else(|| Unreadable::new("it is no JSON object"))?;
            let of = |name: &String| object.get(name).and_then(text_of);
            let texts: Vec<Option<String>> = self.decoder.columns.iter().map(of).collect();
            self.add(position, texts.iter().map(Option::as_deref));
            Ok(())
        }
    }

    fn fill(&self) -> Fill {
        self.fill
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.fill = Fill::default();
        let position = Arc::new(self.position.finish()) as ArrayRef;
        let texts = self.texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef);
        let columns = std::iter::once(position).chain(texts).collect();
        RecordBatch::try_new(Arc::clone(&self.decoder.schema), columns)
    }
}

impl<'a> TextBatch<'a> {
    pub(crate) fn new(decoder: &'a TextDecoder) -> Self {
        Self {
            decoder,
            header: None,
            csv: Csv::new(),
            fill: Fill::default(),
            position: UInt64Builder::new(),
            texts: decoder.columns.iter().map(|_| StringBuilder::new()).collect(),
        }
    }

    /// Adds a row: a text, or none, for each column.
    pub(crate) fn add<'t>(&mut self, position: u64, texts: impl Iterator<Item = Option<&'t str>>) {
        let mut bytes = 0;
        self.position.append_value(position);
        for (column, text) in self.texts.iter_mut().zip(texts) {
            bytes += text.map_or(0, str::len);
            column.append_option(text);
        }
        self.fill.add(bytes);
    }

    fn push_csv(&mut self, position: u64, line: &str) -> Result<(), Unreadable> {
        let fields = self.csv.fields(line)?;
        let Some(header) = &self.header else {
            let place = |name: &&str| self.decoder.columns.iter().position(|column| column == name);
            self.header = Some(fields.iter().map(place).collect());
            return Ok(());
        };
        if fields.len() != header.len() {
            let counts = format!("it has {} fields, the header {}", fields.len(), header.len());
            return Err(Unreadable::new(counts));
        }
        let mut bytes = 0;
        self.position.append_value(position);
        for (place, column) in self.texts.iter_mut().enumerate() {
            let field = header.iter().position(|to| *to == Some(place)).map(|field| fields[field]);
            let text = field.filter(|text| !text.is_empty());
            bytes += text.map_or(0, str::len);
            column.append_option(text);
        }
        self.fill.add(bytes);
        Ok(())
    }
}

/// A scalar as text; none for null, and for what is no scalar.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads records of RFC 4180 that each stand on one line.
pub(crate) struct Csv {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Csv {
    pub(crate) fn new() -> Self {
        // Its default is one that reads nothing.
        Self { reader: csv_core::Reader::new(), text: vec![], ends: vec![] }
    }

    /// The fields of a record.
    pub(crate) fn fields(&mut self, line: &str) -> Result<Vec<&str>, Unreadable> {
        if line.bytes().filter(|byte| *byte == b'"').count() % 2 == 1 {
            return Err(Unreadable::new("a quote is not closed on its line"));
        }
        self.reader.reset();
        // No field is longer than the line, and there is one more of them than there are commas.
        self.text.resize(line.len().max(1), 0);
        self.ends.resize(line.len() + 2, 0);
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let input = &line.as_bytes()[read..];
            let (text, ends) = (&mut self.text[written..], &mut self.ends[ended..]);
            let (result, took, gave, more) = self.reader.read_record(input, text, ends);
            (read, written, ended) = (read + took, written + gave, ended + more);
            match result {
                csv_core::ReadRecordResult::InputEmpty => {}
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => break,
                csv_core::ReadRecordResult::OutputFull
                | csv_core::ReadRecordResult::OutputEndsFull => {
                    return Err(Unreadable::new("it is no record of CSV"));
                }
            }
        }
        let text = std::str::from_utf8(&self.text[..written]);
        let text = text.map_err(|_| Unreadable::new("it is not UTF-8"))?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        Ok(starts.zip(&self.ends[..ended]).map(|(start, end)| &text[start..*end]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_rfc_4180_writes_them() {
        let table: [(&str, &[&str]); 6] = [
            ("a,b", &["a", "b"]),
            ("a,,", &["a", "", ""]),
            (r#""a,b",c"#, &["a,b", "c"]),
            (r#""say ""x""",""#, &[r#"say "x""#, ""]),
            (r#""",x"#, &["", "x"]),
            ("größe,ü", &["größe", "ü"]),
        ];
        let mut csv = Csv::new();
        for (line, expected) in table {
            assert_eq!(csv.fields(line).expect(line), expected, "{line}");
        }
        assert!(csv.fields(r#""a"#).is_err());
    }
}
