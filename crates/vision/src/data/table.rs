//! Parquet files with an encoded image in each row.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `image` | bytes, or a struct with a field `bytes` | PNG or JPEG file |
//! | `label` | string, or a whole number | name or index of the class |
//! | `id` | string, optional | name of the image; else the number of the row |
//! | any other | string | an attribute |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use super::collector::{Collector, Label};
use super::{DataError, Dataset, Loaded, ReadOptions};

/// Rows of one row group: what is held in memory at once while reading.
const GROUP_ROWS: usize = 10_000;

/// Reads all rows, in order.
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Loaded, DataError> {
    let fail = |problem: String| DataError::format(path, "Parquet", problem);
    let file = File::open(path).map_err(DataError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(|error| fail(error.to_string()))?;
    let columns: Vec<String> = {
        let schema = reader.metadata().file_metadata().schema();
        schema.get_fields().iter().map(|field| field.name().to_owned()).collect()
    };
    for needed in ["image", "label"] {
        if !columns.iter().any(|column| column == needed) {
            let found = columns.join(", ");
            return Err(fail(format!("it has no column `{needed}` (it has: {found})")));
        }
    }
    let rows = reader.get_row_iter(None).map_err(|error| fail(error.to_string()))?;
    let mut collector = Collector::new(path.display().to_string(), options);
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|error| fail(format!("row {index}: {error}")))?;
        match record(row) {
            Ok(RowParts { id, image, label, attributes }) => {
                let id = id.unwrap_or_else(|| index.to_string());
                collector.encoded(id, &image, label, attributes);
            }
            Err(reason) => collector.reject(&format!("row {index}"), &reason),
        }
    }
    collector.finish()
}

struct RowParts {
    id: Option<String>,
    image: Vec<u8>,
    label: Label,
    attributes: BTreeMap<String, String>,
}

fn record(row: Row) -> Result<RowParts, String> {
    let (mut id, mut image, mut label) = (None, None, None);
    let mut attributes = BTreeMap::new();
    for (name, field) in row.into_columns() {
        match (name.as_str(), field) {
            (_, Field::Null) => {}
            ("image", field) => image = image_bytes(field),
            ("label", field) => label = label_of(field),
            ("id", field) => id = Some(text_of(&name, field)?),
            (_, field) => {
                let text = text_of(&name, field)?;
                attributes.insert(name, text);
            }
        }
    }
    let image = image.ok_or("`image` holds no bytes")?;
    let label = label.ok_or("`label` is neither a string nor a whole number from 0")?;
    Ok(RowParts { id, image, label, attributes })
}

fn image_bytes(field: Field) -> Option<Vec<u8>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Group(group) => {
            let bytes = group.into_columns().into_iter().find(|(name, _)| name == "bytes")?;
            image_bytes(bytes.1)
        }
        _ => None,
    }
}

/// The text of an id or attribute. Numbers with a fraction name no group, and bytes may be anything.
fn text_of(name: &str, field: Field) -> Result<String, String> {
    match field {
        Field::Str(text) => Ok(text),
        Field::Bool(is) => Ok(is.to_string()),
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_) => Ok(field.to_string()),
        _ => Err(format!(
            "`{name}` is neither a string nor a whole number nor a boolean; ids and attributes must be"
        )),
    }
}

fn label_of(field: Field) -> Option<Label> {
    let index = match field {
        Field::Str(text) => return Some(Label::Name(text)),
        Field::Byte(index) => i64::from(index),
        Field::Short(index) => i64::from(index),
        Field::Int(index) => i64::from(index),
        Field::Long(index) => index,
        Field::UByte(index) => i64::from(index),
        Field::UShort(index) => i64::from(index),
        Field::UInt(index) => i64::from(index),
        Field::ULong(index) => i64::try_from(index).ok()?,
        _ => return None,
    };
    u64::try_from(index).ok().map(Label::Index)
}

/// Writes a data set in the form that is read back: images as PNG, labels by name.
///
/// # Errors
/// [`DataError`] when the file cannot be written, or an attribute is called like a column.
pub fn write_parquet(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    let attributes: BTreeSet<&str> = dataset
        .samples()
        .iter()
        .flat_map(|sample| sample.attributes.keys())
        .map(String::as_str)
        .collect();
    if let Some(name) = ["id", "image", "label"].into_iter().find(|name| attributes.contains(name))
    {
        let problem = format!("an attribute cannot be called `{name}`");
        return Err(DataError::format(path, "Parquet", problem));
    }
    let attributes: Vec<&str> = attributes.into_iter().collect();
    let file = File::create(path).map_err(DataError::io(path))?;
    write(file, dataset, &attributes)
        .map_err(|error| DataError::format(path, "Parquet", error.to_string()))
}

fn write(file: File, dataset: &Dataset, attributes: &[&str]) -> Result<(), ParquetError> {
    let schema = Arc::new(schema(attributes)?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let places: Vec<usize> = (0..dataset.len()).collect();
    for places in places.chunks(GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        let mut column = |values: Vec<Option<ByteArray>>| {
            let mut writer = group.next_column()?.ok_or_else(|| {
                ParquetError::General("the schema has fewer columns than the data".to_owned())
            })?;
            let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
            let present: Vec<ByteArray> = values.into_iter().flatten().collect();
            writer.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None)?;
            writer.close()
        };
        let samples = || places.iter().map(|place| &dataset.samples()[*place]);
        column(samples().map(|sample| Some(sample.id.as_str().into())).collect())?;
        column(places.iter().map(|place| Some(dataset.pixels(*place).to_png().into())).collect())?;
        column(
            samples().map(|sample| Some(dataset.classes()[sample.label].as_str().into())).collect(),
        )?;
        for name in attributes {
            let value = |sample: &super::Sample| {
                sample.attributes.get(*name).map(|text| text.as_str().into())
            };
            column(samples().map(value).collect())?;
        }
        group.close()?;
    }
    writer.close()?;
    Ok(())
}

fn schema(attributes: &[&str]) -> Result<Type, ParquetError> {
    let column = |name: &str, text: bool| {
        let kind = if text { ConvertedType::UTF8 } else { ConvertedType::NONE };
        Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(kind)
            .build()
            .map(Arc::new)
    };
    let mut columns = vec![column("id", true)?, column("image", false)?, column("label", true)?];
    for name in attributes {
        columns.push(column(name, true)?);
    }
    Type::group_type_builder("images").with_fields(columns).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_texts_whole_numbers_or_booleans() {
        for (field, expected) in [
            (Field::Str("north".to_owned()), Some("north")),
            (Field::Bool(true), Some("true")),
            (Field::Int(-7), Some("-7")),
            (Field::ULong(u64::MAX), Some("18446744073709551615")),
            (Field::Double(0.5), None),
            (Field::Bytes(vec![1].into()), None),
        ] {
            let told = text_of("site", field.clone());
            assert_eq!(told.as_deref().ok(), expected, "{field:?}");
            assert!(told.is_ok() || told.is_err_and(|why| why.starts_with("`site` is neither")));
        }
    }
}
