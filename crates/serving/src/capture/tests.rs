//! Tests of capture as a whole: files in, files out.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeZone as _;
use mloop_core::FixedClock;

use super::*;

fn time(hour: u32, minute: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, hour, minute, 5).single().expect("a time")
        + chrono::Duration::milliseconds(250)
}

fn captured(at: DateTime<Utc>, id: Option<&str>, body: &[u8]) -> Captured {
    Captured {
        endpoint: EndpointName::new("production").expect("a name"),
        at,
        inference_id: id.map(str::to_owned),
        content_type: "image/png".to_owned(),
        input: Bytes::copy_from_slice(body),
        output: Bytes::from_static(b"{}"),
    }
}

fn start(settings: CaptureSettings) -> Capture {
    Capture::start(settings, Arc::new(FixedClock(time(10, 0)))).expect("starts")
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn records(path: &Path) -> Vec<CaptureRecord> {
    let text = fs::read_to_string(path).expect("text");
    assert!(text.ends_with('\n'), "a file ends with a whole line");
    text.lines().map(|line| CaptureRecord::parse(line).expect("a record")).collect()
}

#[test]
fn a_file_for_each_hour_in_the_platforms_layout() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = start(CaptureSettings::new(folder.path().to_owned(), 1 << 30, 30));
    for (at, id) in [(time(10, 59), Some("a")), (time(10, 59), None), (time(11, 0), Some("c"))] {
        capture.offer(captured(at, id, &[1, 2, 255]));
    }
    capture.close();

    let found = files(folder.path());
    assert_eq!(found.len(), 2, "{found:?}");
    let relative = found[0].strip_prefix(folder.path()).expect("below");
    let text = relative.to_str().expect("text");
    assert!(text.starts_with("production/AllTraffic/2026/03/01/10/59-05-250-"), "{text}");
    assert_eq!(fs::metadata(&found[0]).expect("there").permissions().mode() & 0o777, 0o600);

    let first = records(&found[0]);
    assert_eq!(first.len(), 2);
    assert_eq!(first[0].id(), "a");
    assert_ne!(first[0].event_metadata.event_id, first[1].event_metadata.event_id);
    assert_eq!(first[1].id(), first[1].event_metadata.event_id);
    let metadata = &first[0].event_metadata;
    assert_eq!(metadata.inference_time, time(10, 59).trunc_subsecs(0), "whole seconds");
    let input = first[0].capture_data.endpoint_input.clone().expect("captured");
    assert_eq!(input.bytes().expect("decodes"), [1, 2, 255]);
    let counts = CaptureCounts { written: 3, ..CaptureCounts::default() };
    assert_eq!(capture.counts(), counts);
}

#[test]
fn what_does_not_fit_is_dropped_and_counted_and_nothing_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = CaptureSettings::new(folder.path().to_owned(), 1 << 30, 30);
    settings.queue_bytes = 1000;
    let capture = start(settings);
    capture.offer(captured(time(10, 0), None, &[7; 999]));
    capture.close();
    capture.offer(captured(time(10, 0), None, &[7; 10]));
    let counts = CaptureCounts { dropped: 2, ..CaptureCounts::default() };
    assert_eq!(capture.counts(), counts, "one too large, one after the end");
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_disk_that_cannot_be_written_loses_records_and_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = start(CaptureSettings::new(folder.path().to_owned(), 1 << 30, 30));
    // A file where the folder of the endpoint should be.
    fs::write(folder.path().join("production"), b"").expect("writes");
    capture.offer(captured(time(10, 0), None, &[1]));
    capture.close();
    assert_eq!(capture.counts(), CaptureCounts { failed: 1, ..CaptureCounts::default() });
}

#[test]
fn the_oldest_files_go_first_and_the_space_is_kept_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let most = 1 << 20;
    let capture = start(CaptureSettings::new(folder.path().to_owned(), most, 30));
    for minute in 0..60 {
        // Several endpoints share the space.
        let endpoint = EndpointName::new(format!("endpoint-{}", minute % 4)).expect("a name");
        let captured = captured(time(10, minute), None, &[minute as u8; 40_000]);
        capture.offer(Captured { endpoint, ..captured });
    }
    capture.close();
    let found = files(folder.path());
    let bytes: u64 = found.iter().map(|path| fs::metadata(path).expect("there").len()).sum();
    assert!(bytes <= most && bytes > most / 2, "{bytes} bytes");
    let counts = capture.counts();
    assert_eq!(counts.written, 60);
    assert!(counts.removed_files > 0);
    let kept = found.iter().flat_map(|path| records(path));
    let times: Vec<_> = kept.map(|record| record.event_metadata.inference_time).collect();
    let time = |minute| time(10, minute).trunc_subsecs(0);
    assert!(times.contains(&time(59)) && !times.contains(&time(0)), "the oldest go: {times:?}");
}

#[test]
fn files_of_another_age_go_and_other_files_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("makes");
        fs::write(&path, b"{}\n").expect("writes");
        path
    };
    let old = file("old/AllTraffic/2026/02/27/08/00-00-000-x.jsonl");
    let young = file("new/AllTraffic/2026/02/28/10/00-00-000-x.jsonl");
    let foreign = file("old/AllTraffic/2020/01/01/00/notes.txt");
    let mut settings = CaptureSettings::new(folder.path().to_owned(), 1 << 30, 1);
    settings.flush_every = Duration::from_millis(1);
    let capture = start(settings);
    capture.offer(captured(time(10, 0), None, &[1]));
    capture.close();
    assert!(!old.exists() && young.exists() && foreign.exists());
    assert!(!folder.path().join("old/AllTraffic/2026").exists(), "empty folders go too");
    assert_eq!(capture.counts().removed_files, 1);
}

#[test]
fn limits_that_keep_nothing_are_refused() {
    let refuse = |change: &dyn Fn(&mut CaptureSettings)| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = CaptureSettings::new(folder.path().to_owned(), 1 << 30, 1);
        change(&mut settings);
        Capture::start(settings, Arc::new(FixedClock(time(10, 0))))
            .expect_err("refused")
            .to_string()
    };
    assert!(refuse(&|settings| settings.max_bytes = 10).contains("--capture-max-bytes"));
    assert!(refuse(&|settings| settings.max_age_days = 0).contains("--capture-max-age-days"));
    assert!(refuse(&|settings| settings.flush_every = Duration::ZERO).contains("flush"));
}

#[test]
fn event_ids_are_uuids_and_unique() {
    let mut ids = EventIds::new(time(10, 0));
    let made: std::collections::BTreeSet<String> = (0..1000).map(|_| ids.next()).collect();
    assert_eq!(made.len(), 1000);
    let id = made.first().expect("some");
    assert_eq!((id.len(), &id[14..15], &id[19..20]), (36, "8", "8"), "{id}");
}
