//! One self-contained page a run: the verdict, then what moved, most first, then everything else.

mod answers;
mod columns;
mod draw;
mod groups;
mod latency;
mod past;

use std::path::PathBuf;

use async_trait::async_trait;
use mloop_core::{Finding, MonitoringOutcome, MonitoringReport};
use mloop_reporter::{BuildError, Judged, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;

use self::draw::{chip, escape, gauge};
use crate::file::{probe, write_atomically};
use crate::json::always;
use crate::rank::{carried, headline, lead, measured, ranked, subject};
use crate::words::{count, counted, method, number, percent, plain, span};

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

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        write_atomically(&self.path(&judged.report), page(judged).as_bytes())
    }
}

impl HtmlReporter {
    fn path(&self, report: &MonitoringReport) -> PathBuf {
        self.folder.join(format!("{}.html", report.run_id))
    }
}

/// Looks of the page, part of it.
const STYLE: &str = include_str!("style.css");

/// Alerting checks that are listed before a fold.
const LISTED: usize = 5;

/// Checks in the table of all of them; a page shall open on a phone.
const TABLED: usize = 1_000;

/// The page of a judged window: HTML that needs nothing else, no script among it.
#[must_use]
pub fn page(judged: &Judged) -> String {
    let report = &judged.report;
    let title = format!("{}: {}", report.subject, plain(report.outcome.as_str()));
    let sections = [
        header(judged),
        numbers(judged),
        failures(report),
        look(report),
        columns::section(judged),
        groups::section(judged),
        answers::section(judged),
        latency::section(judged),
        past::section(judged),
        everything(report),
        footer(report),
    ];
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}</style></head>\
         <body><main>{}</main></body></html>\n",
        escape(&title),
        sections.concat()
    )
}

fn header(judged: &Judged) -> String {
    let report = &judged.report;
    let (class, sign) = match report.outcome {
        MonitoringOutcome::Ok => ("ok", "<i>✓</i> ok"),
        MonitoringOutcome::Alert => ("bad", "<i>▲</i> alert"),
        MonitoringOutcome::Broken => ("bad", "<i>✕</i> broken data"),
        MonitoringOutcome::InsufficientData => ("blind", "<i>?</i> could not be judged"),
    };
    let blind = match report.blind_windows {
        0 | 1 => String::new(),
        n => format!("<p>{n} windows in a row could not be judged.</p>"),
    };
    let lead = lead(report).map_or(String::new(), |finding| {
        format!("<p>{}</p>", escape(&capitalised(&carried(finding))))
    });
    let about = format!("{}, version {}", report.subject, report.version.number);
    format!(
        "<header class=\"{class}\"><div class=\"head\"><b class=\"chip {class}\">{sign}</b>\
         <span class=\"sub\">{}</span></div><h1>{}</h1>{lead}{blind}<p class=\"sub\">{}</p>{}</header>",
        escape(&about),
        escape(&headline(report)),
        escape(&span(&report.window.bounds)),
        past::strip(judged)
    )
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(characters).collect()
}

/// The numbers of the window.
fn numbers(judged: &Judged) -> String {
    let (window, evidence) = (&judged.report.window, &judged.evidence);
    let labelled = evidence.labelled();
    let share = |rows: u64, of: u64| match of {
        0 => String::new(),
        of => format!(" <small>{}</small>", percent(rows as f64 / of as f64)),
    };
    let read = window.rows + window.other_version + window.mixed;
    let duplicates = evidence.current.duplicates;
    let tiles = [
        ("rows", window.rows, String::new()),
        (
            "labelled",
            labelled.overall.labelled_rows(),
            share(labelled.overall.labelled_rows(), labelled.rows),
        ),
        ("unreadable", window.quarantined, share(window.quarantined, read + window.quarantined)),
        ("duplicates", duplicates, share(duplicates, read + duplicates)),
        ("other versions", window.other_version, share(window.other_version, read)),
        ("unknown versions", window.mixed, share(window.mixed, read)),
    ];
    let tile = |(name, rows, share): &(&str, u64, String)| {
        format!("<div><dt>{name}</dt><dd>{}{share}</dd></div>", count(*rows))
    };
    let tiles: Vec<String> = tiles.iter().map(tile).collect();
    format!("<dl class=\"tiles\">{}</dl>", tiles.concat())
}

fn failures(report: &MonitoringReport) -> String {
    let failed = |failure: &mloop_core::report::MonitorFailure| {
        let (monitor, error) = (escape(&failure.monitor), escape(&failure.error));
        format!("<p class=\"fail\"><b>✕ {monitor} failed:</b> {error}</p>")
    };
    report.failures.iter().map(failed).collect()
}

