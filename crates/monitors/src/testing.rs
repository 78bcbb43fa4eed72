//! Evidence for the tests of this crate.

use mloop_core::profile::ProfileKey;
use mloop_core::schema::{
    CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, NumericSchema, PREDICTION_COLUMN,
    PROFILE_FORMAT, ProfileSchema,
};
use mloop_core::{Evidence, ModelName, Sha256Digest, Subject, TargetName, Window};
use mloop_monitor::conformance::unchanged;

/// A numeric column on 60 bins, the prediction of two classes, one attribute of two sites; window
/// and reference with equal counts of 100 rows a bin.
pub(crate) fn evidence() -> Evidence {
    let model = ModelName::new("m").expect("a name");
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let edges = (0..=60).map(f64::from).collect();
    let numeric = ColumnKind::Numeric(NumericSchema { edges, step: 0.5 });
    let categorical = ColumnKind::Categorical(CategoricalSchema { categories: classes.clone() });
    let column = |name: &str, kind| ColumnSchema { name: name.to_owned(), kind };
    let schema = ProfileSchema {
        format: PROFILE_FORMAT,
        model: model.clone(),
        classes,
        positive: None,
        columns: vec![column("brightness", numeric), column(PREDICTION_COLUMN, categorical)],
        groups: vec![GroupSchema::of("site", &["north", "south"])],
        latency_objective_micros: Some(2_000),
    };
    let subject = Subject { model, target: TargetName::new("t").expect("a name") };
    let key = ProfileKey { subject, version: Sha256Digest::of(b"v") };
    let moment = |text: &str| text.parse().expect("a moment");
    let window = Window::new(moment("2026-03-01T00:00:00Z"), moment("2026-03-01T01:00:00Z"));
    unchanged(&schema, key, window.expect("an hour"), 100)
}
