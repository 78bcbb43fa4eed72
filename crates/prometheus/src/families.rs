//! A monitoring report → metric families: stable label sets, no value in a label.

use mloop_core::metrics::{MetricFamily, MetricKind, Sample, SampleValue};
use mloop_core::{Finding, MonitoringOutcome, MonitoringReport, Status};
use mloop_reporter::When;

/// Findings written before the cap: a model of 100 columns and 20 groups stays below it.
const MAX_SERIES: usize = 2_000;

/// Tells whose numbers a receiver has.
pub(crate) const WINDOW_END: &str = "mloop_window_end_timestamp_seconds";

/// The default of `when`.
pub(crate) fn always() -> When {
    When::Always
}

/// The default of `max_series`.
pub(crate) fn max_series() -> usize {
    MAX_SERIES
}

/// The metrics of a report; of more than `max_series` findings the first are written, and the rest
/// counted in `mloop_findings_dropped`.
///
/// | metric | meaning |
/// |---|---|
/// | `mloop_finding_value`, `_lower`, `_upper`, `_threshold` | a check's quantity, its interval, its bound, in the `unit` of its method |
/// | `mloop_finding_status` | 0 ok, 1 insufficient data, 2 drifted, 3 broken |
/// | `mloop_monitoring_outcome` | 1 for the outcome of the run, 0 for the others |
/// | `mloop_window_rows`, `_quarantined`, `_other_version`, `_mixed` | records of the window |
/// | `mloop_window_end_timestamp_seconds` | end of the window |
/// | `mloop_monitoring_last_success_timestamp_seconds` | when the run took place |
#[must_use]
pub fn families(report: &MonitoringReport, max_series: usize) -> Vec<MetricFamily> {
    let kept = &report.findings[..report.findings.len().min(max_series)];
    let dropped = report.findings.len() - kept.len();
    if dropped > 0 {
        tracing::warn!(dropped, "more findings than `max_series`; the rest is only counted");
    }
    let of_findings = |name: &str, help: &str, value: fn(&Finding) -> Option<f64>| {
        let sample =
            |finding: &Finding| Some(number(finding_labels(report, finding), value(finding)?));
        gauge(name, help, kept.iter().filter_map(sample).collect())
    };
    let of_run = |name: &str, help: &str, value: f64| {
        gauge(name, help, vec![number(run_labels(report), value)])
    };
    let window = &report.window;
    vec![
        of_findings(
            "mloop_finding_value",
            "Quantity of a check, in the unit of its method.",
            |f| f.value,
        ),
        of_findings("mloop_finding_lower", "Lower end of its interval, in the same unit.", |f| {
            Some(f.interval?[0])
        }),
        of_findings("mloop_finding_upper", "Upper end of its interval, in the same unit.", |f| {
            Some(f.interval?[1])
        }),
        of_findings("mloop_finding_threshold", "Bound of a check, in the same unit.", |f| {
            f.threshold
        }),
        of_findings(
            "mloop_finding_status",
            "Status of a check: 0 ok, 1 insufficient data, 2 drifted, 3 broken.",
            |f| Some(status_number(f.status)),
        ),
        outcome(report),
        of_run("mloop_findings_dropped", "Findings beyond the cap on series.", dropped as f64),
        of_run("mloop_monitors_failed", "Monitors that failed.", report.failures.len() as f64),
        of_run(
            "mloop_window_rows",
            "Rows answered by the version that is judged.",
            window.rows as f64,
        ),
        of_run(
            "mloop_window_quarantined",
            "Records that could not be read.",
            window.quarantined as f64,
        ),
        of_run(
            "mloop_window_other_version",
            "Rows of other versions that served in the window.",
            window.other_version as f64,
        ),
        of_run("mloop_window_mixed", "Rows of unknown versions.", window.mixed as f64),
        window_end(report),
        of_run(
            "mloop_monitoring_last_success_timestamp_seconds",
            "When the window was judged, Unix time.",
            report.as_of.timestamp() as f64,
        ),
    ]
}

