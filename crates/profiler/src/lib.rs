//! Captured traffic, counted: windows into profiles, rows into references, labels onto rows.
//!
//! The only crate that names DataFusion. Capture lines are decoded as they stream by, joined with
//! the labels that have arrived, told apart from copies with their inference id, and counted, each
//! partition by itself, in exact integers: the profile is the same whatever the order of rows, the
//! number of partitions and the tree of merges.
//!
//! ```text
//! capture files ─▶ scan (decode, quarantine) ─┐
//!                                             ├─▶ join on id ─▶ number copies ─▶ count ─▶ Profile
//! label files   ─▶ scan (decode, quarantine) ─┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `settings`, `source` | the kind `capture_files` and what it builds |
//! | `files`, `objects` | which files, in folders and in buckets |
//! | `lines`, `scan` | which lines, and how they become a table |
//! | `captured`, `rows`, `labels` | what one line is decoded into |
//! | `engine` | the plan, and what goes wrong in it |
//! | `count` | the counting, as a function of a batch |
//! | `labelled` | rows with bodies and labels, to learn from |
//! | `tables` | the kind `tables`: Parquet, CSV and JSON lines of predictions, and references of them |
//! | `reference`, `bins` | reference profiles and the schema they freeze |
//!
//! # What counts
//! - A record belongs to the window that holds its `inferenceTime`; it is looked for in the folder
//!   of that hour.
//! - Of records with one id the first by time counts (then by file name and line), of labels with
//!   one id the first that arrived. Further records of an id are counted as duplicates.
//! - Lines that cannot be read are counted as quarantined, a few of them logged with file, line and
//!   reason, never with what they hold. Label lines are included, in each window whose labels are
//!   looked for in their file; so are labels of a class that the model does not know, where they
//!   meet a row of the window, which then counts as unlabelled.
//! - A last line without its line feed counts when it is whole. Half of one is left for the next
//!   look while its file may still be written (changed within a minute of `as_of`), and is
//!   quarantined after that: a server that was killed left it so.
//!
//! # Memory
//! Rows stream in batches without bodies; sorting spills to disk; a line longer than the limit is
//! skipped without being held. What the settings' `memory_mb` does not suffice for ends in an
//! error that says so.

mod bins;
mod captured;
mod count;
mod engine;
mod files;
mod labelled;
mod labels;
mod lines;
mod objects;
mod reference;
mod rows;
mod scan;
mod settings;
mod source;
mod tables;

use mloop_platform::SourceRegistry;

pub use reference::ReferenceBuilder;
pub use settings::CaptureFilesSettings;
pub use source::CaptureFiles;
pub use tables::{CapturedColumns, Columns, Format, LabelTable, Tables, TablesSettings};

/// Every kind of window source of this crate.
pub fn register_builtin(registry: &mut SourceRegistry) {
    registry.register::<CaptureFilesSettings>();
    registry.register::<TablesSettings>();
}
