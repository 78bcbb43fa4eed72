//! The engine with tiny services.

use std::collections::BTreeSet;

use super::*;

/// A bench of its own in a temporary folder.
struct Place {
    folder: tempfile::TempDir,
    told: Mutex<Vec<String>>,
    interrupted: AtomicBool,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("logs")).expect("a folder");
        Self { folder, told: Mutex::default(), interrupted: AtomicBool::new(false) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("services.json")
    }

    /// Starts services; the outcome, what runs after it, and what was told.
    fn start(&self, services: Vec<(&str, Prepare<'_>)>) -> (Result<(), String>, Vec<String>) {
        let tell = |line: &str| self.told.lock().expect("unbroken").push(line.to_owned());
        let file = self.file();
        let engine = Engine {
            file: &file,
            record: Mutex::new(Record::read(&file).expect("a record")),
            tell: &tell,
            interrupted: &self.interrupted,
            failed: AtomicBool::new(false),
        };
        let outcome = engine.start_all(services).map_err(|error| error.to_string());
        (outcome, self.told.lock().expect("unbroken").clone())
    }

    fn record(&self) -> Record {
        Record::read(&self.file()).expect("a record")
    }
}

/// A service of one process that never answers.
fn launch(name: &'static str, program: &str, script: &str, seconds: u64) -> Prepare<'static> {
    let mut command = Command::new(program);
    command.args(["-c", script]);
    Box::new(move || {
        // Nobody answers there.
        let probe = Probe::page(1, "/");
        let deadline = Duration::from_secs(seconds);
        let tasks = vec![Task { name, command, stop: Stop::Everybody }];
        Ok(Launch { tasks, probe, deadline, entry: serde_json::json!({"url": "here"}) })
    })
}

/// A web server in a process of its own.
fn server(name: &'static str) -> Prepare<'static> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
    Box::new(move || {
        let deadline = Duration::from_secs(60);
        let tasks = vec![Task { name, command, stop: Stop::Everybody }];
        let entry = serde_json::json!({"url": "here"});
        Ok(Launch { tasks, probe: Probe::page(port, "/"), deadline, entry })
    })
}

fn alive(record: &Record) -> BTreeSet<String> {
    let alive = record.processes.iter().filter(|process| process.is_alive());
    alive.map(|process| process.service.clone()).collect()
}

#[test]
fn a_service_that_answers_is_told_and_filed_and_ends_when_asked() {
    let place = Place::new();
    let (outcome, told) = place.start(vec![("one", server("one")), ("two", server("two"))]);
    assert_eq!(outcome, Ok(()));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|line| line.contains("ready in")), "{told:?}");
    let record = place.record();
    assert_eq!(alive(&record), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    assert_eq!(record.entries["one"]["url"], "here");
    let metadata = std::fs::metadata(place.file()).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o777, 0o600, "the file holds passwords");

    process::end(&record.processes).expect("they end");
    assert!(alive(&record).is_empty());
}

#[test]
fn a_service_that_fails_is_told_with_its_log_and_nothing_is_left_running() {
    let place = Place::new();
    let script = "echo starting; echo 'no such table: users' >&2; exit 3";
    let failing = launch("broken", "sh", script, 60);
    // The other would run for ever, and has a child.
    let other = launch("other", "sh", "sleep 600 & wait", 600);
    let (outcome, _) = place.start(vec![("broken", failing), ("other", other)]);
    let told = outcome.expect_err("one failed");
    assert!(told.starts_with("broken: ended before it answered: exit status: 3\n"), "{told}");
    assert!(told.contains("logs/broken.log:\n"), "{told}");
    assert!(told.ends_with("  | starting\n  | no such table: users"), "{told}");
    assert!(!told.contains("other:"), "only what failed by itself is told: {told}");
    let record = place.record();
    assert!(record.processes.is_empty() && record.entries.is_empty(), "{record:?}");
}

#[test]
fn a_service_that_never_answers_is_given_up_and_ended() {
    let place = Place::new();
    let slow = launch("slow", "sh", "echo still busy; sleep 600", 0);
    let told = place.start(vec![("slow", slow)]).0.expect_err("it never answers");
    assert!(told.starts_with("slow: no answer within 0 s: Connection refused"), "{told}");
    assert!(place.record().processes.is_empty());
}

#[test]
fn what_cannot_be_prepared_or_started_is_told() {
    let place = Place::new();
    let unprepared: Prepare = Box::new(|| Err(BenchError::Failed("no lock file".to_owned())));
    let told = place.start(vec![("unprepared", unprepared)]).0.expect_err("it fails");
    assert_eq!(told, "unprepared: no lock file");
    let missing = launch("missing", "/nowhere/server", "", 60);
    let told = place.start(vec![("missing", missing)]).0.expect_err("it fails");
    assert!(told.starts_with("missing: ended before it answered"), "{told}");
    assert!(told.contains("/nowhere/server"), "{told}");
}

#[test]
fn an_interruption_ends_what_was_started_and_leaves_what_ran_before() {
    let place = Place::new();
    assert_eq!(place.start(vec![("before", server("before"))]).0, Ok(()));
    place.interrupted.store(true, Ordering::Relaxed);
    let endless = launch("endless", "sh", "sleep 600", 600);
    let told = place.start(vec![("endless", endless)]).0.expect_err("interrupted");
    assert_eq!(told, "interrupted; what was started is stopped");
    let record = place.record();
    assert_eq!(alive(&record), BTreeSet::from(["before".to_owned()]));
    process::end(&record.processes).expect("it ends");
}
