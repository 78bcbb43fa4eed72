//! Judged windows for the tests of this crate.

use mloop_core::profile::ColumnCounts;
use mloop_core::schema::{ColumnKind, ColumnSchema, NumericSchema, SCORE_COLUMN};
use mloop_core::{MonitoringOutcome, MonitoringReport, Profile};
use mloop_reporter::Judged;
use mloop_reporter::conformance::{sample, sample_report};

/// A window with so many numeric columns `c000`, `c001`… of 120 bins, and the checks that drift and data
/// quality make of each.
pub(crate) fn wide(columns: usize) -> Judged {
    let mut judged = sample(MonitoringOutcome::Alert);
    let template = judged.report.findings.remove(0);
    let edges: Vec<f64> = (0..=120).map(|edge| f64::from(edge) * 0.731).collect();
    let numeric = NumericSchema { edges, step: 0.5 };
    let evidence = &mut judged.evidence;
    evidence.schema.columns = (0..columns)
        .map(|index| ColumnSchema {
            name: format!("c{index:03}"),
            kind: ColumnKind::Numeric(numeric.clone()),
        })
        .collect();
    let (key, window) = (evidence.current.key.clone(), evidence.current.window);
    let profile = |shift: u64| {
        let mut profile = Profile::new(&evidence.schema, key.clone(), window);
        profile.rows = 120 * 40;
        for counts in profile.columns.values_mut() {
            let ColumnCounts::Numeric(counts) = counts else { continue };
            let rows = |bin: u64| 10 + (bin * 7 + shift * 13) % 60;
            counts.bins = (0..120).map(rows).collect();
            (counts.below, counts.above, counts.missing) = (shift, 3, 2);
        }
        profile
    };
    (evidence.reference, evidence.current) = (profile(0), profile(5));
    for column in &evidence.schema.columns {
        let column = Some(column.name.clone());
        let detail = Some("37.28 to 41.67: 3.1 % → 12 %".to_owned());
        judged.report.findings.push(mloop_core::Finding { column, detail, ..template.clone() });
    }
    judged
}

/// The same with more checks of each column and as many windows before as there are at most.
pub(crate) fn widest(columns: usize) -> Judged {
    let mut judged = wide(columns);
    let drift = judged.report.findings.clone();
    for check in ["missing", "non_finite", "constant", "out_of_range"] {
        let quality = drift.iter().map(|one| mloop_core::Finding {
            check: check.to_owned(),
            monitor: "data_quality".to_owned(),
            status: mloop_core::Status::Ok,
            ..one.clone()
        });
        judged.report.findings.extend(quality);
    }
    let earlier = MonitoringReport { findings: drift, ..sample_report(MonitoringOutcome::Ok) };
    judged.history = vec![earlier; mloop_reporter::MAX_HISTORY];
    judged
}

/// 400 labelled rows of a classifier of two classes, the positive one being `b`: half with a score of
/// 0.8, of which three in four are positive, half with one of 0.2, of which one in four is.
pub(crate) fn binary() -> Judged {
    let mut judged = sample(MonitoringOutcome::Alert);
    let schema = &mut judged.evidence.schema;
    schema.positive = Some("b".to_owned());
    let layout = schema.outcomes();
    let numeric = NumericSchema { edges: vec![0.0, 0.5, 1.0], step: 0.5 };
    let kind = ColumnKind::Numeric(numeric);
    schema.columns = vec![ColumnSchema { name: SCORE_COLUMN.to_owned(), kind }];
    let current = &judged.evidence.current;
    let mut profile = Profile::new(&judged.evidence.schema, current.key.clone(), current.window);
    profile.rows = 400;
    for (score, prediction) in [(0.8, 1), (0.2, 0)] {
        for row in 0..200 {
            let truth = if row < 150 { prediction } else { 1 - prediction };
            profile.overall.observe(layout, prediction, Some(truth), Some(score));
        }
    }
    (judged.evidence.reference, judged.evidence.current) = (profile.clone(), profile);
    judged
}
