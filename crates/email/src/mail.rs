//! A message as a mail: headers, and the same words as text and as HTML.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use lettre::Message;
use lettre::error::Error;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use mloop_core::Sha256Digest;
use mloop_core::notification::{Notification, Severity};

use crate::html;

/// Longest subject in characters.
const SUBJECT: usize = 200;

/// Longest text in characters.
const TEXT: usize = 100_000;

/// What a mail is made of.
pub(crate) struct Mail<'a> {
    pub(crate) notification: &'a Notification,
    pub(crate) from: &'a Mailbox,
    pub(crate) to: &'a [Mailbox],
    pub(crate) sent_at: DateTime<Utc>,
    /// Recipients that do not get it, each with the server's answer.
    pub(crate) missed: Vec<String>,
}

/// The mail as it goes over the wire.
pub(crate) fn compose(mail: &Mail<'_>) -> Result<Vec<u8>, Error> {
    let notification = mail.notification;
    let severity = notification.severity;
    let (urgency, importance) = match severity {
        Severity::Info => ("5", "low"),
        Severity::Warning => ("3", "normal"),
        Severity::Critical => ("1", "high"),
    };
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(subject(notification))
        .date(SystemTime::from(mail.sent_at))
        .message_id(Some(message_id(&notification.id, mail.from.email.domain())))
        // Keeps out-of-office answers away (RFC 3834).
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("Importance", importance))
        .raw_header(header("X-Priority", urgency))
        .raw_header(header("X-Mloop-Topic", notification.topic.as_str()))
        .raw_header(header("X-Mloop-Severity", severity.as_str()))
        .raw_header(header("X-Mloop-Model", notification.subject.model.as_str()))
        .raw_header(header("X-Mloop-Target", notification.subject.target.as_str()));
    for recipient in mail.to {
        builder = builder.to(recipient.clone());
    }
    let body = Body::of(mail);
    let parts = MultiPart::alternative_plain_html(text(&body), html::page(&body));
    Ok(builder.multipart(parts)?.formatted())
}

/// What both parts say.
pub(crate) struct Body<'a> {
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) lines: Vec<&'a str>,
    /// Lines that were too many.
    pub(crate) left: usize,
    /// Names and values.
    pub(crate) facts: [(&'static str, String); 4],
    pub(crate) missed: &'a [String],
}

impl<'a> Body<'a> {
    fn of(mail: &'a Mail<'a>) -> Self {
        let notification = mail.notification;
        let text = &notification.text;
        let shown = text.char_indices().nth(TEXT).map_or(text.as_str(), |(end, _)| &text[..end]);
        let lines = filled(shown);
        Self {
            severity: notification.severity,
            title: one_line(&notification.title),
            left: filled(&text[shown.len()..]).len(),
            lines,
            facts: [
                ("Model", notification.subject.model.to_string()),
                ("Target", notification.subject.target.to_string()),
                ("When", moment(notification.at)),
                ("Message", notification.id.clone()),
            ],
            missed: &mail.missed,
        }
    }

    /// What stands under the lines when some were cut.
    pub(crate) fn note(&self) -> Option<String> {
        let note = format!("{} more lines were cut; the record of the run has them.", self.left);
        (self.left > 0).then_some(note)
    }
}

fn filled(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).collect()
}

fn text(body: &Body<'_>) -> String {
    let mut lines = vec![body.title.clone(), String::new()];
    lines.extend(body.lines.iter().map(|line| (*line).to_owned()));
    lines.extend(body.note());
    lines.push(String::new());
    lines.extend(body.facts.iter().map(|(name, value)| format!("{name:<8} {value}")));
    if !body.missed.is_empty() {
        lines.extend([String::new(), "Not delivered to".to_owned()]);
        lines.extend(body.missed.iter().map(|missed| format!("- {missed}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn subject(notification: &Notification) -> String {
    let title = one_line(&notification.title);
    let subject = format!("[mloop {}] {title}", notification.severity.as_str());
    match subject.char_indices().nth(SUBJECT) {
        Some((end, _)) => format!("{}…", &subject[..end]),
        None => subject,
    }
}

/// The same for every try to deliver a message.
fn message_id(id: &str, domain: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_sound = (1..=100).contains(&id.len()) && id.bytes().all(is_plain);
    let local = if is_sound { id.to_owned() } else { Sha256Digest::of(id.as_bytes()).to_string() };
    format!("<{local}.mloop@{domain}>")
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use mloop_platform::conformance::samples;

    use super::*;

    fn mail(notification: &Notification) -> String {
        let from: Mailbox = "mloop <mloop@example.org>".parse().expect("an address");
        let to = ["Zoë <zoe@example.org>".parse().expect("an address")];
        let sent_at = samples::day_one();
        let mail = Mail { notification, from: &from, to: &to, sent_at, missed: vec![] };
        String::from_utf8(compose(&mail).expect("a mail")).expect("ASCII")
    }

    #[test]
    fn a_message_has_one_id_however_often_it_is_sent() {
        for (id, expected) in [
            ("run-0a1b", "<run-0a1b.mloop@example.org>".to_owned()),
            ("", format!("<{}.mloop@example.org>", Sha256Digest::of(b""))),
            (
                "a b\r\nBcc: x@y",
                format!("<{}.mloop@example.org>", Sha256Digest::of(b"a b\r\nBcc: x@y")),
            ),
        ] {
            assert_eq!(message_id(id, "example.org"), expected);
        }
    }

    #[test]
    fn nothing_in_a_message_becomes_a_header_or_a_line_of_the_protocol() {
        let notification = Notification {
            title: "drift\r\nBcc: evil@example.org\r\n\r\n.\r\nQUIT".to_owned(),
            text: "- a\r\n.\r\nMAIL FROM:<>\n".to_owned(),
            ..samples::notification("m")
        };
        let mail = mail(&notification);
        let (head, _) = mail.split_once("\r\n\r\n").expect("headers and a body");
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(mail.is_ascii());
        assert!(mail.lines().all(|line| line.len() <= 998), "RFC 5322, 2.1.1");
    }

    #[test]
    fn a_long_text_is_cut_with_a_note_in_both_parts() {
        let line = format!("{}\n", "x".repeat(99));
        let notification = Notification { text: line.repeat(1_500), ..samples::notification("m") };
        let from: Mailbox = "mloop@example.org".parse().expect("an address");
        let (notification, sent_at) = (&notification, samples::day_one());
        let mail = Mail { notification, from: &from, to: &[], sent_at, missed: vec![] };
        let body = Body::of(&mail);
        assert_eq!((body.lines.len(), body.left), (1_000, 500));
        for part in [text(&body), html::page(&body)] {
            assert!(part.contains("500 more lines were cut"));
        }
    }

    #[test]
    fn those_who_got_it_are_told_who_did_not() {
        let notification = samples::notification("m");
        let from: Mailbox = "mloop@example.org".parse().expect("an address");
        let missed = vec!["bad@example.org: permanent error (550)".to_owned()];
        let (notification, sent_at) = (&notification, samples::day_one());
        let body = Mail { notification, from: &from, to: &[], sent_at, missed };
        let body = Body::of(&body);
        for part in [text(&body), html::page(&body)] {
            assert!(part.contains("Not delivered to") && part.contains("bad@example.org"));
        }
    }
}
