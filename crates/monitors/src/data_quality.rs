//! Are the data whole? What is broken must not be taken for drift, nor be learnt from.

use async_trait::async_trait;
use mloop_core::counts::NumericCounts;
use mloop_core::profile::ColumnCounts;
use mloop_core::{Evidence, Finding, Profile, Status};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::Estimate;
use mloop_stats::interval::{Interval, newcombe, wilson};
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
    /// Further records of a row that was counted, by its id.
    #[serde(default = "max_duplicates")]
    max_duplicate_share: f64,
    /// Missing values of a column, above the share on the reference.
    #[serde(default = "max_missing")]
    max_missing_increase: f64,
    /// NaN and infinite values of a column, above the share on the reference.
    #[serde(default = "max_non_finite")]
    max_non_finite_increase: f64,
    /// Values of a categorical column that the reference does not know, above its share there.
    #[serde(default = "max_unseen")]
    max_unseen_increase: f64,
    /// Finite values of a numeric column beyond the reference's range, above their share there. Not
    /// checked when left out: values beyond are also what drift looks like.
    #[serde(default)]
    max_out_of_range_increase: Option<f64>,
    /// Whether a column whose values are all one is broken where the reference has several. Not checked when
    /// left out: a stuck sensor looks like that, but so does a measure of new data that has reached its end.
    #[serde(default)]
    constant_is_broken: bool,
    /// Fewest rows of a sound window; fewer are traffic that got lost. Not checked when left out.
    #[serde(default)]
    least_rows: Option<u64>,
    /// Most rows of a sound window. Not checked when left out.
    #[serde(default)]
    most_rows: Option<u64>,
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

fn max_duplicates() -> f64 {
    // A client that tries again is no damage.
    0.1
}

