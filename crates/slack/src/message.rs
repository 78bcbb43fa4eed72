//! A notification in Slack's blocks, and as plain text.

use chrono::{DateTime, SecondsFormat, Utc};
use mloop_core::notification::{Notification, Severity};
use serde_json::{Value, json};

/// Longest header: Slack takes 150.
const HEADER: usize = 140;

/// Longest section: Slack takes 3,000.
const SECTION: usize = 2_900;

/// Longest text of all sections. Slack takes about 13,200 in all blocks of a message.
const ALL_SECTIONS: usize = 9_000;

/// Longest plain text: Slack cuts at 40,000 without a word.
const PLAIN: usize = 30_000;

/// Longest text beside blocks, which shows in notifications and to screen readers.
const BESIDE: usize = 1_500;

/// The message in blocks: title, text, and a line that says what it is about.
pub(crate) fn with_blocks(notification: &Notification) -> Value {
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "emoji": true, "text": header(notification)},
    })];
    blocks.extend(sections(&notification.text).into_iter().map(|text| {
        // `verbatim`: names of columns and classes are not made into links and channels.
        json!({"type": "section", "text": {"type": "mrkdwn", "verbatim": true, "text": text}})
    }));
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "mrkdwn", "verbatim": true, "text": about(notification)}],
    }));
    json!({"text": text(notification, BESIDE), "blocks": blocks})
}

/// The message as text alone, for a channel that takes no blocks.
pub(crate) fn plain(notification: &Notification) -> Value {
    json!({"text": format!("{}\n{}", text(notification, PLAIN), about(notification))})
}

fn header(notification: &Notification) -> String {
    let sign = sign(notification.severity);
    // Plain text is shown as it is.
    cut(&format!("{sign} {}", one_line(&notification.title)), HEADER)
}

fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => ":information_source:",
        Severity::Warning => ":warning:",
        Severity::Critical => ":rotating_light:",
    }
}

fn text(notification: &Notification, limit: usize) -> String {
    let title = escape(&one_line(&notification.title));
    let first = format!("[{}] {title}", notification.severity.as_str());
    let mut parts = packed(&notification.text, limit, limit);
    parts.insert(0, first);
    parts.join("\n")
}

/// Model, target and moment; the moment in the reader's time zone.
fn about(notification: &Notification) -> String {
    let Notification { id, subject, at, .. } = notification;
    format!("{} | {} | `{}`", escape(&subject.to_string()), date(*at), escape(id))
}

fn date(at: DateTime<Utc>) -> String {
    let fallback = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{fallback}>", at.timestamp())
}

fn sections(text: &str) -> Vec<String> {
    packed(text, SECTION, ALL_SECTIONS)
}

/// Lines, escaped and packed into parts of at most `part`; beyond `all`, a note of what is missing.
fn packed(text: &str, part: usize, all: usize) -> Vec<String> {
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| bullet(line, part))
        .collect();
    let (mut parts, mut used) = (vec![String::new()], 0);
    for (index, line) in lines.iter().enumerate() {
        let length = length(line) + 1;
        if used + length > all {
            let left = lines.len() - index;
            let note = format!("… {left} more lines were cut; the record of the run has them");
            parts.push(note);
            break;
        }
        used += length;
        match parts.last_mut() {
            Some(last) if last.is_empty() => last.push_str(line),
            Some(last) if self::length(last) + length <= part => {
                last.push('\n');
                last.push_str(line);
            }
            _ => parts.push(line.clone()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A line, escaped; one of a list gets a dot, and one that no section could hold is cut.
fn bullet(line: &str, limit: usize) -> String {
    let shown = match line.strip_prefix("- ") {
        Some(item) => format!("• {item}"),
        None => line.to_owned(),
    };
    let escaped = escape(&shown);
    if length(&escaped) <= limit {
        return escaped;
    }
    // Escaping makes a character five at most.
    escape(&cut(&shown, limit / 5))
}

/// Slack's three letters that are not text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most `limit` long, with a sign where something was cut.
fn cut(text: &str, limit: usize) -> String {
    if length(text) <= limit {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut left = limit.saturating_sub(1);
    for letter in text.chars() {
        let Some(rest) = left.checked_sub(letter.len_utf16()) else { break };
        left = rest;
        kept.push(letter);
    }
    kept.push('…');
    kept
}

/// In the units that Slack counts in, or more: an emoji is two.
fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use mloop_platform::conformance::samples;

    use super::*;

    fn of(title: &str, text: &str) -> Notification {
        Notification {
            title: title.to_owned(),
            text: text.to_owned(),
            ..samples::notification("run-1")
        }
    }

    fn texts(message: &Value) -> Vec<String> {
        let blocks = message["blocks"].as_array().expect("blocks");
        let text = |block: &Value| match block["type"].as_str() {
            Some("context") => block["elements"][0]["text"].clone(),
            _ => block["text"]["text"].clone(),
        };
        blocks.iter().map(|block| text(block).as_str().expect("text").to_owned()).collect()
    }

    #[test]
    fn a_message_has_title_lines_and_what_it_is_about() {
        let message = with_blocks(&of("brightness\ndrifted", "Of 1500:\n- a < b & c\n\n- d"));
        let expected = [
            ":warning: brightness drifted",
            "Of 1500:\n• a &lt; b &amp; c\n• d",
            "fashion@production | <!date^1772323200^{date_short_pretty} {time}|2026-03-01T00:00:00Z> | `run-1`",
        ];
        assert_eq!(texts(&message), expected);
        assert_eq!(
            message["text"],
            "[warning] brightness drifted\nOf 1500:\n• a &lt; b &amp; c\n• d"
        );
        assert!(plain(&of("t", "x")).get("blocks").is_none());
    }

    #[test]
    fn a_mention_in_a_name_calls_nobody() {
        let message =
            with_blocks(&of("<!channel>", "<!channel> <@U1> <https://evil.example|click>"));
        let shown = message["blocks"][1]["text"]["text"].as_str().expect("text");
        assert!(!shown.contains('<'), "{shown}");
        assert!(!message["text"].as_str().expect("text").contains('<'));
        // A header is plain text, in which nothing is special.
        assert_eq!(message["blocks"][0]["text"]["type"], "plain_text");
    }

    #[test]
    fn what_is_too_long_is_cut_with_a_note_and_within_the_limits() {
        let line = format!("- {}", "&<🚨".repeat(60));
        let text = vec![line; 200].join("\n");
        for (title, text) in [("t".repeat(1_000), text), ("🚨".repeat(500), "&".repeat(50_000))] {
            let message = with_blocks(&of(&title, &text));
            let texts = texts(&message);
            assert!(length(&texts[0]) <= 150, "{}", texts[0]);
            assert!(texts[0].ends_with('…'));
            for section in &texts[1..] {
                assert!((1..=3_000).contains(&length(section)), "{}", length(section));
            }
            assert!(texts.iter().map(|text| length(text)).sum::<usize>() < 13_200);
            assert!(texts.len() <= 50);
            assert!(length(plain(&of(&title, &text))["text"].as_str().expect("text")) < 40_000);
        }
        let many = of("t", &vec!["- line"; 5_000].join("\n"));
        let note = texts(&with_blocks(&many)).into_iter().rev().nth(1).expect("a note");
        assert!(note.contains("more lines were cut"), "{note}");
    }

    #[test]
    fn a_message_without_text_has_no_empty_section() {
        assert_eq!(texts(&with_blocks(&of("t", " \n"))).len(), 2);
    }
}
