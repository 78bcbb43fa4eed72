//! How a window is judged: the same for one that has just been counted, and for one of the past.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::latency::LatencySpan;
use mloop_core::report::MonitorFailure;
use mloop_core::{Evidence, Finding, MonitoringOutcome, Profile, VersionRef, Window, error_chain};
use mloop_monitor::Monitor;
use mloop_platform::LatencyRequest;

use crate::OrchestratorError;
use crate::monitoring::MonitoringOrchestrator;
use crate::reference::LoadedReference;
use crate::spans;

/// The counts of a window, and those of the earlier one whose labels are in.
pub(crate) struct Counted {
    pub(crate) window: Profile,
    pub(crate) labels: Option<Profile>,
}

/// What the monitors found.
pub(crate) struct Looked {
    pub(crate) evidence: Evidence,
    pub(crate) findings: Vec<Finding>,
    pub(crate) failures: Vec<MonitorFailure>,
    pub(crate) outcome: MonitoringOutcome,
}

impl MonitoringOrchestrator {
    /// Lets all monitors look, as sure as the budget of false alarms asks for.
    pub(crate) async fn look(
        &self,
        reference: LoadedReference,
        version: VersionRef,
        counted: Counted,
    ) -> Result<Looked, OrchestratorError> {
        let mut evidence = self.evidence(reference, version, counted).await?;
        let (mut findings, mut failures) = look(&self.deps.monitors, &evidence).await;
        if let Some(budget) = self.config.false_alarms {
            // How many share the budget shows once they have looked; a look is arithmetic.
            evidence.confidence = budget.confidence(&findings)?;
            (findings, failures) = look(&self.deps.monitors, &evidence).await;
        }
        let outcome = MonitoringOutcome::of(&findings, &failures);
        Ok(Looked { evidence, findings, failures, outcome })
    }

    /// What monitors look at.
    pub(crate) async fn evidence(
        &self,
        reference: LoadedReference,
        version: VersionRef,
        counted: Counted,
    ) -> Result<Evidence, OrchestratorError> {
        let (latency, spans) = self.latencies(&counted.window, version).await?;
        Ok(Evidence {
            schema: reference.schema,
            reference: reference.profile,
            latency: latency.latency,
            spans,
            current: counted.window,
            earlier: counted.labels,
            confidence: None,
        })
    }

    /// Whether alert reporters are called for, after so many windows in a row that could not be judged.
    pub(crate) fn is_alert(&self, outcome: MonitoringOutcome, blind_windows: u32) -> bool {
        let limit = self.config.max_blind_windows;
        outcome.is_alerting() || (limit > 0 && blind_windows >= limit)
    }

    /// The window whose labels have had their time, when that is not the window itself.
    pub(crate) fn label_window(&self, window: Window) -> Result<Option<Window>, OrchestratorError> {
        let delay = self.config.label_delay;
        if delay.is_zero() {
            return Ok(None);
        }
        let (start, end) =
            (window.start().checked_sub_signed(delay), window.end().checked_sub_signed(delay));
        let earlier = start.zip(end).and_then(|(start, end)| Window::new(start, end).ok());
        earlier.map(Some).ok_or_else(|| {
            let problem = "the delay of labels leads before the beginning of time; shorten it";
            OrchestratorError::invalid(format!("finding the labels of {window}"), problem)
        })
    }

    /// The latencies of the window, and of the spans up to its end that monitors ask for, from wherever
    /// they are measured.
    async fn latencies(
        &self,
        current: &Profile,
        version: VersionRef,
    ) -> Result<(LatencySpan, BTreeMap<u32, LatencySpan>), OrchestratorError> {
        let counted = LatencySpan { window: current.window, latency: current.latency.clone() };
        let own = self.latency(version, current.window, counted.clone()).await?;
        let asked = self.deps.monitors.iter().flat_map(|monitor| monitor.latency_spans());
        let asked: BTreeSet<u32> = asked.collect();
        let begin = |minutes: u32| back(current.window, minutes);
        let Some(first) = asked.last().and_then(|longest| begin(*longest)) else {
            return Ok((own, BTreeMap::new()));
        };
        let earlier = spans::earlier(self.deps.profiles.as_ref(), current, first).await?;
        let mut found = BTreeMap::new();
        for minutes in asked {
            let span = begin(minutes).and_then(|from| Window::new(from, current.window.end()).ok());
            let Some(span) = span else { continue };
            let known = if span == current.window {
                own.clone()
            } else {
                let counted = spans::leading_up_to(&counted, span.start(), &earlier);
                self.latency(version, span, counted).await?
            };
            found.insert(minutes, known);
        }
        Ok((own, found))
    }

    async fn latency(
        &self,
        version: VersionRef,
        window: Window,
        counted: LatencySpan,
    ) -> Result<LatencySpan, OrchestratorError> {
        let subject = self.config.subject.clone();
        let request = LatencyRequest { subject, version, window, counted };
        Ok(self.deps.latency.latency(&request).await?)
    }
}

/// So many minutes before the end of a window.
fn back(window: Window, minutes: u32) -> Option<DateTime<Utc>> {
    window.end().checked_sub_signed(TimeDelta::minutes(minutes.into()))
}

/// Lets every monitor look; one that fails is a failure beside the findings of the others.
async fn look(
    monitors: &[Box<dyn Monitor>],
    evidence: &Evidence,
) -> (Vec<Finding>, Vec<MonitorFailure>) {
    let (mut findings, mut failures) = (vec![], vec![]);
    for monitor in monitors {
        match monitor.check(evidence).await {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let monitor = monitor.name().to_owned();
                let error = error_chain(&error);
                tracing::error!(monitor, error, "the monitor failed");
                failures.push(MonitorFailure { monitor, error });
            }
        }
    }
    (findings, failures)
}
