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

/// A share for people: `3.0 %`, `0.04 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 9.95 {
        format!("{percent:.0} %")
    } else if percent >= 0.1 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.2} %")
    }
}

/// A number of a column for people, with four digits that count.
pub(crate) fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.3e}");
    }
    let digits = 3 - value.abs().max(1e-3).log10().floor() as i32;
    let text = format!("{value:.*}", usize::try_from(digits).unwrap_or(0));
    match text.split_once('.') {
        Some((whole, part)) if part.trim_end_matches('0').is_empty() => whole.to_owned(),
        Some((whole, part)) => format!("{whole}.{}", part.trim_end_matches('0')),
        None => text,
    }
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
            detail: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [0.0, 1.0, -2.5, 29_900.0, 0.123_456, 3.271_59, 1234.56, 1e-7, 2e9, 99_999.9];
        let texts = numbers.map(number);
        let expected =
            ["0", "1", "-2.5", "29900", "0.1235", "3.272", "1235", "1.000e-7", "2.000e9", "100000"];
        assert_eq!(texts, expected);
        let shares = [0.0, 0.6, 0.03, 0.000_4, 0.099_7].map(percent);
        assert_eq!(shares, ["0 %", "60 %", "3.0 %", "0.04 %", "10 %"]);
    }
}
