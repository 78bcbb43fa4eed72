//! The loop, turned through the real binaries on the small problem: what each rule of it promises.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use mloop_core::profile::{Profile, ProfileKey};
use mloop_core::run::RunKind;
use mloop_core::version::files;
use mloop_core::{Clock as _, EndpointName, Sha256Digest, SystemClock, Window};
use mloop_testkit::camera::Camera;
use mloop_testkit::images;
use mloop_testkit::program::Finished;
use mloop_testkit::small::{Sent, SmallWorld, wait_for_second};
use mloop_testkit::traffic::{Sender, write_labels};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{
    alerts, capture_hour, captured, deploy_command, ended_with, entries, episodes, first_version,
    ledger, monitor_hour, moved, next_hour, register_like_the_first, retrain_as_of, run, runs,
    serving, subject, wait,
};

#[test]
fn the_reference_slice_comes_back_count_for_count() {
    let (world, _base) = first_version();
    let slice = images::parquet(&world.folder().join("data/test.parquet")).expect("the images");
    let client = world.server().endpoints().expect("a client").client;
    let production = EndpointName::new("production").expect("a name");
    let sender = Sender::new(client, production, Camera::Good, "slice");
    let start = wait_for_second();
    let counted = wait(sender.send(&slice));
    let end = wait_for_second();
    assert_eq!((counted.sent, counted.failed), (slice.len(), 0));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let labels = world.folder().join("var/labels");
    write_labels(&labels, "slice", SystemClock.now(), &counted.labels).expect("written");
    let monitored = world.monitor(&Sent { counted, start, end }).expect("runs");
    ended_with(&monitored, 0);

    let reference = world.folder().join("var/registry/fashion/versions/1").join(files::REFERENCE);
    let reference = std::fs::read(reference).expect("a reference");
    let reference: Profile = serde_json::from_slice(&reference).expect("a profile");
    let digest = serving(&world)["digest"].clone();
    let version: Sha256Digest = serde_json::from_value(digest).expect("a digest");
    let key = ProfileKey { subject: subject(), version };
    let window = Window::new(start, end).expect("a window");
    let stored = wait(ledger(&world).profiles.newest(&key, &window)).expect("read");
    let profile = stored.expect("the window's profile").1.profile;
    assert_eq!(profile.rows, slice.len() as u64);
    assert_eq!((profile.quarantined, profile.mixed), (0, 0));
    assert_eq!(profile.schema, reference.schema);
    for (name, counts) in &reference.columns {
        assert_eq!(profile.columns.get(name), Some(counts), "column {name}");
    }
    assert_eq!(profile.columns.len(), reference.columns.len());
    assert_eq!(profile.overall, reference.overall);
    assert_eq!(profile.losses, reference.losses);
    assert!(reference.losses.rows > 0, "images are answered with all probabilities");
    assert_eq!(profile.groups, reference.groups);
    // No empty comparison.
    assert!(reference.columns.len() > 5 && !reference.groups.is_empty(), "{:?}", reference.groups);
}

#[test]
fn twenty_four_drifted_hours_with_a_slow_job_are_one_job() {
    let (mut world, _base) = first_version();
    let config = world.folder().join("configs/training_config.yaml");
    let slow = std::fs::read_to_string(&config).expect("read");
    assert!(slow.contains("epochs: 6"), "{slow}");
    std::fs::write(&config, slow.replace("epochs: 6", "epochs: 5000")).expect("written");
    world.traffic(Camera::Cheap, 120).expect("traffic");
    let records = captured(&world);
    assert_eq!(records.len(), 120);
    let first = next_hour();
    let mut decisions = BTreeMap::<String, usize>::new();
    for hour in (0..24).map(|number| first + TimeDelta::hours(number)) {
        capture_hour(&world, hour, &moved(&records, hour));
        let monitored = monitor_hour(&world, hour);
        ended_with(&monitored, 0);
        assert_eq!(monitored.last["outcome"], "alert", "{}", monitored.last);
        let decided = retrain_as_of(&world, hour + TimeDelta::hours(1));
        ended_with(&decided, 0);
        *decisions.entry(decided.last["outcome"].to_string()).or_default() += 1;
    }
    let expected = [("\"adopted\"".to_owned(), 23), ("\"submitted\"".to_owned(), 1)];
    assert_eq!(decisions, BTreeMap::from(expected));
    let jobs = entries(&world.folder().join("var/jobs"));
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(world.jobs_at_work().len(), 1, "the job was to be slow");
    assert_eq!(episodes(&world).len(), 1);
    assert_eq!(runs(&world, RunKind::Monitoring).len(), 24);
    assert_eq!(runs(&world, RunKind::Retraining).len(), 24);
    let job = jobs[0].file_name().expect("a name").to_string_lossy().into_owned();
    let told = alerts(&world).iter().filter(|line| line.to_string().contains(&job)).count();
    assert_eq!(told, 1, "{:?}", alerts(&world));
}

