//! Labels that take a day, through the binaries: the traffic that asks for a new version has none yet.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use mloop_testkit::camera::Camera;

use crate::world::{
    capture_hour, captured, ended_with, entries, first_version, monitor_hour, moved, next_hour,
    retrain_as_of,
};

#[test]
fn a_new_version_is_trained_on_the_labels_of_the_day_before() {
    let (mut world, _base) = first_version();
    // The day before: labelled by now. A day later the same cameras drift, and no label has come.
    let labelled = world.traffic(Camera::Cheap, 300).expect("traffic").counted.sent;
    let records = captured(&world);
    let hour = next_hour() + TimeDelta::hours(24);
    capture_hour(&world, hour, &moved(&records, hour));
    let monitored = monitor_hour(&world, hour);
    ended_with(&monitored, 0);
    assert_eq!(monitored.last["outcome"], "alert", "{}", monitored.last);
    let decided = hour + TimeDelta::hours(1);
    let submitted = retrain_as_of(&world, decided);
    ended_with(&submitted, 0);
    assert_eq!(submitted.last["outcome"], "submitted", "{}", submitted.last);

    let began = Instant::now();
    let mut minute = 0;
    let closed = loop {
        assert!(began.elapsed() < Duration::from_secs(120), "no job ended");
        minute += 1;
        let later = retrain_as_of(&world, decided + TimeDelta::minutes(minute));
        if let Some(closed) = later.last["closed"].get(0) {
            break closed.clone();
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(closed["outcome"], "blessed", "{closed}");
    let jobs = entries(&world.folder().join("var/jobs"));
    let result = std::fs::read(jobs[0].join("result.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    let used = &result["traffic"];
    let rows = used["training"].as_u64().zip(used["fresh"].as_u64()).map(|(a, b)| a + b);
    let older = used["older"].as_u64();
    assert_eq!(rows.zip(older).map(|(rows, older)| rows + older), Some(labelled as u64), "{used}");
    assert!(rows >= Some(75), "{used}");
    assert_eq!(used["unlabelled"], records.len(), "the evidence itself: {used}");
}
