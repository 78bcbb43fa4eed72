//! The loop under the scheduler: once woken by events alone, and by the clock alone with the jobs of each
//! submitter.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{SubsecRound as _, TimeDelta, Timelike as _};
use mloop_core::{Clock as _, JobId, SystemClock};
use mloop_services::Services;
use mloop_testkit::jobs;
use serde_json::{Value, json};

use crate::airflow::{Airflow, Left, Run};
use crate::checks::the_shipped_configurations_reach_all_services;
use crate::configured::Jobs;
use crate::dags::{Dags, Woken};
use crate::retries::{values_are_never_run_as_shell, what_may_succeed_later_is_tried_again};
use crate::world::{World, ended_with};

/// Bound of the waits for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one turn of the loop needs. The DAGs end before that on which they work.
struct Round {
    dags: Dags,
    world: World,
}

impl Round {
    fn new(jobs: Jobs) -> Self {
        let world = World::new(jobs);
        Self { dags: Dags::new(jobs, &world.configs()), world }
    }
}

/// Goes around once, from drifted traffic to a new version in production.
fn around(Round { dags, world }: &Round) {
    let (airflow, woken) = (&dags.airflow, world.jobs.woken());
    world.first_version();
    let first = world.answering().expect("a digest");
    dags.wait_until_known();
    dags.unpause_those_that_follow();
    let taken = world.drifted_traffic();
    let sent = SystemClock.now();
    the_shipped_configurations_reach_all_services(world);
    if woken == Woken::ByTheClock {
        // A job that is asked for by a run of an earlier moment would look for traffic up to then.
        let later = |run: &Run, left: &Left| run.run_after > sent && left.exit_code == 99;
        airflow.wait_for("mloop_retraining", "retrain", "nothing to do yet", later);
    }

    airflow.unpause("mloop_monitoring");
    alerted(world, airflow, &taken);
    let job = submitted(airflow, woken);
    if world.jobs == Jobs::Processes {
        outlives_its_task(world);
    }
    let digest = match world.jobs {
        _ if world.jobs.are_runs() => trained(airflow, &job),
        _ => closed(airflow)["version"]["digest"].clone(),
    };
    let by = deployed(airflow, woken);
    assert_eq!(by["version"]["digest"], digest, "{by}");

    let answering = world.answering().expect("a digest");
    assert_ne!(answering, first);
    assert_eq!(json!(answering), digest, "production answers with the version that was trained");
    let status = world.run("deployment_main", &["status"], "deployment_config.yaml", &[]);
    ended_with(&status, 0);
    assert_eq!(status.last["serving"], json!({"number": 2, "digest": digest}), "{}", status.last);
    assert_eq!(status.last["consistent"], true, "{}", status.last);
    registered(world);
}

/// MLflow has both versions as ready, and knows which serves.
fn registered(world: &World) {
    let api = |call: &'static str, kind: &'static str| ["api", "2.0", "mlflow", kind, call];
    let ready = format!("name='{}' and tags.staging_ready = 'true'", world.name);
    let found = world.ask_mlflow(&api("search", "model-versions"), ("filter", &ready));
    assert_eq!(found["model_versions"].as_array().map(Vec::len), Some(2), "{found}");
    let model = world.ask_mlflow(&api("get", "registered-models"), ("name", &world.name));
    let aliases = model["registered_model"]["aliases"].as_array().expect("aliases");
    for (alias, version) in [("champion", "2"), ("previous_champion", "1")] {
        let wanted = json!({"alias": alias, "version": version});
        assert!(aliases.contains(&wanted), "{wanted}: {model}");
    }
}

