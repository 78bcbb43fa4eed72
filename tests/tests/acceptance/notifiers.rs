//! People are told: a receiver that is dead delays no other, and no kill loses a message.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use mloop_core::run::RunKind;
use mloop_http::testing::{Reply, Server};
use mloop_services::{Services, Smtp};
use mloop_testkit::camera::Camera;
use mloop_testkit::program::Finished;
use mloop_testkit::small::{SmallWorld, wait_for_second};

use crate::world::{
    alerts, capture_hour, captured, ended_with, first_version, ledger, monitor_hour, moved,
    next_hour, register_like_the_first, runs, subject, text, wait,
};

/// What stands in no log and in no result.
const WEBHOOK: &str = "services/T0/B0/hunter2";

/// Adds notifiers to a configuration.
fn add_notifiers(world: &SmallWorld, file: &str, added: &str) {
    let path = world.folder().join("configs").join(file);
    let config = std::fs::read_to_string(&path).expect("read");
    let (before, after) = config.split_once("\nnotifiers:").expect("notifiers");
    let (rest, after) = after.split_once('\n').expect("a line");
    let config = format!("{before}\nnotifiers:{rest}\n{added}{after}");
    std::fs::write(&path, config).expect("written");
}

/// The runs of monitoring that the file of alerts tells of.
fn told(world: &SmallWorld) -> Vec<String> {
    let of_monitoring = alerts(world).into_iter().filter(|alert| alert["topic"] == "monitoring");
    of_monitoring.map(|alert| alert["id"].as_str().expect("an id").to_owned()).collect()
}

/// The mails of a sender.
fn mails(smtp: &Smtp, from: &str) -> Vec<String> {
    let entries = std::fs::read_dir(&smtp.mailbox).expect("the mailbox");
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let whole = paths.iter().filter(|path| path.extension().is_some_and(|end| end == "eml"));
    let mails = whole.map(|path| std::fs::read_to_string(path).expect("a mail"));
    mails.filter(|mail| mail.contains(from)).collect()
}

/// Monitors a window, with the secrets that the notifiers ask for.
fn monitor(world: &SmallWorld, window: &[&str], webhook: &str, smtp: &Smtp) -> Finished {
    let arguments = [&["--config", "monitoring_config.yaml"], window].concat();
    let program = world.program("monitoring_main", &arguments).expect("built");
    let program = program.env("SLACK_WEBHOOK_URL", webhook).env("SMTP_PASSWORD", &smtp.password);
    program.run().expect("runs")
}

#[test]
fn who_could_not_be_told_of_a_deployment_is_told_by_a_run_that_finds_nothing_to_do() {
    let (world, _base) = first_version();
    register_like_the_first(&world, |_| {});
    let chat = Server::answering(|_, number| match number {
        0 => Reply::Silence(String::new()),
        _ => Reply::of(200, "", "ok"),
    });
    let slack =
        "{kind: slack, settings: {webhook_url_env: SLACK_WEBHOOK_URL, http: {timeout_secs: 3}}}";
    add_notifiers(&world, "deployment_config.yaml", &format!("  - {slack}\n"));
    let run = || {
        let arguments = ["run", "--config", "deployment_config.yaml"];
        let program = world.program("deployment_main", &arguments).expect("built");
        let webhook = format!("http://{}/{WEBHOOK}", chat.address());
        program.env("SLACK_WEBHOOK_URL", webhook).run().expect("runs")
    };
    let switched = run();
    ended_with(&switched, 0);
    let failures = switched.last["notification_failures"].to_string();
    assert!(failures.contains("slack"), "{failures}");
    for _ in 0..2 {
        ended_with(&run(), 99);
    }
    let asked = chat.asked();
    assert_eq!(asked.len(), 2, "once in vain, once by the run after it, and never again");
    assert!(asked[1].body.contains("v2"), "{}", asked[1].body);
}

