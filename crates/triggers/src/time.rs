//! Retrain when the model is old, whatever the windows say.

use chrono::TimeDelta;
use mloop_core::history::{Answer, History, Verdict};
use mloop_trigger::{BuildError, Spec, Trigger};
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of kind `time`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeTriggerConfig {
    /// Age of the serving version, from its registration, at which it is retrained; days.
    max_model_age_days: f64,
    /// Days after the submission of a job in which this trigger asks for no other.
    #[serde(default = "min_interval")]
    min_days_between_jobs: f64,
}

fn min_interval() -> f64 {
    1.0
}

impl Spec<Box<dyn Trigger>> for TimeTriggerConfig {
    const KIND: &'static str = "time";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Trigger>, BuildError> {
        for (path, days) in [
            ("max_model_age_days", self.max_model_age_days),
            ("min_days_between_jobs", self.min_days_between_jobs),
        ] {
            if !(0.0..=36_500.0).contains(&days) {
                let problem = format!("{days} must lie between 0 and 36500 days");
                return Err(BuildError::invalid(path, problem));
            }
        }
        Ok(Box::new(TimeTrigger { name, settings: self }))
    }
}

/// Says yes when the serving version is old; cannot tell when nothing serves.
pub struct TimeTrigger {
    name: String,
    settings: TimeTriggerConfig,
}

impl Trigger for TimeTrigger {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self, history: &History) -> Verdict {
        let Some(serving) = history.serving else {
            let reason = "nothing serves, so nothing has an age".to_owned();
            return Verdict { answer: Answer::CannotTell, reason, evidence: vec![] };
        };
        let age = days(history.as_of - serving.created_at);
        let since_job = history.last_job_at.map(|at| days(history.as_of - at));
        let settings = &self.settings;
        let is_old = age >= settings.max_model_age_days;
        let rests = since_job.is_some_and(|days| days < settings.min_days_between_jobs);
        let mut reason = format!(
            "version {} is {age:.1} days old, {} are allowed",
            serving.version.number, settings.max_model_age_days
        );
        if let (true, true, Some(since)) = (is_old, rests, since_job) {
            reason.push_str(&format!("; a job was submitted {since:.1} days ago"));
        }
        let answer = if is_old && !rests { Answer::Yes } else { Answer::No };
        Verdict { answer, reason, evidence: vec![] }
    }
}

fn days(span: TimeDelta) -> f64 {
    span.num_seconds() as f64 / 86_400.0
}

#[cfg(test)]
mod tests {
    use mloop_core::Status;
    use mloop_trigger::conformance::check_trigger;
    use serde_json::json;

    use super::*;
    use crate::testing::history;

    fn trigger() -> Box<dyn Trigger> {
        let settings = json!({"max_model_age_days": 30, "min_days_between_jobs": 2});
        let settings: TimeTriggerConfig = serde_json::from_value(settings).expect("settings");
        settings.build("time".to_owned(), &()).expect("a trigger")
    }

    fn aged(seconds: i64, job_days_ago: Option<i64>) -> History {
        let mut history = history("column_drift", &[Status::Ok]);
        let created = history.as_of - TimeDelta::seconds(seconds);
        if let Some(serving) = &mut history.serving {
            serving.created_at = created;
        }
        history.last_job_at = job_days_ago.map(|days| history.as_of - TimeDelta::days(days));
        history
    }

    #[test]
    fn age_is_judged_at_its_limit() {
        let limit = 30 * 86_400;
        for (seconds, job, expected) in [
            (limit - 1, None, Answer::No),
            (limit, None, Answer::Yes),
            (limit + 1, Some(2), Answer::Yes),
            (limit + 1, Some(1), Answer::No),
        ] {
            let history = aged(seconds, job);
            let verdict = trigger().check(&history);
            assert_eq!(verdict.answer, expected, "{seconds} {job:?}: {}", verdict.reason);
            check_trigger(trigger().as_ref(), &history);
        }
    }

    #[test]
    fn a_negative_age_is_refused() {
        let settings = serde_json::from_value(json!({"max_model_age_days": -1}));
        let settings: TimeTriggerConfig = settings.expect("settings");
        assert!(settings.build("time".to_owned(), &()).is_err());
    }
}
