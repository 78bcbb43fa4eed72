//! The embedded defaults against the suites of their contracts, kills and damage.

mod deployer;
mod registry;
mod submitter;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mloop_core::FixedClock;
use mloop_platform::conformance::{Repeats, check_notifier, samples};
use mloop_platform::{NotifierRegistry, PlatformDeps};

fn deps(base: &Path) -> PlatformDeps {
    PlatformDeps::new(base.to_path_buf(), Arc::new(FixedClock(samples::day_one())))
}

/// An example of this crate, which cargo builds with its tests.
fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program");
    let path = own.ancestors().nth(2).expect("target").join("examples").join(name);
    assert!(path.exists(), "build it with `cargo build -p mloop-local --examples`: {path:?}");
    path
}

/// Waits for what must come, and fails if it does not.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn the_file_notifier_keeps_its_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut kinds = NotifierRegistry::new("notifier");
    mloop_local::register_notifiers(&mut kinds);
    let settings = serde_json::json!({"path": "alerts.jsonl"});
    let file = kinds.build("file", "file", &settings, &deps(folder.path())).expect("built");
    let path = folder.path().join("alerts.jsonl");
    let count = |id: &str| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().filter(|line| line.contains(&format!("\"id\":\"{id}\""))).count()
    };
    check_notifier(file.as_ref(), Repeats::Dropped, &count).await;
}
