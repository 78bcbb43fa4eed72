//! Lines that cannot be read are counted and hide no others.

use std::fs::File;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::capture::{CaptureRecord, Encoding};
use serde_json::json;

use crate::fixture::{Disk, Shot, evening, lines, noon, request, shot, shots};

async fn counts(disk: &Disk) -> (u64, u64) {
    let profile = disk.profile().await.profile;
    (profile.rows, profile.quarantined)
}

fn with(change: impl FnOnce(&mut CaptureRecord)) -> String {
    let mut record = shot(1).record();
    change(&mut record);
    record.to_line() + "\n"
}

#[tokio::test]
async fn each_kind_of_rubbish_is_quarantined() {
    let half = shot(1).line();
    let half = format!("{}\n", &half[..half.len() / 2]);
    let output = |change: fn(&mut String, &mut Encoding)| {
        with(|record| {
            let output = record.capture_data.endpoint_output.as_mut().unwrap();
            change(&mut output.data, &mut output.encoding);
        })
    };
    let cases: [(&str, Vec<u8>); 7] = [
        ("cut in half", half.into()),
        (
            "bad Base64",
            output(|data, encoding| (*data, *encoding) = ("!".into(), Encoding::Base64)).into(),
        ),
        ("no answer", with(|record| record.capture_data.endpoint_output = None).into()),
        ("foreign answer", output(|data, _| *data = "0.0363".into()).into()),
        ("unknown class", output(|data, _| *data = data.replace("boot", "hat")).into()),
        ("not UTF-8", b"\xff\xfe\n".to_vec()),
        ("not JSON", b"hello\n".to_vec()),
    ];
    for (what, rubbish) in cases {
        let disk = Disk::new();
        let mut content = shot(0).line().into_bytes();
        content.extend(rubbish);
        content.extend(shot(2).line().into_bytes());
        disk.capture("a.jsonl", content);
        assert_eq!(counts(&disk).await, (2, 1), "{what}");
    }
}

#[tokio::test]
async fn rubbish_of_another_hour_is_not_this_windows() {
    let disk = Disk::new();
    disk.capture(
        "a.jsonl",
        with(|record| {
            record.capture_data.endpoint_output = None;
            record.event_metadata.inference_time = noon() - TimeDelta::seconds(1);
        }),
    );
    assert_eq!(counts(&disk).await, (0, 0));
}

#[tokio::test]
async fn half_of_a_last_line_waits_while_its_file_is_being_written() {
    let disk = Disk::new();
    let last = shot(1).line();
    let content = shot(0).line() + &last[..last.len() / 2];
    let path = disk.capture("a.jsonl", content);
    let written = |moment: DateTime<Utc>| {
        File::options().write(true).open(&path).unwrap().set_modified(moment.into()).unwrap();
    };
    written(evening() - TimeDelta::seconds(59));
    assert_eq!(counts(&disk).await, (1, 0));
    // Nobody will finish it any more.
    written(evening() - TimeDelta::seconds(61));
    assert_eq!(counts(&disk).await, (1, 1));
}

#[tokio::test]
async fn a_whole_last_line_counts_without_its_line_feed() {
    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&shots(2)).trim_end());
    assert_eq!(counts(&disk).await, (2, 0));
}

#[tokio::test]
async fn carriage_returns_and_blank_lines_are_no_rubbish() {
    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&shots(3)).replace('\n', "\r\n") + "\r\n\n  \n");
    assert_eq!(counts(&disk).await, (3, 0));
}

#[tokio::test]
async fn a_giant_line_is_skipped_and_those_after_it_are_read() {
    let disk = Disk::new();
    let giant = "x".repeat(8 << 20);
    disk.capture("a.jsonl", format!("{}{giant}\n{}", shot(0).line(), shot(1).line()));
    let source = disk.source_with(json!({"max_line_bytes": 100_000}));
    let profile = source.profiles.profile(&request()).await.unwrap().profile;
    assert_eq!((profile.rows, profile.quarantined), (2, 1));
}

#[tokio::test]
async fn answers_are_read_as_text_and_as_base64() {
    let encoded = Disk::new();
    let mut record = shot(1).record();
    let output = record.capture_data.endpoint_output.as_mut().unwrap();
    assert_eq!(output.encoding, Encoding::Json);
    output.data = STANDARD.encode(&output.data);
    output.encoding = Encoding::Base64;
    encoded.capture("a.jsonl", record.to_line() + "\n");
    let plain = Disk::new();
    plain.capture("a.jsonl", shot(1).line());
    let digest = encoded.profile().await.profile.digest();
    assert_eq!(digest, plain.profile().await.profile.digest());
}

#[tokio::test]
async fn a_request_without_the_callers_id_goes_by_the_platforms() {
    let disk = Disk::new();
    let mut anonymous: Vec<CaptureRecord> = shots(2).iter().map(Shot::record).collect();
    anonymous.iter_mut().for_each(|record| record.event_metadata.inference_id = None);
    let content: String = anonymous.iter().map(|record| record.to_line() + "\n").collect();
    disk.capture("a.jsonl", content);
    disk.labels(noon(), "l.jsonl", &[("event of request-1", "boot")]);
    let profile = disk.profile().await.profile;
    assert_eq!((profile.rows, profile.overall.labelled_rows()), (2, 1));
}
