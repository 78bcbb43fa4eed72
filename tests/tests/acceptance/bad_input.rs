//! Bad input: one clear message that names the place and what to do, the documented exit code, and
//! nothing half-written.

use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use mloop_core::version::files;
use mloop_testkit::camera::Camera;
use mloop_testkit::images;
use mloop_testkit::program::Finished;
use mloop_testkit::small::SmallWorld;
use serde_json::{Value, json};

use crate::world::{
    NOTHING, capture_hour, captured, changed, ended_with, first_version, monitor_hour, moved,
    next_hour, register_like_the_first, run, snapshot,
};

const MONITORING: &str = "monitoring_config.yaml";
const TRAINING: &str = "training_config.yaml";
const RETRAINING: &str = "retrain_config.yaml";
const DEPLOYMENT: &str = "deployment_config.yaml";
const TRAIN: [&str; 3] = ["training_main", "--config", TRAINING];
const RETRAIN: [&str; 3] = ["retraining_main", "--config", RETRAINING];
const DEPLOY: [&str; 4] = ["deployment_main", "run", "--config", DEPLOYMENT];
const MONITOR: [&str; 7] = [
    "monitoring_main",
    "--config",
    MONITORING,
    "--window-start",
    "2026-03-01T12:00:00Z",
    "--window-end",
    "2026-03-01T13:00:00Z",
];

