//! Pushed, scraped by the real Prometheus, queried back.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use mloop_core::metrics::SampleValue;
use mloop_core::{Finding, MonitoringOutcome, MonitoringReport, Window};
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_platform::PlatformError;
use mloop_platform::fakes::InMemoryLedger;
use mloop_prometheus::families;
use mloop_reporter::conformance::{check_reporter, judged, sample_report};
use mloop_reporter::{Reporter, ReporterDeps, ReporterError, ReporterRegistry};
use serde_json::{Value, json};

use crate::bench::{Bench, Labels, deps, job};

fn build(settings: &Value) -> Result<Box<dyn Reporter>, String> {
    let mut kinds = ReporterRegistry::new("reporter");
    mloop_prometheus::register_builtin(&mut kinds);
    let platform = deps();
    let outbox = InMemoryLedger::new(platform.clock.clone());
    let deps = ReporterDeps { platform, notifiers: vec![], outbox };
    kinds.build("prometheus_pushgateway", "metrics", settings, &deps).map_err(|e| format!("{e:?}"))
}

fn reporter(url: &str, job: &str) -> Box<dyn Reporter> {
    let http = json!({"timeout_secs": 2});
    build(&json!({"url": url, "http": http, "job": job})).expect("a reporter")
}

/// A report of so many findings, with labels of every sort.
fn report(findings: usize) -> MonitoringReport {
    let mut report = sample_report(MonitoringOutcome::Alert);
    let finding = |number: usize| Finding {
        column: (!number.is_multiple_of(3))
            .then(|| format!("column {number} \"größe\\\"\n<b>/{{}}")),
        group: (!number.is_multiple_of(2)).then(|| "site=north".to_owned()),
        check: format!("check_{number}"),
        value: (!number.is_multiple_of(5)).then_some(number as f64 / 7.0),
        interval: (!number.is_multiple_of(4)).then_some([-1e-9, 1e17 + number as f64]),
        threshold: (!number.is_multiple_of(7)).then_some(0.1),
        ..report.findings[0].clone()
    };
    report.findings = (0..findings).map(finding).collect();
    report
}

/// The series that Prometheus must have of a report: an empty label is none.
fn expected(report: &MonitoringReport, job: &str) -> BTreeMap<Labels, f64> {
    let mut series = BTreeMap::new();
    for family in families(report, 2_000) {
        for sample in family.samples {
            let SampleValue::Number(value) = sample.value else { panic!("a number") };
            let mut labels: Labels =
                sample.labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            labels.insert("__name__".to_owned(), family.name.clone());
            labels.insert("job".to_owned(), job.to_owned());
            assert!(series.insert(labels, value).is_none(), "series have labels of their own");
        }
    }
    series
}

fn of_job(job: &str) -> String {
    format!("{{job=\"{job}\",__name__=~\"mloop_.*\"}}")
}

const GROUP: [&str; 4] = ["model", "fashion", "target", "production"];

async fn clean(bench: &Bench, job: &str, target: &str) {
    bench.delete(&["metrics", "job", job, "model", "fashion", "target", target]).await;
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let (bench, job) = (Bench::new(), job());
    let reporter = reporter(&bench.gateway, &job);
    let records = || async {
        let groups = bench.groups().await;
        groups.iter().filter(|group| group["labels"]["job"] == job.as_str()).count()
    };
    check_reporter(reporter.as_ref(), records).await;
    clean(&bench, &job, "production").await;
}

#[tokio::test]
async fn what_was_pushed_is_what_prometheus_has_and_nothing_of_the_run_before() {
    let (bench, job) = (Bench::new(), job());
    let reporter = reporter(&bench.gateway, &job);
    for findings in [250, 3] {
        let report = report(findings);
        let expected = expected(&report, &job);
        assert!(expected.len() >= findings * 3, "{}", expected.len());
        reporter.report(&judged(report.clone())).await.expect("pushed");
        let found = bench.query_until(&of_job(&job), |found| *found == expected).await;
        assert!(found == expected, "{} series, {} expected", found.len(), expected.len());
    }
    let last = format!("mloop_monitoring_last_success_timestamp_seconds{{job=\"{job}\"}}");
    let found = bench.query(&last).await.into_values().next();
    assert_eq!(found, Some(report(3).as_of.timestamp() as f64));
    clean(&bench, &job, "production").await;
}

#[tokio::test]
async fn each_target_has_a_group_of_its_own_and_the_newest_window_stays() {
    let (bench, job) = (Bench::new(), job());
    let reporter = reporter(&bench.gateway, &job);
    let mut report = report(1);
    let first = report.window.bounds;
    let day = TimeDelta::days(1);
    let later = Window::new(first.start() + day, first.end() + day).expect("a window");
    for (bounds, target, rows) in [
        (later, "production", 1),
        (first, "production", 2), // older than what is there: left
        (first, "elsewhere", 3),
        (later, "production", 4), // the same window again: replaced
    ] {
        (report.window.bounds, report.window.rows) = (bounds, rows);
        report.subject.target = target.parse().expect("a name");
        reporter.report(&judged(report.clone())).await.expect("pushed, or left");
    }
    let mut rows: Vec<(String, String)> = vec![];
    for group in bench.groups().await {
        if group["labels"]["job"] == job.as_str() {
            let value = &group["mloop_window_rows"]["metrics"][0]["value"];
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            rows.push((text(&group["labels"]["target"]), text(value)));
        }
    }
    rows.sort();
    let pairs: Vec<_> = rows.iter().map(|(target, n)| (target.as_str(), n.as_str())).collect();
    assert_eq!(pairs, [("elsewhere", "3"), ("production", "4")]);
    clean(&bench, &job, "production").await;
    clean(&bench, &job, "elsewhere").await;
}

