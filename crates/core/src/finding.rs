//! What one check of a monitor found.

use serde::{Deserialize, Serialize};

/// Outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within its tolerance.
    Ok,
    /// Too few rows to tell; never the same as fine.
    InsufficientData,
    /// Outside its tolerance, by more than chance explains.
    Drifted,
    /// The data themselves are damaged, so that the check means nothing.
    Broken,
}

/// One checked quantity with what it was measured by and held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the monitor in the configuration.
    pub monitor: String,
    /// What was checked, such as `column_drift` or `accuracy`.
    pub check: String,
    /// Column, where the check is about one.
    pub column: Option<String>,
    /// Group or pair of groups, where the check is about them.
    pub group: Option<String>,
    /// Method, by the names that docs/metrics.md defines.
    pub method: String,
    /// The quantity; none when it could not be computed.
    pub value: Option<f64>,
    /// Interval of the quantity, lower end first.
    pub interval: Option<[f64; 2]>,
    /// The bound that it was held against.
    pub threshold: Option<f64>,
    /// Rows that it was computed from.
    pub n: u64,
    /// The outcome.
    pub status: Status,
    /// What carries the change, for people: the bins, values or groups that moved most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Finding {
    /// Whether someone should look: outside the tolerance, or broken.
    #[must_use]
    pub fn is_alerting(&self) -> bool {
        matches!(self.status, Status::Drifted | Status::Broken)
    }

    /// `check` with its column or group: what the finding is about, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        let of = self.column.iter().chain(&self.group).map(String::as_str).collect::<Vec<_>>();
        if of.is_empty() {
            self.check.clone()
        } else {
            format!("{} of {}", self.check, of.join(" / "))
        }
    }

    /// One line for people: what, how much, against which bound.
    #[must_use]
    pub fn sentence(&self) -> String {
        let number = |value: Option<f64>| value.map_or("unknown".to_owned(), |v| format!("{v:.3}"));
        let interval =
            self.interval.map_or(String::new(), |[lo, hi]| format!(" [{lo:.3}, {hi:.3}]"));
        let bound = self.threshold.map_or(String::new(), |bound| format!(", bound {bound:.3}"));
        let value = number(self.value);
        let detail = self.detail.as_ref().map_or(String::new(), |detail| format!("; {detail}"));
        let (subject, method, n) = (self.subject(), &self.method, self.n);
        format!("{subject}: {method} {value}{interval}{bound}, n {n}{detail}")
    }
}
