//! The columns, those first that moved most.

use mloop_core::schema::ColumnSchema;
use mloop_core::{Finding, Status};
use mloop_reporter::Judged;

use super::draw::{WIDTH, chip, cut, escape, figure, gauge, line, path, rect, text};
use crate::histogram::{Bar, Histogram};
use crate::rank::{excess, measured, ranked, subject};
use crate::words::{counted, number, percent};

/// Columns that are not folded though they are fine.
const UNFOLDED: usize = 6;

/// A column with all that was found about it.
struct Moved<'a> {
    column: &'a ColumnSchema,
    /// Its drift, the worst one if several monitors look.
    drift: Option<&'a Finding>,
    alerting: Vec<&'a Finding>,
}

impl Moved<'_> {
    fn status(&self) -> Option<Status> {
        let all = self.alerting.iter().copied().chain(self.drift);
        all.map(|finding| finding.status).max()
    }
}

/// The section, empty for a schema without columns.
pub(crate) fn section(judged: &Judged) -> String {
    let columns = by_movement(judged);
    if columns.is_empty() {
        return String::new();
    }
    let (mut shown, mut folded) = (String::new(), String::new());
    let mut count = 0;
    for (place, moved) in columns.iter().enumerate() {
        let card = card(judged, moved);
        if place < UNFOLDED || !moved.alerting.is_empty() {
            shown.push_str(&card);
        } else {
            folded.push_str(&card);
            count += 1;
        }
    }
    let more = if count == 0 {
        String::new()
    } else {
        let columns = counted(count, "further column", "further columns");
        format!("<details><summary>{columns}</summary><div class=\"grid\">{folded}</div></details>")
    };
    format!(
        "<section><h2>Columns, by how much they moved</h2><p class=\"small soft\">Shares of the rows: \
         <span class=\"key n\"></span>this window <span class=\"key t\"></span>reference. Bars above each: the \
         distance with its interval, <span class=\"key f\"></span>as far as it is tolerated.</p>\
         <div class=\"grid\">{shown}</div>{more}</section>"
    )
}

/// Alerting columns first, then by distance over tolerance.
fn by_movement(judged: &Judged) -> Vec<Moved<'_>> {
    let findings = &judged.report.findings;
    let mut columns: Vec<Moved<'_>> = (judged.evidence.schema.columns.iter())
        .map(|column| {
            let about = || findings.iter().filter(|one| one.column.as_ref() == Some(&column.name));
            let drift = ranked(about().filter(|one| one.check.ends_with("drift")));
            let alerting = ranked(about().filter(|one| one.is_alerting()));
            Moved { column, drift: drift.first().copied(), alerting }
        })
        .collect();
    let distance = |moved: &Moved<'_>| moved.drift.and_then(excess).unwrap_or(-1.0);
    columns.sort_by(|a, b| {
        let worst = b.alerting.first().map(|f| f.status).cmp(&a.alerting.first().map(|f| f.status));
        worst.then(distance(b).total_cmp(&distance(a)))
    });
    columns
}

fn card(judged: &Judged, moved: &Moved<'_>) -> String {
    let name = &moved.column.name;
    let chip = moved.status().map_or("", chip);
    let drift = moved.drift.map_or(String::new(), |drift| {
        let detail = drift.detail.as_ref();
        let detail = detail.map_or(String::new(), |d| format!("<p>{}</p>", escape(d)));
        format!("<p class=\"small\">{}</p>{}{detail}", escape(&measured(drift)), gauge(drift))
    });
    let others: String = (moved.alerting.iter())
        .filter(|one| moved.drift.is_none_or(|drift| !std::ptr::eq(drift, **one)))
        .map(|one| {
            let words = format!("{}: {}", subject(one), measured(one));
            format!("<p class=\"small\">{}</p>{}", escape(&words), gauge(one))
        })
        .collect();
    let (reference, current) =
        (judged.evidence.reference.columns.get(name), judged.evidence.current.columns.get(name));
    let histogram = reference
        .zip(current)
        .and_then(|(reference, current)| Histogram::of(&moved.column.kind, reference, current));
    let drawn = histogram.map_or_else(
        || "<p class=\"soft\">No rows on either side.</p>".to_owned(),
        |histogram| drawing(name, &histogram),
    );
    let hot = if moved.alerting.is_empty() { "" } else { " hot" };
    format!(
        "<article class=\"card{hot}\"><div class=\"head\"><h3>{}</h3>{chip}</div>{drift}{others}<figure>{drawn}</figure></article>",
        escape(name)
    )
}

