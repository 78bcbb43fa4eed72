//! What training_main promises its caller, through the real binary, on a task that a small network
//! learns in seconds.

mod submitted;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "\
version: 1
model: halves
target: production
registry: {kind: directory, settings: {path: registry}}
trainer:
  kind: cv
  settings:
    classes: [left, right]
    architecture: {kind: cnn, channels: [4], hidden_units: 8}
    training:
      epochs: 3
      batch_size: 32
      seed: 1
      optimizer: {kind: adam_w, learning_rate: 0.02}
    data:
      train: [{format: idx, images: train-images, labels: train-labels}]
      test: [{format: idx, images: test-images, labels: test-labels}]
gate: {first_model: allow, accuracy_floor: 0.8, min_rows: 200}
work: work
golden_cases: 4
";

/// Exit code, last line and log of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_training_main"));
    let output = command.args(args).current_dir(folder).output().expect("it starts");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let last = out.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("an exit code"), last.unwrap_or_default(), log)
}

const CALL: [&str; 2] = ["--config", "training_config.yaml"];

/// A folder with the configuration and its data: images of 8x8 pixels, one half bright.
fn folder(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("training_config.yaml"), config).expect("written");
    write_images(folder.path(), "train", 400, 1);
    write_images(folder.path(), "test", 300, 2);
    folder
}

/// Images and labels as IDX files.
fn write_images(folder: &Path, name: &str, count: u32, seed: u32) {
    let mut noise = seed;
    let mut images = [0x0803_u32, count, 8, 8].map(u32::to_be_bytes).concat();
    let mut labels = [0x0801_u32, count].map(u32::to_be_bytes).concat();
    for number in 0..count {
        let label = number % 2;
        labels.push(u8::from(label == 1));
        for pixel in 0..64_u32 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bright = (pixel % 8 >= 4) == (label == 1);
            images.push(if bright { 120 } else { 20 } + (noise >> 26) as u8);
        }
    }
    std::fs::write(folder.join(format!("{name}-images")), images).expect("written");
    std::fs::write(folder.join(format!("{name}-labels")), labels).expect("written");
}

#[test]
fn a_first_version_is_blessed_and_a_repeat_finds_it() {
    let folder = folder(CONFIG);
    let (code, last, log) = run(folder.path(), &CALL);
    assert_eq!(code, 0, "{last}\n{log}");
    assert_eq!(
        (&last["schema"], &last["outcome"]),
        (&json!("mloop.training/1"), &json!("blessed"))
    );
    assert_eq!((&last["adopted"], &last["staging_ready"]), (&json!(false), &json!(true)));
    assert!(log.contains("epoch 3/3"), "plain lines tell the progress: {log}");

    let (again, repeated, _) = run(folder.path(), &CALL);
    assert_eq!((again, &repeated["adopted"]), (0, &json!(true)), "{repeated}");
    assert_eq!(repeated["version"], last["version"]);
    let left = std::fs::read_dir(folder.path().join("work")).expect("listed").count();
    assert_eq!(left, 0, "nothing that grows is kept");

    // Other images under the same configuration are another job.
    write_images(folder.path(), "train", 420, 3);
    let (_, other, log) = run(folder.path(), &CALL);
    assert_eq!(
        (&other["version"]["number"], &other["adopted"]),
        (&json!(2), &json!(false)),
        "{log}"
    );
}

#[test]
fn the_gate_decides_the_exit_code() {
    for (gate, code, outcome) in [
        ("{first_model: refuse}", 10, "rejected"),
        ("{first_model: allow, accuracy_floor: 0.8, min_rows: 301}", 11, "inconclusive"),
    ] {
        let gate = format!("gate: {gate}\n");
        let old = "gate: {first_model: allow, accuracy_floor: 0.8, min_rows: 200}\n";
        let folder = folder(&CONFIG.replace(old, &gate));
        let (found, last, log) = run(folder.path(), &CALL);
        assert_eq!((found, &last["outcome"]), (code, &json!(outcome)), "{log}");
        assert_eq!(last["staging_ready"], false);
    }
}