/// When the window ended: also how a reporter knows whose numbers a file has.
pub(crate) fn window_end(report: &MonitoringReport) -> MetricFamily {
    let end = report.window.bounds.end().timestamp() as f64;
    let sample = number(run_labels(report), end);
    gauge(WINDOW_END, "End of the window, Unix time.", vec![sample])
}

fn outcome(report: &MonitoringReport) -> MetricFamily {
    use MonitoringOutcome::{Alert, Broken, InsufficientData, Ok};
    let sample = |outcome: MonitoringOutcome| {
        let mut labels = run_labels(report);
        labels.push(("outcome".to_owned(), outcome.as_str().to_owned()));
        number(labels, f64::from(u8::from(report.outcome == outcome)))
    };
    let help = "1 for the outcome of the run, 0 for the others.";
    gauge(
        "mloop_monitoring_outcome",
        help,
        [Ok, Alert, InsufficientData, Broken].map(sample).into(),
    )
}

fn status_number(status: Status) -> f64 {
    match status {
        Status::Ok => 0.0,
        Status::InsufficientData => 1.0,
        Status::Drifted => 2.0,
        Status::Broken => 3.0,
    }
}

fn run_labels(report: &MonitoringReport) -> Vec<(String, String)> {
    let subject = &report.subject;
    vec![
        ("model".to_owned(), subject.model.to_string()),
        ("target".to_owned(), subject.target.to_string()),
    ]
}

/// All findings carry the same label names; what does not apply is empty, which Prometheus treats
/// as absent.
fn finding_labels(report: &MonitoringReport, finding: &Finding) -> Vec<(String, String)> {
    let mut labels = run_labels(report);
    let of = [
        ("monitor", finding.monitor.as_str()),
        ("check", finding.check.as_str()),
        ("column", finding.column.as_deref().unwrap_or_default()),
        ("group", finding.group.as_deref().unwrap_or_default()),
        ("method", finding.method.as_str()),
        ("unit", unit(&finding.method)),
    ];
    labels.extend(of.map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels
}

/// The unit of a method's quantity; `column` where it is that of the column or of what is predicted.
fn unit(method: &str) -> &'static str {
    match method {
        "p50" | "p90" | "p95" | "p99" | "p999" => "milliseconds",
        "wasserstein" | "mae" | "rmse" => "column",
        "log_loss" => "nats",
        "count" => "rows",
        _ => "ratio",
    }
}

fn number(labels: Vec<(String, String)>, value: f64) -> Sample {
    Sample { labels, value: SampleValue::Number(value) }
}

fn gauge(name: &str, help: &str, samples: Vec<Sample>) -> MetricFamily {
    MetricFamily { name: name.to_owned(), help: help.to_owned(), kind: MetricKind::Gauge, samples }
}

#[cfg(test)]
mod tests {
    use mloop_reporter::conformance::sample_report;

    use super::*;
    use crate::encode;

    #[test]
    fn a_report_becomes_metrics_without_values_in_labels() {
        let text = encode(&families(&sample_report(MonitoringOutcome::Alert), 100));
        let labels = "model=\"fashion\",target=\"production\"";
        for line in [
            format!(
                "mloop_finding_value{{{labels},monitor=\"drift\",check=\"column_drift\",column=\"brightness\",group=\"\",method=\"jensen_shannon\",unit=\"ratio\"}} 0.42"
            ),
            format!("mloop_monitoring_outcome{{{labels},outcome=\"alert\"}} 1"),
            format!("mloop_monitoring_outcome{{{labels},outcome=\"ok\"}} 0"),
            format!("mloop_window_rows{{{labels}}} 1500"),
            format!("mloop_monitoring_last_success_timestamp_seconds{{{labels}}} 1772326800"),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn series_are_capped_and_the_rest_is_counted() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        report.findings = vec![report.findings[0].clone(); 5];
        let text = encode(&families(&report, 2));
        assert_eq!(text.matches("mloop_finding_value{").count(), 2);
        assert!(text.contains("mloop_findings_dropped{model=\"fashion\",target=\"production\"} 3"));
    }
}