/// What alerts, worst first; and where nothing does, what could not be judged.
fn look(report: &MonitoringReport) -> String {
    let alerting = ranked(report.findings.iter().filter(|one| one.is_alerting()));
    if !alerting.is_empty() {
        return section_of("What needs a look", &list(&alerting));
    }
    let blind = |one: &&Finding| one.status == mloop_core::Status::InsufficientData;
    let blind = ranked(report.findings.iter().filter(blind));
    if blind.is_empty() {
        String::new()
    } else {
        section_of("What could not be judged", &list(&blind))
    }
}

/// Findings a line each, those beyond the first few folded.
fn list(findings: &[&Finding]) -> String {
    let lines = |findings: &[&Finding]| {
        let lines: Vec<String> = findings.iter().map(|one| item(one)).collect();
        format!("<ul class=\"look\">{}</ul>", lines.concat())
    };
    let (first, rest) = findings.split_at(findings.len().min(LISTED));
    if rest.is_empty() {
        return lines(first);
    }
    format!(
        "{}<details><summary>{} more</summary>{}</details>",
        lines(first),
        rest.len(),
        lines(rest)
    )
}

fn item(finding: &Finding) -> String {
    let detail = finding.detail.as_ref();
    let detail = detail.map_or(String::new(), |detail| format!("<p>{}</p>", escape(detail)));
    let gauge = gauge(finding);
    let title = match (&finding.column, &finding.group) {
        (None, None) => format!("{}: {}", subject(finding), method(&finding.method)),
        _ => subject(finding),
    };
    let wide = if gauge.is_empty() { " class=\"wide\"" } else { "" };
    format!(
        "<li{wide}><div><div class=\"head\"><h3>{}</h3>{}</div><p class=\"small soft\">{} · {} rows</p>{detail}</div>{gauge}</li>",
        escape(&title),
        chip(finding.status),
        escape(&measured(finding)),
        count(finding.n)
    )
}

/// The findings that are `wanted`, ranked, a line each; empty when there are none.
fn lines_of(judged: &Judged, wanted: impl Fn(&Finding) -> bool) -> String {
    let found = ranked(judged.report.findings.iter().filter(|one| wanted(one)));
    if found.is_empty() { String::new() } else { list(&found) }
}

fn section_of(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>{body}</section>")
}

/// Every check in one table, folded.
fn everything(report: &MonitoringReport) -> String {
    let ranked = ranked(&report.findings);
    let rows: Vec<String> = ranked.iter().take(TABLED).map(|one| row(one)).collect();
    let left = match ranked.len().saturating_sub(TABLED) {
        0 => String::new(),
        n => format!("<p>{n} more are in the ledger.</p>"),
    };
    let checks = counted(ranked.len(), "check", "checks");
    format!(
        "<section><details><summary>All {checks}</summary><div class=\"scroll\"><table><tr><th>check<th>method\
         <th class=\"n\">value<th class=\"n\">interval<th class=\"n\">bound<th class=\"n\">rows<th>status<th>monitor</tr>\
         {}</table></div>{left}</details></section>",
        rows.concat()
    )
}

fn row(finding: &Finding) -> String {
    let known = |value: Option<f64>| value.map_or("–".to_owned(), number);
    let interval = finding.interval.map(|ends| ends.map(number));
    let interval = interval.map_or("–".to_owned(), |[low, high]| format!("{low} to {high}"));
    format!(
        "<tr><td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{interval}<td class=\"n\">{}<td class=\"n\">{}<td>{}<td>{}",
        escape(&subject(finding)),
        escape(&method(&finding.method)),
        known(finding.value),
        known(finding.threshold),
        count(finding.n),
        chip(finding.status),
        escape(&finding.monitor)
    )
}

