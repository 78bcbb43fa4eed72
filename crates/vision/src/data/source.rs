//! Where data lies, as a configuration says it.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DataError, Loaded, ReadOptions, folder, idx, table};

/// One source of labelled images. Relative paths count from the folder of the
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataSource {
    /// Parquet with `image` (PNG or JPEG bytes), `label`, and optionally `id` and attributes.
    Parquet {
        /// The file.
        path: PathBuf,
    },
    /// IDX files as of MNIST, plain or gzipped.
    Idx {
        /// File of images, such as `train-images-idx3-ubyte.gz`.
        images: PathBuf,
        /// File of labels, such as `train-labels-idx1-ubyte.gz`.
        labels: PathBuf,
    },
    /// A folder for each class, with PNG and JPEG files.
    Folder {
        /// The folder that holds the class folders.
        path: PathBuf,
    },
}

impl DataSource {
    /// Reads the source.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read, has too many bad records or none at all.
    pub fn load(&self, options: &ReadOptions) -> Result<Loaded, DataError> {
        match self {
            Self::Parquet { path } => table::read(path, options),
            Self::Idx { images, labels } => idx::read(images, labels, options),
            Self::Folder { path } => folder::read(path, options),
        }
    }

    /// Reads several sources, one after the other, as one set. Without `options.classes` and
    /// `options.spec` the first source decides them.
    ///
    /// # Errors
    /// As [`DataSource::load`], and [`DataError::Empty`] for no sources.
    pub fn load_all(sources: &[Self], options: &ReadOptions) -> Result<Loaded, DataError> {
        let mut options = options.clone();
        let mut all: Option<Loaded> = None;
        for source in sources {
            let loaded = source.load(&options)?;
            options.spec = Some(loaded.dataset.spec());
            options.classes = Some(loaded.dataset.classes().to_vec());
            match &mut all {
                None => all = Some(loaded),
                Some(all) => {
                    all.dataset.append(loaded.dataset, &source.path().display().to_string())?;
                    all.quarantine.merge(loaded.quarantine);
                }
            }
        }
        all.ok_or_else(|| DataError::Empty { place: "an empty list of data sources".to_owned() })
    }

    /// The same source with other paths, such as absolute ones.
    #[must_use]
    pub fn with_paths(&self, change: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::Parquet { path } => Self::Parquet { path: change(path) },
            Self::Folder { path } => Self::Folder { path: change(path) },
            Self::Idx { images, labels } => {
                Self::Idx { images: change(images), labels: change(labels) }
            }
        }
    }

    /// Its files and folders, each with its key.
    #[must_use]
    pub fn paths(&self) -> Vec<(&'static str, &Path)> {
        match self {
            Self::Parquet { path } | Self::Folder { path } => vec![("path", path)],
            Self::Idx { images, labels } => vec![("images", images), ("labels", labels)],
        }
    }

    /// The file or folder that names the source in messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Parquet { path } | Self::Folder { path } => path,
            Self::Idx { images, .. } => images,
        }
    }
}
