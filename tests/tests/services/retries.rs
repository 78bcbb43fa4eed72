//! What Airflow makes of ends that are no success: which are tried again, and which are not.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mloop_core::episode::Episode;
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::{Clock as _, JobId, ModelName, Subject, SystemClock, TargetName};
use mloop_services::Services;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::airflow::{Airflow, Run};
use crate::world::World;

/// Bound of the waits for a process.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `conf` that a shell would act on is refused by the binary, once: 20 is not tried again.
pub(crate) fn values_are_never_run_as_shell(world: &World, airflow: &Airflow) {
    let evil = evil(world);
    let conf = json!({"spec": evil, "spec_digest": evil, evil.clone(): evil});
    let dags = [
        ("mloop_training", "train", "failed", 20),
        // Nothing to do: skipped.
        ("mloop_retraining", "retrain", "skipped", 99),
        ("mloop_deployment", "deploy", "skipped", 99),
    ];
    dags.iter().for_each(|(dag, ..)| airflow.trigger(dag, "evil", &conf));
    for (dag, task, state, code) in dags {
        let run = airflow.wait_for_end(dag, "evil");
        assert_eq!(airflow.tried(&run, task), (state.to_owned(), 1), "{}", airflow.report(&run));
        let left = airflow.left(&run, task).expect("exit code and last line");
        assert_eq!(left.exit_code, code, "{left:?}");
    }
    assert!(!pwned(world).exists(), "a value was run as shell");
}

fn pwned(world: &World) -> PathBuf {
    world.folder().join("pwned")
}

/// What a shell or a template would act on.
fn evil(world: &World) -> String {
    format!("$(touch {0}) `touch {0}`; touch {0}; 'é\" \\ {{{{ 7 * 7 }}}}", pwned(world).display())
}

/// A registry that does not answer (30), a lease that another run holds (31), a training that was told to
/// stop (143) and one that was killed: all is tried again, and ends well once nothing is in its way.
pub(crate) fn what_may_succeed_later_is_tried_again(world: &World, airflow: &Airflow) {
    let hold = Hold::new(&world.held());
    let lease = world.take_the_lease(&format!("retraining/{}", subject(world)));
    world.move_the_registry(true);
    let job = job(world);
    let spec = json!({"spec": job, "spec_digest": "d"});
    // Logs outlive their DAGs, and an id names a log.
    let id = &*world.name;
    airflow.trigger("mloop_retraining", id, &json!({}));
    airflow.trigger("mloop_deployment", id, &json!({}));
    airflow.trigger("mloop_training", id, &spec);

    // A training holds for a minute at most, and all have a few tries only.
    std::thread::scope(|scope| {
        scope.spawn(|| kill_and_then_stop(hold));
        wait_for_a_try(airflow, "mloop_retraining", id, "retrain");
        world.give_back(&lease);
        wait_for_a_try(airflow, "mloop_deployment", id, "deploy");
        world.move_the_registry(false);
    });

    for (dag, task, expected) in [
        ("mloop_retraining", "retrain", vec![31, 99]),
        ("mloop_deployment", "deploy", vec![30, 99]),
        // Death by signal 9, as bash tells it. At last the gate cannot tell: there is no traffic.
        ("mloop_training", "train", vec![137, 143, 11]),
    ] {
        let run = airflow.wait_for_end(dag, id);
        let mut codes = airflow.exit_codes(&run, task);
        // What was in the way may have been so for a second try.
        codes.dedup();
        assert_eq!(codes, expected, "{}", airflow.report(&run));
        assert_eq!(airflow.tried(&run, task).0, "skipped", "{}", airflow.report(&run));
    }
    // The job reached the training as it was.
    let run = airflow.wait_for_end("mloop_training", id);
    let left = airflow.left(&run, "train").expect("exit code and last line");
    assert_eq!(left.result["job_id"], json!(job.job_id), "{left:?}");
    assert!(!pwned(world).exists(), "a word of the job was run as shell");
}

/// Waits until the first try of a run's task has ended.
fn wait_for_a_try(airflow: &Airflow, dag: &str, id: &str, task: &str) {
    let tried = |run: &Run| !airflow.exit_codes(run, task).is_empty();
    airflow.wait_for_run(dag, id, "its first try does not end", tried);
}

fn subject(world: &World) -> Subject {
    Subject {
        model: ModelName::new(&world.name).expect("a name"),
        target: TargetName::new("production").expect("a name"),
    }
}

/// A job without labelled traffic, with words that a shell or a template would act on.
fn job(world: &World) -> JobSpec {
    let subject = subject(world);
    let episode = Episode::id_of(&subject, None, 1);
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: JobId::derive(&["retries", &world.name]),
        subject,
        cause: Cause { episode, attempt: 1, reasons: vec![evil(world)], evidence: vec![] },
        champion: None,
        traffic: None,
        evidence_from: None,
        as_of: SystemClock.now(),
    }
}

/// As long as it is there, trainings of the DAG hold before they begin, and say so in a file.
struct Hold {
    environment: PathBuf,
    held: PathBuf,
}

impl Hold {
    fn new(held: &Path) -> Self {
        let environment = Services::running().airflow().bin_folder.join("training_main.env");
        let text = format!(
            "export MLOOP_FAILPOINT=training.planned MLOOP_FAILPOINT_MARK='{}'\n",
            held.display()
        );
        std::fs::write(&environment, text).expect("written");
        Self { environment, held: held.to_owned() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.environment));
    }
}

/// Kills the first try, tells the second to stop, and lets the third have its way.
fn kill_and_then_stop(hold: Hold) {
    let held = hold.held.clone();
    signal(&held, Signal::KILL);
    std::fs::remove_file(&held).expect("announced");
    signal(&held, Signal::TERM);
    drop(hold);
    std::fs::remove_file(&held).expect("announced");
}

/// Waits until a training holds, and signals it.
fn signal(held: &Path, signal: Signal) {
    let began = Instant::now();
    while !held.exists() {
        assert!(began.elapsed() < PATIENCE, "no training holds");
        std::thread::sleep(Duration::from_millis(20));
    }
    let wanted = format!("MLOOP_FAILPOINT_MARK={}", held.display());
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let holds = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids: Vec<i32> = pids.filter(holds).collect();
    let [pid] = pids[..] else { panic!("one training holds: {pids:?}") };
    kill_process(Pid::from_raw(pid).expect("an id"), signal).expect("it is there");
}
