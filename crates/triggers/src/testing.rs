//! Histories for the tests of this crate.

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::history::{History, Serving};
use mloop_core::report::{MONITORING_FORMAT, MonitoringReport, ReportWindow};
use mloop_core::{
    Finding, ModelName, MonitoringOutcome, RunId, Sha256Digest, Status, Subject, TargetName,
    VersionRef, Window,
};

/// Hourly windows of 1,000 rows, oldest first, the newest ending now, with one finding each.
pub(crate) fn history(check: &str, statuses: &[Status]) -> History {
    let as_of: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a moment");
    let version = VersionRef { number: 1, digest: Sha256Digest::of(b"serving") };
    let subject = Subject {
        model: ModelName::new("m").expect("a name"),
        target: TargetName::new("t").expect("a name"),
    };
    let report = |(index, status): (usize, &Status)| {
        let end = as_of - TimeDelta::hours((statuses.len() - 1 - index) as i64);
        let findings = vec![finding(check, *status)];
        MonitoringReport {
            schema: MONITORING_FORMAT.to_owned(),
            run_id: RunId::derive(&[check, &index.to_string()]),
            subject: subject.clone(),
            version,
            window: ReportWindow {
                bounds: Window::new(end - TimeDelta::hours(1), end).expect("an hour"),
                rows: 1000,
                quarantined: 0,
                other_version: 0,
                mixed: 0,
            },
            outcome: MonitoringOutcome::of(&findings, &[]),
            findings,
            failures: vec![],
            blind_windows: 0,
            stale: false,
            label_window: None,
            profile: Sha256Digest::of(b"profile"),
            reference: Sha256Digest::of(b"reference"),
            as_of: end,
        }
    };
    let since = as_of - TimeDelta::days(10);
    History {
        reports: statuses.iter().enumerate().map(report).collect(),
        serving: Some(Serving { version, since, created_at: since }),
        last_job_at: None,
        subject,
        as_of,
    }
}

fn finding(check: &str, status: Status) -> Finding {
    Finding {
        monitor: "monitor".to_owned(),
        check: check.to_owned(),
        column: Some("brightness".to_owned()),
        group: None,
        method: "accuracy".to_owned(),
        value: Some(0.4),
        interval: Some([0.3, 0.5]),
        threshold: Some(0.1),
        n: 1000,
        status,
        detail: None,
    }
}
