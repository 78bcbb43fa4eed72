//! How long answers took.

use mloop_core::Finding;
use mloop_core::latency::LatencyHistogram;
use mloop_reporter::Judged;

use super::draw::{Scale, WIDTH, dot, figure, line, path, text};
use super::{lines_of, section_of};
use crate::words::{count, duration, percent};

const TOP: f64 = 24.0;
const FLOOR: f64 = 162.0;
const LEFT: f64 = 44.0;

/// Percentiles that are marked.
const MARKED: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// The section, empty without requests.
pub(crate) fn section(judged: &Judged) -> String {
    let latency = &judged.evidence.latency;
    // Percentiles without a bound are told below.
    let is_judged = |finding: &Finding| finding.threshold.is_some() || finding.is_alerting();
    let lines = lines_of(judged, |finding| finding.check == "latency" && is_judged(finding));
    if latency.count() == 0 {
        return if lines.is_empty() { lines } else { section_of("Latency", &lines) };
    }
    let marked = MARKED.map(|(name, q)| {
        let value = latency.quantile_micros(q).map_or("–".to_owned(), duration);
        format!("<div><dt>{name}</dt><dd>{value}</dd></div>")
    });
    let within = objective(latency).map_or(String::new(), |(bound, share)| {
        format!("<div><dt>within {}</dt><dd>{}</dd></div>", duration(bound), percent(share))
    });
    let body = format!(
        "<div class=\"grid\"><article class=\"card\"><figure>{}<figcaption>Share of the {} requests that were \
         answered within a time{}.</figcaption></figure></article><div><dl class=\"tiles\">{}{within}</dl></div></div>{lines}",
        curve(judged),
        count(latency.count()),
        if reference(judged).is_some() { "; dashed: the reference" } else { "" },
        marked.concat(),
    );
    section_of("Latency", &body)
}

/// The reference's latencies, where it has any in buckets of our own.
fn reference(judged: &Judged) -> Option<&LatencyHistogram> {
    let reference = &judged.evidence.reference.latency;
    (reference.count() > 0 && !judged.evidence.latency.is_foreign()).then_some(reference)
}

fn objective(latency: &LatencyHistogram) -> Option<(f64, f64)> {
    let bound = latency.objective_micros()? as f64;
    Some((bound, latency.within_objective() as f64 / latency.count() as f64))
}

/// The cumulative distribution over the logarithm of time.
fn curve(judged: &Judged) -> String {
    let latency = &judged.evidence.latency;
    let all = [Some(latency), reference(judged)];
    let bounds = || all.into_iter().flatten().flat_map(LatencyHistogram::cumulative);
    let bounds = bounds().map(|(bound, _)| bound).chain(objective(latency).map(|(bound, _)| bound));
    let (low, high) = bounds
        .fold((f64::MAX, 1.0f64), |(low, high), bound| (low.min(bound.max(1.0)), high.max(bound)));
    let ends = [(low / 1.3).ln(), (high * 1.15).ln()];
    let scale = Scale::new(ends, [LEFT, WIDTH - 6.0]);
    let x = |micros: f64| scale.at(micros.max(1.0).ln());
    let y = |share: f64| FLOOR - share * (FLOOR - TOP);
    let mut body = line("axis", [LEFT, FLOOR], [WIDTH - 6.0, FLOOR]);
    for share in [0.5, 1.0] {
        body.push_str(&line("axis", [LEFT, y(share)], [WIDTH - 6.0, y(share)]));
        body.push_str(&text(LEFT - 4.0, y(share) + 4.0, "end", &percent(share)));
    }
    for micros in decades(low, high) {
        body.push_str(&line("axis", [x(micros), FLOOR], [x(micros), FLOOR + 4.0]));
        body.push_str(&text(x(micros), FLOOR + 16.0, "middle", &duration(micros)));
    }
    let steps = |histogram: &LatencyHistogram| -> Vec<[f64; 2]> {
        let all = histogram.count().max(1) as f64;
        let places = histogram.cumulative().map(|(bound, n)| [x(bound), y(n as f64 / all)]);
        std::iter::once([LEFT, FLOOR]).chain(places).collect()
    };
    if let Some(reference) = reference(judged) {
        body.push_str(&path("thin", steps(reference)));
    }
    body.push_str(&path("curve", steps(latency)));
    if let Some((bound, share)) = objective(latency) {
        let at = x(bound);
        body.push_str(&line("bound", [at, TOP - 6.0], [at, FLOOR]));
        let words = format!("objective {}: {}", duration(bound), percent(share));
        let anchor = match at {
            _ if at > WIDTH - 80.0 => "end",
            _ if at < LEFT + 80.0 => "start",
            _ => "middle",
        };
        body.push_str(&text(at, TOP - 10.0, anchor, &words));
    }
    for (_, q) in MARKED {
        if let Some(micros) = latency.quantile_micros(q) {
            body.push_str(&dot(false, x(micros), y(q)));
        }
    }
    let told = MARKED.map(|(name, q)| {
        format!("{name} {}", latency.quantile_micros(q).map_or("–".to_owned(), duration))
    });
    figure(FLOOR + 22.0, &format!("Latency, cumulative: {}", told.join(", ")), &body)
}

/// Powers of ten between two durations, and the ends' neighbours where there are none.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.max(1.0).log10().ceil() as i32, high.max(1.0).log10().floor() as i32);
    let decades: Vec<f64> = (first..=last).map(|exponent| 10f64.powi(exponent)).collect();
    if decades.len() < 2 { vec![low, high] } else { decades }
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_reporter::conformance::sample;

    use super::*;

    #[test]
    fn the_curve_marks_objective_and_percentiles() {
        // Latencies of 500 to 1999 µs; the objective is 2 ms.
        let html = section(&sample(MonitoringOutcome::Ok));
        for part in ["objective 2 ms: 100 %", "<dt>p99</dt>", "<dt>within 2 ms</dt>"] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn no_requests_are_no_section_and_foreign_buckets_one_without_reference() {
        let mut judged = sample(MonitoringOutcome::Ok);
        judged.evidence.latency =
            LatencyHistogram::of_cumulative(&[(1_000, 7), (5_000, 9)], 10, 7_000, None);
        let html = section(&judged);
        assert!(html.contains("10 requests") && !html.contains("dashed"), "{html}");
        judged.evidence.latency = LatencyHistogram::new(None);
        judged.report.findings.clear();
        assert_eq!(section(&judged), "");
    }

    #[test]
    fn ticks_are_there_for_narrow_and_wide_ranges() {
        assert_eq!(decades(100.0, 150.0), [100.0, 150.0]);
        assert_eq!(decades(50.0, 20_000.0), [100.0, 1_000.0, 10_000.0]);
    }
}
