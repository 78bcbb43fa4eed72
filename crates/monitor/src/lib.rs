//! The contract of monitors.
//!
//! A monitor measures one property of one model over one window of traffic. It is arithmetic over
//! two profiles: it reads nothing, writes nothing and tells nobody.
//!
//! Adding one is a file with a settings struct (a [`Spec`] with its `KIND`), the
//! implementation, its tests with the suite in `conformance`, and one `register` line.
//!
//! ```
//! use mloop_monitor::MonitorRegistry;
//!
//! let registry: MonitorRegistry = MonitorRegistry::new("monitor");
//! assert_eq!(registry.kinds().count(), 0);
//! ```

#[cfg(feature = "testing")]
pub mod conformance;

use async_trait::async_trait;
use mloop_core::registry::KindRegistry;
use mloop_core::{BoxError, Evidence, Finding};

pub use mloop_core::registry::{BuildError, Spec};

/// All kinds of monitors that a program knows.
pub type MonitorRegistry = KindRegistry<Box<dyn Monitor>>;

/// Measures one property of one model over one window of traffic.
///
/// # Contract
/// - Read-only: writes nothing, notifies nobody, starts no job.
/// - Repeatable: equal evidence gives equal findings, so a retried task reports equal numbers.
/// - Too few rows is a finding with status `insufficient_data`, never an error and never `ok`; no
///   number is made up for it.
/// - Every finding carries the monitor's own name, and no number that is NaN or infinite.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Monitor: Send + Sync {
    /// Stable name, unique within a run.
    fn name(&self) -> &str;

    /// The spans, in minutes up to the end of the window, over which it wants latencies in
    /// [`Evidence::spans`].
    fn latency_spans(&self) -> Vec<u32> {
        vec![]
    }

    /// Judges the window.
    ///
    /// # Errors
    /// [`MonitorError`] when the property could not be looked at; a crossed limit is a finding.
    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError>;
}

/// Why a monitor could not look. A crossed limit is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The reference and the window cannot be compared: counted under different schemas, say.
    #[error("the window cannot be compared with its reference: {problem}")]
    Incomparable {
        /// What does not fit, and what to do.
        problem: String,
    },
    /// A column, attribute or class that the settings name is not in the schema.
    #[error("the profile schema has no {what} `{name}`; it has: {}", known.join(", "))]
    NotInSchema {
        /// `column`, `group attribute` or `class`.
        what: &'static str,
        /// As the settings write it.
        name: String,
        /// What the schema has.
        known: Vec<String>,
    },
    /// An outside source of the monitor did not answer.
    #[error("{origin} did not answer")]
    Unavailable {
        /// Which source.
        origin: String,
        /// Its own error.
        #[source]
        cause: BoxError,
    },
}

impl MonitorError {
    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
