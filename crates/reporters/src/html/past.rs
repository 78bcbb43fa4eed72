//! The windows before this one.

use mloop_core::{Finding, MonitoringOutcome, MonitoringReport};
use mloop_reporter::Judged;

use super::draw::{Scale, WIDTH, dot, escape, figure, line, path, rect, text};
use super::section_of;
use crate::rank::{Side, fine_side, ranked, subject};
use crate::words::{counted, method, number, plain, span};

/// Checks whose past is drawn.
const SHOWN: usize = 12;

/// The outcomes of the last windows as a strip, newest at the right; empty without earlier ones.
pub(crate) fn strip(judged: &Judged) -> String {
    if judged.history.is_empty() {
        return String::new();
    }
    let windows = || judged.history.iter().chain([&judged.report]);
    let count = windows().count();
    let width = (WIDTH / count as f64).min(18.0);
    let from = WIDTH - width * count as f64;
    let mut body = String::new();
    for (index, report) in windows().enumerate() {
        let x = from + index as f64 * width + 1.0;
        let outcome = plain(report.outcome.as_str());
        let title = escape(&format!("{}: {outcome}", span(&report.window.bounds)));
        body.push_str("<g><title>");
        body.push_str(&title);
        body.push_str("</title>");
        body.push_str(&cell(report.outcome, x, width - 2.0));
        body.push_str("</g>");
    }
    let of = |wanted| windows().filter(|report| report.outcome == wanted).count();
    let label = format!(
        "Outcomes of the last {count} windows, this one at the right: {} ok, {} alert, {} broken, {} could not be judged",
        of(MonitoringOutcome::Ok),
        of(MonitoringOutcome::Alert),
        of(MonitoringOutcome::Broken),
        of(MonitoringOutcome::InsufficientData)
    );
    let drawn = figure(26.0, &label, &body);
    format!("<figure class=\"strip\">{drawn}<figcaption>{}.</figcaption></figure>", escape(&label))
}

/// Low and filled: ok; low and hollow: not judged; high: alert; high and crossed: broken.
fn cell(outcome: MonitoringOutcome, x: f64, width: f64) -> String {
    match outcome {
        MonitoringOutcome::Ok => rect("cell ok", [x, 16.0], [width, 8.0]),
        MonitoringOutcome::InsufficientData => {
            rect("cell blind", [x + 0.7, 16.7], [width - 1.4, 6.6])
        }
        MonitoringOutcome::Alert => rect("cell bad", [x, 2.0], [width, 22.0]),
        MonitoringOutcome::Broken => {
            rect("cell bad", [x, 2.0], [width, 22.0])
                + &line("cut", [x, 8.0], [x + width, 18.0])
                + &line("cut", [x, 18.0], [x + width, 8.0])
        }
    }
}

/// How what alerts now came about: each check's value over the last windows.
pub(crate) fn section(judged: &Judged) -> String {
    let findings = judged.report.findings.iter();
    let alerting = ranked(findings.filter(|one| one.is_alerting() && one.value.is_some()));
    if judged.history.is_empty() || alerting.is_empty() {
        return String::new();
    }
    let cards: String = alerting.iter().take(SHOWN).map(|one| card(judged, one)).collect();
    let body = format!("<div class=\"grid\">{cards}</div>");
    section_of("How it came about", &body)
}

fn card(judged: &Judged, finding: &Finding) -> String {
    let title = format!("{}, {}", subject(finding), method(&finding.method));
    let drawn = line_of(judged, finding);
    format!(
        "<article class=\"card\"><p class=\"small\"><b>{}</b></p><figure>{drawn}</figure></article>",
        escape(&title)
    )
}

/// What an earlier report says of the same check. Comparisons of groups name the two that are furthest
/// apart, which may have been others.
fn same<'a>(report: &'a MonitoringReport, finding: &Finding) -> Option<&'a Finding> {
    let about = |one: &Finding| {
        let group = one.group.clone().map(|group| match group.split_once(": ") {
            Some((attribute, pair)) if pair.contains(" / ") => attribute.to_owned(),
            _ => group,
        });
        (one.monitor.clone(), one.check.clone(), one.column.clone(), one.method.clone(), group)
    };
    report.findings.iter().find(|one| about(one) == about(finding))
}