/// Rows below which a column may hold one value by chance.
const CONSTANT_ROWS: u64 = 100;

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
            ("max_duplicate_share", self.max_duplicate_share),
            ("max_out_of_range_increase", self.max_out_of_range_increase.unwrap_or(0.0)),
            ("max_missing_increase", self.max_missing_increase),
            ("max_non_finite_increase", self.max_non_finite_increase),
            ("max_unseen_increase", self.max_unseen_increase),
        ] {
            within(key, share, 0.0, 1.0)?;
        }
        if let (Some(least), Some(most)) = (self.least_rows, self.most_rows)
            && least > most
        {
            let problem = format!("{most} is less than `least_rows` ({least})");
            return Err(BuildError::invalid("most_rows", problem));
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
            self.share(
                "duplicates",
                window.duplicates,
                read + window.duplicates,
                settings.max_duplicate_share,
            ),
        ];
        let least = settings.least_rows.map(|least| Bound::AtLeast(least as f64));
        let most = settings.most_rows.map(|most| Bound::AtMost(most as f64));
        findings
            .extend(least.into_iter().chain(most).map(|bound| self.row_count(window.rows, bound)));
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

    /// Rows are counted and not sampled: their number is what it is.
    fn row_count(&self, rows: u64, bound: Bound) -> Finding {
        let (value, about) = (
            rows as f64,
            About { monitor: &self.name, check: "row_count", method: "count", ..About::default() },
        );
        let interval = Interval { lower: value, upper: value };
        broken(about.judged(Estimate { value, interval }, bound, rows))
    }

    /// Whether a column that had several values has one.
    fn constant(&self, column: &str, reference: &ColumnCounts, current: &ColumnCounts) -> Finding {
        let about = About {
            monitor: &self.name,
            check: "constant",
            column: Some(column),
            group: None,
            method: "share",
        };
        let (is_constant, bound) = (is_constant(current), Bound::Told);
        let n = current.rows() - current.missing();
        let status = if n < CONSTANT_ROWS {
            Status::InsufficientData
        } else if is_constant && !is_constant_before(reference) {
            Status::Broken
        } else {
            Status::Ok
        };
        about.finding(Some(f64::from(u8::from(is_constant))), None, bound, n, status)
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
                if let Some(limit) = settings.max_out_of_range_increase {
                    let beyond = |counts: &NumericCounts| counts.below + counts.above;
                    increase("out_of_range", beyond(before), beyond(now), limit);
                }
            }
            (ColumnCounts::Categorical(before), ColumnCounts::Categorical(now)) => {
                increase("unseen", before.unseen, now.unseen, settings.max_unseen_increase);
                let named = now.named.most_frequent();
                if let (Some((value, rows)), Some(unseen)) = (named, findings.last_mut()) {
                    let sample = if now.named.is_sample() { ", of a sample of them" } else { "" };
                    unseen.detail = Some(format!("most often `{value}`, {rows} times{sample}"));
                }
            }
            (ColumnCounts::Vector(before), ColumnCounts::Vector(now)) => {
                increase("unfit", before.unfit, now.unfit, settings.max_non_finite_increase);
            }
            _ => {}
        }
        if settings.constant_is_broken && !matches!(current, ColumnCounts::Vector(_)) {
            findings.push(self.constant(column, &reference, &current));
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

fn is_constant(counts: &ColumnCounts) -> bool {
    match counts {
        ColumnCounts::Numeric(counts) => counts.is_constant(),
        ColumnCounts::Categorical(counts) => counts.is_constant(),
        ColumnCounts::Vector(_) => false,
    }
}

/// A column without two values tells nothing of whether it may have several.
fn is_constant_before(counts: &ColumnCounts) -> bool {
    is_constant(counts) || counts.rows() - counts.missing() < 2
}

/// Damage is told apart from drift.
fn broken(finding: Finding) -> Finding {
    let status = if finding.status == Status::Drifted { Status::Broken } else { finding.status };
    Finding { status, ..finding }
}

#[cfg(test)]
mod tests {
    use mloop_core::MonitoringOutcome;
    use mloop_core::counts::Category;
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
    async fn copies_rows_out_of_number_and_constant_columns_are_told() {
        for (duplicates, expected) in [(0, Status::Ok), (600, Status::Ok), (900, Status::Broken)] {
            let mut window = evidence();
            window.current.duplicates = duplicates; // beside 6,000 rows
            assert_eq!(find(&window, "duplicates").await.status, expected, "{duplicates}");
        }
        for (settings, expected) in [
            (json!({"least_rows": 6_000}), Status::Ok),
            (json!({"least_rows": 6_001}), Status::Broken),
            (json!({"most_rows": 5_999}), Status::Broken),
            (json!({"least_rows": 1, "most_rows": 9_000}), Status::Ok),
        ] {
            let found = monitor(settings.clone()).check(&evidence()).await.expect("findings");
            let counts = found.iter().filter(|one| one.check == "row_count");
            let worst = counts.map(|one| one.status).max();
            assert_eq!(worst, Some(expected), "{settings}");
        }
        let constant = async |window: &Evidence| {
            let asked = monitor(json!({"constant_is_broken": true}));
            let found = asked.check(window).await.expect("findings");
            let of_column = |one: &&Finding| {
                one.check == "constant" && one.column.as_deref() == Some("brightness")
            };
            found.iter().find(of_column).expect("it looks").status
        };
        let mut window = evidence();
        let unasked = monitor(json!({})).check(&window).await.expect("findings");
        assert!(unasked.iter().all(|one| one.check != "constant"));
        assert_eq!(constant(&window).await, Status::Ok);
        if let Some(ColumnCounts::Numeric(counts)) = window.current.columns.get_mut("brightness") {
            counts.range = Some((7, 7));
        }
        assert_eq!(constant(&window).await, Status::Broken);
        window.reference.columns = window.current.columns.clone();
        assert_eq!(constant(&window).await, Status::Ok, "as it was before");
    }

    #[tokio::test]
    async fn values_beyond_the_range_are_damage_only_where_that_is_said() {
        let mut window = evidence();
        if let Some(ColumnCounts::Numeric(counts)) = window.current.columns.get_mut("brightness") {
            counts.above = 600; // beside 6,000
        }
        let is_broken = async |settings| {
            let found = monitor(settings).check(&window).await.expect("findings");
            found.iter().any(|one| one.check == "out_of_range" && one.status == Status::Broken)
        };
        assert!(!is_broken(json!({})).await);
        assert!(!is_broken(json!({"max_out_of_range_increase": 0.1})).await);
        assert!(is_broken(json!({"max_out_of_range_increase": 0.05})).await);
    }

    #[tokio::test]
    async fn unseen_values_are_named() {
        let mut window = evidence();
        if let Some(ColumnCounts::Categorical(counts)) =
            window.current.columns.get_mut("prediction")
        {
            counts.add(Category::Unseen("zebra"), 50);
        }
        let detail = find(&window, "unseen").await.detail;
        assert_eq!(detail.as_deref(), Some("most often `zebra`, 50 times"));
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