#[test]
fn scheduled_deployments_after_a_rollback_change_nothing() {
    let (world, _base) = first_version();
    register_like_the_first(&world, |_| {});
    ended_with(&world.deploy().expect("runs"), 0);
    assert_eq!(serving(&world)["number"], 2);
    let back = run(&world, &deploy_command("rollback", &[]));
    ended_with(&back, 13);
    assert_eq!(back.last["outcome"], "rolled_back");
    let after = serving(&world);
    assert_eq!(after["number"], 1);
    let told = alerts(&world).len();
    for number in 0..10 {
        // The three tasks of a DAG's run, and the one command that does them all.
        let moment = format!("2099-01-01T00:0{number}:00Z");
        let tasks = ["deploy", "smoke-test", "switch-to-production", "run"];
        for task in tasks {
            let scheduled = run(&world, &deploy_command(task, &["--as-of", &moment]));
            ended_with(&scheduled, 99);
            assert_eq!(scheduled.last["outcome"], "nothing_to_deploy", "{task}");
        }
    }
    // Asked again, it has been done.
    ended_with(&run(&world, &deploy_command("rollback", &[])), 13);
    let status = run(&world, &deploy_command("status", &[]));
    ended_with(&status, 0);
    assert_eq!(status.last["outcome"], "consistent", "{}", status.last);
    assert_eq!(serving(&world), after);
    assert_eq!(alerts(&world).len(), told, "nobody is told again");
}

#[test]
fn failed_smoke_tests_never_touch_production() {
    let (mut world, _base) = first_version();
    let before = serving(&world);
    register_like_the_first(&world, |files| {
        let golden = files.get_mut(files::GOLDEN).expect("golden cases");
        let text = String::from_utf8(golden.clone()).expect("lines of JSON");
        // Every expectation names another class than the weights do.
        let wrong = text.replace("faint", "?").replace("left", "faint").replace('?', "left");
        assert_ne!(wrong, text);
        *golden = wrong.into_bytes();
    });
    let moment = ["--as-of", "2099-01-01T00:00:00Z"];
    for what in [&moment[..], &moment, &["--version", "2"]] {
        let failed = run(&world, &deploy_command("run", what));
        ended_with(&failed, 12);
        assert_eq!(failed.last["outcome"], "smoke_failed", "{what:?}");
    }
    // A later scheduled run finds no candidate.
    ended_with(&world.deploy().expect("runs"), 99);
    assert_eq!(serving(&world), before);
    let sent = world.traffic(Camera::Good, 20).expect("traffic");
    let answered: Vec<String> = sent.counted.by_version.keys().map(ToString::to_string).collect();
    assert_eq!(answered, [before["digest"].as_str().expect("a digest")]);
}

