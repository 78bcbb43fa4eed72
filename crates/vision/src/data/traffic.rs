//! Labelled production traffic as training data.

use mloop_platform::LabelledRow;

use super::collector::{Collector, Label};
use super::{DataError, Loaded, ReadOptions};
use crate::pixels::{InputSpec, Pixels};

/// Decodes captured requests by the rule that the server decoded them with.
///
/// Rows keep their order. A label that is no class, or a body that is no image of the right size,
/// is a bad record.
///
/// # Errors
/// [`DataError::Empty`] without a single good row, [`DataError::TooManyBad`] as for files.
pub fn from_traffic(
    rows: &[LabelledRow],
    spec: InputSpec,
    classes: &[String],
    max_bad_share: f64,
) -> Result<Loaded, DataError> {
    let options = ReadOptions { spec: Some(spec), classes: Some(classes.to_vec()), max_bad_share };
    let mut collector = Collector::new("labelled traffic".to_owned(), &options);
    for row in rows {
        match Pixels::decode_body(&row.content_type, &row.body, spec) {
            Ok(image) => {
                let label = Label::Name(row.label.clone());
                collector.accept(row.id.clone(), image, label, row.attributes.clone());
            }
            Err(error) => collector.reject(&row.id, &mloop_core::error_chain(&error)),
        }
    }
    collector.finish()
}
