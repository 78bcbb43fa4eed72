//! Tells people that something needs a look.

use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::notification::{Notification, Severity, Topic};
use mloop_core::{Finding, MonitoringOutcome, MonitoringReport};
use mloop_platform::{Message, Notifier, Outbox, PlatformError, deliver_pending};
use mloop_reporter::{BuildError, Judged, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::rank::{carried, lead, ranked, subject};

/// Findings that a message lists before it says how many more there are.
const LISTED: usize = 10;

/// Settings of kind `alert`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// Names of the notifiers to tell; all of the configuration's when left out.
    #[serde(default)]
    notifiers: Option<Vec<String>>,
    /// On which outcomes people are told.
    #[serde(default = "on_alert")]
    when: When,
}

fn on_alert() -> When {
    When::Alert
}

impl Spec<Box<dyn Reporter>, ReporterDeps> for AlertConfig {
    const KIND: &'static str = "alert";

    fn build(self, name: String, deps: &ReporterDeps) -> Result<Box<dyn Reporter>, BuildError> {
        let notifiers = match self.notifiers {
            None => deps.notifiers.clone(),
            Some(wanted) => wanted
                .iter()
                .enumerate()
                .map(|(index, name)| find(&deps.notifiers, index, name))
                .collect::<Result<_, _>>()?,
        };
        if notifiers.is_empty() {
            let problem = "there is nobody to tell: list at least one under `notifiers:`";
            return Err(BuildError::invalid("notifiers", problem));
        }
        let outbox = deps.outbox.clone();
        Ok(Box::new(AlertReporter::new(name, self.when, notifiers, outbox)))
    }
}

fn find(
    known: &[Arc<dyn Notifier>],
    index: usize,
    name: &str,
) -> Result<Arc<dyn Notifier>, BuildError> {
    known.iter().find(|notifier| notifier.name() == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|notifier| notifier.name()).collect();
        let problem = format!("no notifier is called `{name}`; there are: {}", names.join(", "));
        BuildError::invalid(format!("notifiers[{index}]"), problem)
    })
}

/// Puts one message a run into the outbox and sends what waits there.
pub struct AlertReporter {
    name: String,
    when: When,
    notifiers: Vec<Arc<dyn Notifier>>,
    outbox: Arc<dyn Outbox>,
}

impl AlertReporter {
    /// A reporter that tells these notifiers.
    #[must_use]
    pub fn new(
        name: String,
        when: When,
        notifiers: Vec<Arc<dyn Notifier>>,
        outbox: Arc<dyn Outbox>,
    ) -> Self {
        Self { name, when, notifiers, outbox }
    }
}

#[async_trait]
impl Reporter for AlertReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    fn messages(&self, report: &MonitoringReport) -> Vec<Message> {
        let receivers = self.notifiers.iter().map(|notifier| notifier.name().to_owned()).collect();
        vec![Message { notification: message(report), receivers }]
    }

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        let report = &judged.report;
        for Message { notification, receivers } in self.messages(report) {
            // It is there already, unless the caller records no runs.
            let queued = self.outbox.enqueue(&notification, &receivers).await;
            queued.map_err(|cause| ReporterError::Unavailable {
                doing: "putting the alert into the outbox".to_owned(),
                cause: cause.into(),
            })?;
        }
        let (outbox, subject) = (self.outbox.as_ref(), &report.subject);
        let failed = deliver_pending(outbox, subject, &self.notifiers).await;
        let told = |(receiver, error): &(String, PlatformError)| {
            format!("{receiver}: {}", mloop_core::error_chain(error))
        };
        let told: Vec<String> = failed.iter().map(told).collect();
        if told.is_empty() {
            return Ok(());
        }
        let receivers: Vec<&str> = failed.iter().map(|(receiver, _)| receiver.as_str()).collect();
        let doing = format!("telling {}, for whom the outbox keeps messages", receivers.join(", "));
        Err(ReporterError::Unavailable { doing, cause: told.join("; ").into() })
    }
}

/// The message of a report: its id is the run's, so that a repeated run tells nobody twice.
fn message(report: &MonitoringReport) -> Notification {
    let severity = match report.outcome {
        MonitoringOutcome::Broken => Severity::Critical,
        MonitoringOutcome::Alert => Severity::Warning,
        MonitoringOutcome::Ok | MonitoringOutcome::InsufficientData => Severity::Info,
    };
    Notification {
        id: report.run_id.to_string(),
        topic: Topic::Monitoring,
        severity,
        subject: report.subject.clone(),
        title: title(report),
        text: text(report),
        at: report.window.bounds.end(),
    }
}

fn title(report: &MonitoringReport) -> String {
    let what = match report.outcome {
        MonitoringOutcome::Broken => "broken data",
        MonitoringOutcome::Alert => "alert",
        MonitoringOutcome::InsufficientData => "could not be judged",
        MonitoringOutcome::Ok => "ok",
    };
    format!("{}: {what} in {}", report.subject, report.window.bounds)
}

