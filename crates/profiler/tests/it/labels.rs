//! Labels find their rows, late or twice, and unreadable ones are not hidden.

use chrono::TimeDelta;

use crate::fixture::{Disk, Shot, at, evening, lines, noon, request, shot, shots};

#[tokio::test]
async fn a_late_label_counts_once_it_has_arrived() {
    let disk = Disk::new();
    disk.capture("a.jsonl", lines(&shots(3)));
    disk.labels(at("2026-03-01T15:10:00Z"), "l.jsonl", &[("request-1", "shirt")]);
    let source = disk.source();
    let look = |as_of: &str| {
        let mut request = request();
        request.as_of = at(as_of);
        let profiles = &source.profiles;
        async move { profiles.profile(&request).await.unwrap() }
    };
    let before = look("2026-03-01T14:59:59Z").await;
    let after = look("2026-03-01T15:30:00Z").await;
    assert_eq!((before.profile.rows, before.profile.overall.labelled_rows()), (3, 0));
    // Predicted 1, was 2.
    assert_eq!((after.profile.rows, after.profile.overall.confusion.labelled[2][1]), (3, 1));
    assert_eq!(before.profile.columns, after.profile.columns);
    assert_ne!(before.inputs, after.inputs);
}

#[tokio::test]
async fn the_first_label_wins_however_many_follow_and_whichever_is_read_first() {
    let disk = Disk::new();
    let sent = shots(300);
    disk.capture("a.jsonl", lines(&sent));
    let all = |class: &'static str| sent.iter().map(move |s| (s.id.as_str(), class));
    // Behind so many others that the later files are read before it.
    let others: Vec<String> = (0..20_000).map(|n| format!("other-{n}")).collect();
    let others = others.iter().map(|id| (id.as_str(), "bag"));
    let first: Vec<_> = others.chain(all("shirt")).chain(all("boot")).collect();
    disk.labels(noon(), "z.jsonl", &first);
    for hours in 1..7 {
        let later: Vec<_> = all("bag").collect();
        disk.labels(noon() + TimeDelta::hours(hours), "a.jsonl", &later);
    }
    for partitions in [1, 2, 7] {
        let source = disk.source_with(serde_json::json!({"partitions": partitions}));
        let overall = source.profiles.profile(&request()).await.unwrap().profile.overall;
        let shirts: u64 = overall.confusion.labelled[2].iter().sum();
        assert_eq!((overall.labelled_rows(), shirts), (300, 300), "{partitions} partitions");
    }
}

#[tokio::test]
async fn labels_say_how_sure_and_how_right() {
    let disk = Disk::new();
    let sent: Vec<Shot> = shots(2).into_iter().map(|s| Shot { confidence: 0.95, ..s }).collect();
    disk.capture("a.jsonl", lines(&sent));
    disk.labels(noon(), "l.jsonl", &[("request-0", "bag"), ("request-1", "bag")]);
    let profile = disk.profile().await.profile;
    let bin = profile.overall.scores.bins[0][57];
    assert_eq!((bin.positive, bin.negative, bin.unlabelled), (1, 1, 0));
    assert_eq!(profile.groups[0].values[&0].confusion.labelled[0], [0, 1, 0], "north");
}

#[tokio::test]
async fn labels_that_cannot_be_read_are_counted_even_when_nothing_was_captured() {
    let disk = Disk::new();
    disk.truth(evening(), "l.jsonl", "{\"groundTruthData\n");
    assert_eq!(disk.profile().await.profile.quarantined, 1);
    disk.capture("a.jsonl", lines(&shots(2)));
    // A class that the model does not know counts where it meets a row, which stays unlabelled.
    disk.labels(noon(), "l.jsonl", &[("request-0", "hat"), ("nobody", "hat")]);
    let profile = disk.profile().await.profile;
    assert_eq!((profile.rows, profile.quarantined), (2, 2));
    assert_eq!(profile.overall.labelled_rows(), 0);
}

#[tokio::test]
async fn without_a_labels_folder_nothing_is_labelled() {
    let disk = Disk::new();
    disk.capture("a.jsonl", shot(1).line());
    let source = disk.source_with(serde_json::json!({"labels": null}));
    let profile = source.profiles.profile(&request()).await.unwrap().profile;
    assert_eq!((profile.rows, profile.overall.labelled_rows()), (1, 0));
}
