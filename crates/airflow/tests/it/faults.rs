//! What goes wrong, and how it is told.

use std::net::TcpListener;

use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_core::job::JobStatus;
use mloop_http::Method;
use mloop_http::testing::{Asked, Fault, Relay, Reply, Server};
use mloop_platform::{JobSubmitter, PlatformError};
use serde_json::{Value, json};

use crate::bench::{Bench, built, job};

/// All three calls must be refused like that.
async fn refused(submitter: &dyn JobSubmitter, class: ExitClass, says: &str) {
    let spec = job("refused", "psi");
    for error in [
        submitter.probe().await.expect_err("looking"),
        submitter.submit_training_job(&spec).await.map(drop).expect_err("submitting"),
        submitter.status(&spec.job_id).await.map(drop).expect_err("asking"),
        submitter.cancel(&spec.job_id).await.expect_err("stopping"),
    ] {
        let shown = mloop_core::error_chain(&error);
        assert_eq!(error.exit_class(), class, "{shown}");
        assert!(shown.contains(says), "{shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

fn settings(url: &str) -> Value {
    json!({"url": url, "username": "admin", "password_env": "P", "http": {"timeout_secs": 1}})
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let bench = Bench::get().await;
    let wrong = built(&settings(&bench.url), "s3cr3t");
    refused(wrong.as_ref(), ExitClass::Credentials, "Invalid credentials").await;
    let token = json!({"url": bench.url, "token_env": "T"});
    refused(built(&token, "s3cr3t").as_ref(), ExitClass::Credentials, "Invalid JWT token").await;
}

#[tokio::test]
async fn a_dag_that_is_not_there_is_told() {
    let bench = Bench::get().await;
    let submitter = bench.submitter("nowhere");
    refused(submitter.as_ref(), ExitClass::Configuration, "has no DAG `nowhere`").await;
}

#[tokio::test]
async fn what_does_not_answer_may_be_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let nobody = built(&settings(&format!("http://{free}")), "s3cr3t");
    refused(nobody.as_ref(), ExitClass::Transient, "no connection").await;
    let silent = Server::answering(|asked, _| match asked.line.as_str() {
        "POST /base/auth/token" => Reply::json(201, &json!({"access_token": "t"})),
        _ => Reply::Silence(String::new()),
    });
    let submitter = built(&settings(&silent.url().to_string()), "s3cr3t");
    refused(submitter.as_ref(), ExitClass::Transient, "no complete answer within 1 s").await;

    let bench = Bench::get().await;
    for (fault, says) in [
        (Fault::Status(500), "500"),
        (Fault::Status(503), "503"),
        (Fault::Status(429), "429"),
        (Fault::CutBefore, "no connection, or it broke"),
        (Fault::CutAfter, "no connection, or it broke"),
    ] {
        let relay = Relay::new(&bench.url, move |asked: &Asked| {
            if asked.line.contains("/dagRuns") { fault } else { Fault::None }
        });
        let submitter = bench.submitter_at(&relay.url(), &bench.dag, &json!({"timeout_secs": 60}));
        refused(submitter.as_ref(), ExitClass::Transient, says).await;
    }
}

#[tokio::test]
async fn a_run_of_somebody_else_under_the_jobs_name_is_not_touched() {
    let bench = Bench::get().await;
    let spec = job("somebody else", "psi");
    let body = json!({"dag_run_id": spec.job_id, "logical_date": null,
        "conf": {"spec": {"cause": {"reasons": ["wait"]}}}});
    let request = bench.request(Method::Post, &bench.dag, &["dagRuns"]).json(&body);
    assert_eq!(bench.call(request).await.status, 200);
    let submitter = bench.submitter(&bench.dag);
    let told = submitter.submit_training_job(&spec).await.expect_err("another's");
    assert!(matches!(told, PlatformError::Conflict { .. }), "{told:?}");
    assert!(told.to_string().contains("started for something else"), "{told}");
    submitter.cancel(&spec.job_id).await.expect("a person asked for it");
}

/// Answers as Airflow does once the token is right.
fn airflow(asked: &Asked, right: &str) -> Reply {
    if asked.line == "POST /base/auth/token" {
        return Reply::json(201, &json!({"access_token": right}));
    }
    match asked.header("authorization") {
        Some(header) if header == format!("Bearer {right}") => {
            Reply::json(200, &json!({"dag_runs": [], "total_entries": 0}))
        }
        _ => Reply::json(401, &json!({"detail": "Token Expired"})),
    }
}

#[tokio::test]
async fn a_token_that_expired_is_renewed_once() {
    // The second login gives another token than the first, which is refused from then on.
    let logins = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::answering(move |asked, number| {
        if asked.line == "POST /base/auth/token" {
            logins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        airflow(asked, if number < 3 { "first" } else { "second" })
    });
    let submitter = built(&settings(&server.url().to_string()), "s3cr3t");
    let id = job("x", "psi").job_id;
    for _ in 0..3 {
        assert_eq!(submitter.status(&id).await.expect("a status"), JobStatus::Unknown);
    }
    let lines: Vec<String> = server.asked().iter().map(|asked| asked.line.clone()).collect();
    let logins: Vec<usize> =
        (0..lines.len()).filter(|n| lines[*n] == "POST /base/auth/token").collect();
    // Login, two questions, the refused one, a login, the same question again.
    assert_eq!((logins, lines.len()), (vec![0, 4], 6), "{lines:?}");
}

#[tokio::test]
async fn a_token_that_stays_refused_is_renewed_once_and_then_believed() {
    let server = Server::answering(|asked, _| match asked.line.as_str() {
        "POST /base/auth/token" => Reply::json(201, &json!({"access_token": "s3cr3t-token"})),
        _ => Reply::json(403, &json!({"detail": "Forbidden"})),
    });
    let submitter = built(&settings(&server.url().to_string()), "s3cr3t");
    refused(submitter.as_ref(), ExitClass::Credentials, "Forbidden").await;
    let logins = server.asked().iter().filter(|asked| asked.line.contains("token")).count();
    assert_eq!(logins, 4, "one for each of the four calls");
}

#[tokio::test]
async fn answers_that_airflow_does_not_give_need_a_person() {
    let grant = || Reply::json(201, &json!({"access_token": "t"}));
    for (answer, class, says) in [
        (Reply::of(200, "", "<html>"), ExitClass::NeedsPerson, "something else than expected"),
        (
            Reply::json(200, &json!({"dag_runs": [], "total_entries": 7})),
            ExitClass::NeedsPerson,
            "tells of 7 runs",
        ),
        (
            Reply::json(
                200,
                &json!({"dag_runs": [{"dag_run_id": "x", "state": "lazy"}],
                "total_entries": 1}),
            ),
            ExitClass::NeedsPerson,
            "something else than expected",
        ),
        (
            Reply::json(422, &json!({"detail": [{"type": "extra_forbidden"}]})),
            ExitClass::Configuration,
            "extra_forbidden",
        ),
    ] {
        let server = Server::answering(move |asked, _| match asked.line.contains("token") {
            true => grant(),
            false => answer.clone(),
        });
        let submitter = built(&settings(&server.url().to_string()), "s3cr3t");
        refused(submitter.as_ref(), class, says).await;
    }
    // A login that says nothing of the password that it was sent.
    let server = Server::new(&[Reply::json(422, &json!({"detail": [{"input": "s3cr3t"}]}))]);
    let submitter = built(&settings(&server.url().to_string()), "s3cr3t");
    refused(submitter.as_ref(), ExitClass::Configuration, "/auth/token").await;
}