/// Monitoring judges the last full hour by its schedule, and people are told.
fn alerted(world: &World, airflow: &Airflow, taken: &[Duration]) {
    let judged = |_: &Run, left: &Left| left.result["outcome"] == "alert";
    let (run, left) = airflow.wait_for("mloop_monitoring", "monitor", "an alert", judged);
    assert_eq!(run.run_type, "scheduled");
    let start = run.data_interval_start.expect("an interval");
    let end = run.data_interval_end.expect("an interval");
    assert_eq!(end - start, TimeDelta::hours(1), "{run:?}");
    assert_eq!((end.minute(), end.second(), end.trunc_subsecs(0)), (0, 0, end));
    let window = &left.result["window"];
    assert_eq!((&window["start"], &window["end"]), (&json!(start), &json!(end)), "{window}");
    assert_eq!(left.result["reporter_failures"], json!([]), "{}", left.result);
    timed(&left.result, taken);

    let id = left.result["run_id"].as_str().expect("an id");
    let mails = world.mails();
    let told: Vec<&String> =
        mails.iter().filter(|mail| mail.contains(&format!("Message-ID: <{id}.mloop@"))).collect();
    let [mail] = told.as_slice() else { panic!("one mail: {mails:#?}") };
    assert!(mail.contains("X-Envelope-To: vision-oncall@example.org"), "{mail}");
    assert!(world.chat.asked().iter().any(|asked| asked.body.contains(id)), "Slack's webhook");
    let services = Services::running();
    let alerts =
        world.ask(&services.alertmanager().url, &["api", "v2", "alerts"], ("active", "true"));
    let ours = alerts.as_array().into_iter().flatten();
    let ours = ours.filter(|alert| alert["labels"]["model"] == json!(world.name));
    assert!(ours.count() > 0, "{alerts}");
    measured(world, end.timestamp());
}

/// The latency is judged by what the callers measured, all of it, as Prometheus has it.
fn timed(result: &Value, taken: &[Duration]) {
    let findings = result["findings"].as_array().expect("findings").iter();
    let p99: Vec<&Value> = findings.filter(|finding| finding["method"] == "p99").collect();
    let [p99] = p99[..] else { panic!("one finding: {result}") };
    assert_eq!((&p99["status"], &p99["n"]), (&json!("ok"), &json!(taken.len())), "{p99}");
    let mut millis: Vec<f64> = taken.iter().map(|taken| taken.as_secs_f64() * 1000.0).collect();
    millis.sort_by(f64::total_cmp);
    let nearest = millis[(millis.len() * 99).div_ceil(100) - 1];
    let end = |end: usize| p99["interval"][end].as_f64().expect("a number");
    assert!((end(0)..=end(1)).contains(&nearest), "{nearest} ms: {p99}");
}

