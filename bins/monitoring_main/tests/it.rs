//! What monitoring_main promises its caller, through the real binary.

use std::path::Path;
use std::process::Command;

use mloop_core::Clock as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "configs/monitoring_config.yaml";

/// Exit code, last line and log of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitoring_main"));
    let output = command.args(args).current_dir(folder).output().expect("it starts");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let last = out.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("an exit code"), last.unwrap_or_default(), log)
}

/// A folder with the shipped configuration in `configs/`, beside an empty `var/`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/monitoring_config.yaml");
    for name in ["configs", "var/capture", "var/labels"] {
        std::fs::create_dir_all(folder.path().join(name)).expect("made");
    }
    std::fs::copy(shipped, folder.path().join(CONFIG)).expect("copied");
    folder
}

/// Changes the configuration.
fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join(CONFIG);
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "{from}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
}

const HOUR: [&str; 4] =
    ["--window-start", "2026-03-01T12:00:00Z", "--window-end", "2026-03-01T13:00:00+00:00"];

fn with_config<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--config", CONFIG], more].concat()
}

#[test]
fn the_shipped_configuration_checks_and_changes_nothing() {
    let folder = folder();
    let (code, last, log) = run(folder.path(), &with_config(&["--check"]));
    assert_eq!(code, 0, "{log}");
    assert_eq!(
        last,
        json!({"schema": "mloop.monitoring/1", "outcome": "checked",
               "reached": ["ledger", "registry", "source", "latency_source",
                           "reporter prometheus_textfile", "reporter html", "notifier file"]})
    );
    let left: Vec<_> = std::fs::read_dir(folder.path().join("var")).expect("listed").collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn traffic_that_is_not_there_is_told_by_the_check() {
    let folder = folder();
    std::fs::remove_dir(folder.path().join("var/capture")).expect("removed");
    let (code, last, _) = run(folder.path(), &with_config(&["--check"]));
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 20, "{message}");
    assert!(message.contains("var/capture"), "{message}");
}

#[test]
fn reports_and_messages_that_could_not_be_written_are_told_by_the_check() {
    let folder = folder();
    for (shipped, file, stands_there) in [
        ("var/mloop.prom", "var/mloop.prom/x.prom", "var/mloop.prom"),
        ("var/reports", "var/reports", "var/reports"),
        ("var/alerts.jsonl", "var/alerts/alerts.jsonl", "var/alerts"),
    ] {
        let path = folder.path().join(stands_there);
        std::fs::write(&path, "no folder").expect("written");
        edit(folder.path(), shipped, file);
        let (code, last, _) = run(folder.path(), &with_config(&["--check"]));
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{file}: {message}");
        assert!(message.contains(file), "{file}: {message}");
        edit(folder.path(), file, shipped);
        assert_eq!(std::fs::read(&path).expect("there"), b"no folder");
        std::fs::remove_file(&path).expect("removed");
    }
    let left = std::fs::read_dir(folder.path().join("var")).expect("listed").count();
    assert_eq!(left, 2, "only the folders that the test made");
}

#[test]
fn without_a_version_in_production_there_is_nothing_to_judge() {
    let folder = folder();
    let (code, last, _) = run(folder.path(), &with_config(&HOUR));
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 20, "{message}");
    assert!(message.contains("no version was switched to production yet"), "{message}");
}

#[test]
fn a_window_that_has_not_ended_is_refused_at_once() {
    let folder = folder();
    edit(folder.path(), "settle_secs: 0", "settle_secs: 3600");
    let window = ["--window-start", "2999-03-01T12:00:00Z", "--window-end", "2999-03-01T13:00:00Z"];
    let started = std::time::Instant::now();
    let (code, last, _) = run(folder.path(), &with_config(&window));
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 20, "{message}");
    assert!(message.contains("the window ends at 2999-03-01T13:00:00Z, and now is "), "{message}");
    assert!(started.elapsed().as_secs() < 60, "it waited for the window to settle");
}

