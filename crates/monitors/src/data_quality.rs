//! Are the data whole? What is broken must not be taken for drift, nor be learnt from.

use async_trait::async_trait;
use mloop_core::profile::ColumnCounts;
use mloop_core::{Evidence, Finding, Profile, Status};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::interval::{newcombe, wilson};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::finding::{About, Bound};
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Settings of kind `data_quality`. Shares are of all rows, 0 to 1.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataQualityConfig {
    /// Records that cannot be read.
    #[serde(default = "max_quarantined")]
    max_quarantined_share: f64,
    /// Rows of a version that is not known to have served in the window.
    #[serde(default = "max_mixed")]
    max_mixed_share: f64,
    /// Missing values of a column, above the share on the reference.
    #[serde(default = "max_missing")]
    max_missing_increase: f64,
    /// NaN and infinite values of a column, above the share on the reference.
    #[serde(default = "max_non_finite")]
    max_non_finite_increase: f64,
    /// Values of a categorical column that the reference does not know, above its share there.
    #[serde(default = "max_unseen")]
    max_unseen_increase: f64,
    /// Rows below which a window is not judged.
    #[serde(default = "min_rows")]
    min_rows: u64,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    confidence: f64,
}

fn max_quarantined() -> f64 {
    0.01
}

fn max_mixed() -> f64 {
    // Rows of a version that served before or after a switch are not among them; but a window that
    // mostly somebody answered whom nobody knows says little of this version.
    0.5
}

fn max_missing() -> f64 {
    0.05
}

fn max_non_finite() -> f64 {
    0.001
}

fn max_unseen() -> f64 {
    0.05
}

fn min_rows() -> u64 {
    1
}

impl Spec<Box<dyn Monitor>> for DataQualityConfig {
    const KIND: &'static str = "data_quality";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        for (key, share) in [
            ("max_quarantined_share", self.max_quarantined_share),
            ("max_mixed_share", self.max_mixed_share),
            ("max_missing_increase", self.max_missing_increase),
            ("max_non_finite_increase", self.max_non_finite_increase),
            ("max_unseen_increase", self.max_unseen_increase),
        ] {
            within(key, share, 0.0, 1.0)?;
        }
        Ok(Box::new(DataQualityMonitor { name, settings: self }))
    }
}

/// Judges whether the data of a window are damaged.
pub struct DataQualityMonitor {
    name: String,
    settings: DataQualityConfig,
}

#[async_trait]
impl Monitor for DataQualityMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let confidence = evidence.confidence(self.settings.confidence);
        let settings = DataQualityConfig { confidence, ..self.settings.clone() };
        Self { name: self.name.clone(), settings }.findings(evidence)
    }
}

impl DataQualityMonitor {
    fn findings(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        comparable(evidence)?;
        let (window, settings) = (&evidence.current, &self.settings);
        let read = window.rows + window.other_version + window.mixed;
        let mut findings = vec![
            self.share(
                "quarantined",
                window.quarantined,
                read + window.quarantined,
                settings.max_quarantined_share,
            ),
            self.share("mixed", window.mixed, read, settings.max_mixed_share),
        ];
        for column in &evidence.schema.columns {
            self.column(&mut findings, evidence, &column.name);
        }
        Ok(findings)
    }

    fn share(&self, check: &str, events: u64, trials: u64, limit: f64) -> Finding {
        let about = About { monitor: &self.name, check, method: "share", ..About::default() };
        let bound = Bound::AtMost(limit);
        match wilson(events, trials, self.settings.confidence) {
            Some(interval) if trials >= self.settings.min_rows => {
                let value = events as f64 / trials as f64;
                broken(about.judged(Estimate { value, interval }, bound, trials))
            }
            _ => about.unknown(bound, trials),
        }
    }

    fn column(&self, findings: &mut Vec<Finding>, evidence: &Evidence, column: &str) {
        let (settings, of) =
            (&self.settings, |profile: &Profile| profile.columns.get(column).cloned());
        let (Some(reference), Some(current)) = (of(&evidence.reference), of(&evidence.current))
        else {
            let about = About {
                monitor: &self.name,
                check: "present",
                column: Some(column),
                group: None,
                method: "share",
            };
            findings.push(about.finding(
                None,
                None,
                Bound::Told,
                evidence.current.rows,
                Status::Broken,
            ));
            return;
        };
        let mut increase = |check, before: u64, now: u64, limit| {
            let about = About {
                monitor: &self.name,
                check,
                column: Some(column),
                group: None,
                method: "share_increase",
            };
            findings.push(self.increase(
                about,
                (before, reference.rows()),
                (now, current.rows()),
                limit,
            ));
        };
        increase("missing", reference.missing(), current.missing(), settings.max_missing_increase);
        match (&reference, &current) {
            (ColumnCounts::Numeric(before), ColumnCounts::Numeric(now)) => {
                increase(
                    "non_finite",
                    before.non_finite,
                    now.non_finite,
                    settings.max_non_finite_increase,
                );
            }
            (ColumnCounts::Categorical(before), ColumnCounts::Categorical(now)) => {
                increase("unseen", before.unseen, now.unseen, settings.max_unseen_increase);
            }
            _ => {}
        }
    }