/// A mistake in a configuration: its name, file, text as it is, text instead, what the message says.
type Mistake<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [&'a str]);

const MISTAKES: [Mistake<'_>; 32] = [
    (
        "syntax",
        MONITORING,
        "target: production",
        "target: production: x",
        &["monitoring_config.yaml:"],
    ),
    (
        "unknown key",
        MONITORING,
        "stale_after_hours",
        "stale_after_hour",
        &["unknown key", "did you mean stale_after_hours?"],
    ),
    ("wrong type", MONITORING, "min_rows: 50", "min_rows: many", &["min_rows", "a whole number"]),
    (
        "out of range",
        MONITORING,
        "tolerance: 0.3",
        "tolerance: -1.0",
        &["tolerance", "must lie between"],
    ),
    (
        "negative",
        MONITORING,
        "stale_after_hours: 48",
        "stale_after_hours: -48",
        &["-48 is out of range: from 0 to 4294967295"],
    ),
    (
        "missing folder",
        MONITORING,
        "path: ../var/capture",
        "path: ../var/captured",
        &["source.settings.path: there is no folder /", "/var/captured; correct the path"],
    ),
    (
        "missing folder",
        TRAINING,
        "labels: ../var/labels",
        "labels: ../var/label",
        &["traffic.source.settings.labels: there is no folder /", "/var/label; correct the path"],
    ),
    (
        "unknown kind",
        MONITORING,
        "kind: latency",
        "kind: latenci",
        &["unknown monitor kind `latenci`", "did you mean latency?"],
    ),
    (
        "missing secret",
        MONITORING,
        "path: ../var/alerts.jsonl",
        "password_env: MLOOP_NEVER_SET",
        &["MLOOP_NEVER_SET", "is not set"],
    ),
    (
        "missing data",
        TRAINING,
        "path: ../data/train.parquet",
        "path: ../data/gone.parquet",
        &["trainer.settings.data.train[0].path: there is no /", "/data/gone.parquet"],
    ),
    (
        "missing labels",
        TRAINING,
        "{format: parquet, path: ../data/test.parquet}",
        "{format: idx, images: ../data/test.parquet, labels: ../data/gone.gz}",
        &["trainer.settings.data.test[0].labels: there is no /", "/data/gone.gz"],
    ),
    (
        "unknown key",
        TRAINING,
        "learning_rate: 0.01",
        "learnin_rate: 0.01",
        &[
            "trainer.settings.training.optimizer.learnin_rate: unknown key; did you mean learning_rate?",
        ],
    ),
    (
        "wrong type",
        TRAINING,
        "learning_rate: 0.01",
        "learning_rate: fast",
        &[
            "trainer.settings.training.optimizer.learning_rate: wrong type: string \"fast\", expected a number",
        ],
    ),
    ("unknown kind", TRAINING, "kind: cv", "kind: vc", &["unknown trainer kind `vc`"]),
    (
        "missing secret",
        TRAINING,
        "kind: directory",
        "password_env: MLOOP_NEVER_SET\n  kind: directory",
        &["MLOOP_NEVER_SET", "is not set"],
    ),
    (
        "missing secret",
        RETRAINING,
        "- kind: stderr",
        "- {kind: slack, settings: {webhook_url_env: MLOOP_NEVER_SET}}",
        &["MLOOP_NEVER_SET", "is not set"],
    ),
    (
        "missing secret",
        DEPLOYMENT,
        "- kind: stderr",
        "- {kind: slack, settings: {webhook_url_env: MLOOP_NEVER_SET}}",
        &["MLOOP_NEVER_SET", "is not set"],
    ),
    ("syntax", TRAINING, "target: production", "target: production: x", &["training_config.yaml:"]),
    (
        "syntax",
        RETRAINING,
        "target: production",
        "target: production: x",
        &["retrain_config.yaml:"],
    ),
    (
        "syntax",
        DEPLOYMENT,
        "target: production",
        "target: production: x",
        &["deployment_config.yaml:"],
    ),
    ("negative size", TRAINING, "batch_size: 16", "batch_size: -16", &["-16 is out of range"]),
    (
        "missing program",
        RETRAINING,
        "command: [training_main,",
        "command: [./gone.sh,",
        &["submitter.settings.command[0]: there is no program /", "/configs/gone.sh"],
    ),
    (
        "unknown key",
        RETRAINING,
        "cooldown_hours",
        "cooldown_hour",
        &["unknown key", "did you mean cooldown_hours?"],
    ),
    (
        "wrong type",
        RETRAINING,
        "allow_on_broken: false",
        "allow_on_broken: never",
        &["allow_on_broken: wrong type", "a boolean"],
    ),
    (
        "out of range",
        RETRAINING,
        "lease_secs: 1 ",
        "lease_secs: 0 ",
        &["lease_secs: 0 is out of range: from 1 to 86400"],
    ),
    (
        "negative",
        RETRAINING,
        "max_attempts: 3",
        "max_attempts: -3",
        &["max_attempts: -3 is out of range: from 0 to 4294967295"],
    ),
    (
        "unknown kind",
        RETRAINING,
        "kind: time",
        "kind: tme",
        &["unknown trigger kind `tme`", "did you mean time?"],
    ),
    (
        "missing file",
        DEPLOYMENT,
        "- kind: stderr",
        "- {kind: slack, settings: {webhook_url_file: ../gone.txt}}",
        &["notifiers[1].settings.webhook_url_file", "/gone.txt"],
    ),
    (
        "unknown key",
        DEPLOYMENT,
        "latency_p99_millis",
        "latency_p99_milis",
        &["unknown key", "did you mean latency_p99_millis?"],
    ),
    (
        "wrong type",
        DEPLOYMENT,
        "verify_requests: 20",
        "verify_requests: all",
        &["bake.verify_requests: wrong type", "a whole number"],
    ),
    (
        "out of range",
        DEPLOYMENT,
        "max_error_share: 0.0",
        "max_error_share: 2.0",
        &["smoke_tests.max_error_share: must be at least 0 and below 1"],
    ),
    (
        "unknown kind",
        DEPLOYMENT,
        "kind: local",
        "kind: lokal",
        &["unknown deployer kind `lokal`", "did you mean local?"],
    ),
];

/// The command of the binary that reads a configuration.
fn command_of(file: &str) -> &'static [&'static str] {
    match file {
        TRAINING => &TRAIN,
        RETRAINING => &RETRAIN,
        DEPLOYMENT => &DEPLOY,
        _ => &MONITOR,
    }
}

/// The message of a run that was refused with this code: told in the log and in the last line, which
/// is compact JSON, and without a word of a panic.
fn refused(finished: &Finished, code: i32) -> String {
    ended_with(finished, code);
    let line = finished.stdout.lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(line).expect("the last line is JSON");
    assert_eq!(value.to_string().len(), line.len(), "compact: {line}");
    let message = value["error"]["message"].as_str().expect("a message").to_owned();
    for text in [&finished.stdout, &finished.stderr] {
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{text}");
    }
    message
}

