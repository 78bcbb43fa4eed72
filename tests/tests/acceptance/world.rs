//! A world to start from, and what tests ask of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound as _, SecondsFormat, TimeDelta, Utc};
use mloop_core::capture::{CaptureRecord, hour_folder};
use mloop_core::episode::Episode;
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::version::{files, tags};
use mloop_core::{Clock as _, Manifest, ModelName, Sha256Digest, Subject, SystemClock, TargetName};
use mloop_ledger::SqliteLedger;
use mloop_local::DirectoryRegistry;
use mloop_platform::{Ledger, ModelRegistry as _, Registration, RunQuery};
use mloop_testkit::program::Finished;
use mloop_testkit::small::SmallWorld;
pub(crate) use mloop_testkit::traffic::moved;
use serde_json::Value;

/// A world in which a first version serves, and the one that it was copied from: that one is made
/// by the first test that asks, and gone with the last that holds it.
pub(crate) fn first_version() -> (SmallWorld, Arc<SmallWorld>) {
    static BASE: Mutex<Weak<SmallWorld>> = Mutex::new(Weak::new());
    let mut known = BASE.lock().expect("no test panicked while it made the world");
    let base = known.upgrade().unwrap_or_else(|| {
        let world = SmallWorld::new().expect("a world");
        ended_with(&world.train_first().expect("runs"), 0);
        ended_with(&world.deploy().expect("runs"), 0);
        Arc::new(world)
    });
    *known = Arc::downgrade(&base);
    (base.fork().expect("a copy"), base)
}

pub(crate) fn ended_with(finished: &Finished, code: i32) {
    assert_eq!(finished.code, Some(code), "{}\n{}", finished.last, finished.stderr);
}

pub(crate) fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(crate) fn run(world: &SmallWorld, command: &[&str]) -> Finished {
    world.program(command[0], &command[1..]).expect("built").run().expect("runs")
}

pub(crate) fn deploy_command<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["deployment_main", command, "--config", "deployment_config.yaml"], more].concat()
}

pub(crate) fn subject() -> Subject {
    Subject {
        model: ModelName::new("fashion").expect("a name"),
        target: TargetName::new("production").expect("a name"),
    }
}

pub(crate) fn ledger(world: &SmallWorld) -> Ledger {
    SqliteLedger::new(world.folder().join("var/ledger.sqlite")).ledger()
}

pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

pub(crate) fn runs(world: &SmallWorld, kind: RunKind) -> Vec<RunRecord> {
    let query = RunQuery { kind, subject: subject(), since: None, limit: 1000 };
    wait(ledger(world).journal.runs(&query)).expect("read")
}

pub(crate) fn episodes(world: &SmallWorld) -> Vec<Episode> {
    wait(ledger(world).journal.episodes(&subject())).expect("read")
}

/// The lines of the alerts file.
pub(crate) fn alerts(world: &SmallWorld) -> Vec<Value> {
    let text = std::fs::read_to_string(world.folder().join("var/alerts.jsonl"));
    let text = text.unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    listed.map(|entry| entry.path()).collect()
}

/// All files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut found): (Vec<_>, Vec<_>) =
        entries(folder).into_iter().partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files_below(folder)));
    found
}

/// What production captured of the windows that were sent; a deployment asks too.
pub(crate) fn captured(world: &SmallWorld) -> Vec<CaptureRecord> {
    let files = files_below(&world.folder().join("var/capture/production"));
    let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("a capture file"));
    let parse = |line: &str| CaptureRecord::parse(line).expect("a whole line");
    let all = texts.flat_map(|text| text.lines().map(parse).collect::<Vec<_>>());
    all.filter(|record| record.id().starts_with("window-")).collect()
}

/// Writes lines as the capture of an hour.
pub(crate) fn capture_hour(world: &SmallWorld, hour: DateTime<Utc>, lines: &[String]) {
    let folder = world.folder().join("var/capture/production/AllTraffic").join(hour_folder(hour));
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("replayed.jsonl"), lines.join("\n") + "\n").expect("written");
}

