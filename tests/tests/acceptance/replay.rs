//! Windows of the past under a changed configuration, and hours that become days, through the real
//! binary: without the traffic that they were counted from.

use std::path::Path;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use mloop_core::profile::StoredProfile;
use mloop_core::run::RunKind;
use mloop_core::{Clock as _, ModelName, Sha256Digest, Subject, SystemClock, TargetName, Window};
use mloop_ledger::SqliteLedger;
use mloop_platform::{Ledger, ProfileQuery, RunQuery};
use serde_json::{Value, json};

use crate::tables::{CONFIG, hour, judged, monitoring};
use crate::world::{ended_with, entries, text, wait};

fn subject() -> Subject {
    Subject {
        model: ModelName::new("loans").expect("a name"),
        target: TargetName::new("production").expect("a name"),
    }
}

fn ledger(folder: &Path) -> Ledger {
    SqliteLedger::new(folder.join("ledger.sqlite")).ledger()
}

fn runs(folder: &Path) -> usize {
    let kind = RunKind::Monitoring;
    let query = RunQuery { kind, subject: subject(), since: None, limit: 1000 };
    wait(ledger(folder).journal.runs(&query)).expect("runs").len()
}

fn profiles(folder: &Path, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<StoredProfile> {
    let span = Window::new(from, until).expect("a span");
    let query = ProfileQuery { subject: subject(), version: None, span, after: None, limit: 1000 };
    wait(ledger(folder).profiles.within(&query)).expect("profiles")
}

/// Stores a profile as it would have been counted so much earlier, of another version if need be.
fn store(folder: &Path, like: &StoredProfile, earlier: TimeDelta, version: Option<Sha256Digest>) {
    let mut stored = like.clone();
    let window = stored.profile.window;
    stored.profile.window =
        Window::new(window.start() - earlier, window.end() - earlier).expect("a window");
    if let Some(version) = version {
        stored.profile.key.version = version;
    }
    let store = ledger(folder).profiles;
    let schema = wait(store.schema(&stored.profile.schema)).expect("read").expect("a schema");
    wait(store.put(&schema, &stored)).expect("stored");
}

fn replayed(
    folder: &Path,
    config: &str,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> (Value, String) {
    let (from, until) = (text(from), text(until));
    let finished =
        monitoring(folder, &["replay", "--config", config, "--from", &from, "--to", &until]);
    ended_with(&finished, 0);
    assert_eq!(finished.last["outcome"], "replayed", "{}", finished.last);
    (finished.last, finished.stderr)
}

#[test]
fn a_changed_configuration_is_replayed_over_the_past_and_hours_become_days() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::create_dir(folder.join("data")).expect("made");
    std::fs::write(folder.join("c.yaml"), CONFIG).expect("written");
    let now = SystemClock.now().duration_trunc(TimeDelta::hours(1)).expect("a full hour");
    let at = |hours: i64| now - TimeDelta::hours(6 - hours);
    for (number, dearer) in [(0, 0.0), (1, 0.0), (2, 15_000.0), (3, 0.0)] {
        hour(folder, &format!("hour{number}"), at(number), dearer);
    }
    let (from, to) = (text(at(0)), text(at(1)));
    let build = ["reference", "build", "--config", "c.yaml", "--from", &from, "--to", &to];
    ended_with(&monitoring(folder, &build), 0);
    let outcomes = [1, 2, 3].map(|hour| judged(folder, at(hour))["outcome"].clone());
    assert_eq!(outcomes, ["ok", "alert", "ok"]);

    // The rows are gone: what is left are counts.
    std::fs::remove_dir_all(folder.join("data")).expect("removed");
    std::fs::create_dir(folder.join("data")).expect("made");
    let stored = profiles(folder, at(1), at(4));
    assert_eq!(stored.len(), 3);
    let (before, pages) = (runs(folder), entries(&folder.join("pages")).len());
    let (same, told) = replayed(folder, "c.yaml", at(1), at(4));
    assert_eq!((&same["windows"], &same["outcomes"]), (&json!(3), &json!({"ok": 2, "alert": 1})));
    let alert = &same["would_have_alerted"][0];
    assert_eq!((&same["alerting"], &alert["start"]), (&json!(1), &json!(text(at(2)))), "{same}");
    assert!(alert["alerts"][0].as_str().is_some_and(|text| text.contains("car_value")), "{alert}");
    let check = json!({"monitor": "drift", "check": "column_drift of car_value", "windows": 1});
    assert_eq!(same["alerts_by_check"], json!([check]));
    assert!(
        (same["expected_false_alarms"].as_f64().expect("a number") - 3.0 / 720.0).abs() < 1e-12
    );
    let lines = told.lines().filter(|line| line.contains(": ok") || line.contains(": alert"));
    assert_eq!(lines.count(), 3, "a line a window: {told}");

    let loose = CONFIG.replace("{kind: drift}", "{kind: drift, settings: {tolerance: 0.9}}");
    std::fs::write(folder.join("loose.yaml"), loose).expect("written");
    let (loose, _) = replayed(folder, "loose.yaml", at(1), at(4));
    assert_eq!((&loose["outcomes"], &loose["alerting"]), (&json!({"ok": 3}), &json!(0)), "{loose}");
    assert_ne!(loose["run_id"], same["run_id"], "another configuration is another replay");

    let stranger = Some(Sha256Digest::of(b"a version that is gone"));
    store(folder, &stored[0], TimeDelta::zero(), stranger);
    let (skipped, _) = replayed(folder, "c.yaml", at(1), at(4));
    assert_eq!(skipped["skipped"], json!({"no_reference": 1}), "{skipped}");
    assert_eq!(skipped["outcomes"], same["outcomes"], "{skipped}");
    assert_eq!((runs(folder), entries(&folder.join("pages")).len()), (before, pages));
    let (from, to) = (text(at(4)), text(at(1)));
    let wrong = ["replay", "--config", "c.yaml", "--from", &from, "--to", &to];
    ended_with(&monitoring(folder, &wrong), 20);

    // Two hours of a day in the distant past, and the next run.
    let midnight = at(1).duration_trunc(TimeDelta::days(1)).expect("a day");
    let into = (at(1) - midnight) - TimeDelta::hours(3);
    for hour in &stored[..2] {
        store(folder, hour, TimeDelta::days(40) + into, None);
    }
    let past = |hours: i64| midnight - TimeDelta::days(40) + TimeDelta::hours(hours);
    assert_eq!(profiles(folder, past(0), past(24)).len(), 2);
    hour(folder, "hour5", at(5), 0.0);
    judged(folder, at(5));
    let merged = profiles(folder, past(0), past(24));
    let windows: Vec<Window> = merged.iter().map(|one| one.profile.window).collect();
    assert_eq!(windows, [Window::new(past(3), past(5)).expect("two hours")]);
    assert_eq!(merged[0].profile.rows, 7200);
    let (day, _) = replayed(folder, "c.yaml", past(0), past(24));
    assert_eq!(day["outcomes"], json!({"alert": 1}), "half of the rows are dearer: {day}");
}