#[test]
fn check_and_dry_run_leave_nothing() {
    let folder = folder(CONFIG);
    for (flag, outcome) in [("--check", "checked"), ("--dry-run", "dry_run")] {
        let (code, last, log) = run(folder.path(), &[&CALL[..], &[flag]].concat());
        assert_eq!((code, &last["outcome"]), (0, &json!(outcome)), "{log}");
    }
    for name in ["registry", "work"] {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn traffic_by_hand_has_a_start_and_an_end_and_a_source() {
    let folder = folder(CONFIG);
    let (start, end) = ("2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z");
    for (more, expected) in [
        (&["--traffic-start", start][..], "--traffic-end"),
        (&["--traffic-end", end], "--traffic-start"),
        (&["--traffic-start", end, "--traffic-end", start], "is inverted"),
        (&["--traffic-start", end, "--traffic-end", end], "is empty"),
        (&["--traffic-start", start, "--traffic-end", end, "--job-file", "job.json"], "--job-file"),
        (
            &["--traffic-start", start, "--traffic-end", end],
            "the configuration names no traffic source",
        ),
    ] {
        let (code, last, _) = run(folder.path(), &[&CALL[..], more].concat());
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{more:?}: {message}");
        assert!(message.contains(expected), "{more:?}: {message}");
    }
    assert!(!folder.path().join("registry").exists());
}

#[test]
fn job_files_that_are_none_or_anothers_are_refused() {
    let folder = folder(CONFIG);
    let job = |subject: Value| {
        json!({
            "schema": "mloop.job/1", "job_id": "job-1", "subject": subject,
            "cause": {"episode": "episode-1", "attempt": 1, "reasons": [], "evidence": []},
            "champion": null, "traffic": null, "as_of": "2026-03-01T12:00:00Z",
        })
        .to_string()
    };
    let other = job(json!({"model": "shoes", "target": "production"}));
    for (name, text, expected) in [
        ("half.json", other[..30].to_owned(), "is not what retraining_main writes"),
        ("other.json", other, "it is about shoes@production, the configuration about halves"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
        let (code, last, _) = run(folder.path(), &[&CALL[..], &["--job-file", name]].concat());
        let message = last["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(code, 20, "{message}");
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
    let (code, ..) = run(folder.path(), &[&CALL[..], &["--job-file", "absent.json"]].concat());
    assert_eq!(code, 20);
}

#[test]
fn all_mistakes_of_a_configuration_are_told_at_once() {
    let text = CONFIG
        .replace("epochs: 3", "epochs: 0")
        .replace("min_rows: 200", "min_row: 200, confidence: 2")
        .replace("golden_cases: 4", "golden_cases: 0")
        .replace("kind: directory", "kind: wandb");
    let folder = folder(&text);
    let (code, last, _) = run(folder.path(), &CALL);
    assert_eq!(code, 20);
    let message = last["error"]["message"].as_str().unwrap_or_default();
    for expected in [
        "training_config.yaml:4: registry.kind: unknown registry kind `wandb`; known: directory, mlflow",
        "training_config.yaml:11: trainer.settings.training.epochs: ",
        "training_config.yaml:18: gate.min_row: unknown key; did you mean min_rows?",
        "training_config.yaml:18: gate.confidence: must be at least 0.5 and below 1",
        "training_config.yaml:20: golden_cases: must be 1 or more",
    ] {
        assert!(message.contains(expected), "expected {expected} in\n{message}");
    }
}

#[test]
fn data_that_are_not_there_are_told() {
    let folder = folder(CONFIG);
    std::fs::remove_file(folder.path().join("train-images")).expect("removed");
    let (code, last, _) = run(folder.path(), &CALL);
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(code, 20, "{message}");
    assert!(message.contains("train-images"), "{message}");
}
