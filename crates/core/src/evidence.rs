//! What monitors look at: loaded once, shared by all of them.

use std::collections::BTreeMap;

use crate::latency::{LatencyHistogram, LatencySpan};
use crate::profile::Profile;
use crate::schema::ProfileSchema;
use crate::window::Window;

/// The reference and the current window of one version under one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Schema of both profiles.
    pub schema: ProfileSchema,
    /// What traffic of this version should look like.
    pub reference: Profile,
    /// The window under examination.
    pub current: Profile,
    /// The earlier window whose labels have had their time to arrive; none: those of the window itself.
    pub earlier: Option<Profile>,
    /// Latencies of the window, from wherever they are measured.
    pub latency: LatencyHistogram,
    /// Latencies of the spans that monitors ask for, by their minutes; each ends with the window.
    pub spans: BTreeMap<u32, LatencySpan>,
    /// How sure each check must be for false alarms to stay within their budget; none: nobody set one.
    pub confidence: Option<f64>,
}

impl Evidence {
    /// The window in which labels are looked at.
    #[must_use]
    pub fn labelled(&self) -> &Profile {
        self.earlier.as_ref().unwrap_or(&self.current)
    }

    /// The latencies of so many minutes up to the end of the window, as far as they are known: of a span
    /// that nobody asked for, those of the window itself.
    #[must_use]
    pub fn latency_over(&self, minutes: u32) -> (Window, &LatencyHistogram) {
        match self.spans.get(&minutes) {
            Some(span) => (span.window, &span.latency),
            None => (self.current.window, &self.latency),
        }
    }

    /// The confidence of a monitor's intervals: its `own`, or what the budget asks for where that is more.
    #[must_use]
    pub fn confidence(&self, own: f64) -> f64 {
        self.confidence.map_or(own, |asked| asked.max(own))
    }
}
