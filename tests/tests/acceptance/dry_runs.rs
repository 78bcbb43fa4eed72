//! `--check` and `--dry-run` change nothing.

use mloop_testkit::camera::Camera;

use crate::world::{NOTHING, changed, ended_with, first_version, run, snapshot};

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
