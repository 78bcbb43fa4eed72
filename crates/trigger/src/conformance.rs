//! What every trigger must do, whoever wrote it.

use mloop_core::history::{Answer, History, Verdict};

use crate::Trigger;

/// Checks a trigger against the contract on a history with reports, and on one without anything.
///
/// # Panics
/// With the broken rule.
pub fn check_trigger(trigger: &dyn Trigger, history: &History) {
    assert!(!trigger.name().is_empty(), "a trigger without a name cannot be reported");
    let first = trigger.check(history);
    assert_eq!(first, trigger.check(history), "equal histories give equal verdicts");
    check_verdict(&first, history);

    let nothing = History { serving: None, reports: vec![], last_job_at: None, ..history.clone() };
    let blind = trigger.check(&nothing);
    assert_ne!(blind.answer, Answer::Yes, "a yes that rests on nothing: {}", blind.reason);
    check_verdict(&blind, &nothing);
}

fn check_verdict(verdict: &Verdict, history: &History) {
    assert!(!verdict.reason.trim().is_empty(), "a verdict needs a reason");
    for run in &verdict.evidence {
        let known = history.reports.iter().any(|report| report.run_id == *run);
        assert!(known, "the evidence {run} is not in the history");
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::{ModelName, RunId, Subject, TargetName};

    use super::*;

    struct Fixed(Verdict);

    impl Trigger for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn check(&self, _history: &History) -> Verdict {
            self.0.clone()
        }
    }

    fn history() -> History {
        let model = ModelName::new("m").expect("a name");
        let subject = Subject { model, target: TargetName::new("t").expect("a name") };
        let as_of = "2026-03-01T00:00:00Z".parse().expect("a moment");
        History { subject, as_of, serving: None, reports: vec![], last_job_at: None }
    }

    fn fixed(answer: Answer, reason: &str, evidence: Vec<RunId>) -> Fixed {
        Fixed(Verdict { answer, reason: reason.to_owned(), evidence })
    }

    #[test]
    fn a_trigger_that_cannot_tell_passes() {
        check_trigger(&fixed(Answer::CannotTell, "no window yet", vec![]), &history());
    }

    #[test]
    #[should_panic(expected = "a yes that rests on nothing")]
    fn a_baseless_yes_is_caught() {
        check_trigger(&fixed(Answer::Yes, "always", vec![]), &history());
    }

    #[test]
    #[should_panic(expected = "needs a reason")]
    fn a_missing_reason_is_caught() {
        check_trigger(&fixed(Answer::No, " ", vec![]), &history());
    }

    #[test]
    #[should_panic(expected = "is not in the history")]
    fn invented_evidence_is_caught() {
        check_trigger(&fixed(Answer::No, "fine", vec![RunId::derive(&["x"])]), &history());
    }
}
