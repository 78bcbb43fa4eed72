//! Whatever the order of rows, their spread over files and the number of partitions: one profile.

use mloop_core::Sha256Digest;
use mloop_core::profile::StoredProfile;
use proptest::prelude::*;
use serde_json::json;

use crate::fixture::{CLASSES, Disk, Shot, noon, request, shot};

/// A request, whether it is sent twice, and its label; ids come of their place.
fn any_shot() -> impl Strategy<Value = (Shot, bool, Option<usize>)> {
    let site = prop::option::of("[a-z]{1,3}|north|south");
    let values = (0..3usize, 0.0..=1.0, -1e6..1e6f64, site, 0..10_000_000u64, prop::bool::ANY);
    (values, prop::bool::ANY, prop::option::of(0..3usize)).prop_map(|(values, twice, label)| {
        let (class, confidence, brightness, site, latency, mixed) = values;
        let other = if mixed { Sha256Digest::of(b"another") } else { shot(0).version };
        let shot = Shot { class, confidence, brightness, site, latency, version: other, ..shot(0) };
        (shot, twice, label)
    })
}

/// Gives each request its id and time; a repeat comes later and says something else.
fn traffic(shots: Vec<(Shot, bool, Option<usize>)>) -> (Vec<String>, Vec<(String, usize)>) {
    let (mut lines, mut labels) = (Vec::new(), Vec::new());
    for (n, (values, twice, label)) in (0u32..).zip(shots) {
        let at = shot(2 * n);
        let first = Shot { id: at.id, time: at.time, ..values };
        if twice {
            let class = (first.class + 1) % 3;
            lines.push(Shot { time: shot(2 * n + 1).time, class, ..first.clone() }.line());
        }
        labels.extend(label.map(|label| (first.id.clone(), label)));
        lines.push(first.line());
    }
    lines.push("rubbish\n".to_owned());
    (lines, labels)
}

fn profile(
    lines: &[String],
    labels: &[(String, usize)],
    files: usize,
    parts: usize,
) -> StoredProfile {
    let disk = Disk::new();
    let chunk = lines.len().div_ceil(files).max(1);
    for (number, lines) in lines.chunks(chunk).enumerate() {
        disk.capture(&format!("{number}.jsonl"), lines.concat());
    }
    for (number, labels) in labels.chunks(7).enumerate() {
        let labels: Vec<_> =
            labels.iter().map(|(id, label)| (id.as_str(), CLASSES[*label])).collect();
        disk.labels(noon(), &format!("{number}.jsonl"), &labels);
    }
    let source = disk.source_with(json!({"partitions": parts}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(source.profiles.profile(&request())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_digest_does_not_depend_on_order_files_or_partitions(
        (shots, seed) in (prop::collection::vec(any_shot(), 0..60), any::<u64>())
    ) {
        let (mut lines, mut labels) = traffic(shots);
        let expected = profile(&lines, &labels, 1, 1).profile;
        prop_assert_eq!(expected.quarantined, 1);
        for (files, parts) in [(1, 7), (3, 2), (7, 7), (5, 1)] {
            shuffle(&mut lines, seed.wrapping_add(files as u64));
            shuffle(&mut labels, seed.wrapping_add(parts as u64));
            let other = profile(&lines, &labels, files, parts).profile;
            prop_assert_eq!(other.digest(), expected.digest(), "{} files, {} parts", files, parts);
        }
    }
}

/// Fisher and Yates' shuffle by a linear congruential generator: any order will do.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (seed >> 33) as usize % (last + 1));
    }
}

#[test]
fn windows_of_half_an_hour_merge_into_the_hour() {
    let disk = Disk::new();
    let sent: Vec<Shot> = (0..3600).step_by(5).map(shot).collect();
    disk.capture("a.jsonl", crate::fixture::lines(&sent));
    let source = disk.source();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let count = |from: i64, to: i64| {
        let minutes = chrono::TimeDelta::minutes;
        let window = mloop_core::Window::new(noon() + minutes(from), noon() + minutes(to)).unwrap();
        let request = mloop_platform::ProfileRequest { window, ..request() };
        runtime.block_on(source.profiles.profile(&request)).unwrap().profile
    };
    let mut halves = count(30, 60);
    halves.merge(&count(0, 30)).unwrap();
    let whole = count(0, 60);
    assert_eq!((whole.rows, halves.digest()), (720, whole.digest()));
}
