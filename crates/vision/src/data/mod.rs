//! Training and test data: one form in memory, four ways to read it.
//!
//! A bad record among good ones is counted, named and left out; only when their share exceeds
//! what the configuration allows does reading fail.

mod collector;
mod dataset;
mod folder;
mod idx;
mod source;
mod table;
mod traffic;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use collector::{BadRecord, Quarantine, ReadOptions};
pub use dataset::{Dataset, Sample};
pub use source::DataSource;
pub use table::write_parquet;
pub use traffic::from_traffic;

/// A data set with what had to be left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The good records, in the order of the source.
    pub dataset: Dataset,
    /// The bad ones.
    pub quarantine: Quarantine,
}

/// Data that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read or written.
    #[error("reading data from {}", path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A file is not of the format that the configuration names.
    #[error("{} is no usable {format} data: {problem}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// `IDX`, `Parquet` …
        format: &'static str,
        /// What is wrong, and where.
        problem: String,
    },
    /// More bad records than allowed.
    #[error(
        "{place}: {bad} of {total} records are bad, more than the allowed share of {allowed}; the \
         first is {first}. Mend the data or raise `max_bad_share`"
    )]
    TooManyBad {
        /// Where the records come from.
        place: String,
        /// Records left out.
        bad: u64,
        /// Records seen.
        total: u64,
        /// Largest allowed share of bad ones.
        allowed: f64,
        /// The first one with its reason.
        first: String,
    },
    /// There is not one record.
    #[error("{place} holds no images")]
    Empty {
        /// Where they were looked for.
        place: String,
    },
    /// Sets that should go together have different images or classes.
    #[error("{place}: {problem}")]
    Mismatch {
        /// Which set.
        place: String,
        /// How it differs.
        problem: String,
    },
}

impl DataError {
    /// For `map_err` on file operations.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    fn format(path: &Path, format: &'static str, problem: String) -> Self {
        Self::Format { path: path.to_owned(), format, problem }
    }
}
