//! How the verdicts of all triggers become one decision.

use mloop_core::MonitoringOutcome;
use mloop_core::history::{Answer, History, Verdict};
use mloop_trigger::{Decision, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which yeses it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One is enough.
    #[default]
    Any,
    /// Every trigger must say yes; one that cannot tell has not said it.
    All,
}

/// A yes counts, *cannot tell* never does, and broken data hold every trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Combination {
    /// Which yeses it takes.
    pub mode: Mode,
    /// Whether to retrain although the newest window is broken, for reasons that are not its own: a
    /// broken window never counts for a trigger. The model may learn from damage: leave it `false`
    /// unless the traffic is not what is learnt from.
    pub allow_on_broken: bool,
}

impl Policy for Combination {
    fn decide(&self, history: &History, verdicts: &[(String, Verdict)]) -> Decision {
        let newest = history.reports_of_serving().next();
        if let Some(report) = newest.filter(|r| r.outcome == MonitoringOutcome::Broken)
            && !self.allow_on_broken
        {
            let reason = format!(
                "the data of the newest window, {}, are broken; nothing is learnt from them",
                report.window.bounds
            );
            return Decision::Held { reason };
        }
        let with = |answer| verdicts.iter().filter(move |(_, verdict)| verdict.answer == answer);
        let yes: Vec<_> = with(Answer::Yes).cloned().collect();
        let enough = match self.mode {
            Mode::Any => !yes.is_empty(),
            Mode::All => !yes.is_empty() && yes.len() == verdicts.len(),
        };
        // Under `all` one no settles it, whatever the others cannot tell.
        let settled = self.mode == Mode::All && with(Answer::No).next().is_some();
        if enough {
            Decision::Retrain(yes)
        } else if !settled && with(Answer::CannotTell).next().is_some() {
            Decision::CannotTell
        } else {
            Decision::No
        }
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;

    use super::*;
    use crate::testing::history;

    fn verdicts(answers: &[Answer]) -> Vec<(String, Verdict)> {
        let verdict = |answer: &Answer| {
            let (answer, reason) = (*answer, "because".to_owned());
            ("trigger".to_owned(), Verdict { answer, reason, evidence: vec![] })
        };
        answers.iter().map(verdict).collect()
    }

    #[test]
    fn verdicts_combine_by_the_table() {
        use Answer::{CannotTell as C, No as N, Yes as Y};
        // Answers → what `any` and what `all` make of them: yes, no, or cannot tell.
        let table: [(&[Answer], Answer, Answer); 8] = [
            (&[Y, N], Y, N),
            (&[Y, C], Y, C),
            (&[Y, Y], Y, Y),
            (&[C, N], C, N),
            (&[C, C], C, C),
            (&[N, N], N, N),
            (&[Y, C, N], Y, N),
            (&[], N, N),
        ];
        let history = history("column_drift", &[Status::Ok]);
        for (answers, any, all) in table {
            for (mode, expected) in [(Mode::Any, any), (Mode::All, all)] {
                let policy = Combination { mode, allow_on_broken: false };
                let found = match policy.decide(&history, &verdicts(answers)) {
                    Decision::Retrain(_) => Y,
                    Decision::No => N,
                    Decision::CannotTell => C,
                    Decision::Held { reason } => panic!("{reason}"),
                };
                assert_eq!(found, expected, "{mode:?} {answers:?}");
            }
        }
    }

    #[test]
    fn broken_data_hold_every_trigger_unless_allowed() {
        let mut history = history("column_drift", &[Status::Drifted, Status::Drifted]);
        let decide = |history: &History, allow_on_broken| {
            Combination { mode: Mode::Any, allow_on_broken }
                .decide(history, &verdicts(&[Answer::Yes]))
        };
        // An older broken window is over.
        history.reports[0].outcome = MonitoringOutcome::Broken;
        assert!(matches!(decide(&history, false), Decision::Retrain(_)));
        history.reports[1].outcome = MonitoringOutcome::Broken;
        assert!(matches!(decide(&history, false), Decision::Held { .. }));
        assert!(matches!(decide(&history, true), Decision::Retrain(_)));
    }
}
