//! What matters most: findings by severity, then by how far they are beyond their bound.

use std::cmp::Reverse;

use mloop_core::{Finding, MonitoringOutcome, MonitoringReport, Status};

use crate::words::{counted, method, number, plain, times};

/// On which side of its bound a quantity is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// At or below it.
    Below,
    /// At or above it.
    Above,
}

/// The fine side of a finding's bound, which findings do not say: an interval that lies wholly on one
/// side shows it by the status; else most are bounded from above, and ratios and scores from below.
pub(crate) fn fine_side(finding: &Finding) -> Side {
    let value = finding.value.unwrap_or_default();
    let [low, high] = finding.interval.unwrap_or([value, value]);
    let bound = finding.threshold.unwrap_or_default();
    let is_score = matches!(finding.check.as_str(), "performance" | "estimated_performance");
    let is_loss = matches!(finding.method.as_str(), "log_loss" | "brier" | "ece" | "mae" | "rmse");
    match (low > bound, high < bound) {
        (true, _) if finding.is_alerting() => Side::Below,
        (_, true) if finding.is_alerting() => Side::Above,
        (true, _) => Side::Above,
        (_, true) => Side::Below,
        _ if (is_score && !is_loss) || finding.method.ends_with("_ratio") => Side::Above,
        _ => Side::Below,
    }
}

/// How many times its bound a quantity is; of one that is bounded from below, the bound how many times
/// the quantity. None where there is no value or no bound.
pub(crate) fn excess(finding: &Finding) -> Option<f64> {
    let (value, bound) = (finding.value?, finding.threshold?);
    let (upper, lower) = match fine_side(finding) {
        Side::Below => (value, bound),
        Side::Above => (bound, value),
    };
    if upper <= 0.0 {
        return Some(0.0);
    }
    // Nothing tolerated, or nothing left.
    Some(if lower <= 0.0 { f64::INFINITY } else { upper / lower })
}

/// Findings, worst status first; of one status those first that are furthest beyond their bounds.
pub(crate) fn ranked<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<&'a Finding> {
    let mut ranked: Vec<&Finding> = findings.into_iter().collect();
    // What is broken without a number, such as a column that is not there, is beyond all bounds.
    let unbounded = |finding: &Finding| match finding.status {
        Status::Broken => f64::INFINITY,
        _ => -1.0,
    };
    let weight = |finding: &Finding| excess(finding).unwrap_or_else(|| unbounded(finding));
    ranked.sort_by(|a, b| {
        Reverse(a.status).cmp(&Reverse(b.status)).then(weight(b).total_cmp(&weight(a)))
    });
    ranked
}

/// The finding that alerts most.
pub(crate) fn lead(report: &MonitoringReport) -> Option<&Finding> {
    ranked(&report.findings).into_iter().next().filter(|finding| finding.is_alerting())
}

/// What a finding is about, in words: `column drift of income`.
pub(crate) fn subject(finding: &Finding) -> String {
    let of: Vec<&str> = finding.column.iter().chain(&finding.group).map(String::as_str).collect();
    let check = plain(&finding.check);
    if of.is_empty() { check } else { format!("{check} of {}", of.join(" / ")) }
}

/// A finding in words: how much by which method, and what is tolerated.
pub(crate) fn measured(finding: &Finding) -> String {
    // Percentiles alone have a unit.
    let is_duration = finding.check == "latency" && finding.method.starts_with('p');
    let unit = if is_duration { " ms" } else { "" };
    let number = |value: f64| format!("{}{unit}", number(value));
    let (method, value) = (method(&finding.method), finding.value.map(number));
    let Some(value) = value else { return format!("{method} unknown") };
    let Some(bound) = finding.threshold else { return format!("{method} {value}") };
    if fine_side(finding) == Side::Above {
        return format!("{method} {value}, at least {} wanted", number(bound));
    }
    let beyond = excess(finding).filter(|ratio| finding.is_alerting() && *ratio > 1.0);
    let beyond = beyond.map_or(String::new(), |ratio| format!("{} the ", times(ratio)));
    format!("{method} {value}, {beyond}tolerated {}", number(bound))
}

/// What a window was found to be, in a sentence or two.
pub(crate) fn headline(report: &MonitoringReport) -> String {
    let all = report.findings.len();
    let of = |status| report.findings.iter().filter(|one| one.status == status).count();
    let alerting = report.findings.iter().filter(|one| one.is_alerting()).count();
    let sentence = match (report.outcome, lead(report)) {
        (MonitoringOutcome::Ok, _) if all == 1 => {
            "The one check is within its tolerance.".to_owned()
        }
        (MonitoringOutcome::Ok, _) => format!("All {all} checks are within their tolerance."),
        (MonitoringOutcome::InsufficientData, _) if all == 0 => "Nothing was checked.".to_owned(),
        (MonitoringOutcome::InsufficientData, _) => format!(
            "{} of {all} checks could not be judged; nothing is known to be wrong.",
            of(Status::InsufficientData)
        ),
        (_, None) => "Nothing is known to be wrong, but not all could look.".to_owned(),
        (outcome, Some(finding)) => {
            let broken = outcome == MonitoringOutcome::Broken;
            let broken = if broken { "The data are broken. " } else { "" };
            let (alert, most) = match alerting {
                1 => ("alerts", ""),
                _ => ("alert", ", most of all"),
            };
            format!("{broken}{alerting} of {all} checks {alert}{most}: {}.", subject(finding))
        }
    };
    match report.failures.len() {
        0 => sentence,
        n => format!("{sentence} {} failed.", counted(n, "monitor", "monitors")),
    }
}

