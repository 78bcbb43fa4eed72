//! What every monitor must do, whoever wrote it.

use std::collections::BTreeMap;

use mloop_core::schema::ColumnKind;
use mloop_core::{Evidence, Finding, Profile, Status};

use crate::Monitor;

/// Checks a monitor against the contract: on a window with enough rows, and on the same window
/// emptied.
///
/// # Panics
/// With the broken rule.
pub async fn check_monitor(monitor: &dyn Monitor, filled: &Evidence) {
    assert!(!monitor.name().is_empty(), "a monitor without a name cannot be reported");
    assert!(filled.current.rows > 0, "the suite needs a window with rows");

    let first = monitor.check(filled).await.expect("a filled window is judged");
    let again = monitor.check(filled).await.expect("a second look is allowed");
    assert!(!first.is_empty(), "a look at a filled window finds something to say");
    assert_eq!(first, again, "equal evidence gives equal findings");
    first.iter().for_each(|finding| check_finding(monitor, finding));

    let empty = emptied(filled);
    let blind = monitor.check(&empty).await.expect("too few rows is a finding, not an error");
    for finding in &blind {
        check_finding(monitor, finding);
        assert!(
            finding.status != Status::Ok && finding.status != Status::Drifted,
            "an empty window is judged `{:?}` by {}",
            finding.status,
            finding.subject()
        );
    }
}

fn check_finding(monitor: &dyn Monitor, finding: &Finding) {
    assert_eq!(finding.monitor, monitor.name(), "a finding carries its monitor's name");
    assert!(!finding.check.is_empty() && !finding.method.is_empty(), "{finding:?}");
    let numbers = finding
        .value
        .into_iter()
        .chain(finding.threshold)
        .chain(finding.interval.into_iter().flatten());
    numbers.for_each(|number| assert!(number.is_finite(), "{finding:?}"));
    if let Some([low, high]) = finding.interval {
        assert!(low <= high, "the interval is upside down: {finding:?}");
    }
    if matches!(finding.status, Status::Ok | Status::Drifted) {
        assert!(finding.value.is_some(), "a judgement needs a number: {finding:?}");
        assert!(finding.n > 0, "a judgement needs rows: {finding:?}");
    }
}

/// The same evidence with a window in which nothing happened.
#[must_use]
pub fn emptied(evidence: &Evidence) -> Evidence {
    let current = &evidence.current;
    let empty = Profile::new(&evidence.schema, current.key.clone(), current.window);
    Evidence {
        latency: empty.latency.clone(),
        spans: BTreeMap::new(),
        current: empty,
        ..evidence.clone()
    }
}

