//! How a measured quantity becomes a finding.

use mloop_core::{Finding, Status};
use mloop_stats::Estimate;

/// What a check is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) monitor: &'a str,
    pub(crate) check: &'a str,
    pub(crate) column: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) method: &'a str,
}

/// The side on which a bound is crossed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// Too much of it is bad.
    AtMost(f64),
    /// Too little of it is bad.
    AtLeast(f64),
    /// It is told and not judged.
    Told,
}

impl About<'_> {
    /// A check that too few rows, or none, leave open.
    pub(crate) fn unknown(self, bound: Bound, n: u64) -> Finding {
        self.finding(None, None, bound, n, Status::InsufficientData)
    }

    /// A judged quantity: drifted when the whole interval lies beyond the bound.
    pub(crate) fn judged(self, estimate: Estimate, bound: Bound, n: u64) -> Finding {
        let interval = estimate.interval;
        let beyond = match bound {
            Bound::AtMost(bound) => interval.lower > bound,
            Bound::AtLeast(bound) => interval.upper < bound,
            Bound::Told => false,
        };
        let status = if beyond { Status::Drifted } else { Status::Ok };
        self.finding(Some(estimate.value), Some(interval.ends()), bound, n, status)
    }

    pub(crate) fn finding(
        self,
        value: Option<f64>,
        interval: Option<[f64; 2]>,
        bound: Bound,
        n: u64,
        status: Status,
    ) -> Finding {
        Finding {
            monitor: self.monitor.to_owned(),
            check: self.check.to_owned(),
            column: self.column.map(str::to_owned),
            group: self.group.map(str::to_owned),
            method: self.method.to_owned(),
            value,
            interval,
            threshold: match bound {
                Bound::AtMost(bound) | Bound::AtLeast(bound) => Some(bound),
                Bound::Told => None,
            },
            n,
            status,
        }
    }
}