#[test]
fn a_window_that_ends_in_a_moment_is_waited_for() {
    let folder = folder();
    let now = mloop_core::SystemClock.now();
    let end = now + chrono::TimeDelta::seconds(3);
    let text = |moment: chrono::DateTime<chrono::Utc>| moment.to_rfc3339();
    let (start, end) = (text(end - chrono::TimeDelta::hours(1)), text(end));
    let window = ["--window-start", &start, "--window-end", &end];
    let (code, last, log) = run(folder.path(), &with_config(&window));
    // It has gone on to the ledger, which has nothing to judge.
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 20, "{message}");
    assert!(message.contains("no version was switched to production yet"), "{message}");
    assert!(log.contains("the window ends and settles in"), "{log}");
    // Whoever says what counts as now is not made to wait.
    let now = text(now);
    let early = [&window[..], &["--as-of", &now]].concat();
    let (code, last, log) = run(folder.path(), &with_config(&early));
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert!(code == 20 && message.contains("the window ends at "), "{message}");
    assert!(!log.contains("settles in"), "{log}");
}

#[test]
fn windows_that_are_none_are_refused() {
    let folder = folder();
    let at = "2026-03-01T12:00:00Z";
    let before = "2026-03-01T11:00:00Z";
    for (args, expected) in [
        (vec![], "--window-start"),
        (vec!["--window-start", at], "--window-end"),
        (vec!["--window-start", at, "--window-end", at], "is empty"),
        (vec!["--window-start", at, "--window-end", before], "is inverted"),
        (vec!["--window-start", "12:00", "--window-end", at], "write it like"),
    ] {
        let (code, last, _) = run(folder.path(), &with_config(&args));
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{args:?}");
        assert!(message.contains(expected), "{args:?}: {message}");
    }
}

#[test]
fn what_was_never_found_cannot_be_shown() {
    let folder = folder();
    for (more, told) in [
        (&["show"][..], "no window of it was judged yet"),
        (&["show", "--run", "run-0"], "no monitoring run run-0"),
        (&[&["show"], &HOUR[..]].concat(), "[2026-03-01T12:00:00Z, 2026-03-01T13:00:00Z)"),
        (&["show", "--window-start", "2026-03-01T12:00:00Z"], "--window-end"),
        (&["show", "--run", "a/b"], "--run"),
    ] {
        let (code, last, _) = run(folder.path(), &with_config(more));
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{more:?}: {message}");
        assert!(message.contains(told), "{more:?}: {message}");
    }
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let folder = folder();
    edit(folder.path(), "tolerance: 0.15", "tolerence: 0.15");
    edit(folder.path(), "min_labelled: 100", "min_labelled: many");
    edit(folder.path(), "kind: latency", "kind: latenci");
    edit(folder.path(), "max_blind_windows: 3", "max_blind_window: 3");
    edit(folder.path(), "kind: sqlite", "kind: postgresql");
    let (code, last, log) = run(folder.path(), &with_config(&HOUR));
    assert_eq!(code, 20);
    let message = last["error"]["message"].as_str().unwrap_or_default();
    for expected in [
        "configs/monitoring_config.yaml:9: ledger.kind: unknown ledger kind `postgresql`; known: postgres, sqlite",
        "max_blind_window: unknown key; did you mean max_blind_windows?",
        "monitors[1].settings.tolerence: unknown key; did you mean tolerance?",
        "monitors[3].kind: unknown monitor kind `latenci`",
        "monitors[4].settings.min_labelled: ",
    ] {
        assert!(message.contains(expected), "expected {expected} in\n{message}");
        assert!(log.contains(expected), "expected {expected} in\n{log}");
    }
}

#[test]
fn a_missing_configuration_is_told() {
    let folder = folder();
    let (code, last, _) = run(folder.path(), &[&["--config", "no.yaml"], &HOUR[..]].concat());
    assert_eq!(code, 20);
    let message = "no.yaml: there is no such file; give its path with --config";
    assert_eq!(last["error"]["message"], message);
}

#[test]
fn the_schema_names_every_kind() {
    let output = Command::new(env!("CARGO_BIN_EXE_monitoring_main")).arg("--print-schema").output();
    let schema: Value = serde_json::from_slice(&output.expect("it starts").stdout).expect("JSON");
    let kinds = |key: &str| -> Vec<String> {
        let place = &schema["properties"][key];
        let place = if place["items"].is_null() { place } else { &place["items"] };
        let choices = place["oneOf"].as_array().expect("a choice").iter();
        choices.map(|one| one["properties"]["kind"]["const"].to_string()).collect()
    };
    for (key, kind) in [
        ("ledger", "sqlite"),
        ("registry", "directory"),
        ("source", "capture_files"),
        ("monitors", "drift"),
        ("reporters", "prometheus_textfile"),
        ("notifiers", "file"),
    ] {
        assert!(kinds(key).contains(&format!("\"{kind}\"")), "{key}: {:?}", kinds(key));
    }
}
