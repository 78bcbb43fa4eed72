//! A model that was not trained here, watched through the real binary: a reference of its table, then
//! windows like it and unlike it.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_testkit::program::{Finished, Program};
use serde_json::Value;

use crate::world::{ended_with, text};

pub(crate) const CONFIG: &str = r#"
version: 1
model: loans
target: production
ledger: {kind: sqlite, settings: {path: ledger.sqlite}}
registry: {kind: directory, settings: {path: registry}}
source:
  kind: tables
  settings:
    path: data
    format: csv
    positive: "1"
    columns: {time: at, id: id, score: score, label: repaid, groups: [sex, region]}
work: work
false_alarms_per_month: 1
monitors: [{kind: data_quality}, {kind: drift}, {kind: fairness}, {kind: performance}]
reporters: [{kind: html, settings: {folder: pages}}]
"#;

/// Rows of an hour; some may have another car.
pub(crate) fn hour(folder: &Path, name: &str, start: DateTime<Utc>, dearer: f64) {
    let mut csv = "id,at,car_value,salary,sex,region,score,repaid\n".to_owned();
    for n in 0..3600i64 {
        // Low discrepancy numbers: even without being in step with each other.
        let even = |step: f64| (n as f64 * step).fract();
        let score = even(0.754_877_666);
        let value = 20_000.0 + 20_000.0 * even(0.569_840_290) + dearer;
        let salary = ["low", "middle", "high"][(even(0.819_172_513) * 3.0) as usize];
        let (sex, region) = (["f", "m"][n as usize % 2], ["n", "s"][n as usize / 2 % 2]);
        let repaid = u8::from(even(0.671_043_606) < score);
        let at = text(start + TimeDelta::seconds(n));
        csv += &format!("{name}-{n},{at},{value},{salary},{sex},{region},{score},{repaid}\n");
    }
    std::fs::write(folder.join("data").join(format!("{name}.csv")), csv).expect("written");
}

pub(crate) fn monitoring(folder: &Path, arguments: &[&str]) -> Finished {
    let program = Program::new("monitoring_main", arguments).expect("built");
    program.within(folder).run().expect("runs")
}

pub(crate) fn judged(folder: &Path, start: DateTime<Utc>) -> Value {
    let (start, end) = (text(start), text(start + TimeDelta::hours(1)));
    let window = ["--config", "c.yaml", "--window-start", &start, "--window-end", &end];
    let finished = monitoring(folder, &window);
    ended_with(&finished, 0);
    finished.last
}

#[test]
fn a_table_is_judged_against_the_reference_that_was_built_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).expect("made");
    std::fs::write(folder.join("c.yaml"), CONFIG).expect("written");
    let first: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().expect("a moment");
    let at = |hours: i64| first + TimeDelta::hours(hours);
    hour(folder, "first", at(0), 0.0);

    let (from, to) = (text(at(0)), text(at(1)));
    let early =
        monitoring(folder, &["--config", "c.yaml", "--window-start", &from, "--window-end", &to]);
    ended_with(&early, 20);
    assert!(early.stderr.contains("reference build"), "{}", early.stderr);

    let build = ["reference", "build", "--config", "c.yaml", "--from", &from, "--to", &to];
    let built = monitoring(folder, &build);
    ended_with(&built, 0);
    let expected = serde_json::json!(["car_value", "prediction", "salary", "score"]);
    assert_eq!(
        (&built.last["outcome"], &built.last["columns"]),
        (&"reference_built".into(), &expected)
    );
    assert_eq!(built.last["groups"], serde_json::json!(["region", "region & sex", "sex"]));
    assert_eq!((&built.last["rows"], &built.last["labelled_rows"]), (&3600.into(), &3600.into()));
    let again = monitoring(folder, &build);
    ended_with(&again, 0);
    assert_eq!(again.last["version"], built.last["version"], "equal rows make one version");

    hour(folder, "second", at(1), 0.0);
    let quiet = judged(folder, at(1));
    assert_eq!(
        (&quiet["outcome"], &quiet["window"]["rows"]),
        (&"ok".into(), &3600.into()),
        "{quiet}"
    );
    hour(folder, "third", at(2), 15_000.0);
    // Asked long after, people are told nothing; asked in time, they get a page.
    let [start, end] = [at(2), at(3)].map(text);
    let window = ["--window-start", &start, "--window-end", &end, "--as-of", &end];
    let finished = monitoring(folder, &[&["--config", "c.yaml"], &window[..]].concat());
    ended_with(&finished, 0);
    let alert = finished.last;
    assert_eq!(alert["outcome"], "alert", "{alert}");
    let findings = alert["findings"].as_array().expect("findings");
    let drifted: Vec<&Value> = findings.iter().filter(|one| one["status"] == "drifted").collect();
    let columns: Vec<&str> = drifted.iter().filter_map(|one| one["column"].as_str()).collect();
    assert_eq!(columns, ["car_value"], "{alert}");
    let detail = drifted[0]["detail"].as_str().expect("what carries it");
    assert!(detail.starts_with("above ") && detail.contains("0 % → "), "{detail}");
    assert!(alert["report"].as_str().is_some_and(|page| Path::new(page).is_file()), "{alert}");
}
