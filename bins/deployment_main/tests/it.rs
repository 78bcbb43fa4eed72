//! What deployment_main promises its caller, through the real binary.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "configs/deployment_config.yaml";

/// Exit code, last line and log of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deployment_main"));
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
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/deployment_config.yaml");
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

fn with_config<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command, "--config", CONFIG], more].concat()
}

/// Points the deployer to an address where nobody listens.
fn without_server(folder: &Path) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("bound");
    drop(nobody);
    edit(folder, "127.0.0.1:8080", &address.to_string());
    edit(folder, "127.0.0.1:8081", &address.to_string());
}

#[test]
fn scheduled_runs_without_a_candidate_do_nothing_ten_times() {
    let folder = folder();
    without_server(folder.path());
    for _ in 0..10 {
        let (code, last, log) = run(folder.path(), &with_config("run", &[]));
        assert_eq!((code, &last["outcome"]), (99, &json!("nothing_to_deploy")), "{log}");
        assert_eq!(last["schema"], "mloop.deployment/1");
    }
    for command in ["deploy", "smoke-test", "switch-to-production"] {
        let (code, last, _) = run(folder.path(), &with_config(command, &[]));
        assert_eq!((code, &last["outcome"]), (99, &json!("nothing_to_deploy")), "{command}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_worth_another_try() {
    let folder = folder();
    without_server(folder.path());
    for args in [with_config("status", &[]), with_config("run", &["--check"])] {
        let (code, last, _) = run(folder.path(), &args);
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 30, "{message}");
        assert!(message.contains("model_server"), "{message}");
    }
}

#[test]
fn a_failure_says_of_which_run_once_that_is_known() {
    let folder = folder();
    without_server(folder.path());
    let moment = ["--as-of", "2026-03-01T00:00:00Z"];
    let failed = |command| run(folder.path(), &with_config(command, &moment));
    let (code, first, _) = failed("rollback");
    assert_eq!(code, 20, "{first}");
    assert!(first["run_id"].as_str().is_some_and(|id| id.starts_with("run-")), "{first}");
    assert_eq!(failed("rollback").1["run_id"], first["run_id"], "a repeat is the same run");
    let (code, unknown, _) = run(folder.path(), &with_config("run", &["--again"]));
    assert_eq!(code, 20, "{unknown}");
    assert_eq!(unknown.get("run_id"), None, "its arguments are not even understood");
}

#[test]
fn what_makes_no_sense_is_told() {
    let folder = folder();
    without_server(folder.path());
    for (args, expected) in [
        (with_config("rollback", &[]), "nothing was switched to production yet"),
        (with_config("run", &["--version", "7"]), "the registry has no version 7"),
        (with_config("run", &["--again"]), "--version"),
        (vec!["--config", CONFIG], "Add a subcommand"),
        (vec!["run"], "add --config FILE"),
        (vec!["lift-off", "--config", CONFIG], "unrecognized subcommand 'lift-off'"),
    ] {
        let (code, last, _) = run(folder.path(), &args);
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{args:?}: {message}");
        assert!(message.contains(expected), "{args:?}: {message}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let folder = folder();
    without_server(folder.path());
    let (code, last, log) = run(folder.path(), &with_config("run", &["--dry-run"]));
    assert_eq!((code, &last["would"]), (0, &json!("nothing")), "{log}");
    assert!(!folder.path().join("var/ledger.sqlite").exists());
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let folder = folder();
    edit(folder.path(), "staging_endpoint: fashion-staging", "staging_endpoint: production");
    edit(folder.path(), "latency_p99_millis: 500.0", "latency_p99_millis: 0");
    edit(folder.path(), "verify_requests: 20", "verify_request: 20");
    edit(folder.path(), "kind: local", "kind: vertex");
    let (code, last, _) = run(folder.path(), &with_config("run", &[]));
    assert_eq!(code, 20);
    let message = last["error"]["message"].as_str().unwrap_or_default();
    for expected in [
        "deployer.kind: unknown deployer kind `vertex`; known: local, sagemaker",
        "staging_endpoint: must be another than production_endpoint",
        "smoke_tests.latency_p99_millis: must be above 0",
        "bake.verify_request: unknown key; did you mean verify_requests?",
    ] {
        assert!(message.contains(expected), "expected {expected} in\n{message}");
    }
}