fn footer(report: &MonitoringReport) -> String {
    format!(
        "<footer class=\"small soft\"><p>Run <code>{}</code>, judged as of {}.</p><p>Version <code>{}</code></p>\
         <p>Counts of the window <code>{}</code></p><p>Counts of the reference <code>{}</code></p></footer>",
        report.run_id,
        report.as_of.format("%-d %b %Y, %H:%M:%S UTC"),
        report.version.digest,
        report.profile,
        report.reference
    )
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;
    use mloop_core::counts::OutcomeCounts;
    use mloop_core::profile::ColumnCounts;
    use mloop_core::report::MonitorFailure;
    use mloop_core::schema::{CategoricalSchema, ColumnKind, GroupSchema};
    use mloop_reporter::conformance::{check_reporter, sample};

    use super::*;
    use crate::testing::{binary, wide, widest};

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

    /// Everything that traffic, data and settings name is called `hostile`.
    fn named(hostile: &str) -> Judged {
        let mut judged = binary();
        let name = || hostile.to_owned();
        let evidence = &mut judged.evidence;
        evidence.schema.classes = vec![name(), format!("{hostile}2")];
        evidence.schema.positive = Some(format!("{hostile}2"));
        evidence.schema.groups = vec![GroupSchema::of(hostile, &[hostile])];
        evidence.schema.columns[0].name = name();
        let kind = ColumnKind::Categorical(CategoricalSchema { categories: vec![name()] });
        let mut counts = ColumnCounts::new(&kind);
        if let ColumnCounts::Categorical(counts) = &mut counts {
            counts.categories = vec![5];
            counts.add(mloop_core::counts::Category::Unseen(hostile), 3);
        }
        evidence.schema.columns[0].kind = kind;
        let overall = evidence.current.overall.clone();
        for profile in [&mut evidence.reference, &mut evidence.current] {
            profile.columns = [(name(), counts.clone())].into();
            profile.groups = vec![Default::default()];
            profile.groups[0].values.insert(0, overall.clone());
        }
        let drift = judged.report.findings[0].clone();
        judged.report.failures = vec![MonitorFailure { monitor: name(), error: name() }];
        let fair = Finding {
            check: "group_difference".to_owned(),
            method: "accuracy_difference".to_owned(),
            group: Some(format!("{hostile}: {hostile} / {hostile}")),
            column: None,
            value: Some(0.0),
            ..drift.clone()
        };
        let drift =
            Finding { column: Some(name()), detail: Some(name()), monitor: name(), ..drift };
        judged.report.findings = vec![Finding { method: name(), ..drift.clone() }, drift, fair];
        judged.history = vec![judged.report.clone()];
        judged
    }

    #[test]
    fn what_comes_from_traffic_cannot_become_markup() {
        for hostile in ["<script>alert(1)</script>", "\"onload=\"x", "'><img src=x>", "a&b</svg>"] {
            let html = page(&named(hostile));
            assert!(!html.contains(hostile), "{hostile} in {html}");
            let tags = |html: &str| html.matches('<').count();
            assert_eq!(tags(&html), tags(&page(&named("plain"))), "{hostile} made a tag");
            let quotes = |html: &str| html.matches('"').count();
            assert_eq!(
                quotes(&html),
                quotes(&page(&named("plain"))),
                "{hostile} ended an attribute"
            );
        }
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let html = page(&named("plain"));
        for part in ["<script", "http:", "https:", "url(", "@import", "<link", "<img"] {
            assert!(!html.contains(part), "{part}");
        }
    }

    #[test]
    fn a_hundred_columns_stay_below_a_megabyte() {
        let html = page(&widest(100));
        assert!(html.len() < 1_000_000, "{} bytes", html.len());
        assert!(html.contains("c099") && html.contains("All 500 checks"));
    }

    #[test]
    fn no_number_is_nonsense_whatever_was_found() {
        let mut judged = wide(4);
        judged.report.findings[0].value = Some(f64::NAN);
        judged.report.findings[1].interval = Some([f64::NEG_INFINITY, f64::INFINITY]);
        judged.report.findings[2].threshold = Some(0.0);
        judged.report.findings[3].value = Some(f64::INFINITY);
        judged.history = vec![judged.report.clone()];
        let empty = OutcomeCounts::new(judged.evidence.schema.outcomes());
        judged.evidence.reference.overall = empty;
        for judged in [judged.clone(), Judged { history: vec![], ..judged }] {
            let html = page(&judged);
            let text = html.split("</style>").nth(1).expect("a body");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn the_page_shows_the_verdict_and_the_numbers() {
        let html = page(&sample(MonitoringOutcome::Alert));
        for part in ["▲</i> alert", "column drift of brightness", "0.42", "0.39 to 0.45", "1,500"]
        {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        let mut blind = sample(MonitoringOutcome::InsufficientData);
        blind.report.findings[0].status = Status::InsufficientData;
        blind.report.blind_windows = 3;
        let html = page(&blind);
        for part in ["What could not be judged", "3 windows in a row"] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn signs_stand_beside_colours() {
        for (outcome, sign) in [
            (MonitoringOutcome::Ok, "✓"),
            (MonitoringOutcome::Alert, "▲"),
            (MonitoringOutcome::Broken, "✕"),
            (MonitoringOutcome::InsufficientData, "?"),
        ] {
            let html = page(&sample(outcome));
            assert!(html.contains(&format!("<i>{sign}</i>")), "{outcome:?}");
        }
    }
}
