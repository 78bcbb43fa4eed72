//! A notification as an alert.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mloop_core::notification::{Notification, Topic};
use serde_json::{Value, json};

/// Labels that every alert has, and that settings may not set.
pub(crate) const OWN_LABELS: [&str; 5] = ["alertname", "message", "model", "severity", "target"];

/// Longest description in characters; the record of the run has all.
const DESCRIPTION: usize = 8_000;

/// The alert of a message, active from what it tells of until `active` after now: an alert whose end
/// has passed when it arrives is never shown.
pub(crate) fn alert(
    notification: &Notification,
    extra: &BTreeMap<String, String>,
    now: DateTime<Utc>,
    active: TimeDelta,
) -> Value {
    let mut labels = extra.clone();
    let subject = &notification.subject;
    let mut label = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    label("alertname", name(notification.topic));
    label("model", subject.model.as_str());
    label("target", subject.target.as_str());
    label("severity", notification.severity.as_str());
    if notification.topic != Topic::Monitoring {
        // What happens once is an alert of its own.
        label("message", &notification.id);
    }
    json!({
        "labels": labels,
        "annotations": {
            "summary": one_line(&notification.title),
            "description": cut(&notification.text),
            "message_id": notification.id,
        },
        "startsAt": moment(notification.at.min(now)),
        "endsAt": moment(now + active),
    })
}

fn name(topic: Topic) -> &'static str {
    match topic {
        Topic::Monitoring => "MloopMonitoring",
        Topic::Retraining => "MloopRetraining",
        Topic::Deployment => "MloopDeployment",
    }
}

/// Whether Prometheus takes it as the name of a label. Those that begin with two underscores are its
/// own.
pub(crate) fn is_label_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && !text.starts_with("__")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DESCRIPTION) {
        Some((end, _)) => format!("{}… (cut; the record of the run has all)", &text[..end]),
        None => text.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use mloop_core::notification::Severity;
    use mloop_platform::conformance::samples;

    use super::*;

    fn of(id: &str, topic: Topic, severity: Severity) -> Value {
        let notification = Notification { topic, severity, ..samples::notification(id) };
        let extra = BTreeMap::from([("team".to_owned(), "ml".to_owned())]);
        let now = samples::day_one() + TimeDelta::days(1);
        alert(&notification, &extra, now, TimeDelta::minutes(90))
    }

    #[test]
    fn labels_tell_alerts_apart_that_are_not_the_same() {
        use Severity::{Critical, Warning};
        use Topic::{Deployment, Monitoring, Retraining};
        let labels = |id, topic, severity| of(id, topic, severity)["labels"].clone();
        let drift = labels("run-1", Monitoring, Warning);
        assert_eq!(
            drift,
            json!({
                "alertname": "MloopMonitoring",
                "model": "fashion",
                "target": "production",
                "severity": "warning",
                "team": "ml",
            })
        );
        assert_eq!(drift, labels("run-2", Monitoring, Warning), "the next window prolongs it");
        assert_ne!(drift, labels("run-2", Monitoring, Critical));
        let job = labels("job-1", Retraining, Warning);
        assert_ne!(job, labels("job-2", Retraining, Warning));
        assert_eq!(job["alertname"], "MloopRetraining");
        assert_eq!(labels("d-1", Deployment, Critical)["message"], "d-1");
    }

    #[test]
    fn an_alert_that_comes_late_is_active_all_the_same() {
        let alert = of("run-1", Topic::Monitoring, Severity::Warning);
        assert_eq!(alert["startsAt"], "2026-03-01T00:00:00.000Z");
        assert_eq!(alert["endsAt"], "2026-03-02T01:30:00.000Z");
        let early = samples::notification("m");
        let now = early.at - TimeDelta::minutes(1);
        let alert = super::alert(&early, &BTreeMap::new(), now, TimeDelta::minutes(1));
        assert_eq!(alert["startsAt"], "2026-02-28T23:59:00.000Z", "never in the future");
    }

    #[test]
    fn label_names_follow_the_rule_of_prometheus() {
        for (name, expected) in [
            ("team", true),
            ("_team2", true),
            ("__team", false),
            ("2team", false),
            ("te-am", false),
            ("té", false),
            ("", false),
        ] {
            assert_eq!(is_label_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_long_text_is_cut_with_a_note() {
        let text = "é".repeat(DESCRIPTION + 1);
        assert!(cut(&text).ends_with("(cut; the record of the run has all)"));
        assert_eq!(cut("short"), "short");
    }
}
