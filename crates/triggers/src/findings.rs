//! What drift and performance triggers have in common: k of the newest n windows.

use mloop_core::history::{Answer, History, Verdict};
use mloop_core::{Finding, MonitoringReport, Status};
use mloop_trigger::BuildError;
use schemars::JsonSchema;
use serde::Deserialize;

/// How many of the newest windows must show it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KOfN {
    /// Windows that must show it, at least 1.
    pub(crate) at_least: usize,
    /// Newest windows of the serving version that are looked at, at least `at_least`; one with broken data,
    /// or one that overlaps a newer one, is not among them.
    pub(crate) of_windows: usize,
}

impl Default for KOfN {
    fn default() -> Self {
        Self { at_least: 1, of_windows: 1 }
    }
}

impl KOfN {
    pub(crate) fn validate(self) -> Result<(), BuildError> {
        if self.at_least == 0 {
            return Err(BuildError::invalid("windows.at_least", "must be at least 1"));
        }
        if self.of_windows < self.at_least {
            let problem = format!("must be at least `at_least`, which is {}", self.at_least);
            return Err(BuildError::invalid("windows.of_windows", problem));
        }
        Ok(())
    }

    /// Judges the newest windows that count as evidence by their findings of one sort. Yes when enough of them drifted;
    /// no when so many are known to be fine that not enough could have; else it cannot tell.
    pub(crate) fn judge(
        self,
        history: &History,
        what: &str,
        of: impl Fn(&Finding) -> bool,
    ) -> Verdict {
        let mut newest: Vec<&MonitoringReport> = history.evidence().take(self.of_windows).collect();
        newest.reverse();
        let has_drift = |report: &MonitoringReport| {
            report.findings.iter().any(|f| of(f) && f.status == Status::Drifted)
        };
        let drifted: Vec<&MonitoringReport> =
            newest.iter().copied().filter(|report| has_drift(report)).collect();
        let fine = newest.iter().filter(|report| {
            let mut wanted = report.findings.iter().filter(|finding| of(finding)).peekable();
            wanted.peek().is_some() && wanted.all(|finding| finding.status == Status::Ok)
        });
        let (seen, fine) = (newest.len(), fine.count());
        let answer = if drifted.len() >= self.at_least {
            Answer::Yes
        } else if seen == self.of_windows && self.of_windows - fine < self.at_least {
            Answer::No
        } else {
            Answer::CannotTell
        };
        let asked = format!("{} of {} are asked for", self.at_least, self.of_windows);
        let mut reason = match seen {
            0 => format!("no window of the version that serves was judged yet; {asked}"),
            _ => format!(
                "{} of the newest {seen} windows {what}, {fine} are fine; {asked}",
                drifted.len()
            ),
        };
        if let Some(worst) = drifted.last().and_then(|report| worst(report, &of)) {
            reason.push_str("; newest: ");
            reason.push_str(&worst.sentence());
        }
        let evidence = drifted.iter().map(|report| report.run_id.clone()).collect();
        Verdict { answer, reason, evidence }
    }
}

/// The finding that is farthest beyond its bound.
fn worst<'a>(report: &'a MonitoringReport, of: &impl Fn(&Finding) -> bool) -> Option<&'a Finding> {
    let excess = |finding: &Finding| {
        let (value, bound) = (finding.value.unwrap_or(0.0), finding.threshold.unwrap_or(0.0));
        (value - bound).abs()
    };
    let drifted = report.findings.iter().filter(|f| of(f) && f.status == Status::Drifted);
    drifted.max_by(|a, b| excess(a).total_cmp(&excess(b)))
}
