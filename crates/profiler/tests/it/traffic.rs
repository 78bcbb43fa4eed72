//! Labelled requests to learn from.

use mloop_core::capture::CaptureRecord;
use mloop_platform::{LabelledTraffic, TrafficLimit};

use crate::fixture::{Disk, Shot, at, evening, lines, noon, shot, shots, window};

async fn labelled(disk: &Disk, rows: usize) -> LabelledTraffic {
    within(disk, at_most(rows)).await
}

async fn within(disk: &Disk, limit: TrafficLimit) -> LabelledTraffic {
    disk.source().traffic.labelled(&window(), evening(), limit).await.unwrap()
}

/// So many rows, of whatever size.
pub(crate) fn at_most(rows: usize) -> TrafficLimit {
    TrafficLimit { rows, bytes: u64::MAX }
}

#[tokio::test]
async fn the_newest_labelled_requests_come_with_their_bodies() {
    let disk = Disk::new();
    let mut sent = shots(8);
    // Two at one moment are sorted by id; files hold them in no order.
    sent[6].time = sent[5].time;
    disk.capture("a.jsonl", lines([&sent[6], &sent[1], &sent[3]]));
    disk.capture("b.jsonl", lines([&sent[5], &sent[2], &sent[4], &sent[0], &sent[7]]));
    let labels: Vec<_> = (1..7).map(|n| (sent[n].id.as_str(), "whatever")).collect();
    disk.labels(noon(), "l.jsonl", &labels);

    let traffic = labelled(&disk, 4).await;
    assert_eq!((traffic.unlabelled, traffic.over_limit, traffic.quarantined), (2, 2, 0));
    let ids: Vec<_> = traffic.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["request-3", "request-4", "request-5", "request-6"]);
    for (row, sent) in traffic.rows.iter().zip(&sent[3..]) {
        assert_eq!((row.time, row.label.as_str()), (sent.time, "whatever"));
        assert_eq!((row.content_type.as_str(), &row.body[..]), ("image/png", sent.id.as_bytes()));
        assert_eq!(row.attributes, sent.attributes());
    }
    assert_eq!(labelled(&disk, 100).await.rows.len(), 6);
    assert_eq!(labelled(&disk, 0).await.over_limit, 6);
    // A body is the id, of 9 bytes.
    let bounded = within(&disk, TrafficLimit { rows: 100, bytes: 3 * 9 + 8 }).await;
    let ids: Vec<_> = bounded.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["request-4", "request-5", "request-6"]);
    assert_eq!((bounded.over_limit, bounded.unlabelled), (3, 2), "what did not fit is counted");
}

#[tokio::test]
async fn a_request_without_a_body_is_quarantined_and_repeats_are_dropped() {
    let disk = Disk::new();
    let mut bare: CaptureRecord = shot(1).record();
    bare.capture_data.endpoint_input = None;
    let again = Shot { id: "request-2".to_owned(), ..shot(3) };
    disk.capture("a.jsonl", bare.to_line() + "\n" + &lines([&again, &shot(2)]));
    disk.labels(noon(), "l.jsonl", &[("request-1", "bag"), ("request-2", "boot")]);
    let traffic = labelled(&disk, 10).await;
    assert_eq!((traffic.rows.len(), traffic.quarantined), (1, 1));
    assert_eq!(traffic.rows[0].time, shot(2).time);
}

#[tokio::test]
async fn labels_that_arrive_later_change_nothing_as_of_a_moment() {
    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&shots(4)));
    disk.labels(at("2026-03-01T13:59:59Z"), "l.jsonl", &[("request-0", "bag")]);
    let source = disk.source();
    let look = async |as_of: &str| {
        let found = source.traffic.labelled(&window(), at(as_of), at_most(10)).await.unwrap();
        let labels = found.rows.iter().map(|row| format!("{}: {}", row.id, row.label));
        (labels.collect::<Vec<_>>(), found.unlabelled)
    };
    let before = look("2026-03-01T14:30:00Z").await;
    assert_eq!(before, (vec!["request-0: bag".to_owned()], 3));
    // Both are written now, years after that moment: one into its own hour, one into the next.
    disk.labels(at("2026-03-01T14:00:00Z"), "m.jsonl", &[("request-1", "bag")]);
    disk.labels(at("2026-03-01T15:00:00Z"), "n.jsonl", &[("request-2", "bag")]);
    assert_eq!(look("2026-03-01T14:30:00Z").await, before);
    assert_eq!(look("2026-03-01T15:00:00Z").await.0.len(), 2, "the hour has ended");
    assert_eq!(look("2026-03-01T16:00:00Z").await.0.len(), 3);
}

#[tokio::test]
async fn of_the_hour_of_the_moment_what_was_written_by_then_counts() {
    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&shots(4)));
    // A moment after the files were written, so that their hour is its own.
    let now = std::fs::metadata(disk.capture("b.jsonl", lines(&shots(1)))).unwrap();
    let now = chrono::DateTime::<chrono::Utc>::from(now.modified().unwrap());
    disk.labels(now, "l.jsonl", &[("request-1", "bag")]);
    let look =
        async |as_of| disk.source().traffic.labelled(&window(), as_of, at_most(10)).await.unwrap();
    let after = now + chrono::TimeDelta::seconds(1);
    assert_eq!(look(after).await.rows.len(), 1);
    assert_eq!(look(now - chrono::TimeDelta::seconds(1)).await.rows.len(), 0);
}
