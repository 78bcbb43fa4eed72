//! How sure each check of a window must be for alarms that nothing caused to stay rare.

use mloop_core::Finding;
use mloop_stats::budget;

use crate::OrchestratorError;

/// How many false alarms are allowed, over all checks of all monitors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FalseAlarmBudget {
    /// False alarms that may be expected in a month, above 0.
    pub per_month: f64,
    /// Windows that are judged in a month, above 0: 720 of an hour.
    pub windows_per_month: f64,
}

impl FalseAlarmBudget {
    /// False alarms that may be expected in a window.
    pub(crate) fn per_window(self) -> f64 {
        self.per_month / self.windows_per_month
    }

    /// How sure each of the checks that can alarm must be (see [`mloop_stats::budget`]); none when
    /// nothing can alarm.
    pub(crate) fn confidence(self, findings: &[Finding]) -> Result<Option<f64>, OrchestratorError> {
        let checks = findings.iter().filter(|finding| finding.threshold.is_some()).count() as u64;
        if checks == 0 {
            return Ok(None);
        }
        let found = budget::confidence(self.per_month, self.windows_per_month, checks);
        found.map(Some).ok_or_else(|| {
            let problem = format!(
                "no interval of {checks} checks can be that sure: allow more false alarms, judge longer \
                 windows, or fewer columns"
            );
            OrchestratorError::invalid("sharing out `false_alarms_per_month`", problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;

    use super::*;

    fn findings(judged: usize, told: usize) -> Vec<Finding> {
        let finding = |threshold| Finding {
            monitor: "m".to_owned(),
            check: "c".to_owned(),
            column: None,
            group: None,
            method: "share".to_owned(),
            value: None,
            interval: None,
            threshold,
            n: 0,
            status: Status::Ok,
            detail: None,
        };
        let all = std::iter::repeat_n(Some(0.1), judged).chain(std::iter::repeat_n(None, told));
        all.map(finding).collect()
    }

    #[test]
    fn the_budget_is_shared_out_over_the_checks_that_can_alarm() {
        let month = FalseAlarmBudget { per_month: 1.0, windows_per_month: 720.0 };
        let asked = |judged, told| month.confidence(&findings(judged, told)).expect("possible");
        // Half of what a two-sided interval leaves open lies on the side of an alarm.
        assert_eq!(asked(20, 5), Some(1.0 - 2.0 / 720.0 / 20.0));
        assert_eq!((asked(20, 0), asked(0, 5)), (asked(20, 5), None));
        let never = FalseAlarmBudget { per_month: 1e-12, ..month };
        let refused = never.confidence(&findings(1, 0)).expect_err("impossible").to_string();
        assert!(refused.contains("allow more false alarms"), "{refused}");
    }
}
