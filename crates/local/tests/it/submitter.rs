//! Jobs as processes: they outlive their caller, are started again when lost, and never twice.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::conformance::{check_submitter, samples};
use mloop_platform::{BuildError, JobSubmitter, PlatformError, SubmitterRegistry};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use serde_json::{Value, json};

use crate::{deps, eventually, example};

fn built(folder: &Path, settings: &Value) -> Arc<dyn JobSubmitter> {
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_local::register_submitters(&mut kinds);
    kinds.build("process", "jobs", settings, &deps(folder)).expect("built")
}

fn settings(arguments: &[&str]) -> Value {
    let program = example("smallest_job");
    let program = program.to_str().expect("text");
    let command = [&[program], arguments].concat();
    json!({"command": command, "work": "jobs"})
}

/// Jobs that sleep until they are stopped.
fn sleeping(folder: &Path) -> Arc<dyn JobSubmitter> {
    built(folder, &settings(&[]))
}

/// Jobs that end with this last line.
fn ending(folder: &Path, line: &str) -> Arc<dyn JobSubmitter> {
    built(folder, &settings(&["--line", line]))
}

/// A job's folder, as documented.
struct Left(PathBuf);

impl Left {
    fn of(folder: &Path, spec: &JobSpec) -> Self {
        Self(folder.join("jobs").join(spec.job_id.as_str()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn pid(&self) -> Pid {
        let text = fs::read(self.file("process.pid")).expect("the pid file");
        let text: Value = serde_json::from_slice(&text).expect("JSON");
        let pid = text["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Pid::from_raw(pid.expect("an id")).expect("an id")
    }

    /// Fails unless the job began so many times, no more.
    fn began(&self, times: usize) {
        let count = || {
            let log = fs::read_to_string(self.file("log")).expect("the log");
            log.lines().filter(|line| line.ends_with(" began")).count()
        };
        // It writes the line after its pid file.
        eventually("the job begins", || count() >= times);
        assert_eq!(count(), times, "{:?}", self.0);
    }
}

/// Waits for a job to end in some way.
async fn end_of(submitter: &dyn JobSubmitter, spec: &JobSpec) -> JobStatus {
    let began = Instant::now();
    loop {
        let status = submitter.status(&spec.job_id).await.expect("a status");
        if status != JobStatus::Running {
            return status;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn stop(submitter: &dyn JobSubmitter, spec: &JobSpec) {
    submitter.cancel(&spec.job_id).await.expect("asked");
    let status = end_of(submitter, spec).await;
    assert!(matches!(status, JobStatus::Lost { .. }), "{status:?}");
}

#[tokio::test]
async fn the_submitter_keeps_its_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    // A wrapper, and what it needs from the environment.
    let wrapped = json!({
        "command": ["sh", "-c", r#"exec "$JOB" "$@""#, "job"],
        "work": "jobs", "env": {"JOB": example("smallest_job")},
    });
    check_submitter(built(folder.path(), &wrapped).as_ref()).await;
}

#[tokio::test]
async fn two_submitters_at_once_start_one_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (sleeping(folder.path()), sleeping(folder.path()));
    let spec = samples::job("raced");
    let (first, second) =
        tokio::join!(one.submit_training_job(&spec), two.submit_training_job(&spec));
    let adopted = [first.expect("one").adopted, second.expect("two").adopted];
    assert_eq!(adopted.iter().filter(|adopted| **adopted).count(), 1, "{adopted:?}");
    Left::of(folder.path(), &spec).began(1);
    stop(one.as_ref(), &spec).await;
}

/// Session of a process: field 6 of its stat.
fn session(pid: Pid) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("stat");
    let fields = stat.rsplit_once(')').expect("a name").1;
    fields.split_whitespace().nth(3).and_then(|field| field.parse().ok()).expect("a session")
}

#[tokio::test]
async fn a_job_outlives_the_group_of_its_caller_and_holds_no_pipe_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = samples::job("outlives");
    let file = folder.path().join("spec.json");
    fs::write(&file, serde_json::to_vec(&spec).expect("JSON")).expect("written");
    // A shell between, as Airflow has one: the signal goes to a group of several processes.
    let mut caller = Command::new("sh");
    caller.args(["-c", r#""$@"; exit $?"#, "sh"]).arg(example("submit_job"));
    caller.arg(settings(&[]).to_string()).arg(&file).current_dir(folder.path()).process_group(0);
    let streams = caller.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut caller = streams.spawn().expect("started");
    let left = Left::of(folder.path(), &spec);
    eventually("the job detaches itself", || left.file("process.pid").exists());
    let job = left.pid();
    assert_eq!(session(job), job.as_raw_nonzero().get(), "it leads a session of its own");
    let group = Pid::from_child(&caller);
    assert_ne!(getpgid(Some(job)).expect("a group"), group);

    kill_process_group(group, Signal::TERM).expect("the caller's group is there");
    let signalled = Instant::now();
    let mut said = Vec::new();
    caller.stdout.take().expect("piped").read_to_end(&mut said).expect("closed");
    caller.stderr.take().expect("piped").read_to_end(&mut said).expect("closed");
    assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
    assert!(!caller.wait().expect("ended").success(), "the signal reached the caller");

    let submitter = sleeping(folder.path());
    assert_eq!(submitter.status(&spec.job_id).await.expect("a status"), JobStatus::Running);
    assert!(submitter.submit_training_job(&spec).await.expect("a repeat").adopted);
    assert_eq!(left.pid(), job, "the same process");
    stop(submitter.as_ref(), &spec).await;
}

#[tokio::test]
async fn a_lost_job_is_started_again_under_its_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let (submitter, spec) = (sleeping(folder.path()), samples::job("lost"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    let left = Left::of(folder.path(), &spec);
    let first = left.pid();
    left.began(1);
    kill_process(first, Signal::KILL).expect("killed");
    let JobStatus::Lost { reason } = end_of(submitter.as_ref(), &spec).await else {
        panic!("a killed job left no result");
    };
    assert!(reason.contains(&first.as_raw_nonzero().to_string()), "{reason}");
    assert!(reason.contains(&left.file("log").display().to_string()), "{reason}");
    assert!(!submitter.submit_training_job(&spec).await.expect("a restart").adopted);
    assert_ne!(left.pid(), first);
    left.began(2);
    assert_eq!(submitter.status(&spec.job_id).await.expect("a status"), JobStatus::Running);
    stop(submitter.as_ref(), &spec).await;
}

#[tokio::test]
async fn what_a_job_left_decides_whether_it_starts_again() {
    let error = |code: i32| json!({"outcome": "error", "error": {"exit_code": code}});
    for (line, code, restarted) in [
        (json!({"outcome": "blessed"}), 0, false),
        (json!({"outcome": "rejected"}), 10, false),
        (json!({"outcome": "inconclusive"}), 11, false),
        (error(1), 1, false),
        (error(20), 20, false),
        (error(30), 30, true),
        (error(143), 143, true),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let submitter = ending(folder.path(), &line.to_string());
        let spec = samples::job("ends");
        assert!(!submitter.submit_training_job(&spec).await.expect("submitted").adopted);
        let expected = JobStatus::Finished { exit_code: code, result: line.clone() };
        assert_eq!(end_of(submitter.as_ref(), &spec).await, expected);
        let again = submitter.submit_training_job(&spec).await.expect("a repeat");
        assert_eq!(again.adopted, !restarted, "{line}");
        assert_eq!(end_of(submitter.as_ref(), &spec).await, expected);
        Left::of(folder.path(), &spec).began(1 + usize::from(restarted));
    }
}

#[tokio::test]
async fn a_result_that_is_none_needs_a_person() {
    for line in ["{\"outcome\": \"bles", "", "[]", r#"{"outcome": "dancing"}"#] {
        let folder = tempfile::tempdir().expect("a folder");
        let (submitter, spec) = (ending(folder.path(), line), samples::job("garbage"));
        submitter.submit_training_job(&spec).await.expect("submitted");
        let left = Left::of(folder.path(), &spec);
        eventually("the result", || left.file("result.json").exists());
        // Until it is gone, a file written in two steps could be caught between them.
        std::thread::sleep(Duration::from_millis(100));
        let asked = submitter.status(&spec.job_id).await.expect_err("no status");
        let repeated = submitter.submit_training_job(&spec).await.expect_err("no restart");
        for error in [asked, repeated] {
            assert!(matches!(error, PlatformError::Conflict { .. }), "{line}: {error:?}");
            assert!(error.to_string().contains("result.json"), "{error}");
        }
        left.began(1);
    }
}

#[tokio::test]
async fn a_process_that_got_the_jobs_id_later_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (submitter, spec) = (sleeping(folder.path()), samples::job("reused"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    let left = Left::of(folder.path(), &spec);
    kill_process(left.pid(), Signal::KILL).expect("killed");
    end_of(submitter.as_ref(), &spec).await;
    // The system tells the moment of a start in ticks of 10 ms, and no id comes back within one.
    std::thread::sleep(Duration::from_millis(30));
    let mut other = Command::new("sleep").arg("60").process_group(0).spawn().expect("started");
    let text = fs::read(left.file("process.pid")).expect("the pid file");
    let mut reused: Value = serde_json::from_slice(&text).expect("JSON");
    reused["pid"] = other.id().into();
    fs::write(left.file("process.pid"), reused.to_string()).expect("written");

    let status = submitter.status(&spec.job_id).await.expect("a status");
    assert!(matches!(status, JobStatus::Lost { .. }), "{status:?}");
    submitter.cancel(&spec.job_id).await.expect("nothing to stop");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(other.try_wait().expect("asked"), None, "another's process must not be signalled");
    other.kill().expect("killed");
    other.wait().expect("ended");
}

#[tokio::test]
async fn a_second_process_of_one_job_ends_and_the_first_is_adopted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (submitter, spec) = (sleeping(folder.path()), samples::job("taken"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    let left = Left::of(folder.path(), &spec);
    // What a submitter leaves that was killed right after the start: a process that has the job,
    // and is about to write its pid file.
    let (written, late) = (left.file("process.pid"), left.file("late"));
    fs::rename(&written, &late).expect("moved");
    let writer = std::thread::spawn({
        let (written, late) = (written.clone(), late.clone());
        move || {
            std::thread::sleep(Duration::from_millis(300));
            fs::rename(late, written).expect("moved");
        }
    });
    let again = submitter.submit_training_job(&spec).await.expect("found");
    writer.join().expect("no panic");
    assert!(again.adopted, "{again:?}");
    left.began(1);
    eventually("the second one's result", || left.file("result.json").exists());
    let status = submitter.status(&spec.job_id).await.expect("a status");
    assert_eq!(status, JobStatus::Running, "its result is not the job's");
    stop_with_anothers_result(submitter.as_ref(), &spec).await;
}

/// The result that the second process left says what is true of the first one too: start again.
async fn stop_with_anothers_result(submitter: &dyn JobSubmitter, spec: &JobSpec) {
    submitter.cancel(&spec.job_id).await.expect("asked");
    let status = end_of(submitter, spec).await;
    assert!(status.is_interrupted(), "{status:?}");
}

#[tokio::test]
async fn programs_that_cannot_be_jobs_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    for (command, expected) in [
        (json!(["no-such-program-anywhere"]), "check `command` of the job submitter"),
        (json!(["false"]), "it ended (exit status: 1) before it had begun; see "),
    ] {
        let settings = json!({"command": command, "work": "jobs"});
        let submitter = built(folder.path(), &settings);
        let spec = samples::job(expected);
        let error = submitter.submit_training_job(&spec).await.expect_err("no job");
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_probe_looks_for_the_program_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (command, found) in [
        (example("smallest_job").display().to_string(), true),
        ("sh".to_owned(), true),
        ("no-such-program-anywhere".to_owned(), false),
    ] {
        let settings = json!({"command": [command], "work": "jobs"});
        let probed = built(folder.path(), &settings).probe().await;
        assert_eq!(probed.is_ok(), found, "{command}: {probed:?}");
    }
    assert!(!folder.path().join("jobs").exists(), "nothing was made");
}

#[test]
fn settings_without_a_program_or_a_folder_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_local::register_submitters(&mut kinds);
    for (settings, key) in [
        (json!({"command": [], "work": "jobs"}), "command"),
        (json!({"command": [""], "work": "jobs"}), "command"),
        (json!({"command": ["./no_such_program"], "work": "jobs"}), "command[0]"),
        (json!({"command": ["x"], "work": ""}), "work"),
        (json!({"command": ["x"], "work": "jobs", "enviroment": {}}), "enviroment"),
    ] {
        let built = kinds.build("process", "jobs", &settings, &deps(folder.path()));
        let error = built.err().expect("refused");
        let told = matches!(&error, BuildError::Settings { path, .. } if path == key);
        assert!(told, "{key}: {error:?}");
    }
}
