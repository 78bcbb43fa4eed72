//! One self-contained page a run: the verdict, then every check with its interval drawn.

use std::fmt::Write as _;
use std::path::PathBuf;

use async_trait::async_trait;
use mloop_core::{Finding, MonitoringOutcome, MonitoringReport, Status};
use mloop_reporter::{BuildError, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{probe, write_atomically};
use crate::json::always;

/// Settings of kind `html`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HtmlConfig {
    /// Folder of the pages, `{run_id}.html` each.
    folder: PathBuf,
    /// On which outcomes a page is written.
    #[serde(default = "always")]
    when: When,
}

impl Spec<Box<dyn Reporter>, ReporterDeps> for HtmlConfig {
    const KIND: &'static str = "html";

    fn build(self, name: String, deps: &ReporterDeps) -> Result<Box<dyn Reporter>, BuildError> {
        let folder = deps.platform.resolve(&self.folder);
        Ok(Box::new(HtmlReporter { name, when: self.when, folder }))
    }
}

/// Writes each report as a page of its own.
pub struct HtmlReporter {
    name: String,
    when: When,
    folder: PathBuf,
}

#[async_trait]
impl Reporter for HtmlReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn probe(&self) -> Result<bool, ReporterError> {
        probe(&self.folder)
    }

    fn page(&self, report: &MonitoringReport) -> Option<PathBuf> {
        Some(self.path(report))
    }

    async fn report(&self, report: &MonitoringReport) -> Result<(), ReporterError> {
        write_atomically(&self.path(report), page(report).as_bytes())
    }
}

impl HtmlReporter {
    fn path(&self, report: &MonitoringReport) -> PathBuf {
        self.folder.join(format!("{}.html", report.run_id))
    }
}

const STYLE: &str = "
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--ok:#1a7f4b;--alert:#b3261e;--blind:#8a6d00;--bar:#9db2c9}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333d4a;--paper:#151a21;--ok:#5fd08f;--alert:#ff8a80;--blind:#e3c04d;--bar:#4d6580}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.sub{color:var(--soft);margin:.2rem 0 1rem}.ok{color:var(--ok)}.alert{color:var(--alert)}.blind{color:var(--blind)}
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:middle}
th{font-weight:600;color:var(--soft);font-size:.85rem}td.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}svg{display:block}code{font-size:.85em}";

/// The page of a report.
#[must_use]
pub fn page(report: &MonitoringReport) -> String {
    let (class, verdict) = verdict(report.outcome);
    let window = &report.window;
    let title = format!("{} · {}", report.subject, report.outcome.as_str());
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{}</title><style>{STYLE}</style>\
         <h1 class=\"{class}\">{verdict}</h1><p class=\"sub\">{} · {} · window {} · {} rows, {} \
         unreadable, {} of other versions, {} of unknown ones</p>",
        escape(&title),
        escape(&report.subject.to_string()),
        escape(&report.version.to_string()),
        escape(&window.bounds.to_string()),
        window.rows,
        window.quarantined,
        window.other_version,
        window.mixed,
    );
    for failure in &report.failures {
        let (monitor, error) = (escape(&failure.monitor), escape(&failure.error));
        push(&mut html, format_args!("<p class=\"alert\">{monitor} failed: {error}</p>"));
    }
    for monitor in monitors(report) {
        table(&mut html, monitor, report.findings.iter().filter(|f| f.monitor == monitor));
    }
    push(
        &mut html,
        format_args!(
            "<p class=\"sub\">run <code>{}</code> · profile <code>{}</code> · reference <code>{}</code></p></html>\n",
            report.run_id,
            report.profile.short(12),
            report.reference.short(12)
        ),
    );
    html
}

/// The monitors in the order of their first findings.
fn monitors(report: &MonitoringReport) -> Vec<&str> {
    let mut names: Vec<&str> = vec![];
    for finding in &report.findings {
        if !names.contains(&finding.monitor.as_str()) {
            names.push(&finding.monitor);
        }
    }
    names
}

