//! Retrain when the answers got worse.

use mloop_core::history::{History, Verdict};
use mloop_trigger::{BuildError, Spec, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::KOfN;

/// Settings of kind `performance`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PerformanceTriggerConfig {
    /// Names of the performance monitors to listen to; every finding called `performance` or
    /// `performance_drop` counts when left out.
    #[serde(default)]
    monitors: Option<Vec<String>>,
    /// Metrics to listen to, such as `accuracy`; all when left out.
    #[serde(default)]
    metrics: Option<Vec<String>>,
    /// Whether what scores promise of rows without labels (`estimated: true` of the monitor) counts, too,
    /// where `monitors` is left out.
    #[serde(default)]
    estimated: bool,
    /// How many of the newest windows must have crossed their bound.
    #[serde(default)]
    windows: KOfN,
}

impl Spec<Box<dyn Trigger>> for PerformanceTriggerConfig {
    const KIND: &'static str = "performance";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Trigger>, BuildError> {
        self.windows.validate()?;
        Ok(Box::new(PerformanceTrigger { name, settings: self }))
    }
}

/// Says yes when enough of the newest windows performed too badly.
pub struct PerformanceTrigger {
    name: String,
    settings: PerformanceTriggerConfig,
}

impl Trigger for PerformanceTrigger {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History) -> Verdict {
        let PerformanceTriggerConfig { monitors, metrics, estimated, windows } = &self.settings;
        windows.judge(history, "performed too badly", |finding| {
            let by_monitor = match monitors {
                Some(names) => names.contains(&finding.monitor),
                None => match finding.check.as_str() {
                    "performance" | "performance_drop" => true,
                    "estimated_performance" | "estimated_performance_drop" => *estimated,
                    _ => false,
                },
            };
            by_monitor && metrics.as_ref().is_none_or(|wanted| wanted.contains(&finding.method))
        })
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;
    use mloop_core::history::Answer;
    use mloop_trigger::conformance::check_trigger;
    use serde_json::json;

    use super::*;
    use crate::testing::history;

    fn trigger(settings: serde_json::Value) -> Box<dyn Trigger> {
        let settings: PerformanceTriggerConfig =
            serde_json::from_value(settings).expect("settings");
        settings.build("performance".to_owned(), &()).expect("a trigger")
    }

    #[test]
    fn estimates_count_where_that_is_said() {
        let history = history("estimated_performance_drop", &[Status::Drifted]);
        for (settings, expected) in
            [(json!({}), Answer::CannotTell), (json!({"estimated": true}), Answer::Yes)]
        {
            assert_eq!(trigger(settings.clone()).check(&history).answer, expected, "{settings}");
        }
    }

    #[test]
    fn a_drop_is_a_yes_and_missing_labels_are_not_a_no() {
        for (status, expected) in [
            (Status::Drifted, Answer::Yes),
            (Status::Ok, Answer::No),
            (Status::InsufficientData, Answer::CannotTell),
            (Status::Broken, Answer::CannotTell),
        ] {
            let history = history("performance_drop", &[status]);
            assert_eq!(trigger(json!({})).check(&history).answer, expected, "{status:?}");
            check_trigger(trigger(json!({})).as_ref(), &history);
        }
    }

    #[test]
    fn other_metrics_are_not_listened_to() {
        let history = history("performance_drop", &[Status::Drifted]);
        let answer = trigger(json!({"metrics": ["f1_macro"]})).check(&history).answer;
        assert_eq!(answer, Answer::CannotTell);
    }
}
