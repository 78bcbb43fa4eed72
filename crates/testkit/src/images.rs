//! Labelled images to send.

use std::path::Path;

use mloop_vision::Pixels;
use mloop_vision::data::{DataSource, ReadOptions};

use crate::KitError;

/// An image with its true class.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Names it.
    pub id: String,
    /// The image.
    pub pixels: Pixels,
    /// Its true class.
    pub class: String,
}

/// The images of a Parquet file.
///
/// # Errors
/// When it cannot be read.
pub fn parquet(path: &Path) -> Result<Vec<Labelled>, KitError> {
    from(&DataSource::Parquet { path: path.to_path_buf() }, None)
}

/// The images of a pair of IDX files, whose labels are numbers of these classes.
///
/// # Errors
/// When they cannot be read.
pub fn idx(images: &Path, labels: &Path, classes: &[String]) -> Result<Vec<Labelled>, KitError> {
    let source = DataSource::Idx { images: images.to_path_buf(), labels: labels.to_path_buf() };
    from(&source, Some(classes.to_vec()))
}

fn from(source: &DataSource, classes: Option<Vec<String>>) -> Result<Vec<Labelled>, KitError> {
    let options = ReadOptions { classes, ..ReadOptions::default() };
    let loaded = source.load(&options).map_err(|error| KitError::Failed(error.to_string()))?;
    let dataset = loaded.dataset;
    let image = |index: usize| {
        let sample = &dataset.samples()[index];
        Labelled {
            id: sample.id.clone(),
            pixels: dataset.pixels(index),
            class: dataset.classes()[sample.label].clone(),
        }
    };
    Ok((0..dataset.len()).map(image).collect())
}
