//! A judged window on a terminal: the same as on the page, in characters.

use mloop_core::{Evidence, Finding, MonitoringOutcome, MonitoringReport, Status};

use crate::histogram::{Bar, Histogram};
use crate::rank::{Side, carried, excess, fine_side, headline, lead, measured, ranked, subject};
use crate::words::{count, counted, method, number, percent, span, times};

/// Narrowest and widest text; a terminal outside wraps it, or leaves room.
const NARROWEST: usize = 20;
const WIDEST: usize = 120;

/// Columns that the names of checks need in a table.
const NAMES_FROM: usize = 32;

/// Findings that are listed before a count of the rest, and columns that are drawn.
const LISTED: usize = 40;
const DRAWN: usize = 6;

/// How text is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Columns of characters.
    pub width: usize,
    /// Whether colours are wanted.
    pub colors: bool,
}

#[derive(Clone, Copy)]
enum Color {
    Good,
    Bad,
    Blind,
    Soft,
    Strong,
}

/// A judged window for people at a terminal; `history` are the reports of the windows before, oldest
/// first. Without evidence no columns are drawn.
#[must_use]
pub fn text(
    report: &MonitoringReport,
    evidence: Option<&Evidence>,
    history: &[MonitoringReport],
    screen: Screen,
) -> String {
    let width = screen.width.clamp(NARROWEST, WIDEST);
    let mut page = Page { screen: Screen { width, ..screen }, text: String::new() };
    page.head(report, evidence, history);
    page.findings(report);
    if let Some(evidence) = evidence {
        page.columns(report, evidence);
    }
    page.text
}

struct Page {
    screen: Screen,
    text: String,
}