/// Evidence whose window has the very counts of its reference: nothing changed. `classes` and the
/// numeric and categorical columns are those of the schema; every bin holds `rows_a_bin` rows.
#[must_use]
pub fn unchanged(
    schema: &mloop_core::ProfileSchema,
    key: mloop_core::profile::ProfileKey,
    window: mloop_core::Window,
    rows_a_bin: u64,
) -> Evidence {
    use mloop_core::profile::ColumnCounts;

    let mut profile = Profile::new(schema, key, window);
    profile.rows = schema
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnKind::Numeric(numeric) => numeric.bins() as u64 * rows_a_bin,
            ColumnKind::Categorical(known) => known.categories.len() as u64 * rows_a_bin,
            ColumnKind::Vector(_) => 0,
        })
        .max()
        .unwrap_or(rows_a_bin);
    for counts in profile.columns.values_mut() {
        match counts {
            ColumnCounts::Numeric(numeric) => numeric.bins.fill(rows_a_bin),
            ColumnCounts::Categorical(known) => known.categories.fill(rows_a_bin),
            ColumnCounts::Vector(_) => {}
        }
    }
    for truth in 0..schema.classes.len() {
        for _ in 0..rows_a_bin {
            profile.overall.observe(schema.outcomes(), truth, Some(truth), None);
        }
    }
    for (group, counts) in schema.groups.iter().zip(&mut profile.groups) {
        let all = (0..group.values.len()).map(|index| (index, profile.overall.clone()));
        counts.values.extend(all);
    }
    (0..profile.rows).for_each(|row| profile.latency.observe(1000 + row % 100));
    Evidence {
        schema: schema.clone(),
        reference: profile.clone(),
        latency: profile.latency.clone(),
        spans: BTreeMap::new(),
        current: profile,
        earlier: None,
        confidence: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use mloop_core::profile::ProfileKey;
    use mloop_core::schema::{ColumnSchema, NumericSchema, PROFILE_FORMAT};
    use mloop_core::{ModelName, ProfileSchema, Sha256Digest, Subject, TargetName, Window};
    use mloop_platform::conformance::complaint;

    use super::*;
    use crate::MonitorError;

    fn evidence() -> Evidence {
        let model = ModelName::new("m").expect("a name");
        let schema = ProfileSchema {
            format: PROFILE_FORMAT,
            model: model.clone(),
            classes: vec!["a".to_owned(), "b".to_owned()],
            positive: None,
            columns: vec![ColumnSchema {
                name: "x".to_owned(),
                kind: ColumnKind::Numeric(NumericSchema { edges: vec![0.0, 1.0, 2.0], step: 0.5 }),
            }],
            groups: vec![],
            latency_objective_micros: None,
        };
        let subject = Subject { model, target: TargetName::new("t").expect("a name") };
        let key = ProfileKey { subject, version: Sha256Digest::of(b"v") };
        let start = "2026-03-01T00:00:00Z".parse().expect("a moment");
        let end = "2026-03-01T01:00:00Z".parse().expect("a moment");
        unchanged(&schema, key, Window::new(start, end).expect("an hour"), 100)
    }

    type Found = Result<Vec<Finding>, MonitorError>;

    /// What a monitor does wrong: changes what it found, in so many rows and in which look.
    type Fault = fn(&mut Found, u64, usize);

    /// A monitor that follows the contract but for one thing.
    struct Faulty {
        name: &'static str,
        looks: AtomicUsize,
        fault: Fault,
    }

    impl Faulty {
        fn new(name: &'static str, fault: Fault) -> Self {
            Self { name, looks: AtomicUsize::new(0), fault }
        }
    }

    #[async_trait]
    impl Monitor for Faulty {
        fn name(&self) -> &str {
            self.name
        }

        async fn check(&self, evidence: &Evidence) -> Found {
            let n = evidence.current.rows;
            let mut found = Ok(vec![Finding {
                monitor: self.name.to_owned(),
                check: "rows".to_owned(),
                column: None,
                group: None,
                method: "count".to_owned(),
                value: Some(1.0),
                interval: Some([0.5, 1.5]),
                threshold: None,
                n,
                status: if n == 0 { Status::InsufficientData } else { Status::Ok },
                detail: None,
            }]);
            (self.fault)(&mut found, n, self.looks.fetch_add(1, Ordering::Relaxed));
            found
        }
    }

    fn first(found: &mut Found) -> &mut Finding {
        &mut found.as_mut().expect("sound so far")[0]
    }

    #[tokio::test]
    async fn a_good_monitor_passes() {
        check_monitor(&Faulty::new("mean", |_, _, _| {}), &evidence()).await;
    }

    #[tokio::test]
    async fn a_monitor_that_breaks_a_rule_is_caught() {
        let table: [(&str, Fault); 15] = [
            ("equal evidence gives equal findings", |found, _, look| first(found).n += look as u64),
            ("finds something to say", |found, _, _| *found = Ok(vec![])),
            ("carries its monitor's name", |found, _, _| first(found).monitor.push('s')),
            ("check: \"\"", |found, _, _| first(found).check.clear()),
            ("method: \"\"", |found, _, _| first(found).method.clear()),
            ("value: Some(NaN)", |found, _, _| first(found).value = Some(f64::NAN)),
            ("threshold: Some(inf)", |found, _, _| first(found).threshold = Some(f64::INFINITY)),
            ("Some([-inf, 1.0])", |found, _, _| {
                first(found).interval = Some([f64::NEG_INFINITY, 1.0]);
            }),
            ("the interval is upside down", |found, _, _| first(found).interval = Some([1.5, 0.5])),
            ("a judgement needs a number", |found, _, _| first(found).value = None),
            ("a judgement needs rows", |found, _, _| first(found).n = 0),
            ("a filled window is judged", |found, rows, _| fail(found, rows > 0)),
            ("too few rows is a finding", |found, rows, _| fail(found, rows == 0)),
            ("an empty window is judged `Ok`", |found, _, _| {
                (first(found).n, first(found).status) = (100, Status::Ok);
            }),
            ("an empty window is judged `Drifted`", |found, _, _| {
                (first(found).n, first(found).status) = (100, Status::Drifted);
            }),
        ];
        let nameless = ("a monitor without a name", Faulty::new("", |_, _, _| {}));
        let faulty = table.map(|(rule, fault)| (rule, Faulty::new("mean", fault)));
        for (rule, monitor) in faulty.into_iter().chain([nameless]) {
            let found = complaint(check_monitor(&monitor, &evidence())).await;
            assert!(found.as_ref().is_some_and(|text| text.contains(rule)), "{rule}: {found:?}");
        }
    }

    fn fail(found: &mut Found, when: bool) {
        if when {
            *found =
                Err(MonitorError::Unavailable { origin: "it".to_owned(), cause: "down".into() });
        }
    }
}
