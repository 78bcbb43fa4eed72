//! The real binary: started, asked, killed and started again.

mod deployed;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mloop_core::Sha256Digest;
use mloop_core::capture::CaptureRecord;
use mloop_core::version::files;
use mloop_serving::Addresses;
use mloop_serving::testing::client::{Call, Reply};
use mloop_serving::testing::{tiny_image, write_tiny_version};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A running binary with its streams in files.
struct Running {
    child: Child,
    folder: PathBuf,
    addresses: Addresses,
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_model_server"))
}

/// Starts it in a folder with free ports, and waits until it listens.
fn start(folder: &Path, change: impl FnOnce(&mut Command)) -> Running {
    let file = |name: &str| File::create(folder.join(name)).expect("creates");
    let address_file = folder.join("address.json");
    drop(std::fs::remove_file(&address_file));
    let mut command = command();
    command.arg("serve").args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--address-file").arg(&address_file);
    command.stdout(file("stdout")).stderr(file("stderr")).stdin(Stdio::null());
    change(&mut command);
    let child = command.spawn().expect("starts");
    eventually("it listens", || address_file.exists());
    let told = std::fs::read(&address_file).expect("reads");
    let addresses = serde_json::from_slice(&told).expect("addresses");
    Running { child, folder: folder.to_owned(), addresses }
}

impl Running {
    fn get(&self, path: &str) -> Reply {
        Call::get(path).send(self.addresses.listen).expect("answers")
    }

    fn invoke(&self, path: &str) -> Reply {
        let body = tiny_image(3);
        Call::post(path, &[JSON], body.as_bytes()).send(self.addresses.listen).expect("answers")
    }

    fn digest(&self, path: &str) -> Option<Sha256Digest> {
        let reply = self.invoke(path);
        let header = reply.headers.get(mloop_core::attributes::CUSTOM_ATTRIBUTES_HEADER)?;
        mloop_core::attributes::digest_of(header)
    }

    fn await_ping(&self, status: u16) {
        eventually(&format!("/ping answers {status}"), || self.get("/ping").status == status);
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).expect("reads")
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("asks").is_none()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("signals");
    }

    /// Its exit status and the last line of its standard output.
    fn end(mut self) -> (ExitStatus, Value) {
        let status = self.child.wait().expect("ends");
        let stdout = std::fs::read_to_string(self.folder.join("stdout")).expect("reads");
        let last = stdout.lines().last().unwrap_or_default();
        (status, serde_json::from_str(last).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn version(folder: &Path, seed: u32) -> (PathBuf, Sha256Digest) {
    let path = folder.join(format!("version-{seed}"));
    let digest = write_tiny_version(&path, seed).expect("writes");
    (path, digest)
}

fn put(admin: SocketAddr, name: &str, version: &(PathBuf, Sha256Digest)) -> std::io::Result<Reply> {
    let body = json!({
        "folder": version.0, "digest": version.1, "version": 1, "expected": {"any": true}
    })
    .to_string();
    let path = format!("/admin/endpoints/{name}");
    Call { method: "PUT", path: &path, headers: &[JSON], body: body.as_bytes() }.send(admin)
}

#[test]
fn it_serves_and_leaves_cleanly_on_sigterm_with_everything_answered_and_captured() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, digest) = version(folder.path(), 1);
    let capture = folder.path().join("capture");
    let server = start(folder.path(), |command| {
        command.arg("--model").arg(model).arg("--capture").arg(&capture);
        command.args(["--capture-max-bytes", "100000000", "--capture-max-age-days", "7"]);
        // Longer than the test: what is in the files was flushed at the end.
        command.args(["--capture-flush-ms", "60000"]);
    });
    server.await_ping(200);
    assert_eq!(server.digest("/invocations"), Some(digest));

    let metrics = server.get("/metrics");
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = metrics.text();
    let line = r#"mloop_serving_requests_total{endpoint="default",status="2xx"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>());
        assert!(matches!(value, Some(Ok(_))), "{line}");
    }

    let body = tiny_image(9);
    let call = Call::post("/invocations", &[JSON], body.as_bytes());
    let begun = call.begin(server.addresses.listen, 5).expect("sends");
    let in_flight = r#"mloop_serving_requests_in_flight{endpoint="default"} 1"#;
    eventually("a request is in flight", || server.get("/metrics").text().contains(in_flight));
    server.signal(Signal::TERM);
    let refused = || Call::get("/ping").send(server.addresses.listen).is_err();
    eventually("new connections are refused", refused);
    assert_eq!(begun.finish().expect("answers").status, 200);
    let (status, last) = server.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(last, json!({"schema": "mloop.serving/1", "outcome": "drained", "cut_off": 0}));

    let lines = lines_below(&capture);
    assert_eq!(lines.len(), 2);
    for line in lines {
        let answer = CaptureRecord::parse(&line).expect("a record").answer().expect("an answer");
        assert_eq!(answer.model_digest, digest);
        assert!(!answer.features.is_empty());
    }
}

fn lines_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("lists");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let lines = |path: PathBuf| {
        if path.is_dir() {
            return lines_below(&path);
        }
        let text = std::fs::read_to_string(path).expect("reads");
        text.lines().map(str::to_owned).collect()
    };
    paths.flat_map(lines).collect()
}

#[test]
fn one_flipped_byte_is_logged_and_the_process_stays_up_without_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, _) = version(folder.path(), 1);
    let weights = model.join(files::WEIGHTS);
    let mut bytes = std::fs::read(&weights).expect("reads");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(&weights, bytes).expect("writes");
    let mut server = start(folder.path(), |command| {
        command.arg("--model").arg(&model);
    });
    let logged = "`model.safetensors` differs from manifest.json";
    eventually("it is logged", || server.stderr().contains(logged));
    assert_eq!(server.get("/ping").status, 503);
    assert_eq!(server.invoke("/invocations").status, 503);
    assert!(server.is_running());

    let check = command().args(["serve", "--check", "--model"]).arg(&model).output().expect("runs");
    assert_eq!(check.status.code(), Some(20));
    assert!(String::from_utf8_lossy(&check.stdout).contains("differs from manifest.json"));
}

