//! Numbers for dashboards, free of any format.

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up while the process lives.
    Counter,
    /// Cumulative buckets with sum and count.
    Histogram,
}

/// Metrics of one name, kind and unit, with a fixed set of label names.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// Name in snake case, ending in its unit (and in `_total` for counters).
    pub name: String,
    /// One sentence.
    pub help: String,
    /// What it counts.
    pub kind: MetricKind,
    /// One sample for each set of label values.
    pub samples: Vec<Sample>,
}

/// One labelled number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Label names and values; values identify, they never measure.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: SampleValue,
}

/// The number of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A gauge or a counter.
    Number(f64),
    /// A histogram.
    Histogram {
        /// Upper bounds with the observations at or below each, ascending; without `+Inf`.
        cumulative: Vec<(f64, u64)>,
        /// Sum of all observations.
        sum: f64,
        /// Number of all observations.
        count: u64,
    },
}
