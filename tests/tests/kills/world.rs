//! States of a small world to start from, made once and copied for each kill.

use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, Weak};

use mloop_testkit::camera::Camera;
use mloop_testkit::small::SmallWorld;
use serde_json::Value;

pub(crate) use crate::runs::{AS_OF, PATIENCE, ended_with, eventually, kill, signal};

pub(crate) const DEPLOY: (&str, &[&str]) =
    ("deployment_main", &["run", "--config", "deployment_config.yaml", "--as-of", AS_OF]);
/// The same without a moment: another run, as the next schedule starts it.
pub(crate) const LATER: &[&str] = &["deployment_main", "run", "--config", "deployment_config.yaml"];
pub(crate) const ROLLBACK: (&str, &[&str]) =
    ("deployment_main", &["rollback", "--config", "deployment_config.yaml", "--as-of", AS_OF]);
pub(crate) const STATUS: &[&str] =
    &["deployment_main", "status", "--config", "deployment_config.yaml"];
pub(crate) const TRAIN: (&str, &[&str]) = ("training_main", &["--config", "training_config.yaml"]);

/// A command of a binary.
pub(crate) type Command = (&'static str, &'static [&'static str]);

/// Worlds before the runs under test.
pub(crate) struct Bases {
    /// Nothing was trained yet.
    pub(crate) empty: SmallWorld,
    /// A first version serves, and a window drifted.
    pub(crate) alarmed: SmallWorld,
    /// The job of that drift has ended; nobody looked yet.
    pub(crate) trained: SmallWorld,
    /// Its episode is closed, and the second version waits for its deployment.
    pub(crate) ready: SmallWorld,
    /// The second version serves.
    pub(crate) switched: SmallWorld,
}

/// The bases, made by the first test that asks, gone with the last.
pub(crate) fn bases() -> Arc<Bases> {
    static BASES: Mutex<Weak<Bases>> = Mutex::new(Weak::new());
    let mut known = BASES.lock().expect("no test panicked while it made the bases");
    if let Some(bases) = known.upgrade() {
        return bases;
    }
    let bases = Arc::new(Bases::new());
    *known = Arc::downgrade(&bases);
    bases
}

impl Bases {
    fn new() -> Self {
        let empty = SmallWorld::new().expect("a world");
        let mut alarmed = empty.fork().expect("a copy");
        ended_with(&alarmed.train_first().expect("runs"), &[0]);
        ended_with(&alarmed.deploy().expect("runs"), &[0]);
        let sent = alarmed.traffic(Camera::Cheap, 300).expect("traffic");
        assert_eq!(sent.counted.failed, 0, "requests failed");
        let alarm = alarmed.monitor(&sent).expect("runs");
        assert_eq!(alarm.last["outcome"], "alert", "{}", alarm.stderr);
        let trained = alarmed.fork().expect("a copy");
        ended_with(&trained.retrain().expect("runs"), &[0]);
        eventually("the job ends", || trained.jobs_at_work().is_empty());
        let ready = trained.fork().expect("a copy");
        let closed = ready.retrain_until_closed().expect("closed");
        assert_eq!(closed["outcome"], "blessed", "{closed}");
        let switched = ready.fork().expect("a copy");
        ended_with(&switched.deploy().expect("runs"), &[0]);
        Self { empty, alarmed, trained, ready, switched }
    }
}

/// Starts a command, its streams on a file, so that no full pipe can stop it; with a fail point if
/// one is named.
pub(crate) fn start(world: &SmallWorld, command: &[&str], point: Option<&str>) -> Child {
    let mut program = world.program(command[0], &command[1..]).expect("built");
    if let Some(point) = point {
        program = program.env("MLOOP_FAILPOINT", point).env("MLOOP_FAILPOINT_MARK", mark(world));
    }
    program.start_logging(&world.folder().join("run.log")).expect("starts")
}

/// Changes one of a world's configurations.
pub(crate) fn edit(world: &SmallWorld, file: &str, from: &str, to: &str) {
    let path = world.folder().join("configs").join(file);
    let text = std::fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{file}: {from}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
}

/// The file by which a process tells that it holds at its fail point.
pub(crate) fn mark(world: &SmallWorld) -> PathBuf {
    world.folder().join("mark")
}

/// Calls a command of a world as a DAG does.
pub(crate) fn until_done(world: &SmallWorld, command: &[&str], codes: &[i32]) -> Value {
    let program = || world.program(command[0], &command[1..]).expect("built");
    crate::runs::until_done(program, codes)
}

/// Cases at once where the moment of a kill counts: more would make runs slower than the one that was
/// measured.
pub(crate) const FEW: usize = 3;

/// Cases at once where it does not: most of their time they wait for the lease of a killed run.
pub(crate) const MANY: usize = 6;

/// Runs the cases, so many at once.
pub(crate) fn in_parallel<T: Sync>(at_once: usize, cases: &[T], case: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let Some(one) = cases.get(index) else { return };
                    case(one);
                }
            });
        }
    });
}