#[test]
fn after_sigkill_the_next_start_serves_what_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let with_state = |command: &mut Command| {
        command.arg("--state").arg(folder.path().join("state"));
    };
    let [one, two] = [1, 2].map(|seed| version(folder.path(), seed));
    let mut server = start(folder.path(), with_state);
    for (name, version) in [("production", &one), ("staging", &two), ("production", &two)] {
        assert_eq!(put(server.addresses.admin, name, version).expect("answers").status, 200);
    }
    server.child.kill().expect("kills");
    server.child.wait().expect("ends");
    std::fs::remove_dir_all(&two.0).expect("removes");
    let server = start(folder.path(), with_state);
    server.await_ping(200);
    for name in ["production", "staging"] {
        assert_eq!(server.digest(&format!("/endpoints/{name}/invocations")), Some(two.1), "{name}");
    }
}

#[test]
fn a_kill_in_the_middle_of_a_switch_leaves_one_version_or_the_other() {
    for (point, survives) in [("serving.kept", 1), ("serving.remembered", 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let with_state = |command: &mut Command| {
            command.arg("--state").arg(folder.path().join("state"));
        };
        let versions = [1, 2].map(|seed| version(folder.path(), seed));
        let mark = folder.path().join("mark");
        let mut server = start(folder.path(), |command| {
            with_state(command);
            command.env("MLOOP_FAILPOINT", format!("{point}@2")).env("MLOOP_FAILPOINT_MARK", &mark);
        });
        let admin = server.addresses.admin;
        assert_eq!(put(admin, "production", &versions[0]).expect("answers").status, 200);
        let caller = std::thread::spawn({
            let second = versions[1].clone();
            move || put(admin, "production", &second)
        });
        eventually("the point is reached", || mark.exists());
        server.child.kill().expect("kills");
        server.child.wait().expect("ends");
        assert!(caller.join().expect("no panic").is_err(), "the switch was never answered");

        let server = start(folder.path(), with_state);
        server.await_ping(200);
        let path = "/endpoints/production/invocations";
        assert_eq!(server.digest(path), Some(versions[survives - 1].1), "{point}");
        let again = put(server.addresses.admin, "production", &versions[1]).expect("answers");
        assert_eq!(again.status, 200);
        assert_eq!(server.digest(path), Some(versions[1].1), "{point}");
    }
}

/// Switches production from version to version until the server is gone; the last one that was
/// promised, and the one that was asked for then.
fn switch_to_and_fro(
    admin: SocketAddr,
    versions: &[(PathBuf, Sha256Digest)],
) -> (Option<Sha256Digest>, Sha256Digest) {
    let mut promised = None;
    for version in versions.iter().cycle() {
        match put(admin, "production", version) {
            Ok(reply) if reply.status == 200 => promised = Some(version.1),
            Ok(reply) => panic!("{}", reply.text()),
            Err(_) => return (promised, version.1),
        }
    }
    unreachable!("a cycle of some versions does not end")
}

#[test]
fn a_kill_at_any_moment_leaves_what_was_promised_or_what_was_being_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let with_state = |command: &mut Command| {
        command.arg("--state").arg(folder.path().join("state"));
    };
    let versions = [1, 2, 3].map(|seed| version(folder.path(), seed));
    let mut allowed: Vec<Option<Sha256Digest>> = vec![None];
    let mut promises = 0;
    for round in 0..12_u64 {
        let mut server = start(folder.path(), with_state);
        server.await_ping(200);
        let now = server.digest("/endpoints/production/invocations");
        assert!(allowed.contains(&now), "{now:?} serves, allowed are {allowed:?}");
        let (admin, versions) = (server.addresses.admin, versions.clone());
        let caller = std::thread::spawn(move || switch_to_and_fro(admin, &versions));
        // Moments spread over several switches, each of which takes some milliseconds.
        std::thread::sleep(Duration::from_micros(7_000 + round * 3_700));
        server.child.kill().expect("kills");
        server.child.wait().expect("ends");
        let (promised, asked) = caller.join().expect("no refusal");
        promises += u32::from(promised.is_some());
        allowed = vec![promised.or(now), Some(asked)];
    }
    assert!(promises > 0, "no switch ever landed before its kill");
}

#[test]
fn help_shows_examples_and_wrong_arguments_are_exit_20() {
    for arguments in [["--help"].as_slice(), &["serve", "--help"]] {
        let help = command().args(arguments).output().expect("runs");
        assert_eq!(help.status.code(), Some(0));
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(text.contains("model_server serve --model") && text.contains("SIGTERM"), "{text}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let cases: [(&[&str], &str); 6] = [
        (&[], "Usage"),
        (&["serve", "--modle", "x"], "--model"),
        (&["serve", "--capture", path], "--capture-max-bytes"),
        (&["serve", "--state", path, "--admin", "0.0.0.0:0"], "not a loopback address"),
        (&["serve", "--model", "/no/such/folder"], "--state DIR"),
        (&["serve", "--config", "x.yaml"], "arguments only"),
    ];
    for (arguments, reason) in cases {
        let output = command().args(arguments).output().expect("runs");
        assert_eq!(output.status.code(), Some(20), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(reason), "{arguments:?}: {said}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())
            .expect("the last line is JSON");
        assert_eq!(last["error"]["exit_code"], 20);
    }
}
