//! A training that nobody asked for, once something serves.

use mloop_testkit::camera::Camera;
use serde_json::Value;

use crate::world::{ended_with, first_version, run, text};

#[test]
fn a_training_by_hand_is_judged_on_the_traffic_that_it_is_given() {
    let (mut world, _base) = first_version();
    let sent = world.traffic(Camera::Cheap, 300).expect("traffic");
    let (start, end) = (text(sent.start), text(sent.end));
    let call = ["training_main", "--config", "training_config.yaml"];
    // The first version's own job: it is found.
    let again = run(&world, &call);
    ended_with(&again, 0);
    assert_eq!(
        (&again.last["adopted"], &again.last["version"]["number"]),
        (&true.into(), &1.into())
    );

    let by_hand = [&call[..], &["--traffic-start", &start, "--traffic-end", &end]].concat();
    let trained = run(&world, &by_hand);
    ended_with(&trained, 0);
    let Value::Object(line) = &trained.last else { panic!("{}", trained.last) };
    assert_eq!((&line["outcome"], &line["version"]["number"]), (&"blessed".into(), &2.into()));
    assert_eq!(line["evaluation"]["champion"]["number"], 1, "against the version that serves");
    let used = &line["traffic"];
    let rows = used["training"].as_u64().zip(used["fresh"].as_u64()).map(|(a, b)| a + b);
    assert_eq!(rows, Some(300), "{used}");

    let repeat = run(&world, &by_hand);
    ended_with(&repeat, 0);
    assert_eq!(
        (&repeat.last["adopted"], &repeat.last["version"]),
        (&true.into(), &line["version"])
    );
}
