//! `--check` and `--dry-run` change nothing.

use mloop_testkit::camera::Camera;

use crate::world::{
    NOTHING, changed, ended_with, first_version, register_like_the_first, run, snapshot,
};

#[test]
fn checks_and_dry_runs_change_nothing() {
    let (mut world, _base) = first_version();
    let sent = world.traffic(Camera::Cheap, 120).expect("traffic");
    ended_with(&world.monitor(&sent).expect("runs"), 0);
    let (start, end) = (sent.start.to_rfc3339(), sent.end.to_rfc3339());
    let monitoring = ["monitoring_main", "--config", "monitoring_config.yaml"];
    let window = ["--window-start", &start, "--window-end", &end];
    let retraining = ["retraining_main", "--config", "retrain_config.yaml"];
    let training = ["training_main", "--config", "training_config.yaml"];
    let deployment = ["deployment_main", "run", "--config", "deployment_config.yaml"];
    let before = snapshot(&world);
    assert!(before.len() > 20, "a snapshot of something: {before:?}");
    for command in [&monitoring[..], &retraining, &training, &deployment] {
        let checked = run(&world, &[command, &["--check"]].concat());
        ended_with(&checked, 0);
        assert_eq!(checked.last["outcome"], "checked", "{command:?}");
        assert_eq!(changed(&before, &snapshot(&world)), NOTHING, "{command:?} --check");
        let more = if command == monitoring { &window[..] } else { &[] };
        let tried = run(&world, &[command, more, &["--dry-run"]].concat());
        assert!(matches!(tried.code, Some(0 | 99)), "{command:?}: {}", tried.stderr);
        assert_eq!(changed(&before, &snapshot(&world)), NOTHING, "{command:?} --dry-run");
    }
}

#[test]
fn a_dry_run_says_what_each_task_of_a_deployment_would_do() {
    let (world, _base) = first_version();
    register_like_the_first(&world, |_| {});
    let call = |task: &str, more: &[&str]| {
        let command = ["deployment_main", task, "--config", "deployment_config.yaml"];
        run(&world, &[&command[..], more].concat())
    };
    let would = |task: &str| {
        let told = call(task, &["--dry-run"]);
        ended_with(&told, 0);
        let number = |key: &str| told.last[key]["number"].as_u64();
        (told.last["would"].as_str().expect("a word").to_owned(), number("version"), number("to"))
    };
    assert_eq!(would("run"), ("begin".to_owned(), Some(2), None));
    assert_eq!(would("smoke-test"), ("nothing".to_owned(), None, None));
    let first = call("rollback", &["--dry-run"]);
    ended_with(&first, 20);
    assert!(first.stderr.contains("there is none to go back to"), "{}", first.stderr);
    ended_with(&call("deploy", &[]), 0);
    assert_eq!(would("smoke-test"), ("go_on".to_owned(), Some(2), None));
    let too_early = call("switch-to-production", &["--dry-run"]);
    ended_with(&too_early, 20);
    assert!(too_early.stderr.contains("run `smoke-test` first"), "{}", too_early.stderr);
    ended_with(&call("run", &[]), 0);
    assert_eq!(would("rollback"), ("roll_back".to_owned(), Some(2), Some(1)));
}