fn table<'a>(html: &mut String, monitor: &str, findings: impl Iterator<Item = &'a Finding>) {
    // Worst first, so that what needs a look needs no scrolling.
    let mut sorted: Vec<&Finding> = findings.collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.status));
    push(
        html,
        format_args!(
            "<h2>{}</h2><div class=\"wide\"><table><tr><th>check<th>method<th>value<th>interval and bound\
             <th>n<th>status",
            escape(monitor)
        ),
    );
    for finding in sorted {
        let (class, status) = status(finding.status);
        push(
            html,
            format_args!(
                "<tr><td>{}<td><code>{}</code><td class=\"n\">{}<td>{}<td class=\"n\">{}<td class=\"{class}\">{status}",
                escape(&finding.subject()),
                escape(&finding.method),
                finding.value.map_or("–".to_owned(), |value| format!("{value:.4}")),
                drawing(finding),
                finding.n
            ),
        );
    }
    html.push_str("</table></div>");
}

/// The interval as a bar, the value as a dot, the bound as a line, on a scale from 0 to what is
/// largest.
fn drawing(finding: &Finding) -> String {
    const WIDTH: f64 = 220.0;
    let Some(value) = finding.value else { return String::new() };
    let [low, high] = finding.interval.unwrap_or([value, value]);
    let bound = finding.threshold;
    let (left, right) = [low, high, value]
        .into_iter()
        .chain(bound)
        .fold((0.0f64, 1e-9f64), |(left, right), number| (left.min(number), right.max(number)));
    let x = |number: f64| 4.0 + (number - left) / (right - left) * (WIDTH - 8.0);
    let mark = bound.map_or(String::new(), |bound| {
        let at = x(bound);
        format!("<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"1\" y2=\"17\" stroke=\"var(--alert)\" stroke-dasharray=\"3 2\"/>")
    });
    let text = match bound {
        Some(bound) => format!("[{low:.4}, {high:.4}], bound {bound:.4}"),
        None => format!("[{low:.4}, {high:.4}]"),
    };
    format!(
        "<svg width=\"{WIDTH}\" height=\"18\" role=\"img\" aria-label=\"{text}\"><title>{text}</title>\
         <rect x=\"{:.1}\" y=\"6\" width=\"{:.1}\" height=\"6\" rx=\"3\" fill=\"var(--bar)\"/>{mark}\
         <circle cx=\"{:.1}\" cy=\"9\" r=\"3.5\" fill=\"var(--ink)\"/></svg>",
        x(low),
        (x(high) - x(low)).max(2.0),
        x(value),
    )
}

fn verdict(outcome: MonitoringOutcome) -> (&'static str, &'static str) {
    match outcome {
        MonitoringOutcome::Ok => ("ok", "Everything checked is within its tolerance"),
        MonitoringOutcome::Alert => ("alert", "Something is outside its tolerance"),
        MonitoringOutcome::InsufficientData => ("blind", "Too little data to judge everything"),
        MonitoringOutcome::Broken => ("alert", "The data are broken"),
    }
}

fn status(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Ok => ("ok", "ok"),
        Status::InsufficientData => ("blind", "insufficient data"),
        Status::Drifted => ("alert", "drifted"),
        Status::Broken => ("alert", "broken"),
    }
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    html.write_fmt(text).unwrap_or_default();
}

/// Text that may come from traffic, made harmless.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use mloop_reporter::conformance::{check_reporter, sample_report};

    use super::*;

    #[tokio::test]
    async fn a_run_is_one_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let reporter = HtmlReporter {
            name: "html".to_owned(),
            when: When::Always,
            folder: folder.path().join("pages"),
        };
        let count = || async { std::fs::read_dir(&reporter.folder).expect("made").count() };
        check_reporter(&reporter, count).await;
    }

    #[test]
    fn what_comes_from_traffic_cannot_become_markup() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        report.findings[0].group = Some("<script>alert(1)</script>".to_owned());
        let html = page(&report);
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn the_page_shows_the_verdict_and_the_numbers() {
        let html = page(&sample_report(MonitoringOutcome::Alert));
        for part in ["Something is outside", "0.4200", "[0.3900, 0.4500], bound 0.1000", "drifted"]
        {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }
}