impl Page {
    fn colored(&self, color: Color, text: &str) -> String {
        if !self.screen.colors {
            return text.to_owned();
        }
        let code = match color {
            Color::Good => "32",
            Color::Bad => "31;1",
            Color::Blind => "33",
            Color::Soft => "2",
            Color::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Lines of words, each as wide as the screen allows.
    fn words(&mut self, color: Option<Color>, indent: usize, text: &str) {
        for line in wrapped(&harmless(text), self.screen.width - indent) {
            let line = color.map_or(line.clone(), |color| self.colored(color, &line));
            self.text.push_str(&" ".repeat(indent));
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn head(
        &mut self,
        report: &MonitoringReport,
        evidence: Option<&Evidence>,
        history: &[MonitoringReport],
    ) {
        let (color, sign) = match report.outcome {
            MonitoringOutcome::Ok => (Color::Good, "✓ ok"),
            MonitoringOutcome::Alert => (Color::Bad, "▲ alert"),
            MonitoringOutcome::Broken => (Color::Bad, "✕ broken data"),
            MonitoringOutcome::InsufficientData => (Color::Blind, "? could not be judged"),
        };
        self.words(Some(color), 0, sign);
        self.words(Some(Color::Strong), 0, &headline(report));
        if let Some(finding) = lead(report) {
            self.words(None, 0, &carried(finding));
        }
        for failure in &report.failures {
            let failed = format!("✕ {} failed: {}", failure.monitor, failure.error);
            self.words(Some(Color::Bad), 0, &failed);
        }
        let about = format!("{}, version {}", report.subject, report.version.number);
        let window = format!("{about} · {}", span(&report.window.bounds));
        self.words(Some(Color::Soft), 0, &window);
        self.words(Some(Color::Soft), 0, &rows(report, evidence));
        if !history.is_empty() {
            let windows = history.iter().chain([report]).map(|one| sign_of(one.outcome));
            let room = self.screen.width.saturating_sub("before: ".len());
            let signs: Vec<char> = windows.collect();
            let shown: String = signs[signs.len().saturating_sub(room)..].iter().collect();
            self.words(None, 0, &format!("before: {shown}"));
        }
    }

    fn findings(&mut self, report: &MonitoringReport) {
        let ranked = ranked(&report.findings);
        let (fine, told): (Vec<&Finding>, Vec<&Finding>) =
            ranked.into_iter().partition(|one| one.status == Status::Ok);
        if !told.is_empty() {
            self.gap();
        }
        let listed = &told[..told.len().min(LISTED)];
        if !self.table(listed) {
            listed.iter().for_each(|finding| self.item(finding));
        }
        if told.len() > LISTED {
            self.words(None, 2, &format!("and {} more", told.len() - LISTED));
        }
        if !fine.is_empty() {
            self.gap();
            let checks = counted(fine.len(), "check is", "checks are");
            self.words(Some(Color::Good), 0, &format!("✓ {checks} within tolerance"));
        }
    }

    /// Findings on a line each: what by which method, how much, what is tolerated, how many times that.
    /// False, and nothing written, where there is no room for it.
    fn table(&mut self, findings: &[&Finding]) -> bool {
        let rows: Vec<[String; 4]> = findings.iter().map(|one| cells(one)).collect();
        let widest = |cell: usize| {
            rows.iter().map(|row| row[cell].chars().count()).max().unwrap_or_default()
        };
        let [value, ends, bound, beyond] = [0, 1, 2, 3].map(widest);
        let room = self.screen.width.saturating_sub(2 + value + ends + bound + beyond + 4 * 2);
        if room < NAMES_FROM {
            return false;
        }
        let name = |one: &Finding| format!("{}, {}", subject(one), method(&one.method));
        let names: Vec<String> = findings.iter().map(|one| name(one)).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
        let room = room.min(longest);
        for ((finding, name), row) in findings.iter().zip(&names).zip(&rows) {
            let sign = sign_of_status(finding.status).to_string();
            let sign = self.colored(color_of(finding.status), &sign);
            let line = format!(
                "{sign} {}  {:>value$}  {:<ends$}  {:<bound$}  {:>beyond$}",
                fitted(name, room),
                row[0],
                row[1],
                row[2],
                row[3]
            );
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
        true
    }

    /// A finding on as many lines as a narrow screen takes.
    fn item(&mut self, finding: &Finding) {
        let sign = sign_of_status(finding.status);
        self.words(Some(color_of(finding.status)), 0, &format!("{sign} {}", subject(finding)));
        self.words(None, 2, &measured(finding));
    }

    /// What moved, drawn; where nothing alerts, what moved most.
    fn columns(&mut self, report: &MonitoringReport, evidence: &Evidence) {
        let drift = report.findings.iter().filter(|one| one.check.ends_with("drift"));
        let drift = ranked(drift.filter(|one| one.column.is_some() && one.value.is_some()));
        let wanted = drift.iter().filter(|one| one.is_alerting()).count().clamp(1, DRAWN);
        for finding in drift.into_iter().take(wanted) {
            let Some(name) = &finding.column else { continue };
            let Some(column) = evidence.schema.column(name) else { continue };
            let sides = (evidence.reference.columns.get(name), evidence.current.columns.get(name));
            let (Some(reference), Some(current)) = sides else { continue };
            let Some(found) = Histogram::of(&column.kind, reference, current) else { continue };
            self.gap();
            self.words(Some(Color::Strong), 0, name);
            if let Some(detail) = finding.detail.as_ref().or(found.part.as_ref()) {
                self.words(None, 2, detail);
            }
            if found.range.is_some() || found.part.is_some() {
                self.upright(&found);
            } else {
                found.all().for_each(|bar| self.lying(bar, found.highest()));
            }
        }
    }

    /// Two lines of bars, one above the other.
    fn upright(&mut self, histogram: &Histogram) {
        const NAME: usize = 12;
        let bars = &histogram.bars;
        let room = self.screen.width.saturating_sub(NAME).max(1);
        // Neighbours share a character where there is no room for each, and take several where there is.
        let joined = bars.len().div_ceil(room).max(1);
        let chunks: Vec<&[Bar]> = bars.chunks(joined).collect();
        let wide = (room / chunks.len().max(1)).clamp(1, 2);
        let sum = |of: fn(&Bar) -> f64| -> Vec<f64> {
            chunks.iter().map(|chunk| chunk.iter().map(of).sum()).collect()
        };
        let (before, now) = (sum(|bar| bar.reference), sum(|bar| bar.current));
        let highest = before.iter().chain(&now).copied().fold(0.0, f64::max);
        for (name, shares) in [("reference", before), ("now", now)] {
            let drawn: String = shares
                .iter()
                .flat_map(|share| std::iter::repeat_n(block(*share, highest), wide))
                .collect();
            self.text.push_str(&format_args!("  {name:<9} {drawn}").to_string());
            self.gap();
        }
        let (first, last) = (bars.first(), bars.last());
        let ends = match (histogram.range, first, last) {
            (Some([low, high]), ..) => format!("{} to {}", number(low), number(high)),
            (None, Some(first), Some(last)) => format!("{} … {}", first.name, last.name),
            _ => String::new(),
        };
        self.words(Some(Color::Soft), 2, &ends);
        for bar in &histogram.beside {
            let shares = format!("{} → {}", percent(bar.reference), percent(bar.current));
            self.words(Some(Color::Soft), 2, &format!("{}: {shares}", bar.name));
        }
    }

    /// One category: its name, its shares, and both as bars where there is room.
    fn lying(&mut self, bar: &Bar, highest: f64) {
        let shares = format!("{:>7} → {:<7}", percent(bar.reference), percent(bar.current));
        let name = harmless(&bar.name);
        let room = self.screen.width.saturating_sub(2 + 16 + 1 + 17 + 2);
        if room < 16 {
            let shares = format!("{} → {}", percent(bar.reference), percent(bar.current));
            self.words(None, 2, &format!("{name}: {shares}"));
            return;
        }
        let size = |share: f64| {
            let part = (share / highest.max(1e-9) * (room / 2 - 1) as f64).round();
            part.clamp(0.0, room as f64) as usize
        };
        let (before, now) = ("░".repeat(size(bar.reference)), "█".repeat(size(bar.current)));
        let line =
            format!("  {} {shares} {before:<half$} {now}", fitted(&name, 16), half = room / 2);
        self.text.push_str(line.trim_end());
        self.gap();
    }
}

/// The numbers of a finding: value, interval, bound, how many times the bound.
fn cells(finding: &Finding) -> [String; 4] {
    let value = finding.value.map_or("unknown".to_owned(), number);
    let ends = finding.interval.map(|ends| ends.map(number));
    let ends = ends.map_or(String::new(), |[low, high]| format!("[{low}, {high}]"));
    let bound = finding.threshold.map_or(String::new(), |bound| match fine_side(finding) {
        Side::Below => format!("≤ {}", number(bound)),
        Side::Above => format!("≥ {}", number(bound)),
    });
    let beyond = excess(finding).filter(|_| finding.is_alerting() && bound.starts_with('≤'));
    [value, ends, bound, beyond.map_or(String::new(), times)]
}

/// The rows of the window, those that are not there left out.
fn rows(report: &MonitoringReport, evidence: Option<&Evidence>) -> String {
    let window = &report.window;
    let labelled = evidence.map(|evidence| evidence.labelled().overall.labelled_rows());
    let duplicates = evidence.map(|evidence| evidence.current.duplicates);
    let parts = [
        (window.quarantined, "unreadable"),
        (duplicates.unwrap_or(0), "duplicates"),
        (window.other_version, "of other versions"),
        (window.mixed, "of unknown versions"),
    ];
    let mut text = format!("{} rows", count(window.rows));
    if let Some(labelled) = labelled {
        text = format!("{text}, {} labelled", count(labelled));
    }
    for (rows, what) in parts.into_iter().filter(|(rows, _)| *rows > 0) {
        text = format!("{text}, {} {what}", count(rows));
    }
    text
}

fn sign_of(outcome: MonitoringOutcome) -> char {
    match outcome {
        MonitoringOutcome::Ok => '·',
        MonitoringOutcome::Alert => '▲',
        MonitoringOutcome::Broken => '✕',
        MonitoringOutcome::InsufficientData => '?',
    }
}

fn sign_of_status(status: Status) -> char {
    match status {
        Status::Ok => '✓',
        Status::InsufficientData => '?',
        Status::Drifted => '▲',
        Status::Broken => '✕',
    }
}

fn color_of(status: Status) -> Color {
    match status {
        Status::Ok => Color::Good,
        Status::InsufficientData => Color::Blind,
        Status::Drifted | Status::Broken => Color::Bad,
    }
}

/// A bar in one character; what is above nothing shows.
fn block(share: f64, highest: f64) -> char {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if share <= 0.0 || highest <= 0.0 {
        return ' ';
    }
    let height = (share / highest * 8.0).ceil().clamp(1.0, 8.0);
    BLOCKS[height as usize - 1]
}

/// Text that may come from traffic, without what would command the terminal.
fn harmless(text: &str) -> String {
    let safe = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    text.chars().map(safe).collect()
}

/// Exactly so many characters: cut, or filled up with blanks.
fn fitted(text: &str, width: usize) -> String {
    let text = harmless(text);
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// Lines of at most so many characters; a word that is longer is cut into several.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (width, mut lines, mut line) = (width.max(1), vec![], String::new());
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        } else if used > 0 {
            line.push(' ');
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        line.extend(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use mloop_core::report::MonitorFailure;
    use mloop_reporter::Judged;
    use mloop_reporter::conformance::sample;

    use super::*;
    use crate::testing::{binary, wide};

    fn shown(judged: &Judged, width: usize, colors: bool) -> String {
        let screen = Screen { width, colors };
        text(&judged.report, Some(&judged.evidence), &judged.history, screen)
    }

    fn everything() -> Judged {
        let mut judged = wide(60);
        judged.report.findings[0].column = Some("a_very_long_name_of_a_column".repeat(4));
        judged.report.findings[1].group = Some("sex: f / m".to_owned());
        judged.report.findings[2].value = None;
        judged.report.findings[3].status = Status::InsufficientData;
        let error = "no such file: /a/very/long/path/without/any/blank/to/break/at".to_owned();
        judged.report.failures = vec![MonitorFailure { monitor: "m".to_owned(), error }];
        judged.history = vec![judged.report.clone(); 48];
        judged
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_panics() {
        for width in 0..=200 {
            for judged in [everything(), binary(), sample(MonitoringOutcome::Ok)] {
                let text = shown(&judged, width, false);
                let allowed = width.clamp(NARROWEST, WIDEST);
                let widest = text.lines().map(|line| line.chars().count()).max();
                assert!(widest <= Some(allowed), "{widest:?} on {width}:\n{text}");
            }
        }
    }

    #[test]
    fn colours_are_there_only_when_wanted() {
        let judged = everything();
        let (plain, colored) = (shown(&judged, 100, false), shown(&judged, 100, true));
        assert!(!plain.contains('\u{1b}') && colored.contains("\u{1b}[31;1m"));
        let stripped = colored.split('\u{1b}').enumerate().map(|(index, part)| match index {
            0 => part,
            _ => part.split_once('m').map_or(part, |(_, rest)| rest),
        });
        assert_eq!(stripped.collect::<String>(), plain, "colours change nothing else");
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        let mut judged = sample(MonitoringOutcome::Alert);
        judged.report.findings[0].column = Some("\u{1b}[2Jx\ry\nz".to_owned());
        judged.report.findings[0].detail = Some("\u{7}".to_owned());
        for width in [30, 100] {
            let text = shown(&judged, width, false);
            assert!(!text.contains(['\u{1b}', '\r', '\u{7}']), "{text:?}");
        }
    }

    #[test]
    fn what_moved_is_drawn_from_the_reference_to_now() {
        let text = shown(&sample(MonitoringOutcome::Alert), 60, false);
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
        };
        let (before, now) = (line("  reference "), line("  now       "));
        let halves = |bars: &str| -> [String; 2] {
            let bars: Vec<char> = bars.chars().collect();
            [bars[..24].iter().collect(), bars[24..].iter().collect()]
        };
        assert_eq!(halves(&before), ["█".repeat(24), " ".repeat(24)]);
        assert_eq!(halves(&now), [" ".repeat(24), "█".repeat(24)]);
        assert!(text.contains("0 to 8"), "{text}");
        let alone = Screen { width: 60, colors: false };
        let judged = sample(MonitoringOutcome::Alert);
        assert!(!super::text(&judged.report, None, &[], alone).contains("reference"));
    }

    #[test]
    fn words_are_wrapped_and_long_ones_cut() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrapped("", 3), [""]);
        assert_eq!([fitted("ab", 4), fitted("abcde", 4)], ["ab  ", "abc…"]);
        assert_eq!([block(0.0, 1.0), block(1e-9, 1.0), block(1.0, 1.0)], [' ', '▁', '█']);
    }
}
