//! The windows before one, for whoever looks at it.

use std::collections::BTreeMap;

use mloop_core::MonitoringReport;
use mloop_core::run::RunRecord;
use mloop_reporter::MAX_HISTORY;

/// Reports of the last windows of the same version that ended before this one's, oldest first: one a
/// window, its newest. A report that cannot be read is left out.
pub(crate) fn earlier_windows(
    runs: Vec<RunRecord>,
    report: &MonitoringReport,
) -> Vec<MonitoringReport> {
    let mut newest: BTreeMap<_, RunRecord> = BTreeMap::new();
    for run in runs.into_iter().filter(|run| run.version == Some(report.version.digest)) {
        let end = report.window.bounds.end();
        let Some(bounds) = run.window.filter(|bounds| bounds.end() < end) else { continue };
        let key = (bounds.end(), bounds.start());
        if newest.get(&key).is_none_or(|known| known.as_of < run.as_of) {
            newest.insert(key, run);
        }
    }
    let read = |run: RunRecord| serde_json::from_value(run.body).ok();
    let mut reports: Vec<MonitoringReport> = newest.into_values().filter_map(read).collect();
    reports.drain(..reports.len().saturating_sub(MAX_HISTORY));
    reports
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use mloop_core::run::RunKind;
    use mloop_core::{MonitoringOutcome, Sha256Digest, Window};
    use mloop_reporter::conformance::sample_report;
    use serde_json::Value;

    use super::*;

    /// A run over the hour that ended so many hours before the sample's, made some minutes later.
    fn run(before: i64, minutes: i64, rows: u64) -> RunRecord {
        let mut report = sample_report(MonitoringOutcome::Ok);
        let end = report.window.bounds.end() - TimeDelta::hours(before);
        report.window.bounds = Window::new(end - TimeDelta::hours(1), end).expect("an hour");
        (report.window.rows, report.as_of) = (rows, end + TimeDelta::minutes(minutes));
        RunRecord {
            run_id: report.run_id.clone(),
            kind: RunKind::Monitoring,
            subject: report.subject.clone(),
            version: Some(report.version.digest),
            window: Some(report.window.bounds),
            as_of: report.as_of,
            outcome: report.outcome.as_str().to_owned(),
            body: serde_json::to_value(&report).expect("JSON"),
        }
    }

    #[test]
    fn one_a_window_its_newest_and_oldest_first() {
        let report = sample_report(MonitoringOutcome::Alert);
        let other = RunRecord { version: Some(Sha256Digest::of(b"other")), ..run(4, 0, 9) };
        let damaged = RunRecord { body: Value::Null, ..run(5, 0, 9) };
        let runs = vec![run(1, 0, 1), run(3, 5, 2), run(3, 2, 3), run(0, 0, 4), run(-1, 0, 5)];
        let found = earlier_windows([runs, vec![other, damaged]].concat(), &report);
        let rows: Vec<u64> = found.iter().map(|one| one.window.rows).collect();
        assert_eq!(rows, [2, 1]);
    }

    #[test]
    fn of_many_windows_the_last_are_kept() {
        let report = sample_report(MonitoringOutcome::Ok);
        let hours = i64::try_from(MAX_HISTORY).expect("few") + 10;
        let found = earlier_windows((1..=hours).map(|hour| run(hour, 0, 1)).collect(), &report);
        assert_eq!(found.len(), MAX_HISTORY);
        let ends: Vec<DateTime<Utc>> = found.iter().map(|one| one.window.bounds.end()).collect();
        assert!(ends.is_sorted());
        assert_eq!(ends.last(), Some(&(report.window.bounds.end() - TimeDelta::hours(1))));
    }
}