#[test]
fn a_dead_receiver_delays_no_other_and_hears_of_it_later() {
    let services = Services::running();
    let smtp = services.smtp();
    let (mut world, _base) = first_version();
    let sent = world.traffic(Camera::Cheap, 120).expect("traffic");
    let chat = Server::answering(|_, number| match number {
        0 => Reply::Silence(String::new()),
        _ => Reply::of(200, "", "ok"),
    });
    let from = format!("mloop@d{}.example", wait_for_second().timestamp_micros());
    let mut notifiers = String::new();
    write!(
        notifiers,
        "  - {{kind: slack, settings: {{webhook_url_env: SLACK_WEBHOOK_URL, http: {{timeout_secs: 3}}}}}}\n  \
         - {{kind: email, settings: {{host: {}, port: {}, ca_file: {}, username: {}, \
         password_env: SMTP_PASSWORD, from: {from}, to: [ops@example.org]}}}}\n",
        smtp.host,
        smtp.port,
        smtp.ca_file.display(),
        smtp.username
    )
    .expect("text");
    add_notifiers(&world, "monitoring_config.yaml", &notifiers);
    let webhook = format!("http://{}/{WEBHOOK}", chat.address());
    let (start, end) = (text(sent.start), text(sent.end));
    let window = ["--window-start", &start, "--window-end", &end];

    let first = monitor(&world, &window, &webhook, smtp);
    ended_with(&first, 0);
    assert_eq!(first.last["outcome"], "alert", "{}", first.last);
    let failures = first.last["reporter_failures"].to_string();
    assert!(failures.contains("slack") && failures.contains("no complete answer"), "{failures}");
    let mail = mails(smtp, &from);
    assert_eq!(mail.len(), 1, "the mail came although the chat is dead");
    let run = first.last["run_id"].as_str().expect("an id");
    assert!(mail[0].contains(&format!("Message-ID: <{run}.mloop@")), "{}", mail[0]);
    assert_eq!(told(&world), [run]);
    let waiting = wait(ledger(&world).outbox.pending(&subject(), "slack", 10)).expect("read");
    assert_eq!(waiting.len(), 1);

    let second = monitor(&world, &window, &webhook, smtp);
    ended_with(&second, 0);
    assert_eq!(second.last["reporter_failures"], serde_json::json!([]));
    let asked = chat.asked();
    assert_eq!(asked.len(), 2, "the chat gets it once it lives");
    assert!(asked[1].body.contains(run), "{}", asked[1].body);
    assert_eq!((mails(smtp, &from).len(), told(&world).len()), (1, 1), "nobody is told twice");
    for finished in [first, second] {
        let all = format!("{}{}", finished.stderr, finished.last);
        assert!(!all.contains("hunter2") && !all.contains(&smtp.password), "{all}");
    }
}

#[test]
fn a_kill_right_after_the_record_loses_no_message() {
    let (mut world, _base) = first_version();
    world.traffic(Camera::Cheap, 120).expect("traffic");
    let drifted = captured(&world);
    world.traffic(Camera::Good, 120).expect("traffic");
    let calm: Vec<_> =
        captured(&world).into_iter().filter(|record| !drifted.contains(record)).collect();
    let first = next_hour();
    let hours = [first, first + TimeDelta::hours(1)];
    for (hour, records) in hours.into_iter().zip([drifted, calm]) {
        capture_hour(&world, hour, &moved(&records, hour));
    }
    let (start, end) = (text(first), text(hours[1]));
    let arguments = ["--config", "monitoring_config.yaml", "--window-start", &start];
    let arguments = [&arguments[..], &["--window-end", &end, "--as-of", &end]].concat();
    let mark = world.folder().join("mark");
    let program = world.program("monitoring_main", &arguments).expect("built");
    let program = program
        .env("MLOOP_FAILPOINT", "ledger.record_run.after_commit")
        .env("MLOOP_FAILPOINT_MARK", &mark);
    let mut child = program.start_logging(&world.folder().join("killed.log")).expect("started");
    let begun = Instant::now();
    while !mark.exists() {
        let ended = child.try_wait().expect("a child of this process");
        assert!(ended.is_none(), "it never held there: {ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came there");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(runs(&world, RunKind::Monitoring).len(), 1, "it was recorded");
    assert!(told(&world).is_empty(), "and nobody was told");

    // Nobody repeats the run: the next hour's, which has nothing to tell itself, tells of it.
    let next = monitor_hour(&world, hours[1]);
    ended_with(&next, 0);
    assert_eq!(next.last["alerting"], false, "{}", next.last);
    let recorded = runs(&world, RunKind::Monitoring);
    assert_eq!(recorded.len(), 2);
    assert_eq!(told(&world), [recorded[0].run_id.to_string()]);
}
