//! The promise to the caller, through a real process.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The example `promise`, which `cargo test` builds beside the tests.
fn promise() -> Command {
    let exe = std::env::current_exe().expect("a test knows itself");
    let target = exe.parent().and_then(|deps| deps.parent()).expect("target/debug");
    let example: PathBuf = target.join("examples/promise");
    assert!(example.exists(), "build it first: cargo test -p mloop-cli, or --examples");
    let mut command = Command::new(example);
    command.env_remove("RUST_LOG");
    command
}

fn call(args: &[&str]) -> (i32, Value, String) {
    judge(&promise().args(args).output().expect("it starts"))
}

fn judge(output: &Output) -> (i32, Value, String) {
    let out = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert_eq!(out.lines().count(), 1, "one compact line: {out}");
    let line = serde_json::from_str(out.trim_end()).expect("JSON");
    let log = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    (output.status.code().expect("an exit code"), line, log)
}

#[test]
fn every_end_has_its_code_and_its_line() {
    let error = |code: i32, message: &str| {
        json!({"schema": "mloop.example/1", "outcome": "error",
               "error": {"message": message, "exit_code": code}})
    };
    let bug = "a bug of mloop, please report it with the log: the impossible happened";
    let now =
        json!({"schema": "mloop.example/1", "outcome": "ok", "now": "2026-03-01T12:00:00+00:00"});
    let cases: [(&[&str], i32, Value); 6] = [
        (&["--as-of", "2026-03-01T13:00:00+01:00"], 0, now),
        (&["nothing"], 99, json!({"schema": "mloop.example/1", "outcome": "no"})),
        (&["panic"], 1, error(1, bug)),
        (&["fly"], 30, error(30, "cannot do\n`fly`")),
        (&["config"], 20, error(20, "no configuration was named: add --config FILE")),
        (
            &["config", "--config", "a b.yaml"],
            0,
            json!({"schema": "mloop.example/1", "outcome": "ok", "config": "a b.yaml"}),
        ),
    ];
    for (args, code, line) in cases {
        let (found, told, _) = call(args);
        assert_eq!((found, told), (code, line), "{args:?}");
    }
}

#[test]
fn what_people_asked_to_see_stands_above_the_last_line() {
    let output = promise().arg("show").output().expect("it starts");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let line = r#"{"outcome":"ok","schema":"mloop.example/1"}"#;
    assert_eq!(out, format!("100 columns\n{{\"of\": \"text\"}}\n{line}\n"));
}

#[test]
fn wrong_arguments_are_twenty_with_a_line_too() {
    let cases: [(&[&str], &str); 4] = [
        (&["--confg", "x"], "unexpected argument '--confg' found"),
        (&["--as-of", "yesterday"], "write it like 2026-03-01T12:00:00Z"),
        (&["--check", "--dry-run"], "cannot be used with"),
        (&["--log-level", "mloop=loud"], "the log filter `mloop=loud` is not understood"),
    ];
    for (args, expected) in cases {
        let (code, line, log) = call(args);
        assert_eq!(code, 20, "{args:?}");
        let message = line["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{args:?}: {message}");
        assert!(log.contains(expected), "{args:?}: {log}");
    }
}

#[test]
fn help_schema_and_completions_are_answers() {
    for (args, expected) in [
        (["--help"], "Only validate the configuration"),
        (["--print-schema"], "\"type\": \"object\""),
        (["--completions=bash"], "--result-file"),
    ] {
        let output = promise().args(args).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(out.contains(expected), "{args:?}: {out}");
    }
}

#[test]
fn the_result_file_holds_the_last_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("result.json");
    let (code, line, _) = call(&["fly", "--result-file", &path.to_string_lossy()]);
    let text = std::fs::read_to_string(&path).expect("written");
    assert_eq!((code, text), (30, format!("{line}\n")));
    // Without the file the caller cannot go on, so a success becomes "try again".
    let absent = folder.path().join("no/result.json");
    let (code, line, log) = call(&["--result-file", &absent.to_string_lossy()]);
    assert_eq!((code, &line["outcome"]), (30, &json!("ok")));
    assert!(log.contains("writing the result to"), "{log}");
}

#[test]
fn the_termination_message_holds_the_line_and_its_lack_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("termination-log");
    let (code, line, _) = call(&["fly", "--termination-message", &path.to_string_lossy()]);
    assert_eq!((code, std::fs::read_to_string(&path).expect("written")), (30, line.to_string()));
    // The exit code tells the caller enough.
    let absent = folder.path().join("no/termination-log");
    let (code, line, log) = call(&["--termination-message", &absent.to_string_lossy()]);
    assert_eq!((code, &line["outcome"]), (0, &json!("ok")));
    assert!(log.contains("writing the result to"), "{log}");
}

#[test]
fn logs_are_json_when_asked_for() {
    let (_, _, log) = call(&["fly", "--log-format", "json"]);
    let line: Value = serde_json::from_str(log.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!((&line["level"], &line["message"]), (&json!("ERROR"), &json!("cannot do\n`fly`")));
}

fn start(way: &str) -> Child {
    let mut command = promise();
    command.arg(way).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// Sends the signal until the process has its handler and obeys.
fn stop(mut child: Child, signal: &str) -> (i32, Value, String) {
    // A signal before the handler stands would kill: wait until the process blocks it.
    let status = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&status).is_ok_and(|text| catches_sigterm(&text)) {
        assert!(Instant::now() < deadline, "no handler for SIGTERM");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("ours").is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    judge(&child.wait_with_output().expect("ours"))
}

fn catches_sigterm(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signals 2 and 15.
    mask.is_some_and(|mask| mask >> 1 & 1 == 1 && mask >> 14 & 1 == 1)
}

#[test]
fn a_signal_ends_with_143_after_saving() {
    let (code, line, _) = stop(start("save"), "-TERM");
    assert_eq!((code, &line["saved"]), (143, &json!(true)));
    for signal in ["-TERM", "-INT"] {
        let (code, line, _) = stop(start("hang"), signal);
        assert_eq!((code, &line["error"]["exit_code"]), (143, &json!(143)), "{line}");
    }
}

#[test]
fn a_closed_pipe_does_not_change_the_code() {
    let mut child = start("nothing");
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ours").code(), Some(99));
}
