//! Where latencies are measured.

use async_trait::async_trait;
use mloop_core::latency::LatencyHistogram;
use mloop_core::{Subject, VersionRef, Window};

use crate::PlatformError;

/// Which latencies are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRequest {
    /// Model and target.
    pub subject: Subject,
    /// The version that is judged.
    pub version: VersionRef,
    /// The window of request times.
    pub window: Window,
    /// What the captured traffic of the window says, with its objective.
    pub counted: LatencyHistogram,
}

/// Tells the latencies of a window.
///
/// # Contract
/// - Read-only; a window that is over has the same latencies whenever it is asked for, as long as the
///   source keeps them.
/// - No requests is an empty histogram, not an error.
/// - The objective is that of [`LatencyRequest::counted`], or none where the source cannot count the
///   requests within it.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait LatencySource: Send + Sync {
    /// The latencies of one window.
    ///
    /// # Errors
    /// When the source could not be read.
    async fn latency(&self, request: &LatencyRequest) -> Result<LatencyHistogram, PlatformError>;
}