fn edit(world: &SmallWorld, file: &str, from: &str, to: &str) {
    let path = world.folder().join("configs").join(file);
    let text = std::fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "{file} holds {from}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
}

#[test]
fn a_mistake_in_a_configuration_is_told_with_its_place() {
    let (world, _base) = first_version();
    for (name, file, from, to, expected) in MISTAKES {
        let path = world.folder().join("configs").join(file);
        let shipped = std::fs::read(&path).expect("read");
        edit(&world, file, from, to);
        let before = snapshot(&world);
        let message = refused(&run(&world, command_of(file)), 20);
        let text = std::fs::read_to_string(&path).expect("read");
        let (above, _) = text.split_once(to).expect("the mistake");
        let place = format!("{file}:{}: ", above.matches('\n').count() + 1);
        let told = message.lines().any(|line| line.starts_with(&place));
        assert!(told, "{name}: expected {place} in\n{message}");
        for part in expected {
            assert!(message.contains(part), "{file}, {name}: expected {part} in\n{message}");
        }
        assert!(!message.contains("/../"), "{file}, {name}: {message}");
        assert_eq!(changed(&before, &snapshot(&world)), NOTHING, "{file}, {name}");
        std::fs::write(&path, shipped).expect("written");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_told() {
    let (world, _base) = first_version();
    let before = snapshot(&world);
    for command in [&TRAIN[..], &RETRAIN, &DEPLOY, &MONITOR] {
        let command: Vec<&str> = command
            .iter()
            .map(|word| if word.ends_with(".yaml") { "gone.yaml" } else { word })
            .collect();
        let message = refused(&run(&world, &command), 20);
        let expected = "gone.yaml: there is no such file; give its path with --config";
        assert_eq!(message, expected, "{command:?}");
        assert_eq!(changed(&before, &snapshot(&world)), NOTHING, "{command:?}");
    }
}

#[test]
fn what_is_no_window_or_no_file_is_told() {
    let (world, _base) = first_version();
    let before = snapshot(&world);
    let (noon, one) = ("2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z");
    for (config, start, end, expected) in [
        ("gone.yaml", noon, one, "gone.yaml: there is no such file"),
        (MONITORING, noon, noon, "is empty"),
        (MONITORING, one, noon, "is inverted"),
    ] {
        let window = ["--window-start", start, "--window-end", end];
        let command = [&["monitoring_main", "--config", config], &window[..]].concat();
        let message = refused(&run(&world, &command), 20);
        assert!(message.contains(expected), "{message}");
        assert_eq!(changed(&before, &snapshot(&world)), NOTHING);
    }
}

#[test]
fn a_half_line_is_counted_and_the_window_judged() {
    let (mut world, _base) = first_version();
    world.traffic(Camera::Good, 200).expect("traffic");
    let hour = next_hour();
    let mut lines = moved(&captured(&world), hour);
    let half = lines[7].len() / 2;
    lines[7].truncate(half);
    capture_hour(&world, hour, &lines);
    let monitored = monitor_hour(&world, hour);
    ended_with(&monitored, 0);
    assert_eq!(monitored.last["window"]["rows"], 199, "{}", monitored.last);
    let place = monitored.stderr.lines().find(|line| line.contains(".jsonl:8 is left out: "));
    assert!(place.is_some_and(|line| line.contains(" at column ")), "{}", monitored.stderr);
    let findings = monitored.last["findings"].as_array().expect("findings");
    // Labels are another matter: none came for this hour.
    let judged: Vec<&Value> = findings.iter().filter(|one| one["monitor"] == "drift").collect();
    assert!(judged.len() > 5 && judged.iter().all(|one| one["status"] == "ok"), "{judged:?}");
    let quality = findings.iter().find(|one| one["check"].to_string().contains("quarantine"));
    let share = quality.expect("a finding")["value"].as_f64().expect("a number");
    assert!((share - 1.0 / 200.0).abs() < 1e-9, "{quality:?}");
}

#[test]
fn a_window_without_traffic_is_judged_and_is_not_fine() {
    let (mut world, _base) = first_version();
    world.traffic(Camera::Good, 60).expect("traffic");
    let monitored = monitor_hour(&world, next_hour() + TimeDelta::hours(5));
    ended_with(&monitored, 0);
    assert_eq!(monitored.last["outcome"], "insufficient_data", "{}", monitored.last);
    assert_eq!(monitored.last["window"]["rows"], 0, "{}", monitored.last);
    let findings = monitored.last["findings"].as_array().expect("findings");
    let drift: Vec<&Value> = findings.iter().filter(|one| one["monitor"] == "drift").collect();
    assert!(drift.len() > 5, "{findings:?}");
    assert!(drift.iter().all(|one| one["status"] == "insufficient_data"), "{drift:?}");
}

#[test]
fn a_reference_of_another_model_is_refused() {
    let (world, _base) = first_version();
    register_like_the_first(&world, |contents| {
        let reference = contents.get_mut(files::REFERENCE).expect("a reference");
        let text = String::from_utf8(reference.clone()).expect("JSON");
        let other = text.replace("\"fashion\"", "\"shoes\"");
        assert_ne!(other, text);
        *reference = other.into_bytes();
    });
    let before = snapshot(&world);
    let message = refused(&run(&world, &[&MONITOR[..], &["--version", "2"]].concat()), 20);
    for part in ["`shoes`", "`fashion`", "fashion v2"] {
        assert!(message.contains(part), "{message}");
    }
    // The version's files were fetched, and nothing else came of it.
    let changed = changed(&before, &snapshot(&world));
    let is_copy = |path: &PathBuf| path.to_string_lossy().contains("var/monitoring/versions/");
    assert!(changed.iter().all(is_copy), "{changed:?}");
}

#[test]
fn a_damaged_version_is_not_deployed() {
    let (world, _base) = first_version();
    register_like_the_first(&world, |_| {});
    let weights = world.folder().join("var/registry/fashion/versions/2").join(files::WEIGHTS);
    let mut bytes = std::fs::read(&weights).expect("weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    let message = refused(&world.deploy().expect("runs"), 40);
    assert!(message.contains("model.safetensors") && message.contains("damaged"), "{message}");
    let status = run(&world, &["deployment_main", "status", "--config", "deployment_config.yaml"]);
    assert_eq!(
        (&status.last["serving"]["number"], &status.last["consistent"]),
        (&1.into(), &true.into())
    );
}

/// Writes the training images as files, this many of them spoilt, and trains on them.
fn train_on_files(world: &SmallWorld, spoilt: usize) -> Finished {
    let all = images::parquet(&world.folder().join("data/train.parquet")).expect("images");
    let folder = world.folder().join("data/files");
    for (number, image) in all.iter().enumerate() {
        let class = folder.join(&image.class);
        std::fs::create_dir_all(&class).expect("made");
        let whole = image.pixels.to_png();
        let bytes = if number < spoilt { &whole[..whole.len() / 2] } else { &whole[..] };
        std::fs::write(class.join(format!("{number}.png")), bytes).expect("written");
    }
    run(world, &TRAIN)
}

#[test]
fn unreadable_images_are_counted_and_too_many_refused() {
    let world = SmallWorld::new().expect("a world");
    let from = "{format: parquet, path: ../data/train.parquet}";
    edit(&world, TRAINING, from, "{format: folder, path: ../data/files}");
    let before = versions(world.folder());
    let written = snapshot(&world);
    let message = refused(&train_on_files(&world, 48), 20);
    for part in ["data/files", "48", "480"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(versions(world.folder()), before);
    let left = changed(&written, &snapshot(&world));
    let is_picture = |path: &PathBuf| path.to_string_lossy().contains("data/files/");
    assert!(left.iter().all(is_picture), "{left:?}");
    let trained = train_on_files(&world, 1);
    ended_with(&trained, 0);
    assert_eq!(trained.last["images"], json!({"given": 480, "left_out": 1}), "{}", trained.last);
    for part in ["/0.png", "1 of 480 records were left out"] {
        assert!(trained.stderr.contains(part), "{part}: {}", trained.stderr);
    }
}

fn versions(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("var/registry/fashion/versions")).map_or(0, Iterator::count)
}
