//! Retrain when traffic no longer looks like the reference.

use mloop_core::history::{History, Verdict};
use mloop_trigger::{BuildError, Spec, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::KOfN;

/// Settings of kind `drift`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftTriggerConfig {
    /// Names of the drift monitors to listen to; every finding called `column_drift` or
    /// `prediction_drift` counts when left out.
    #[serde(default)]
    monitors: Option<Vec<String>>,
    /// Columns to listen to; all when left out.
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// How many of the newest windows must have drifted.
    #[serde(default)]
    windows: KOfN,
}

impl Spec<Box<dyn Trigger>> for DriftTriggerConfig {
    const KIND: &'static str = "drift";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Trigger>, BuildError> {
        self.windows.validate()?;
        Ok(Box::new(DriftTrigger { name, settings: self }))
    }
}

/// Says yes when enough of the newest windows drifted.
pub struct DriftTrigger {
    name: String,
    settings: DriftTriggerConfig,
}

impl Trigger for DriftTrigger {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History) -> Verdict {
        let DriftTriggerConfig { monitors, columns, windows } = &self.settings;
        windows.judge(history, "drifted", |finding| {
            let by_monitor = match monitors {
                Some(names) => names.contains(&finding.monitor),
                None => ["column_drift", "prediction_drift"].contains(&finding.check.as_str()),
            };
            let by_column = columns.as_ref().is_none_or(|wanted| {
                finding.column.as_ref().is_some_and(|column| wanted.contains(column))
            });
            by_monitor && by_column
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use mloop_core::history::Answer;
    use mloop_core::{MonitoringOutcome, Status, Window};
    use mloop_trigger::conformance::check_trigger;
    use serde_json::json;

    use super::*;
    use crate::testing::history;

    fn trigger(settings: serde_json::Value) -> Box<dyn Trigger> {
        let settings: DriftTriggerConfig = serde_json::from_value(settings).expect("settings");
        settings.build("drift".to_owned(), &()).expect("a trigger")
    }

    #[test]
    fn k_of_n_windows() {
        use Answer::{CannotTell, No, Yes};
        use Status::{Drifted, InsufficientData, Ok};
        // Oldest first; two of three are asked for.
        let table: [(&[Status], Answer); 8] = [
            (&[], CannotTell),
            (&[Drifted], CannotTell),
            (&[Drifted, Drifted], Yes),
            (&[Drifted, Drifted, Ok], Yes),
            (&[Drifted, Drifted, Ok, Ok], No),
            (&[Ok, Ok, Drifted], No),
            (&[Ok, InsufficientData, Drifted], CannotTell),
            (&[InsufficientData; 3], CannotTell),
        ];
        for (statuses, expected) in table {
            let settings = json!({"windows": {"at_least": 2, "of_windows": 3}});
            let history = history("column_drift", statuses);
            let verdict = trigger(settings.clone()).check(&history);
            assert_eq!(verdict.answer, expected, "{statuses:?}: {}", verdict.reason);
            check_trigger(trigger(settings).as_ref(), &history);
        }
    }

    #[test]
    fn broken_windows_are_evidence_of_nothing() {
        let settings = json!({"windows": {"at_least": 2, "of_windows": 2}});
        let drifted = [Status::Drifted; 3];
        let mut history = history("column_drift", &drifted);
        history.reports[1].outcome = MonitoringOutcome::Broken;
        let verdict = trigger(settings.clone()).check(&history);
        let sound = [0, 2].map(|number: usize| history.reports[number].run_id.clone());
        assert_eq!((verdict.answer, &verdict.evidence[..]), (Answer::Yes, &sound[..]));
        history.reports[2].outcome = MonitoringOutcome::Broken;
        let verdict = trigger(settings).check(&history);
        assert_eq!(verdict.answer, Answer::CannotTell, "{}", verdict.reason);
    }

    #[test]
    fn requests_that_two_windows_share_count_once() {
        use Answer::{CannotTell, Yes};
        let hour = TimeDelta::hours(1);
        // By how much each of three drifted windows, oldest first, reaches back before its hour.
        for (back, counted, expected) in [
            ([0, 0, 0], vec![0, 1, 2], Yes),
            ([0, 0, 1], vec![0, 2], Yes),
            ([0, 1, 0], vec![1, 2], Yes),
            ([0, 0, 2], vec![2], CannotTell),
        ] {
            let mut history = history("column_drift", &[Status::Drifted; 3]);
            for (report, hours) in history.reports.iter_mut().zip(back) {
                let bounds = &mut report.window.bounds;
                *bounds = Window::new(bounds.start() - hour * hours, bounds.end()).expect("longer");
            }
            let settings = json!({"windows": {"at_least": 2, "of_windows": 3}});
            let verdict = trigger(settings).check(&history);
            let ids: Vec<_> = counted
                .iter()
                .map(|number: &usize| history.reports[*number].run_id.clone())
                .collect();
            assert_eq!((verdict.answer, verdict.evidence), (expected, ids), "{back:?}");
        }
    }

    #[test]
    fn the_reason_carries_the_numbers_and_the_evidence_its_runs() {
        let history = history("column_drift", &[Status::Ok, Status::Drifted]);
        let verdict = trigger(json!({})).check(&history);
        assert!(verdict.reason.contains("column_drift of brightness"), "{}", verdict.reason);
        assert_eq!(verdict.evidence, [history.reports[1].run_id.clone()]);
    }

    #[test]
    fn other_monitors_and_columns_are_not_listened_to() {
        let drifted = history("column_drift", &[Status::Drifted]);
        for settings in [json!({"columns": ["contrast"]}), json!({"monitors": ["other"]})] {
            let answer = trigger(settings.clone()).check(&drifted).answer;
            assert_eq!(answer, Answer::CannotTell, "{settings}");
        }
        assert_eq!(
            trigger(json!({})).check(&history("accuracy", &[Status::Drifted])).answer,
            Answer::CannotTell
        );
    }

    #[test]
    fn windows_of_an_older_version_do_not_count() {
        let mut history = history("column_drift", &[Status::Drifted]);
        history.reports[0].version.digest = mloop_core::Sha256Digest::of(b"older");
        assert_eq!(trigger(json!({})).check(&history).answer, Answer::CannotTell);
    }

    #[test]
    fn impossible_windows_are_refused() {
        for windows in
            [json!({"at_least": 0, "of_windows": 1}), json!({"at_least": 3, "of_windows": 2})]
        {
            let settings = serde_json::from_value(json!({"windows": windows}));
            let settings: DriftTriggerConfig = settings.expect("settings");
            assert!(settings.build("drift".to_owned(), &()).is_err(), "{windows}");
        }
    }
}