    fn increase(
        &self,
        about: About<'_>,
        before: (u64, u64),
        now: (u64, u64),
        limit: f64,
    ) -> Finding {
        let bound = Bound::AtMost(limit);
        match newcombe(now, before, self.settings.confidence) {
            Some(interval) if now.1 >= self.settings.min_rows => {
                let value = now.0 as f64 / now.1 as f64 - before.0 as f64 / before.1 as f64;
                broken(about.judged(Estimate { value, interval }, bound, now.1))
            }
            _ => about.unknown(bound, now.1),
        }
    }
}

/// Damage is told apart from drift.
fn broken(finding: Finding) -> Finding {
    let status = if finding.status == Status::Drifted { Status::Broken } else { finding.status };
    Finding { status, ..finding }
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_monitor::conformance::check_monitor;
    use serde_json::json;

    use super::*;
    use crate::testing::evidence;

    fn monitor(settings: serde_json::Value) -> Box<dyn Monitor> {
        let settings: DataQualityConfig = serde_json::from_value(settings).expect("settings");
        settings.build("quality".to_owned(), &()).expect("a monitor")
    }

    async fn find(evidence: &Evidence, check: &str) -> Finding {
        let found = monitor(json!({})).check(evidence).await.expect("findings");
        found.into_iter().find(|finding| finding.check == check).expect(check)
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        check_monitor(monitor(json!({})).as_ref(), &evidence()).await;
    }

    #[tokio::test]
    async fn a_few_unreadable_records_are_fine_and_many_are_broken() {
        for (quarantined, expected) in [(0, Status::Ok), (60, Status::Ok), (90, Status::Broken)] {
            let mut window = evidence();
            window.current.quarantined = quarantined; // of 6,000 rows
            assert_eq!(find(&window, "quarantined").await.status, expected, "{quarantined}");
        }
    }

    #[tokio::test]
    async fn a_window_that_somebody_unknown_answered_is_broken() {
        for (mixed, other, expected) in [
            (0, 0, Status::Ok),
            (3_000, 0, Status::Ok),
            (9_000, 0, Status::Broken),
            // A switch in the window is no damage, however little it left of this version.
            (0, 60_000, Status::Ok),
            (9_000, 60_000, Status::Ok),
        ] {
            let mut window = evidence();
            // Beside 6,000 rows.
            (window.current.mixed, window.current.other_version) = (mixed, other);
            assert_eq!(find(&window, "mixed").await.status, expected, "{mixed} {other}");
        }
    }

    #[tokio::test]
    async fn a_window_that_a_switch_left_no_row_of_cannot_be_judged_but_is_not_broken() {
        let mut window = evidence();
        let (schema, key) = (&window.schema, window.current.key.clone());
        window.current = Profile::new(schema, key, window.current.window);
        window.current.other_version = 6_000;
        let found = monitor(json!({})).check(&window).await.expect("findings");
        assert_eq!(MonitoringOutcome::of(&found, &[]), MonitoringOutcome::InsufficientData);
    }

    #[tokio::test]
    async fn only_more_missing_values_than_before_are_broken() {
        for (before, now, expected) in [
            (0, 0, Status::Ok),
            (0, 300, Status::Ok),
            (0, 500, Status::Broken),
            (500, 500, Status::Ok),
        ] {
            let mut window = evidence();
            for (profile, missing) in [(&mut window.reference, before), (&mut window.current, now)]
            {
                if let Some(ColumnCounts::Numeric(counts)) = profile.columns.get_mut("brightness") {
                    counts.missing = missing;
                }
            }
            assert_eq!(find(&window, "missing").await.status, expected, "{before} {now}");
        }
    }

    #[tokio::test]
    async fn an_absent_column_is_broken() {
        let mut window = evidence();
        window.current.columns.remove("brightness");
        assert_eq!(find(&window, "present").await.status, Status::Broken);
    }

    #[tokio::test]
    async fn unseen_classes_are_broken() {
        let mut window = evidence();
        if let Some(ColumnCounts::Categorical(counts)) =
            window.current.columns.get_mut("prediction")
        {
            counts.unseen = 50; // beside 200 known ones
        }
        assert_eq!(find(&window, "unseen").await.status, Status::Broken);
    }
}
