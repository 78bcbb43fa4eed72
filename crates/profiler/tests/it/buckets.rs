//! The same traffic in a bucket gives the same profile and the same rows as in a folder, byte for byte; what a
//! bucket that fails says. Start the bench with `cargo xtask services up moto`.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_core::{Clock as _, SystemClock};
use mloop_http::testing::{Fault, Relay};
use mloop_platform::{PlatformError, ProfileRequest, Sources, Spec as _};
use mloop_profiler::CaptureFilesSettings;
use mloop_s3::testing::{KEYS, TestBucket};
use mloop_services::Services;
use serde_json::{Value, json};

use crate::fixture::{Disk, at, evening, lines, noon, request, shot, shots, window};
use crate::traffic::at_most;

async fn test_bucket() -> TestBucket {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let url = Services::running().moto().url.clone();
    TestBucket::create(&url, &format!("mloop-profiler-{}-{count}", std::process::id())).await
}

/// Puts all files below a folder into a bucket, under the same names.
async fn upload(folder: &Path, bucket: &TestBucket) {
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            bucket.put(&name, std::fs::read(&path).unwrap()).await;
        }
    }
}

/// The source over a bucket that holds what a [`Disk`] would.
fn source(disk: &Disk, url: &str, bucket: &str, more: &Value) -> Sources {
    let mut settings = json!({
        "path": format!("s3://{bucket}/capture"),
        "labels": format!("s3://{bucket}/truth"),
        "s3": {"region": "us-east-1", "endpoint_url": url, "timeout_secs": 2, "tries": 2},
        "endpoint": "shop",
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut settings: CaptureFilesSettings = serde_json::from_value(settings).unwrap();
    settings.s3 = settings.s3.map(|s3| s3.with_keys(KEYS));
    settings.build("s".to_owned(), &disk.deps()).unwrap()
}

fn over(disk: &Disk, bucket: &TestBucket) -> Sources {
    source(disk, &bucket.url, &bucket.name, &json!({}))
}

/// Traffic of several files with all that can be wrong with them, and labels of several hours and days.
fn written() -> Disk {
    let disk = Disk::new();
    let sent = shots(600);
    let half = sent[0].line();
    disk.capture("00-00-000-a.jsonl", lines(&sent[..200]) + "rubbish\n");
    disk.capture("10-00-000-c.jsonl", lines(&sent[190..400]).replace('\n', "\r\n") + "\n \n");
    disk.capture(
        "05-00-000-b ü+%20.jsonl",
        lines(sent[400..].iter().rev()) + &half[..half.len() / 2],
    );
    disk.capture("empty.jsonl", "");
    disk.capture("00-00-000-a.jsonl.part", lines(&sent));
    let all = |class: &'static str| sent.iter().step_by(2).map(move |sent| (&*sent.id, class));
    disk.labels(noon(), "z.jsonl", &all("shirt").collect::<Vec<_>>());
    disk.labels(at("2026-03-01T19:59:00Z"), "a.jsonl", &all("bag").collect::<Vec<_>>());
    disk.labels(noon(), "odd.jsonl", &[("request-1", "hat"), ("request-3", "boot")]);
    disk.labels(evening() + TimeDelta::hours(1), "later.jsonl", &[("request-5", "bag")]);
    disk.truth(evening(), "rubbish.jsonl", "{\"groundTruthData\n");
    disk
}

#[tokio::test]
async fn a_bucket_is_counted_as_a_folder_is() {
    let (disk, bucket) = (written(), test_bucket().await);
    upload(disk.root.path(), &bucket).await;
    // Both were written years after this look, so that half a line counts as abandoned in both.
    let in_folder = disk.profile().await;
    for partitions in [1, 2, 7] {
        let more = json!({"partitions": partitions});
        let in_bucket = source(&disk, &bucket.url, &bucket.name, &more);
        let in_bucket = in_bucket.profiles.profile(&request()).await.unwrap();
        assert_eq!(in_bucket.profile.digest(), in_folder.profile.digest());
        let [bytes, expected] =
            [&in_bucket, &in_folder].map(|stored| serde_json::to_vec(stored).unwrap());
        assert!(bytes == expected, "{partitions} partitions");
    }
    let counts = &in_folder.profile;
    assert_eq!((counts.rows, counts.overall.labelled_rows()), (600, 301));
    assert_eq!((counts.quarantined, in_folder.inputs.len()), (4, 8));
    // A later look takes the label that arrived by then.
    let later = ProfileRequest { as_of: evening() + TimeDelta::hours(2), ..request() };
    let [found, expected] = [over(&disk, &bucket), disk.source()].map(|source| source.profiles);
    let (found, expected) = (found.profile(&later).await, expected.profile(&later).await);
    assert_eq!(found.as_ref().unwrap(), expected.as_ref().unwrap());
    assert_ne!(found.unwrap().profile, in_folder.profile);
}

#[tokio::test]
async fn labelled_rows_of_a_bucket_are_those_of_a_folder() {
    let (disk, bucket) = (written(), test_bucket().await);
    upload(disk.root.path(), &bucket).await;
    for limit in [0, 40, 1000] {
        let look = async |source: Sources| {
            source.traffic.labelled(&window(), evening(), at_most(limit)).await.unwrap()
        };
        let (found, expected) = (look(over(&disk, &bucket)).await, look(disk.source()).await);
        assert_eq!(found, expected);
        // Which classes a model knows is not the reader's business.
        assert_eq!(found.rows.len(), limit.min(302));
    }
}

#[tokio::test]
async fn of_the_hour_of_the_moment_what_was_put_by_then_counts() {
    let (disk, bucket) = (Disk::new(), test_bucket().await);
    disk.capture("a.jsonl", lines(&shots(4)));
    upload(disk.root.path(), &bucket).await;
    let now = SystemClock.now();
    disk.labels(now, "l.jsonl", &[("request-1", "bag")]);
    upload(disk.root.path(), &bucket).await;
    let look = async |as_of| {
        let found = over(&disk, &bucket).traffic.labelled(&window(), as_of, at_most(10)).await;
        found.unwrap().rows.len()
    };
    assert_eq!(look(now + TimeDelta::seconds(30)).await, 1);
    // S3 tells whole seconds.
    assert_eq!(look(now - TimeDelta::seconds(2)).await, 0);
}

#[tokio::test]
async fn half_of_a_last_line_waits_while_its_object_is_young() {
    let (disk, bucket) = (Disk::new(), test_bucket().await);
    let last = shot(1).line();
    disk.capture("a.jsonl", shot(0).line() + &last[..last.len() / 2]);
    upload(disk.root.path(), &bucket).await;
    let look = async |as_of| {
        let request = ProfileRequest { as_of, ..request() };
        let profile = over(&disk, &bucket).profiles.profile(&request).await.unwrap().profile;
        (profile.rows, profile.quarantined)
    };
    let now = SystemClock.now();
    assert_eq!(look(now).await, (1, 0));
    assert_eq!(look(now + TimeDelta::seconds(120)).await, (1, 1));
}

#[tokio::test]
async fn traffic_may_be_in_a_bucket_and_labels_in_a_folder() {
    let (disk, bucket) = (written(), test_bucket().await);
    upload(disk.root.path(), &bucket).await;
    let mixed = source(&disk, &bucket.url, &bucket.name, &json!({"labels": "truth"}));
    assert_eq!(mixed.profiles.profile(&request()).await.unwrap(), disk.profile().await);
}

#[tokio::test]
async fn an_empty_bucket_is_an_empty_window_and_none_a_mistake() {
    let (disk, bucket) = (Disk::new(), test_bucket().await);
    let stored = over(&disk, &bucket).profiles.profile(&request()).await.unwrap();
    assert_eq!((stored.profile.rows, stored.inputs.len()), (0, 0));

    let nowhere = source(&disk, &bucket.url, &format!("{}-no", bucket.name), &json!({}));
    let error = nowhere.profiles.profile(&request()).await.unwrap_err();
    assert_eq!(error.exit_class(), ExitClass::Configuration);
    let text = error.to_string();
    assert!(text.contains(&format!("there is no bucket `{}-no`", bucket.name)), "{text}");

    disk.capture("a.jsonl", "");
    disk.capture("b.jsonl", "");
    upload(disk.root.path(), &bucket).await;
    let few = source(&disk, &bucket.url, &bucket.name, &json!({"max_files": 1}));
    let error = few.profiles.profile(&request()).await.unwrap_err();
    assert!(error.to_string().contains("raise it or take a shorter window"), "{error}");
}

/// A look at a bucket through a relay that spoils what it is told to.
async fn spoilt(rule: impl Fn(&str) -> Fault + Send + Sync + 'static) -> (PlatformError, Relay) {
    let (disk, bucket) = (written(), test_bucket().await);
    upload(disk.root.path(), &bucket).await;
    let relay = Relay::new(&bucket.url, move |asked| rule(&asked.line));
    let source = source(&disk, &relay.url(), &bucket.name, &json!({}));
    let counted = source.profiles.profile(&request()).await.unwrap_err();
    let learnt = source.traffic.labelled(&window(), evening(), at_most(10)).await.unwrap_err();
    assert_eq!(counted.exit_class(), learnt.exit_class(), "{counted} {learnt}");
    (counted, relay)
}

#[tokio::test]
async fn what_cannot_be_read_is_told_by_what_can_be_done_and_nothing_is_counted() {
    for (fault, expected) in [
        (Fault::Status(500), ExitClass::Transient),
        (Fault::CutBefore, ExitClass::Transient),
        (Fault::Silent, ExitClass::Transient),
        (Fault::Status(403), ExitClass::Credentials),
        (Fault::Status(412), ExitClass::Transient),
    ] {
        // One object of many, at every try; the lists come.
        let (error, _) =
            spoilt(
                move |line| {
                    if line.contains("00-00-000-a.jsonl") { fault } else { Fault::None }
                },
            )
            .await;
        assert_eq!(error.exit_class(), expected, "{fault:?}: {error}");
        assert!(mloop_core::error_chain(&error).contains("00-00-000-a.jsonl"), "{error}");
    }
    let (error, _) =
        spoilt(|line| if line.contains("list-type") { Fault::Status(403) } else { Fault::None })
            .await;
    assert_eq!(error.exit_class(), ExitClass::Credentials);
    assert!(error.to_string().contains("listing the capture files below s3://"), "{error}");
}

#[tokio::test]
async fn only_the_hours_of_a_window_are_listed() {
    let (disk, bucket) = (written(), test_bucket().await);
    upload(disk.root.path(), &bucket).await;
    let relay = Relay::new(&bucket.url, |_| Fault::None);
    let source = source(&disk, &relay.url(), &bucket.name, &json!({}));
    source.profiles.profile(&request()).await.unwrap();
    let mut listed: Vec<_> = relay
        .asked()
        .iter()
        .filter_map(|asked| asked.line.split_once("prefix="))
        .map(|(_, prefix)| prefix.replace("%2F", "/"))
        .collect();
    listed.sort();
    let labels = (12..=20).map(|hour| format!("truth/2026/03/01/{hour}/"));
    let expected: Vec<_> = std::iter::once("capture/shop/AllTraffic/2026/03/01/12/".to_owned())
        .chain(labels)
        .collect();
    assert_eq!(listed, expected);
}