/// The next full hour: no other traffic lies in it or after it.
pub(crate) fn next_hour() -> DateTime<Utc> {
    let now = SystemClock.now();
    now.duration_trunc(TimeDelta::hours(1)).expect("hours divide a day") + TimeDelta::hours(1)
}

/// Monitors an hour at its end.
pub(crate) fn monitor_hour(world: &SmallWorld, hour: DateTime<Utc>) -> Finished {
    let (start, end) = (text(hour), text(hour + TimeDelta::hours(1)));
    let window = ["--window-start", &start, "--window-end", &end, "--as-of", &end];
    run(world, &[&["monitoring_main", "--config", "monitoring_config.yaml"], &window[..]].concat())
}

pub(crate) fn retrain_as_of(world: &SmallWorld, moment: DateTime<Utc>) -> Finished {
    let at = text(moment);
    run(world, &["retraining_main", "--config", "retrain_config.yaml", "--as-of", &at])
}

pub(crate) fn serving(world: &SmallWorld) -> Value {
    let began = Instant::now();
    loop {
        let status = run(world, &deploy_command("status", &[]));
        ended_with(&status, 0);
        // A server that has just been started listens while it restores what served.
        let restoring = status.last["production"]["state"] == "changing";
        if !restoring || began.elapsed() > Duration::from_secs(20) {
            assert_eq!(status.last["consistent"], true, "{}", status.last);
            return status.last["serving"].clone();
        }
    }
}

/// Registers a version whose files are those of the first one, changed.
pub(crate) fn register_like_the_first(
    world: &SmallWorld,
    change: impl Fn(&mut BTreeMap<String, Vec<u8>>),
) {
    let root = world.folder().join("var/registry");
    let first = root.join("fashion/versions/1");
    let manifest = std::fs::read(first.join(files::MANIFEST)).expect("a manifest");
    let manifest: Manifest = serde_json::from_slice(&manifest).expect("a manifest");
    let read = |path: &String| std::fs::read(first.join(path)).expect("a file of the manifest");
    let paths = manifest.files().iter().map(|entry| &entry.path);
    let mut contents: BTreeMap<_, _> = paths.map(|path| (path.clone(), read(path))).collect();
    // Another digest than the first one's, whatever else is changed.
    contents.entry(files::METRICS.to_owned()).or_default().push(b'\n');
    change(&mut contents);
    let folder = tempfile::tempdir().expect("a folder");
    for (path, bytes) in &contents {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    let all = contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let manifest = Manifest::of_bytes(all).expect("a manifest");
    let registration = Registration {
        model: subject().model,
        key: Sha256Digest::of(manifest.digest().to_string().as_bytes()),
        folder: folder.path().to_owned(),
        manifest,
        tags: BTreeMap::from([(tags::VERDICT.to_owned(), "blessed".to_owned())]),
        staging_ready: true,
    };
    let registry = DirectoryRegistry::new(root, Arc::new(SystemClock));
    let version = wait(registry.register(&registration)).expect("registered");
    assert_eq!(version.version.number, 2);
}

/// Every file of a world with its digest, but for what the server writes and what the ledger's
/// engine keeps beside its file while somebody reads.
pub(crate) fn snapshot(world: &SmallWorld) -> BTreeMap<PathBuf, Sha256Digest> {
    let passing = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ledger.sqlite-") || name == "server.log"
    };
    let files = files_below(world.folder()).into_iter().filter(|path| !passing(path));
    files
        .map(|path| (path.clone(), Sha256Digest::of(&std::fs::read(&path).expect("read"))))
        .collect()
}

/// No file.
pub(crate) const NOTHING: [PathBuf; 0] = [];

/// The files that came, went or changed between two snapshots.
pub(crate) fn changed(
    before: &BTreeMap<PathBuf, Sha256Digest>,
    after: &BTreeMap<PathBuf, Sha256Digest>,
) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect()
}