fn line_of(judged: &Judged, finding: &Finding) -> String {
    const FLOOR: f64 = 62.0;
    let windows = || judged.history.iter().chain([&judged.report]);
    let count = windows().count();
    let found: Vec<(usize, &Finding, f64)> = windows()
        .enumerate()
        .filter_map(|(index, report)| {
            let one = same(report, finding)?;
            Some((index, one, one.value.filter(|value| value.is_finite())?))
        })
        .collect();
    let bound = finding.threshold.filter(|bound| bound.is_finite());
    let numbers = found.iter().map(|(.., value)| *value).chain(bound);
    let (low, high) = numbers.fold((0.0f64, 1e-9f64), |(l, h), n| (l.min(n), h.max(n)));
    let (from, to) = (10.0, WIDTH - 54.0);
    let x = Scale::new([0.0, (count - 1).max(1) as f64], [from, to]);
    let y = Scale::new([low, high + (high - low) * 0.08], [FLOOR, 8.0]);
    let mut body = line("axis", [from, FLOOR], [to, FLOOR]);
    if let Some(bound) = bound {
        let at = y.at(bound);
        let [top, foot] = match fine_side(finding) {
            Side::Below => [at, FLOOR],
            Side::Above => [8.0, at],
        };
        body.push_str(&rect("fine", [from, top], [to - from, foot - top]));
        body.push_str(&text(to + 12.0, at + 4.0, "start", &number(bound)));
    }
    let place = |index: usize, value: f64| [x.at(index as f64), y.at(value)];
    body.push_str(&path("curve", found.iter().map(|(index, _, value)| place(*index, *value))));
    for (index, one, value) in &found {
        let [at, up] = place(*index, *value);
        if one.is_alerting() || *index + 1 == count {
            body.push_str(&dot(one.is_alerting(), at, up));
        }
    }
    let alerted = found.iter().filter(|(_, one, _)| one.is_alerting()).count();
    let label = format!(
        "{} over the last {}: {} now, beyond its tolerance in {alerted}",
        subject(finding),
        counted(count, "window", "windows"),
        finding.value.map_or("unknown".to_owned(), number),
    );
    figure(FLOOR + 6.0, &label, &body)
}

#[cfg(test)]
mod tests {
    use mloop_reporter::conformance::{sample, sample_report};

    use super::*;

    #[test]
    fn the_strip_tells_each_outcome_by_its_form() {
        let mut judged = sample(MonitoringOutcome::Alert);
        assert_eq!(strip(&judged), "");
        let outcomes =
            [MonitoringOutcome::Ok, MonitoringOutcome::Broken, MonitoringOutcome::InsufficientData];
        judged.history = outcomes.map(sample_report).to_vec();
        let html = strip(&judged);
        let label = "last 4 windows, this one at the right: 1 ok, 1 alert, 1 broken, 1 could not";
        assert!(html.contains(label), "{html}");
        let forms: std::collections::BTreeSet<String> = [
            MonitoringOutcome::Ok,
            MonitoringOutcome::Alert,
            MonitoringOutcome::Broken,
            MonitoringOutcome::InsufficientData,
        ]
        .map(|outcome| cell(outcome, 0.0, 10.0).replace(|c: char| c.is_alphabetic(), ""))
        .into();
        assert_eq!(forms.len(), 4, "without their classes, too");
    }

    #[test]
    fn a_check_is_found_again_though_other_groups_are_furthest_apart() {
        let mut earlier = sample_report(MonitoringOutcome::Alert);
        let mut finding = earlier.findings[0].clone();
        earlier.findings[0].group = Some("sex: f / m".to_owned());
        finding.group = Some("sex: m / x".to_owned());
        assert!(same(&earlier, &finding).is_some());
        finding.group = Some("race: m / x".to_owned());
        assert!(same(&earlier, &finding).is_none());
        earlier.findings[0].group = Some("class: cat".to_owned());
        finding.group = Some("class: dog".to_owned());
        assert!(same(&earlier, &finding).is_none());
    }

    #[test]
    fn only_what_alerts_has_its_past_drawn() {
        let mut judged = sample(MonitoringOutcome::Alert);
        judged.history = vec![sample_report(MonitoringOutcome::Ok); 5];
        let html = section(&judged);
        assert!(
            html.contains("over the last 6 windows: 0.42 now, beyond its tolerance in 1"),
            "{html}"
        );
        judged.report.findings[0].status = mloop_core::Status::Ok;
        assert_eq!(section(&judged), "");
    }
}