/// What monitoring pushed is in Prometheus, once that has scraped.
fn measured(world: &World, window_end: i64) {
    let query = format!("mloop_window_end_timestamp_seconds{{model=\"{}\"}}", world.name);
    let url = Services::running().prometheus().url.clone();
    let began = std::time::Instant::now();
    loop {
        let answer = world.ask(&url, &["api", "v1", "query"], ("query", &query));
        let value = answer["data"]["result"][0]["value"][1].as_str().map(str::parse::<f64>);
        // Greater once the next hour was judged too.
        if value.is_some_and(|value| value.is_ok_and(|end| end >= window_end as f64)) {
            return;
        }
        assert!(began.elapsed().as_secs() < 30, "Prometheus has no {query}: {answer}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Retraining was woken, and submits one job: a run of the training DAG.
fn submitted(airflow: &Airflow, woken: Woken) -> JobId {
    let decided = |_: &Run, left: &Left| left.result["outcome"] == "submitted";
    let (run, left) = airflow.wait_for("mloop_retraining", "retrain", "a job", decided);
    assert_eq!(run.run_type, woken.run_type(), "{run:?}");
    serde_json::from_value(left.result["job_id"].clone())
        .unwrap_or_else(|error| panic!("{error}: {}", left.result))
}

/// The job trains a version that is registered as ready.
fn trained(airflow: &Airflow, job: &JobId) -> Value {
    let ours = |run: &Run, _: &Left| run.dag_run_id.starts_with(job.as_str());
    let (_, left) = airflow.wait_for("mloop_training", "train", "the job", ours);
    assert_eq!(left.result["outcome"], "blessed", "{}", left.result);
    left.result["version"]["digest"].clone()
}

/// Deployment was woken, and switched.
fn deployed(airflow: &Airflow, woken: Woken) -> Value {
    let switched = |_: &Run, left: &Left| left.result["outcome"] == "switched";
    let task = "switch_to_production";
    let (run, left) = airflow.wait_for("mloop_deployment", task, "a new version", switched);
    assert_eq!(run.run_type, woken.run_type(), "{run:?}");
    for (task, outcome) in [("deploy", "staged"), ("smoke_test", "smoke_passed")] {
        let left = airflow.left(&run, task).unwrap_or_else(|| panic!("{}", airflow.report(&run)));
        assert_eq!(left.result["outcome"], outcome, "{}", left.result);
    }
    left.result
}

/// A job of the submitter `process` goes on, in a session of its own, once the task that asked for it has
/// ended.
fn outlives_its_task(world: &World) {
    let (held, began) = (world.held(), Instant::now());
    while !held.exists() {
        assert!(began.elapsed() < PATIENCE, "the job does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let [pid] = jobs::at_work(&world.processes())[..] else { panic!("one job is at work") };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit_once(')').expect("a name").1;
    assert_eq!(fields.split_whitespace().nth(3), Some(&*pid.to_string()), "its session: {stat}");
    std::fs::remove_file(held).expect("it goes on");
}

/// A later run of retraining notices that the job has ended.
fn closed(airflow: &Airflow) -> Value {
    let closed = |_: &Run, left: &Left| left.result["closed"][0]["outcome"] == "blessed";
    let (_, left) = airflow.wait_for("mloop_retraining", "retrain", "the job's end", closed);
    left.result["closed"][0].clone()
}

#[test]
fn the_loop_turns_by_events_with_jobs_of_airflow() {
    let round = Round::new(Jobs::Airflow);
    around(&round);
    values_are_never_run_as_shell(&round.world, &round.dags.airflow);
    closed(&round.dags.airflow);
    what_may_succeed_later_is_tried_again(&round.world, &round.dags.airflow);
}

#[test]
fn the_loop_turns_by_the_clock_with_jobs_of_airflow_whose_events_are_lost() {
    around(&Round::new(Jobs::AirflowUnheard));
}

#[test]
fn the_loop_turns_by_the_clock_with_jobs_of_sagemaker() {
    let round = Round::new(Jobs::SageMaker);
    around(&round);
    let calls = round.world.simulator.calls();
    let made = calls.iter().find(|call| call.operation == "CreateTrainingJob").expect("a job");
    let channels = made.request["InputDataConfig"].as_array().expect("channels");
    let names: BTreeSet<&str> =
        channels.iter().filter_map(|channel| channel["ChannelName"].as_str()).collect();
    let expected = ["captured", "config", "data", "job", "labels", "secrets"];
    assert_eq!(names, BTreeSet::from(expected));
    // The training signed in with it.
    let password = round.world.mlflow().password;
    assert!(!made.request.to_string().contains(&password), "{}", made.request);
}

#[test]
fn the_loop_turns_by_the_clock_with_processes_as_jobs() {
    around(&Round::new(Jobs::Processes));
}

#[test]
fn the_loop_turns_by_the_clock_with_jobs_of_kubernetes() {
    let round = Round::new(Jobs::Kubernetes);
    around(&round);
    let cluster = round.world.cluster.as_ref().expect("a cluster");
    let phases: Vec<Value> =
        cluster.pods().iter().map(|pod| pod["status"]["phase"].clone()).collect();
    assert_eq!((cluster.made(), phases), (1, vec![json!("Succeeded")]), "one Job, one pod");
}
