//! Where latencies are measured.

use async_trait::async_trait;
use mloop_core::latency::LatencySpan;
use mloop_core::{Subject, VersionRef, Window};

use crate::PlatformError;

/// Which latencies are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRequest {
    /// Model and target.
    pub subject: Subject,
    /// The version that is judged.
    pub version: VersionRef,
    /// The span of request times.
    pub window: Window,
    /// What the captured traffic says, with its objective, as far as windows were counted: more than the
    /// span when a single window is longer than it, less where no window of the version was counted.
    pub counted: LatencySpan,
}

impl LatencyRequest {
    /// The objective that requests are to be counted within, µs.
    #[must_use]
    pub fn objective_micros(&self) -> Option<u64> {
        self.counted.latency.objective_micros()
    }
}

/// Tells the latencies of spans of time.
///
/// # Contract
/// - Read-only; a span that is over has the same latencies whenever it is asked for, as long as the
///   source keeps them.
/// - What it answers ends with the span that was asked for; where it begins, the answer says.
/// - No requests is an empty histogram, not an error.
/// - The objective is that of [`LatencyRequest::objective_micros`], or none where the source cannot count the
///   requests within it.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait LatencySource: Send + Sync {
    /// The latencies of one span.
    ///
    /// # Errors
    /// When the source could not be read.
    async fn latency(&self, request: &LatencyRequest) -> Result<LatencySpan, PlatformError>;
}