#[test]
fn record_metrics_alert_and_page_agree() {
    let (mut world, _base) = first_version();
    let quiet = world.traffic(Camera::Good, 200).expect("traffic");
    let quiet = world.monitor(&quiet).expect("runs");
    ended_with(&quiet, 0);
    assert_eq!(quiet.last["outcome"], "ok", "{}", quiet.last);
    let before = alerts(&world).len();
    let of_deployment = |line: &Value| line["id"].to_string().contains("deployment");
    assert!(alerts(&world).iter().all(of_deployment), "{:?}", alerts(&world));
    let changed = world.traffic(Camera::Cheap, 200).expect("traffic");
    let alarm = world.monitor(&changed).expect("runs");
    ended_with(&alarm, 0);
    assert_eq!(alarm.last["outcome"], "alert", "{}", alarm.last);

    let recorded = runs(&world, RunKind::Monitoring);
    let of = |finished: &Finished| {
        let id = finished.last["run_id"].as_str().expect("a run").to_owned();
        recorded
            .iter()
            .find(|run| run.run_id.to_string() == id)
            .expect("its record")
            .outcome
            .clone()
    };
    assert_eq!((of(&quiet), of(&alarm)), ("ok".to_owned(), "alert".to_owned()));
    let told = alerts(&world).split_off(before);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["subject"]["model"], "fashion", "{}", told[0]);

    let metrics = std::fs::read_to_string(world.folder().join("var/mloop.prom")).expect("metrics");
    let page = alarm.last["report"].as_str().expect("a page");
    let page = std::fs::read_to_string(world.folder().join("configs").join(page)).expect("a page");
    assert!(page.contains("alert") && page.contains("</html>"), "{page}");
    let findings = alarm.last["findings"].as_array().expect("findings");
    let drifted: Vec<&Value> = findings.iter().filter(|one| one["status"] == "drifted").collect();
    assert!(!drifted.is_empty(), "{findings:?}");
    for finding in findings.iter().filter(|one| one["column"].is_string()) {
        let column = finding["column"].as_str().expect("a string");
        assert!(metrics.contains(&format!("column=\"{column}\"")), "{column}\n{metrics}");
        assert!(page.contains(column), "{column}");
    }
    shows_the_newest_run(&world, &alarm, &drifted);
}

/// `monitoring_main show` tells of the run that was the last.
fn shows_the_newest_run(world: &SmallWorld, alarm: &Finished, drifted: &[&Value]) {
    let show = ["monitoring_main", "show", "--config", "monitoring_config.yaml"];
    let shown = run(world, &show);
    ended_with(&shown, 0);
    assert_eq!(shown.last["run_id"], alarm.last["run_id"]);
    assert_eq!(shown.last["outcome"], "alert");
    assert!(!shown.stdout.contains('\u{1b}'), "no terminal, no colours: {}", shown.stdout);
    for part in ["▲ alert", "  reference ", "  now ", "before: "] {
        assert!(shown.stdout.contains(part), "{part} is not in {}", shown.stdout);
    }
    let columns = drifted.iter().filter_map(|one| one["column"].as_str());
    for column in columns {
        assert!(shown.stdout.contains(column), "{column} is not in {}", shown.stdout);
    }
}

#[test]
fn a_broken_window_holds_retraining() {
    let (mut world, _base) = first_version();
    world.traffic(Camera::Cheap, 120).expect("traffic");
    let hour = next_hour();
    let mut lines = moved(&captured(&world), hour);
    let half = lines.len() / 2;
    for line in &mut lines[half..] {
        line.truncate(line.len() / 3);
    }
    capture_hour(&world, hour, &lines);
    let monitored = monitor_hour(&world, hour);
    ended_with(&monitored, 0);
    assert_eq!(monitored.last["outcome"], "broken", "{}", monitored.last);
    let decided = retrain_as_of(&world, hour + TimeDelta::hours(1));
    ended_with(&decided, 99);
    assert_eq!(decided.last["outcome"], "held", "{}", decided.last);
    assert!(entries(&world.folder().join("var/jobs")).is_empty());
    assert!(episodes(&world).is_empty());
}

#[test]
fn a_server_that_was_killed_serves_again_and_the_ledger_agrees() {
    let (world, _base) = first_version();
    let before = serving(&world);
    let pid = i32::try_from(world.server().pid()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::KILL).expect("killed");
    let lost = run(&world, &deploy_command("status", &[]));
    ended_with(&lost, 30);
    // A server on the files that the killed one left.
    let mut again = world.fork().expect("a copy");
    assert_eq!(serving(&again), before);
    let sent = again.traffic(Camera::Good, 20).expect("traffic");
    assert_eq!((sent.counted.sent, sent.counted.failed), (20, 0));
    ended_with(&again.deploy().expect("runs"), 99);
    assert_eq!(serving(&again), before);
}
