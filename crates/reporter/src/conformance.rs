//! What every reporter must do, whoever wrote it.

use std::collections::BTreeMap;
use std::future::Future;

use mloop_core::finding::Status;
use mloop_core::profile::{ColumnCounts, ProfileKey};
use mloop_core::report::{MONITORING_FORMAT, ReportWindow};
use mloop_core::schema::{ColumnKind, ColumnSchema, NumericSchema, PROFILE_FORMAT};
use mloop_core::{
    Evidence, Finding, ModelName, MonitoringOutcome, MonitoringReport, Profile, ProfileSchema,
    RunId, Sha256Digest, Subject, TargetName, VersionRef, Window,
};

use crate::{Judged, Reporter};

/// Checks a reporter: a report is taken, and a look or the same report again leaves what `records`
/// counts as it was. `records` counts what the receiver holds: files, lines, messages.
///
/// # Panics
/// With the broken rule.
pub async fn check_reporter<F: Future<Output = usize>>(
    reporter: &dyn Reporter,
    records: impl Fn() -> F,
) {
    assert!(!reporter.name().is_empty(), "a reporter without a name cannot be reported");
    let judged = sample(MonitoringOutcome::Alert);
    reporter.report(&judged).await.expect("a report is taken");
    let once = records().await;
    assert!(once > 0, "a report leaves something at its receiver");
    let page = reporter.page(&judged.report);
    assert!(page.is_none_or(|page| page.is_file()), "the page that it names is there");
    reporter.probe().await.expect("a receiver that works passes a look");
    assert_eq!(records().await, once, "a look changes nothing");
    reporter.report(&judged).await.expect("a repeat is allowed");
    assert_eq!(records().await, once, "a repeated report leaves one record");
}

/// A judged window with one drifted column, for tests.
///
/// # Panics
/// Never.
#[must_use]
pub fn sample(outcome: MonitoringOutcome) -> Judged {
    judged(sample_report(outcome))
}

/// A report with evidence of one numeric column, `brightness`, whose rows have moved to its upper half.
///
/// # Panics
/// Never.
#[must_use]
pub fn judged(report: MonitoringReport) -> Judged {
    let numeric = NumericSchema { edges: (0..=8).map(f64::from).collect(), step: 0.5 };
    let kind = ColumnKind::Numeric(numeric);
    let schema = ProfileSchema {
        format: PROFILE_FORMAT,
        model: report.subject.model.clone(),
        classes: vec!["a".to_owned(), "b".to_owned()],
        positive: None,
        columns: vec![ColumnSchema { name: "brightness".to_owned(), kind }],
        groups: vec![],
        latency_objective_micros: Some(2_000),
    };
    let key = ProfileKey { subject: report.subject.clone(), version: report.version.digest };
    let mut current = Profile::new(&schema, key, report.window.bounds);
    current.rows = report.window.rows;
    (0..report.window.rows).for_each(|row| current.latency.observe(500 + row));
    let mut reference = current.clone();
    for (profile, first) in [(&mut reference, 0), (&mut current, 4)] {
        if let Some(ColumnCounts::Numeric(counts)) = profile.columns.get_mut("brightness") {
            counts.bins[first..first + 4].fill(report.window.rows / 4);
        }
    }
    let latency = current.latency.clone();
    let evidence = Evidence {
        schema,
        reference,
        latency,
        spans: BTreeMap::new(),
        current,
        earlier: None,
        confidence: None,
    };
    Judged { report, evidence, history: vec![] }
}

/// A report with one drifted column, for tests.
///
/// # Panics
/// Never.
#[must_use]
pub fn sample_report(outcome: MonitoringOutcome) -> MonitoringReport {
    let start = "2026-03-01T00:00:00Z".parse().expect("a moment");
    let end = "2026-03-01T01:00:00Z".parse().expect("a moment");
    let status = if outcome.is_alerting() { Status::Drifted } else { Status::Ok };
    let finding = Finding {
        monitor: "drift".to_owned(),
        check: "column_drift".to_owned(),
        column: Some("brightness".to_owned()),
        group: None,
        method: "jensen_shannon".to_owned(),
        value: Some(0.42),
        interval: Some([0.39, 0.45]),
        threshold: Some(0.1),
        n: 1500,
        status,
        detail: None,
    };
    MonitoringReport {
        schema: MONITORING_FORMAT.to_owned(),
        run_id: RunId::derive(&["sample"]),
        subject: Subject {
            model: ModelName::new("fashion").expect("a name"),
            target: TargetName::new("production").expect("a name"),
        },
        version: VersionRef { number: 1, digest: Sha256Digest::of(b"version") },
        window: ReportWindow {
            bounds: Window::new(start, end).expect("an hour"),
            rows: 1500,
            quarantined: 0,
            other_version: 0,
            mixed: 0,
        },
        outcome,
        findings: vec![finding],
        failures: vec![],
        blind_windows: 0,
        stale: false,
        label_window: None,
        profile: Sha256Digest::of(b"profile"),
        reference: Sha256Digest::of(b"reference"),
        as_of: end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordingReporter, When};

    #[tokio::test]
    async fn the_fake_passes() {
        let fake = RecordingReporter::new("fake", When::Always);
        check_reporter(&fake, || async { fake.reports().len() }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "leaves one record")]
    async fn a_reporter_that_repeats_itself_is_caught() {
        growing_from(2).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a look changes nothing")]
    async fn a_reporter_that_leaves_something_when_looked_at_is_caught() {
        growing_from(1).await;
    }

    /// Checks a reporter whose records grow with this look at them, the first being 0.
    async fn growing_from(first: usize) {
        let fake = RecordingReporter::new("fake", When::Always);
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let records = || async {
            let look = looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if look < first { 1 } else { 2 }
        };
        check_reporter(&fake, records).await;
    }

    #[test]
    fn when_splits_by_alert() {
        let table = [
            (When::NoAlert, [true, false]),
            (When::Alert, [false, true]),
            (When::Always, [true, true]),
        ];
        for (when, expected) in table {
            assert_eq!([when.applies(false), when.applies(true)], expected, "{when:?}");
        }
    }
}
