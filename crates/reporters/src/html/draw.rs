//! What all figures are drawn with.

use mloop_core::{Finding, Status};

use crate::rank::{Side, fine_side};
use crate::words::number;

/// Width of a figure in its own units: about the pixels of a phone's column.
pub(crate) const WIDTH: f64 = 360.0;

/// Text that may come from traffic, made harmless.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other if other.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// The beginning of a text that fits so many characters, made harmless.
pub(crate) fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => escape(text),
        Some(_) => {
            let kept: String = text.chars().take(characters.saturating_sub(1)).collect();
            escape(&kept) + "…"
        }
    }
}

/// A place in a figure; the origin for what is no number.
pub(crate) fn px(place: f64) -> String {
    let place = if place.is_finite() { place } else { 0.0 };
    let text = format!("{place:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// From numbers to places in a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// `low` lies at `from` and `high` at `to`; what is beyond lies at the nearer end.
    pub(crate) fn new([low, high]: [f64; 2], [from, to]: [f64; 2]) -> Self {
        Self { low, high, from, to }
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        let part = (value - self.low) / (self.high - self.low);
        let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self.from + part * (self.to - self.from)
    }
}

/// A figure; `label` says in words what it shows.
pub(crate) fn figure(height: f64, label: &str, body: &str) -> String {
    let (height, label) = (px(height), escape(label));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\"><title>{label}</title>{body}</svg>"
    )
}

/// Text in a figure, already made harmless; `anchor` is start, middle or end.
pub(crate) fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{words}</text>", px(x), px(y))
}

pub(crate) fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> String {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(px);
    format!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>")
}

pub(crate) fn rect(class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> String {
    let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(px);
    format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>")
}

/// A path through places.
pub(crate) fn path(class: &str, places: impl IntoIterator<Item = [f64; 2]>) -> String {
    let mut data = String::new();
    for [x, y] in places {
        data.push(if data.is_empty() { 'M' } else { 'L' });
        data.push_str(&px(x));
        data.push(' ');
        data.push_str(&px(y));
    }
    format!("<path class=\"{class}\" d=\"{data}\"/>")
}

/// A value: a disc, and a diamond where it alerts, so that no colour is needed to tell them apart.
pub(crate) fn dot(alerts: bool, x: f64, y: f64) -> String {
    if alerts {
        let (left, up) = (px(x - 6.0), px(y));
        return format!("<path class=\"dot bad\" d=\"M{left} {up}l6 -6l6 6l-6 6z\"/>");
    }
    format!("<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"4\"/>", px(x), px(y))
}

/// A word for a status, with its sign.
pub(crate) fn chip(status: Status) -> &'static str {
    match status {
        Status::Ok => "<b class=\"chip ok\"><i>✓</i> ok</b>",
        Status::InsufficientData => "<b class=\"chip blind\"><i>?</i> too little data</b>",
        Status::Drifted => "<b class=\"chip bad\"><i>▲</i> beyond tolerance</b>",
        Status::Broken => "<b class=\"chip bad\"><i>✕</i> broken</b>",
    }
}

/// A finding's interval and value against what is tolerated, the shaded part.
pub(crate) fn gauge(finding: &Finding) -> String {
    let Some(value) = finding.value else { return String::new() };
    let [low, high] = finding.interval.unwrap_or([value, value]);
    let Some(bound) = finding.threshold else { return String::new() };
    let numbers = [low, high, value, bound];
    if numbers.iter().any(|number| !number.is_finite()) {
        return String::new();
    }
    let left = numbers.iter().copied().fold(0.0, f64::min);
    let right = numbers.iter().copied().fold(0.0, f64::max);
    let right = left + (right - left).max(1e-9) * 1.08;
    let scale = Scale::new([left, right], [6.0, WIDTH - 6.0]);
    let (from, to) = match fine_side(finding) {
        Side::Below => (6.0, scale.at(bound)),
        Side::Above => (scale.at(bound), WIDTH - 6.0),
    };
    let at = scale.at(bound);
    let anchor = match at {
        _ if at < 60.0 => "start",
        _ if at > WIDTH - 60.0 => "end",
        _ => "middle",
    };
    let words = match fine_side(finding) {
        Side::Below => format!("at most {}", number(bound)),
        Side::Above => format!("at least {}", number(bound)),
    };
    let body = [
        rect("fine", [from, 3.0], [to - from, 14.0]),
        line("axis", [6.0, 10.0], [WIDTH - 6.0, 10.0]),
        line("bound", [at, 1.0], [at, 19.0]),
        rect("span", [scale.at(low), 7.0], [(scale.at(high) - scale.at(low)).max(2.0), 6.0]),
        dot(finding.is_alerting(), scale.at(value), 10.0),
        text(at, 31.0, anchor, &words),
    ];
    let label = format!("{} [{}, {}], {words}", number(value), number(low), number(high));
    figure(35.0, &label, &body.concat())
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_reporter::conformance::sample_report;

    use super::*;

    #[test]
    fn places_are_inside_whatever_the_numbers() {
        let scale = Scale::new([0.0, 10.0], [100.0, 200.0]);
        let places = [0.0, 5.0, 10.0, -1.0, 11.0, f64::NAN, f64::INFINITY];
        let places = places.map(|n| px(scale.at(n)));
        assert_eq!(places, ["100", "150", "200", "100", "200", "100", "100"]);
        assert_eq!(px(Scale::new([1.0, 1.0], [5.0, 9.0]).at(1.0)), "5");
        assert_eq!([1.0, 1.25, f64::NAN].map(px), ["1", "1.2", "0"]);
    }

    #[test]
    fn texts_are_cut_before_they_are_made_harmless() {
        assert_eq!(cut("<<<<<", 3), "&lt;&lt;…");
        assert_eq!(cut("<b>", 3), "&lt;b&gt;");
        assert_eq!(escape("a\u{0}\n'\""), "a\u{fffd}\u{fffd}&#39;&quot;");
    }

    #[test]
    fn a_gauge_shades_what_is_tolerated_and_draws_nothing_of_what_is_no_number() {
        let mut finding = sample_report(MonitoringOutcome::Alert).findings.remove(0);
        let drawn = gauge(&finding);
        assert!(drawn.contains("at most 0.1") && drawn.contains("dot bad"), "{drawn}");
        // 0.1 of 0.45 with a little room, of a width of 348.
        assert!(drawn.contains("<rect class=\"fine\" x=\"6\" y=\"3\" width=\"71.6\""), "{drawn}");
        finding.interval = Some([0.2, f64::NAN]);
        assert_eq!(gauge(&finding), "");
        finding.threshold = None;
        assert_eq!(gauge(&finding), "");
    }
}