fn drawing(name: &str, histogram: &Histogram) -> String {
    let is_ordered = histogram.range.is_some() || histogram.part.is_some();
    let drawn = if is_ordered { upright(name, histogram) } else { lying(name, histogram) };
    let part = histogram.part.as_ref();
    let part =
        part.map_or(String::new(), |part| format!("<figcaption>{}</figcaption>", escape(part)));
    drawn + &part
}

/// In words, for whoever cannot see it: the bar whose share changed most.
fn words(name: &str, histogram: &Histogram) -> String {
    let change = |bar: &Bar| (bar.current - bar.reference).abs();
    let most = histogram.all().max_by(|a, b| change(a).total_cmp(&change(b)));
    let most = most.map_or(String::new(), |bar| {
        let (before, now) = (percent(bar.reference), percent(bar.current));
        format!("; most changed {}: {before} in the reference, {now} now", bar.name)
    });
    format!("Histogram of {name}{most}")
}

/// Width of a bar beside the axis, with its gap.
const BESIDE: f64 = 50.0;

const TOP: f64 = 18.0;
const FLOOR: f64 = 104.0;

/// Upright bars along an axis: the window filled, the reference as an outline.
fn upright(name: &str, histogram: &Histogram) -> String {
    let is_left = |bar: &&Bar| bar.name.starts_with("below");
    let left: Vec<&Bar> = histogram.beside.iter().filter(is_left).collect();
    let right: Vec<&Bar> = histogram.beside.iter().filter(|bar| !is_left(bar)).collect();
    let from = 4.0 + left.len() as f64 * BESIDE;
    let to = WIDTH - 4.0 - right.len() as f64 * BESIDE;
    let highest = histogram.highest().max(1e-9);
    let y = |share: f64| FLOOR - share / highest * (FLOOR - TOP);
    let width = (to - from) / histogram.bars.len().max(1) as f64;
    let mut body = line("axis", [from, TOP], [to, TOP]) + &line("axis", [from, FLOOR], [to, FLOOR]);
    body.push_str(&text(to, TOP - 5.0, "end", &percent(highest)));
    let mut outline = vec![[from, FLOOR]];
    for (index, bar) in histogram.bars.iter().enumerate() {
        let (start, end) = (from + index as f64 * width, from + (index + 1) as f64 * width);
        if bar.current > 0.0 {
            body.push_str(&filled(bar, [start + 0.5, end - 0.5], y(bar.current)));
        }
        outline.extend([[start, y(bar.reference)], [end, y(bar.reference)]]);
    }
    outline.push([to, FLOOR]);
    body.push_str(&path("then", outline));
    let places = left.iter().map(|bar| (bar, 4.0));
    let after = |index: usize| to + index as f64 * BESIDE + 10.0;
    let places = places.chain(right.iter().enumerate().map(|(index, bar)| (bar, after(index))));
    for (bar, start) in places {
        let end = start + BESIDE - 12.0;
        body.push_str(&line("axis", [start, FLOOR], [end, FLOOR]));
        body.push_str(&filled(bar, [start, end], y(bar.current)));
        let top = y(bar.reference);
        body.push_str(&path("then", [[start, FLOOR], [start, top], [end, top], [end, FLOOR]]));
        let word = if bar.name.starts_with("not") { "not finite" } else { first_word(&bar.name) };
        body.push_str(&text(f64::midpoint(start, end), FLOOR + 14.0, "middle", &escape(word)));
    }
    body.push_str(&ticks(histogram, [from, to]));
    figure(FLOOR + 18.0, &words(name, histogram), &body)
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

fn ticks(histogram: &Histogram, [from, to]: [f64; 2]) -> String {
    let middle = f64::midpoint(from, to);
    let (first, last) = (histogram.bars.first(), histogram.bars.last());
    let [low, mid, high] = match (histogram.range, first, last) {
        (Some([low, high]), ..) => {
            // What is next to nothing beside the range is nothing.
            let near = |value: f64| if value.abs() < (high - low) * 1e-3 { 0.0 } else { value };
            [low, f64::midpoint(low, high), high].map(|value| number(near(value)))
        }
        (None, Some(first), Some(last)) => [escape(&first.name), String::new(), escape(&last.name)],
        _ => return String::new(),
    };
    let at = FLOOR + 14.0;
    text(from, at, "start", &low) + &text(middle, at, "middle", &mid) + &text(to, at, "end", &high)
}

/// The window's share, which names itself where a pointer rests on it.
fn filled(bar: &Bar, [start, end]: [f64; 2], top: f64) -> String {
    let (before, now) = (percent(bar.reference), percent(bar.current));
    let drawn = rect("now", [start, top], [(end - start).max(0.5), FLOOR - top]);
    let name = escape(&bar.name);
    drawn.replace("/>", &format!("><title>{name}: {before} → {now}</title></rect>"))
}

/// Lying bars with their names, for what has no order.
fn lying(name: &str, histogram: &Histogram) -> String {
    const ROW: f64 = 25.0;
    let (from, to) = (118.0, 262.0);
    let highest = histogram.highest().max(1e-9);
    let mut body = String::new();
    for (index, bar) in histogram.all().enumerate() {
        let y = index as f64 * ROW + 2.0;
        let size = |share: f64| share / highest * (to - from);
        let shares = format!("{} → {}", percent(bar.reference), percent(bar.current));
        body.push_str(
            &format_args!("<g><title>{}: {shares}</title>", escape(&bar.name)).to_string(),
        );
        body.push_str(&text(0.0, y + 14.0, "start", &cut(&bar.name, 18)));
        body.push_str(&rect("now", [from, y + 10.0], [size(bar.current), 8.0]));
        body.push_str(&rect("then", [from, y + 2.0], [size(bar.reference), 7.0]));
        body.push_str(&text(WIDTH, y + 14.0, "end", &shares));
        body.push_str("</g>");
    }
    figure(histogram.all().count() as f64 * ROW + 2.0, &words(name, histogram), &body)
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_reporter::conformance::sample;

    use super::*;
    use crate::testing::wide;

    #[test]
    fn columns_come_by_distance_over_tolerance_and_alerts_before_all() {
        let mut judged = wide(8);
        for (index, finding) in judged.report.findings.iter_mut().enumerate() {
            (finding.value, finding.interval) = (Some(0.01 * index as f64), None);
            finding.status = if index == 2 { Status::Drifted } else { Status::Ok };
        }
        let names: Vec<&str> =
            by_movement(&judged).iter().map(|moved| moved.column.name.as_str()).collect();
        let expected = ["c002", "c007", "c006", "c005", "c004", "c003", "c001", "c000"];
        assert_eq!(names, expected);
        let html = section(&judged);
        let fold = html.find("<details>").expect("the rest is folded");
        assert!(html[..fold].contains("c003") && html[fold..].contains("c001"), "{html}");
    }

    #[test]
    fn a_column_without_rows_says_so() {
        let mut judged = sample(MonitoringOutcome::InsufficientData);
        judged.evidence.current.columns.clear();
        assert!(section(&judged).contains("No rows on either side"));
    }
}
