//! What retraining_main promises its caller, through the real binary.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "configs/retrain_config.yaml";

/// Exit code, last line and log of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retraining_main"));
    let output = command.args(args).current_dir(folder).output().expect("it starts");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let last = out.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("an exit code"), last.unwrap_or_default(), log)
}

/// A folder with the shipped configuration in `configs/`, beside an empty `var/`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/retrain_config.yaml");
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

fn with_config<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--config", CONFIG], more].concat()
}

#[test]
fn the_shipped_configuration_checks_and_changes_nothing() {
    let folder = folder();
    let (code, last, log) = run(folder.path(), &with_config(&["--check"]));
    assert_eq!(code, 0, "{log}");
    assert_eq!(last["reached"], json!(["ledger", "registry", "submitter", "notifier file"]));
    let left = std::fs::read_dir(folder.path().join("var")).expect("listed").count();
    assert_eq!(left, 2, "only the folders that the test made");
}

#[test]
fn without_a_past_no_job_is_submitted_and_a_repeat_says_the_same() {
    let folder = folder();
    let args = with_config(&["--as-of", "2026-03-01T12:00:00Z"]);
    let (code, last, log) = run(folder.path(), &args);
    assert_eq!(code, 99, "{log}");
    assert_eq!(last["schema"], "mloop.retraining/1");
    assert!(last["job_id"].is_null(), "{last}");
    assert!(["no", "cannot_tell"].contains(&last["outcome"].as_str().unwrap_or_default()));
    let (again, repeated, _) = run(folder.path(), &args);
    assert_eq!((again, repeated), (99, last));
    assert!(!folder.path().join("var/jobs").exists(), "a job was prepared");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_leaves_no_ledger() {
    let folder = folder();
    let (code, last, log) = run(folder.path(), &with_config(&["--dry-run"]));
    assert_eq!((code, &last["outcome"]), (0, &json!("dry_run")), "{log}");
    let verdicts = last["verdicts"].as_array().expect("verdicts");
    let names: Vec<&Value> = verdicts.iter().map(|verdict| &verdict["trigger"]).collect();
    assert_eq!(names, ["drift", "performance", "time"]);
    assert!(!folder.path().join("var/ledger.sqlite").exists());
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let folder = folder();
    edit(folder.path(), "of_windows: 3", "of_window: 3");
    edit(folder.path(), "max_attempts: 3", "max_attempts: 0");
    edit(folder.path(), "kind: process", "kind: nomad");
    edit(folder.path(), "combination: any", "combination: some");
    let (code, last, _) = run(folder.path(), &with_config(&[]));
    assert_eq!(code, 20);
    let message = last["error"]["message"].as_str().unwrap_or_default();
    let expected = "combination: unknown value `some` (known: any, all)";
    assert!(message.contains(expected), "{message}");

    edit(folder.path(), "combination: some", "combination: all");
    let (_, last, _) = run(folder.path(), &with_config(&[]));
    let message = last["error"]["message"].as_str().unwrap_or_default();
    for expected in [
        "triggers[0].settings.windows.of_window: unknown key; did you mean of_windows?",
        "max_attempts: must be 1 or more",
        "submitter.kind: unknown submitter kind `nomad`; known: ",
    ] {
        assert!(message.contains(expected), "expected {expected} in\n{message}");
    }
}
