//! The HTML part. Tables and inline styles, since that is what mail programs understand; no images,
//! no scripts, nothing that is loaded.

use mloop_core::notification::Severity;

use crate::mail::Body;

const FONT: &str = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif";

/// Longest beginning of a line that is set off as what the line is about.
const LEAD: usize = 80;

/// The whole page.
pub(crate) fn page(body: &Body<'_>) -> String {
    let (colour, word) = look(body.severity);
    let title = escape(&body.title);
    let first = body.lines.first().copied().unwrap_or_default();
    // What an inbox shows beside the subject, which is the title already.
    let preview = escape(first.trim_start_matches("- "));
    let (lines, facts, missed) = (lines(body), facts(body), missed(body));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
</head>
<body style="margin:0;padding:0;background:#f2f4f7">
<div style="display:none;max-height:0;overflow:hidden">{preview}</div>
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="background:#f2f4f7">
<tr><td align="center" style="padding:24px 12px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="max-width:640px;background:#ffffff;border:1px solid #d8dee6;border-top:4px solid {colour};border-radius:6px;{FONT}">
<tr><td style="padding:24px 28px 4px 28px">
<span style="display:inline-block;padding:3px 10px;border-radius:10px;background:{colour};color:#ffffff;font-size:12px;font-weight:600;letter-spacing:.4px">{word}</span>
<h1 style="margin:14px 0 0 0;font-size:20px;line-height:28px;font-weight:600;color:#1d2733;overflow-wrap:anywhere">{title}</h1>
</td></tr>
<tr><td style="padding:8px 28px 12px 28px;font-size:15px;line-height:23px;color:#1d2733;overflow-wrap:anywhere">
{lines}{missed}</td></tr>
<tr><td style="padding:0 28px 24px 28px">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="border-top:1px solid #e6eaf0;font-size:13px;line-height:20px">
{facts}</table>
</td></tr>
</table>
<p style="margin:14px 0 0 0;font-size:12px;line-height:18px;color:#667485;{FONT}">Sent by mloop. Answers are read by nobody.</p>
</td></tr>
</table>
</body>
</html>
"#
    )
}

/// Colour (with white on it readable at 4.5 to 1) and word.
fn look(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Info => ("#1f6f43", "INFO"),
        Severity::Warning => ("#9a5b00", "WARNING"),
        Severity::Critical => ("#b3261e", "CRITICAL"),
    }
}

/// Lines that begin with `- ` are a list, all others paragraphs.
fn lines(body: &Body<'_>) -> String {
    let (mut html, mut in_list) = (String::new(), false);
    for line in &body.lines {
        let item = line.strip_prefix("- ");
        if item.is_some() != in_list {
            in_list = item.is_some();
            html.push_str(if in_list { OPEN } else { "</ul>\n" });
        }
        match item {
            Some(item) => {
                html.push_str(&format!("<li style=\"margin:6px 0\">{}</li>\n", lead(item)));
            }
            None => html.push_str(&format!("<p style=\"margin:12px 0\">{}</p>\n", escape(line))),
        }
    }
    if in_list {
        html.push_str("</ul>\n");
    }
    if let Some(note) = body.note() {
        html.push_str(&format!("<p style=\"margin:12px 0;color:#667485\">{note}</p>\n"));
    }
    html
}

const OPEN: &str = "<ul style=\"margin:12px 0;padding-left:20px\">\n";

/// What an item is about, set off from what it says.
fn lead(item: &str) -> String {
    match item.split_once(": ") {
        Some((about, says)) if about.chars().count() <= LEAD => {
            format!("<strong>{}</strong>: {}", escape(about), escape(says))
        }
        _ => escape(item),
    }
}

fn facts(body: &Body<'_>) -> String {
    let mut html = String::new();
    for (index, (name, value)) in body.facts.iter().enumerate() {
        let top = if index == 0 { "12px" } else { "2px" };
        html.push_str(&format!(
                "<tr><td style=\"padding:{top} 16px 2px 0;color:#667485;width:72px;vertical-align:top\">{name}</td><td style=\"padding:{top} 0 2px 0;color:#1d2733;overflow-wrap:anywhere\">{}</td></tr>\n",
                escape(value)
            ));
    }
    html
}

fn missed(body: &Body<'_>) -> String {
    if body.missed.is_empty() {
        return String::new();
    }
    let mut html =
        format!("<p style=\"margin:16px 0 0 0\"><strong>Not delivered to</strong></p>\n{OPEN}");
    for missed in body.missed {
        html.push_str(&format!("<li style=\"margin:6px 0\">{}</li>\n", escape(missed)));
    }
    html.push_str("</ul>\n");
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(lines: Vec<&str>) -> String {
        let facts = [("Model", "a<b>".to_owned()), ("Target", String::new())];
        let [model, target] = facts;
        let facts = [model, target, ("When", String::new()), ("Message", String::new())];
        let title = "<script>alert(1)</script>".to_owned();
        page(&Body { severity: Severity::Critical, title, lines, left: 0, facts, missed: &[] })
    }

    #[test]
    fn nothing_of_a_message_is_markup() {
        let page = page_of(vec!["<img src=x onerror=\"y\">", "- <b>: \"q\" & c"]);
        for forbidden in ["<script", "<img", "<b>", "\"q\""] {
            assert!(!page.contains(forbidden), "{forbidden} in {page}");
        }
        assert!(page.contains("<strong>&lt;b&gt;</strong>: &quot;q&quot; &amp; c"), "{page}");
        assert!(page.contains("CRITICAL"));
    }

    #[test]
    fn lists_begin_and_end_where_their_items_do() {
        let page = page_of(vec!["Of 1500:", "- a: 1", "- b", "Then:", "- c"]);
        let order = [
            "<p",
            "Of 1500:",
            "<ul",
            "<strong>a</strong>",
            "b</li>",
            "</ul>",
            "Then:",
            "<ul",
            "c</li>",
            "</ul>",
        ];
        let mut rest = page.split_once("</h1>").expect("a title").1;
        for part in order {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("{part} in {page}")).1;
        }
    }
}
