//! Retrain when enough new traffic was seen.

use mloop_core::history::{Answer, History, Verdict};
use mloop_trigger::{BuildError, Spec, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of kind `volume`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeTriggerConfig {
    /// Rows that the serving version must have answered, in windows that ended after the last job,
    /// at least 1.
    min_rows: u64,
}

impl Spec<Box<dyn Trigger>> for VolumeTriggerConfig {
    const KIND: &'static str = "volume";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Trigger>, BuildError> {
        if self.min_rows == 0 {
            return Err(BuildError::invalid("min_rows", "must be at least 1"));
        }
        Ok(Box::new(VolumeTrigger { name, min_rows: self.min_rows }))
    }
}

/// Says yes when enough rows were seen since the last job; cannot tell without any window.
pub struct VolumeTrigger {
    name: String,
    min_rows: u64,
}

impl Trigger for VolumeTrigger {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History) -> Verdict {
        let since = history.last_job_at;
        let mut seen: Vec<_> = history
            .evidence()
            .filter(|report| since.is_none_or(|job| report.window.bounds.end() > job))
            .collect();
        seen.reverse();
        let rows: u64 = seen.iter().map(|report| report.window.rows).sum();
        let answer = if rows >= self.min_rows {
            Answer::Yes
        } else if seen.is_empty() {
            Answer::CannotTell
        } else {
            Answer::No
        };
        let reason = format!(
            "{rows} rows in {} windows since the last job, {} are asked for",
            seen.len(),
            self.min_rows
        );
        let evidence = match answer {
            Answer::Yes => seen.iter().map(|report| report.run_id.clone()).collect(),
            _ => vec![],
        };
        Verdict { answer, reason, evidence }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use mloop_core::{MonitoringOutcome, Status};
    use mloop_trigger::conformance::check_trigger;

    use super::*;
    use crate::testing::history;

    #[test]
    fn rows_add_up_since_the_last_job() {
        // Three windows of 1,000 rows, one an hour, the newest ending now.
        let mut history = history("column_drift", &[Status::Ok; 3]);
        for (min_rows, job_hours_ago, expected) in [
            (3000, None, Answer::Yes),
            (3001, None, Answer::No),
            (2000, Some(2), Answer::Yes),
            (2001, Some(2), Answer::No),
            (1, Some(0), Answer::CannotTell),
        ] {
            history.last_job_at =
                job_hours_ago.map(|hours| history.as_of - TimeDelta::hours(hours));
            let trigger = VolumeTrigger { name: "volume".to_owned(), min_rows };
            let verdict = trigger.check(&history);
            assert_eq!(verdict.answer, expected, "{min_rows}: {}", verdict.reason);
            check_trigger(&trigger, &history);
        }
        history.last_job_at = None;
        history.reports[0].outcome = MonitoringOutcome::Broken;
        let trigger = VolumeTrigger { name: "volume".to_owned(), min_rows: 2001 };
        assert_eq!(trigger.check(&history).answer, Answer::No, "a broken window does not count");
    }
}