/// A finding's numbers, and what carries it.
pub(crate) fn carried(finding: &Finding) -> String {
    let detail = finding.detail.as_ref().map_or(String::new(), |detail| format!("; {detail}"));
    measured(finding) + &detail
}

#[cfg(test)]
mod tests {
    use mloop_core::report::MonitorFailure;
    use mloop_reporter::conformance::sample_report;

    use super::*;

    fn finding(check: &str, value: f64, bound: f64, status: Status) -> Finding {
        let sample = sample_report(MonitoringOutcome::Alert).findings.remove(0);
        let interval = Some([value * 0.9, value * 1.1]);
        let (value, threshold) = (Some(value), Some(bound));
        Finding { check: check.to_owned(), value, interval, threshold, status, ..sample }
    }

    #[test]
    fn the_worst_comes_first_and_then_what_is_furthest_beyond_its_bound() {
        let gone = Finding {
            value: None,
            interval: None,
            threshold: None,
            ..finding("gone", 0.0, 0.0, Status::Broken)
        };
        let findings = [
            finding("small", 0.2, 0.1, Status::Drifted),
            finding("fine", 0.09, 0.1, Status::Ok),
            finding("low", 0.1, 0.8, Status::Drifted),
            finding("damaged", 0.5, 0.1, Status::Broken),
            finding("large", 0.9, 0.1, Status::Drifted),
            finding("blind", 0.1, 0.1, Status::InsufficientData),
            gone,
            finding("finer", 0.01, 0.1, Status::Ok),
        ];
        let order: Vec<&str> = ranked(&findings).iter().map(|one| one.check.as_str()).collect();
        let expected = ["gone", "damaged", "large", "low", "small", "blind", "fine", "finer"];
        assert_eq!(order, expected);
    }

    #[test]
    fn the_side_of_a_bound_shows_by_the_status() {
        let side = |value, status| fine_side(&finding("performance", value, 0.5, status));
        assert_eq!(side(0.9, Status::Drifted), Side::Below);
        assert_eq!(side(0.9, Status::Ok), Side::Above);
        assert_eq!(side(0.1, Status::Drifted), Side::Above);
        assert_eq!(side(0.1, Status::Ok), Side::Below);
        assert_eq!(side(0.5, Status::Ok), Side::Above);
        let drift = finding("column_drift", 0.1, 0.1, Status::Ok);
        assert_eq!(fine_side(&drift), Side::Below);
        assert_eq!(excess(&finding("share", 0.2, 0.0, Status::Broken)), Some(f64::INFINITY));
        assert_eq!(excess(&finding("share", 0.0, 0.0, Status::Ok)), Some(0.0));
    }

    #[test]
    fn the_headline_says_how_much_is_wrong_and_what_most() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        assert_eq!(headline(&report), "1 of 1 checks alerts: column drift of brightness.");
        report.findings.push(finding("large", 0.9, 0.1, Status::Drifted));
        report.failures.push(MonitorFailure { monitor: "m".to_owned(), error: "e".to_owned() });
        assert_eq!(
            headline(&report),
            "2 of 2 checks alert, most of all: large of brightness. 1 monitor failed."
        );
        report.outcome = MonitoringOutcome::Broken;
        assert!(headline(&report).starts_with("The data are broken. 2 of 2"));
        report.findings.clear();
        assert_eq!(
            headline(&report),
            "Nothing is known to be wrong, but not all could look. 1 monitor failed."
        );
        let fine = sample_report(MonitoringOutcome::Ok);
        assert_eq!(headline(&fine), "The one check is within its tolerance.");
        let mut blind = sample_report(MonitoringOutcome::InsufficientData);
        blind.findings[0].status = Status::InsufficientData;
        assert!(headline(&blind).starts_with("1 of 1 checks could not be judged"));
    }

    #[test]
    fn what_leads_is_told_with_its_numbers_and_what_carries_it() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        report.findings[0].detail = Some("3 to 4: 1 % → 9 %".to_owned());
        assert_eq!(
            carried(lead(&report).expect("one alerts")),
            "Jensen-Shannon distance 0.42, 4.2 × the tolerated 0.1; 3 to 4: 1 % → 9 %"
        );
        let low = finding("performance", 0.6, 0.8, Status::Drifted);
        assert_eq!(measured(&low), "Jensen-Shannon distance 0.6, at least 0.8 wanted");
        let late =
            Finding { method: "p99".to_owned(), ..finding("latency", 80.0, 60.0, Status::Drifted) };
        assert_eq!(measured(&late), "p99 80 ms, 1.3 × the tolerated 60 ms");
    }
}
