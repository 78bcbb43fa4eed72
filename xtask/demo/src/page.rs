//! The story as one self-contained page.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mloop_testkit::camera::Camera;
use mloop_testkit::images::Labelled;
use serde_json::Value;

use crate::tell::{Cost, Teller, percent};
use crate::world::number;

const STYLE: &str = "
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--card:#f6f8fa;--ok:#1a7f4b;--bad:#b3261e;--blind:#8a6d00;--bar:#3b6ea5}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333d4a;--paper:#12161c;--card:#1a2028;--ok:#5fd08f;--bad:#ff8a80;--blind:#e3c04d;--bar:#7fb0e6}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2.5rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:0 0 .4rem}p{margin:.25rem 0}
.sub{color:var(--soft)}section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem 1.2rem;margin:1rem 0}
table{border-collapse:collapse;font-size:.88rem;width:100%}th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.ok{color:var(--ok)}.drifted,.broken{color:var(--bad)}.insufficient_data{color:var(--blind)}
.wide{overflow-x:auto}details{margin:.5rem 0}summary{cursor:pointer;color:var(--soft)}img{image-rendering:pixelated;border-radius:4px;margin:2px}
figure{margin:.6rem 0}figcaption{font-size:.85rem;color:var(--soft)}a{color:var(--bar)}svg text{fill:var(--ink);font:13px system-ui,sans-serif}";

/// The whole page.
pub(crate) fn render(teller: &Teller) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>mloop: the loop has turned</title><style>{STYLE}</style>\
         <h1>The loop has turned once</h1><p class=\"sub\">Every number on this page was printed by the \
         run that made it.</p>"
    );
    for (index, chapter) in teller.chapters.iter().enumerate() {
        push(
            &mut html,
            format_args!("<section><h2>{}. {}</h2>", index + 1, escape(&chapter.title)),
        );
        for line in &chapter.lines {
            push(&mut html, format_args!("<p>{}</p>", escape(line)));
        }
        chapter.figures.iter().for_each(|figure| html.push_str(figure));
        html.push_str("</section>");
    }
    html.push_str("<section><h2>What each step cost</h2><div class=\"wide\"><table><tr><th>step<th>seconds<th>peak MB");
    for cost in largest(&teller.costs) {
        push(
            &mut html,
            format_args!(
                "<tr><td>{}<td class=\"n\">{:.2}<td class=\"n\">{:.0}",
                escape(&cost.work),
                cost.wall.as_secs_f64(),
                cost.peak_mb
            ),
        );
    }
    html.push_str("</table></div></section></html>\n");
    html
}

/// One row a step: of one that was called several times, the longest time and the highest peak.
pub(crate) fn largest(costs: &[Cost]) -> Vec<Cost> {
    let mut rows: Vec<Cost> = vec![];
    for cost in costs {
        match rows.iter_mut().find(|row| row.work == cost.work) {
            Some(row) => {
                row.wall = row.wall.max(cost.wall);
                row.peak_mb = row.peak_mb.max(cost.peak_mb);
            }
            None => rows.push(cost.clone()),
        }
    }
    rows
}

/// Scenes, and what a camera makes of them.
pub(crate) fn pictures(images: &[Labelled], camera: Camera) -> String {
    let row = |camera: Camera| {
        let shot = |(index, image): (usize, &Labelled)| {
            let png = STANDARD.encode(camera.take(&image.pixels, index as u64 + 1).to_png());
            let class = escape(&image.class);
            format!(
                "<img width=\"72\" height=\"72\" alt=\"{class}\" title=\"{class}\" src=\"data:image/png;base64,{png}\">"
            )
        };
        images.iter().enumerate().map(shot).collect::<String>()
    };
    format!(
        "<figure><div>{}</div><div>{}</div><figcaption>Above what the good cameras see, below what \
         the cheap ones make of it.</figcaption></figure>",
        row(Camera::Good),
        row(camera)
    )
}

