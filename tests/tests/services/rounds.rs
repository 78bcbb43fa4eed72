//! The loop under the scheduler: once woken by events alone, once by the clock alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{SubsecRound as _, TimeDelta, Timelike as _};
use mloop_core::JobId;
use mloop_services::Services;
use serde_json::{Value, json};

use crate::airflow::{Airflow, Left, Run};
use crate::checks::the_shipped_configurations_reach_all_services;
use crate::configured::Jobs;
use crate::dags::{Dags, Woken};
use crate::world::{World, ended_with};

/// What one turn of the loop needs. The DAGs end before that on which they work.
struct Round {
    dags: Dags,
    world: World,
    woken: Woken,
    jobs: Jobs,
    /// One at a time, since all take the same ids and the same folder of configurations.
    _turn: MutexGuard<'static, ()>,
}

impl Round {
    fn new(woken: Woken, jobs: Jobs) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match woken {
            Woken::ByEvents => "events",
            Woken::ByTheClock => "clock",
        };
        let dags = Dags::new(woken);
        Self { dags, world: World::new(name, jobs), woken, jobs, _turn: turn }
    }
}

/// Goes around once, from drifted traffic to a new version in production.
fn around(Round { dags, world, woken, jobs, .. }: &Round) {
    let (airflow, woken) = (&dags.airflow, *woken);
    world.first_version();
    let first = world.answering().expect("a digest");
    world.drifted_traffic();
    for dag in ["mloop_training", "mloop_retraining", "mloop_deployment"] {
        airflow.unpause(dag);
    }
    the_shipped_configurations_reach_all_services(world);
    if woken == Woken::ByTheClock {
        // The schedule's own first runs find nothing to do. Those that follow are later than the
        // traffic, however long the rest takes.
        for (dag, task) in [("mloop_retraining", "retrain"), ("mloop_deployment", "deploy")] {
            airflow.wait_for(dag, task, "a first run", |_, left| left.exit_code == 99);
        }
    }

    airflow.unpause("mloop_monitoring");
    alerted(world, airflow);
    let job = submitted(airflow, woken);
    let digest = match jobs {
        Jobs::OfAirflow => trained(airflow, &job),
        Jobs::OfSageMaker => closed(airflow)["version"]["digest"].clone(),
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
    let url = Services::running().mlflow().url.clone();
    let api = |call: &'static str, kind: &'static str| ["api", "2.0", "mlflow", kind, call];
    let ready = format!("name='{}' and tags.staging_ready = 'true'", world.name);
    let found = world.ask(&url, &api("search", "model-versions"), ("filter", &ready));
    assert_eq!(found["model_versions"].as_array().map(Vec::len), Some(2), "{found}");
    let model = world.ask(&url, &api("get", "registered-models"), ("name", &world.name));
    let aliases = model["registered_model"]["aliases"].as_array().expect("aliases");
    for (alias, version) in [("champion", "2"), ("previous_champion", "1")] {
        let wanted = json!({"alias": alias, "version": version});
        assert!(aliases.contains(&wanted), "{wanted}: {model}");
    }
}

/// Monitoring judges the last full hour by its schedule, and people are told.
fn alerted(world: &World, airflow: &Airflow) {
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

#[test]
fn the_loop_turns_by_events_alone() {
    let round = Round::new(Woken::ByEvents, Jobs::OfAirflow);
    around(&round);
    values_are_never_run_as_shell(&round.world, &round.dags.airflow);
    what_may_succeed_later_is_tried_again(&round.world, &round.dags.airflow);
}

#[test]
fn the_loop_turns_by_the_clock_alone() {
    let round = Round::new(Woken::ByTheClock, Jobs::OfAirflow);
    around(&round);
    closed(&round.dags.airflow);
}

/// Such jobs emit no event when they end.
#[test]
fn the_loop_turns_with_jobs_outside_of_airflow() {
    let round = Round::new(Woken::ByTheClock, Jobs::OfSageMaker);
    around(&round);
    assert!(round.dags.airflow.runs("mloop_training").is_empty());
}

/// A later run of the schedule notices that the job has ended.
fn closed(airflow: &Airflow) -> Value {
    let closed = |_: &Run, left: &Left| left.result["closed"][0]["outcome"] == "blessed";
    let (_, left) = airflow.wait_for("mloop_retraining", "retrain", "the job's end", closed);
    left.result["closed"][0].clone()
}

/// A `conf` that a shell would act on is refused by the binary, once: 20 is not tried again.
fn values_are_never_run_as_shell(world: &World, airflow: &Airflow) {
    let mark = world.folder().join("pwned");
    let evil = format!("$(touch {0}) `touch {0}`; touch {0}", mark.display());
    let conf = json!({"spec": evil, "spec_digest": evil, evil.clone(): evil});
    airflow.trigger("mloop_training", "evil", &conf);
    let run = airflow.wait_for_end("mloop_training", "evil");
    assert_eq!(run.state, "failed", "{}", airflow.report(&run));
    assert_eq!(airflow.tried(&run, "train"), ("failed".to_owned(), 1), "{}", airflow.report(&run));
    let left = airflow.left(&run, "train").expect("exit code and last line");
    assert_eq!((left.exit_code, &left.result["outcome"]), (20, &json!("error")), "{left:?}");
    // Nothing to do: skipped.
    for (dag, task) in [("mloop_retraining", "retrain"), ("mloop_deployment", "deploy")] {
        airflow.trigger(dag, "evil", &conf);
        let run = airflow.wait_for_end(dag, "evil");
        assert_eq!(run.state, "success", "{}", airflow.report(&run));
        assert_eq!(airflow.tried(&run, task).0, "skipped", "{}", airflow.report(&run));
        let left = airflow.left(&run, task).expect("exit code and last line");
        assert_eq!(left.exit_code, 99, "{left:?}");
    }
    assert!(!mark.exists(), "a value was run as shell");
}

/// A service that does not answer is 30, after which Airflow waits for the next try.
fn what_may_succeed_later_is_tried_again(world: &World, airflow: &Airflow) {
    world.lose_the_registry();
    airflow.trigger("mloop_deployment", "later", &json!({}));
    let state = "up_for_retry";
    let run = airflow.wait_for_state("mloop_deployment", "later", "deploy", state);
    let left = airflow.left(&run, "deploy").expect("exit code and last line");
    assert_eq!((left.exit_code, &left.result["outcome"]), (30, &json!("error")), "{left:?}");
}