/// What moved most, with what carries it, comes first: a preview on a phone shows little more.
fn text(report: &MonitoringReport) -> String {
    let window = &report.window;
    let alerting: Vec<&Finding> =
        ranked(report.findings.iter().filter(|finding| finding.is_alerting()));
    let mut lines: Vec<String> = lead(report).map(first_line).into_iter().collect();
    lines.push(format!(
        "{} answered {} requests ({} unreadable, {} of other versions, {} of unknown ones).",
        report.version, window.rows, window.quarantined, window.other_version, window.mixed
    ));
    lines.extend(alerting.iter().take(LISTED).map(|finding| line(finding)));
    if alerting.len() > LISTED {
        lines.push(format!("- and {} more", alerting.len() - LISTED));
    }
    let failed = report.failures.iter();
    lines.extend(failed.map(|failure| format!("- {} failed: {}", failure.monitor, failure.error)));
    if report.blind_windows > 0 {
        lines.push(format!("- {} windows in a row could not be judged", report.blind_windows));
    }
    lines.join("\n")
}

fn first_line(finding: &Finding) -> String {
    format!("{}: {}", subject(finding), carried(finding))
}

fn line(finding: &Finding) -> String {
    format!("- {}", finding.sentence())
}

#[cfg(test)]
mod tests {
    use mloop_platform::{Again, MockNotifier, MockOutbox, PlatformError, Waiting};
    use mloop_reporter::conformance::{judged, sample_report};

    use super::*;

    fn notifier(name: &'static str, works: bool) -> Arc<dyn Notifier> {
        let mut mock = MockNotifier::new();
        mock.expect_name().return_const(name.to_owned());
        mock.expect_parts().returning(Vec::new);
        mock.expect_notify().once().returning(move |_| {
            if works { Ok(()) } else { Err(PlatformError::unavailable(name, "telling", "down")) }
        });
        Arc::new(mock)
    }

    #[tokio::test]
    async fn a_dead_receiver_keeps_its_message_and_delays_no_other() {
        let report = sample_report(MonitoringOutcome::Alert);
        let waiting = message(&report);
        let mut outbox = MockOutbox::new();
        outbox
            .expect_enqueue()
            .withf(|message, receivers| {
                message.title.contains("alert") && receivers == ["dead", "alive"]
            })
            .once()
            .returning(|_, _| Ok(()));
        let waiting = Waiting { notification: waiting, refusals: 0 };
        outbox.expect_pending().times(2).returning(move |_, _, _| Ok(vec![waiting.clone()]));
        outbox.expect_given_up().times(2).returning(|_, _| Ok(0));
        outbox
            .expect_not_delivered()
            .withf(|receiver, _, again| (receiver, *again) == ("dead", Again::Soon))
            .once()
            .returning(|_, _, _| Ok(()));
        outbox
            .expect_delivered()
            .withf(|receiver, _| receiver == "alive")
            .once()
            .returning(|_, _| Ok(()));
        let notifiers = vec![notifier("dead", false), notifier("alive", true)];
        let reporter =
            AlertReporter::new("alert".to_owned(), When::Alert, notifiers, Arc::new(outbox));

        let error = reporter.report(&judged(report)).await.expect_err("one is dead");

        assert!(error.is_transient());
        assert!(error.to_string().contains("telling dead"), "{error}");
    }

    #[test]
    fn the_message_says_what_how_much_and_against_which_bound() {
        let message = message(&sample_report(MonitoringOutcome::Alert));
        assert_eq!(message.severity, Severity::Warning);
        let expected = "- column_drift of brightness: jensen_shannon 0.420 [0.390, 0.450], bound 0.100, n 1500";
        assert!(message.text.contains(expected), "{}", message.text);
    }

    #[test]
    fn the_first_line_names_what_moved_most_and_the_worst_is_listed_first() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        let most = Finding {
            column: Some("contrast".to_owned()),
            value: Some(0.8),
            interval: Some([0.7, 0.9]),
            detail: Some("0.5 to 0.6: 3.0 % → 40 %".to_owned()),
            ..report.findings[0].clone()
        };
        let broken = Finding {
            column: Some("sharpness".to_owned()),
            check: "missing".to_owned(),
            status: mloop_core::Status::Broken,
            ..report.findings[0].clone()
        };
        report.findings.push(most);
        let first = text(&report).lines().next().map(str::to_owned);
        assert_eq!(
            first.as_deref(),
            Some(
                "column drift of contrast: Jensen-Shannon distance 0.8, 8.0 × the tolerated 0.1; 0.5 to 0.6: 3.0 % → 40 %"
            )
        );
        report.findings.push(broken);
        let text = text(&report);
        let of: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("- ")?.split(':').next()?.split(" of ").nth(1))
            .collect();
        assert_eq!(of, ["sharpness", "contrast", "brightness"]);
        let fine = sample_report(MonitoringOutcome::Ok);
        assert!(super::text(&fine).starts_with("v1"), "{}", super::text(&fine));
    }

    #[test]
    fn a_long_list_is_cut_with_a_count() {
        let mut report = sample_report(MonitoringOutcome::Alert);
        report.findings = vec![report.findings[0].clone(); LISTED + 3];
        assert!(text(&report).ends_with("- and 3 more"), "{}", text(&report));
    }
}