/// Accuracy before, during and after.
pub(crate) fn accuracies(series: [f64; 3]) -> String {
    let names = ["good cameras, v1", "cheap cameras, v1", "cheap cameras, v2"];
    let mut bars = String::new();
    for (index, (name, share)) in names.iter().zip(series).enumerate() {
        let y = 8 + index * 34;
        push(
            &mut bars,
            format_args!(
                "<text x=\"0\" y=\"{}\">{name}</text><rect x=\"150\" y=\"{y}\" width=\"{:.0}\" height=\"22\" rx=\"4\" \
                 fill=\"var(--bar)\"/><text x=\"{:.0}\" y=\"{}\">{}</text>",
                y + 16,
                share * 400.0,
                158.0 + share * 400.0,
                y + 16,
                percent(share)
            ),
        );
    }
    format!(
        "<figure><svg viewBox=\"0 0 640 112\" width=\"100%\" role=\"img\" aria-label=\"accuracy\">{bars}</svg>\
         <figcaption>Share of production's pictures recognised.</figcaption></figure>"
    )
}

/// All findings of a window, folded away.
pub(crate) fn findings<'a>(findings: impl Iterator<Item = &'a Value>) -> String {
    let mut rows = String::new();
    let mut count = 0;
    for finding in findings {
        count += 1;
        let text = |key: &str| escape(finding[key].as_str().unwrap_or_default());
        let of = [text("column"), text("group")].join(" ");
        let interval = match finding["interval"].as_array().map(Vec::as_slice) {
            Some([low, high]) => format!("[{:.3}, {:.3}]", number(low), number(high)),
            _ => String::new(),
        };
        let bound =
            finding["threshold"].as_f64().map_or(String::new(), |bound| format!("{bound:.3}"));
        let value = finding["value"].as_f64().map_or(String::new(), |value| format!("{value:.3}"));
        push(
            &mut rows,
            format_args!(
                "<tr><td>{} {}<td>{}<td class=\"n\">{value}<td class=\"n\">{interval}<td class=\"n\">{bound}\
                 <td class=\"n\">{}<td class=\"{status}\">{status}",
                text("check"),
                of.trim(),
                text("method"),
                finding["n"],
                status = text("status"),
            ),
        );
    }
    format!(
        "<details><summary>all {count} checks</summary><div class=\"wide\"><table><tr><th>check<th>method<th>value\
         <th>interval<th>bound<th>n<th>status{rows}</table></div></details>"
    )
}

/// The paired differences with their intervals.
pub(crate) fn comparison(evaluation: &Value) -> String {
    let mut rows = String::new();
    let sets = evaluation["sets"].as_array();
    let count = sets.map_or(0, Vec::len);
    // One scale for all, zero in view.
    let ends = |set: &Value| [number(&set["interval"][0]), number(&set["interval"][1])];
    let all = || sets.into_iter().flatten().flat_map(ends).filter(|number| number.is_finite());
    let (low, high) =
        all().fold((-0.02f64, 0.02f64), |(low, high), end| (low.min(end), high.max(end)));
    let x = |number: f64| 140.0 + (number - low) / (high - low) * 380.0;
    for (index, set) in sets.into_iter().flatten().enumerate() {
        let ([left, right], y) = (ends(set), 20 + index * 36);
        let difference = number(&set["difference"]);
        push(
            &mut rows,
            format_args!(
                "<text x=\"0\" y=\"{}\">{} set</text><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" \
                 stroke=\"var(--bar)\" stroke-width=\"6\" stroke-linecap=\"round\"/><circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" \
                 fill=\"var(--ink)\"/><text x=\"535\" y=\"{}\">{:+.1} points</text>",
                y + 5,
                escape(set["set"].as_str().unwrap_or_default()),
                x(left),
                x(right),
                x(difference),
                y + 5,
                difference * 100.0
            ),
        );
    }
    let height = 20 + count * 36;
    format!(
        "<figure><svg viewBox=\"0 0 640 {height}\" width=\"100%\" role=\"img\" aria-label=\"paired differences\">\
         <line x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"0\" y2=\"{height}\" stroke=\"var(--line)\"/>{rows}</svg>\
         <figcaption>New version minus the one in production, on the same images, with {} intervals; the \
         line is no difference.</figcaption></figure>",
        confidence(evaluation),
        zero = x(0.0)
    )
}

/// The confidence of an evaluation's intervals, such as `95 %`.
pub(crate) fn confidence(evaluation: &Value) -> String {
    format!("{} %", 100.0 * number(&evaluation["confidence"]))
}

/// A link to a file beside this page.
pub(crate) fn link(path: &str, text: &str) -> String {
    format!("<p><a href=\"file://{}\">{}</a></p>", escape(path), escape(text))
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    html.write_fmt(text).unwrap_or_default();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