#[tokio::test]
async fn a_job_that_a_path_cannot_hold_arrives_as_it_is() {
    let bench = Bench::new();
    let job = format!("{}/größe 1%?#", job());
    let report = report(1);
    reporter(&bench.gateway, &job).report(&judged(report.clone())).await.expect("pushed");
    let expected = expected(&report, &job);
    let found = bench.query_until(&of_job(&job), |found| *found == expected).await;
    assert_eq!(found, expected);
    let encoded = base64_of(&job);
    let path: Vec<&str> = ["metrics", "job@base64", &encoded].into_iter().chain(GROUP).collect();
    bench.delete(&path).await;
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE.encode(text)
}

#[tokio::test]
async fn findings_beyond_the_cap_are_counted() {
    let (bench, job) = (Bench::new(), job());
    let settings = json!({"url": bench.gateway, "job": job, "max_series": 2});
    build(&settings).expect("a reporter").report(&judged(report(10))).await.expect("pushed");
    let query = format!("mloop_findings_dropped{{job=\"{job}\"}}");
    let found = bench.query_until(&query, |found| !found.is_empty()).await;
    assert_eq!(found.into_values().collect::<Vec<_>>(), [8.0]);
    let statuses = bench.query(&format!("mloop_finding_status{{job=\"{job}\"}}")).await;
    assert_eq!(statuses.len(), 2);
    clean(&bench, &job, "production").await;
}

#[tokio::test]
async fn a_cut_connection_leaves_the_group_whole_or_as_it_was() {
    let bench = Bench::new();
    let get = Fault::None;
    for (faults, arrives) in [
        (vec![get, Fault::CutBefore], true),
        (vec![get, Fault::CutAfter], true),
        (vec![get, Fault::Status(503), Fault::StatusAfter(502)], true),
        (vec![get, Fault::CutBefore, Fault::CutBefore, Fault::CutBefore], false),
        (vec![get, Fault::CutAfter, Fault::CutAfter, Fault::CutAfter], true),
        (vec![Fault::Silent, Fault::Silent, Fault::Silent], false),
    ] {
        let (relay, job) = (Relay::scripted(&bench.gateway, &faults), job());
        let report = report(4);
        let result = reporter(&relay.url(), &job).report(&judged(report.clone())).await;
        assert_eq!(result.is_ok(), faults.len() < 4 && faults[0] == get, "{faults:?}: {result:?}");
        assert!(result.err().is_none_or(|error| error.is_transient()), "{faults:?}");
        let groups = bench.groups().await;
        let group = groups.iter().find(|group| group["labels"]["job"] == job.as_str());
        assert_eq!(group.is_some(), arrives, "{faults:?}");
        if let Some(group) = group {
            let statuses = group["mloop_finding_status"]["metrics"].as_array().expect("series");
            assert_eq!(statuses.len(), 4);
            clean(&bench, &job, "production").await;
        }
    }
}

#[tokio::test]
async fn answers_end_in_the_error_that_says_what_to_do() {
    let page = Reply::json(200, &json!({"status": "success", "data": []}));
    for (replies, transient, told) in [
        (vec![page.clone(), Reply::of(400, "", "pushed metrics are invalid")], false, "invalid"),
        (vec![page.clone(), Reply::status(500)], true, "500"),
        (vec![Reply::status(401)], false, "401"),
        (vec![Reply::status(503)], true, "503"),
        (vec![page, Reply::status(404)], false, "404"),
    ] {
        let server = Server::new(&replies);
        let settings =
            json!({"url": server.url().to_string(), "username": "u", "password_env": "P"});
        let reporter = build(&settings).expect("a reporter");
        let error = reporter.report(&judged(report(1))).await.expect_err(told);
        assert_eq!(error.is_transient(), transient, "{told}: {error:?}");
        assert!(mloop_core::error_chain(&error).contains(told), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(server.asked()[0].header("authorization"), Some("Basic dTpodW50ZXIy"));
        if told == "401" {
            let ReporterError::Refused { cause, .. } = error else { panic!("{error:?}") };
            let denied = cause.downcast_ref::<PlatformError>();
            assert!(matches!(denied, Some(PlatformError::Denied { .. })), "{cause:?}");
        }
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_tell_what_it_has_is_pushed_to() {
    for page in [Reply::status(404), Reply::of(200, "", "<html>"), Reply::of(200, "", "{}")] {
        let server = Server::new(&[page, Reply::status(200)]);
        let url = server.url().to_string();
        reporter(&url, "a/b").report(&judged(report(1))).await.expect("pushed");
        let put = &server.asked()[1];
        assert_eq!(put.line, "PUT /base/metrics/job@base64/YS9i/model/fashion/target/production");
        assert!(put.body.ends_with('\n'));
        let types: Vec<&str> =
            put.body.lines().filter(|line| line.starts_with("# TYPE mloop_window_rows ")).collect();
        assert_eq!(types, ["# TYPE mloop_window_rows gauge"]);
        // A sample is a name with labels and a value: no timestamp behind it.
        let last = put.body.lines().last().expect("a sample");
        let after = last.rsplit_once('}').expect("labels").1;
        assert_eq!(after.split_whitespace().count(), 1, "{last}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let url = "https://push.example.org";
    assert!(build(&json!({"url": url})).is_ok());
    for (settings, told) in [
        (json!({}), "url"),
        (json!({"url": "http://push.example.org"}), "allow_http"),
        (json!({"url": url, "token_env": "T", "username": "u"}), "username"),
        (json!({"url": url, "job": ""}), "job"),
        (json!({"url": url, "when": "never"}), "when"),
    ] {
        let Err(error) = build(&settings) else { panic!("{settings} was taken") };
        assert!(error.contains(told), "{settings}: {error}");
    }
}
