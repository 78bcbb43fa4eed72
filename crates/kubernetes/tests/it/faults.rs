//! What goes wrong, and how it is told.

use std::net::TcpListener;

use mloop_core::error_chain;
use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_http::testing::{Fault, Relay, Reply, Server};
use mloop_kubernetes::testing::{WEAK, kubeconfig};
use mloop_platform::conformance::samples;
use mloop_platform::{JobSubmitter, PlatformError};
use serde_json::{Value, json};

use crate::cluster::{Cluster, built, settings};

/// All three calls must be refused like that.
async fn refused(submitter: &dyn JobSubmitter, class: ExitClass, says: &str) {
    let spec = samples::job("refused");
    for error in [
        submitter.probe().await.expect_err("looking"),
        submitter.submit_training_job(&spec).await.map(drop).expect_err("submitting"),
        submitter.status(&spec.job_id).await.map(drop).expect_err("asking"),
        submitter.cancel(&spec.job_id).await.expect_err("stopping"),
    ] {
        let shown = error_chain(&error);
        assert_eq!(error.exit_class(), class, "{shown}");
        assert!(shown.contains(says), "{says} is not in: {shown}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

#[tokio::test]
async fn credentials_that_do_not_suffice_are_told() {
    let cluster = Cluster::new();
    let server = json!({"server": format!("http://{}", cluster.address())});
    for (token, says) in [("s3cr3t", "401: Unauthorized"), (WEAK, "403: jobs.batch is forbidden")] {
        let submitter = built(&cluster.settings(&server, token));
        refused(submitter.as_ref(), ExitClass::Credentials, says).await;
    }
    assert_eq!(cluster.made(), 0);
}

#[tokio::test]
async fn what_does_not_answer_may_be_tried_again() {
    let cluster = Cluster::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one");
    let nobody = built(&cluster.settings_at(&format!("http://{free}")));
    refused(nobody.as_ref(), ExitClass::Transient, "cannot be reached").await;
    for (fault, says) in [
        (Fault::Silent, "no answer within 1 s"),
        (Fault::Status(500), "500"),
        (Fault::Status(429), "429"),
        (Fault::CutBefore, "cannot be reached"),
        (Fault::CutAfter, "cannot be reached"),
    ] {
        let relay = Relay::new(cluster.address(), move |_| fault);
        let mut settings = cluster.settings_at(&relay.url());
        settings["timeout_secs"] = json!(1);
        refused(built(&settings).as_ref(), ExitClass::Transient, says).await;
    }
}

#[tokio::test]
async fn refusals_are_sorted_by_what_can_be_done() {
    let refusal = |code: u16, reason: &str, message: &str| {
        Reply::json(
            code,
            &json!({"kind": "Status", "status": "Failure", "reason": reason,
            "message": message, "code": code}),
        )
    };
    let quota = "jobs.batch \"x\" is forbidden: exceeded quota: jobs, used: 5, limited: 5";
    for (answer, class) in [
        (refusal(403, "Forbidden", quota), ExitClass::Transient),
        (refusal(404, "NotFound", "namespaces \"ml\" not found"), ExitClass::Configuration),
        (refusal(422, "Invalid", "spec.template"), ExitClass::Configuration),
        (Reply::of(200, "", "<html>"), ExitClass::NeedsPerson),
    ] {
        let server = Server::new(&[answer]);
        let cluster = Cluster::new();
        let submitter = built(&cluster.settings_at(&format!("http://{}", server.address())));
        refused(submitter.as_ref(), class, "Kubernetes (namespace ml)").await;
    }
}

#[tokio::test]
async fn a_job_of_somebody_else_under_our_name_is_not_touched() {
    let cluster = Cluster::new();
    let spec = samples::job("a");
    let theirs = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": format!("mloop-{}", spec.job_id)},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}});
    cluster.put(&theirs);
    let submitter = cluster.submitter();
    let told = submitter.submit_training_job(&spec).await.expect_err("another's");
    assert!(matches!(told, PlatformError::Conflict { .. }), "{told:?}");
    assert!(told.to_string().contains("was made for something else"), "{told}");
    submitter.cancel(&spec.job_id).await.expect("no job of ours");
    assert_eq!(cluster.jobs().len(), 1);
}

#[tokio::test]
async fn a_mistake_in_the_patch_is_refused_rather_than_left_out() {
    let cluster = Cluster::new();
    let mut settings = cluster.plain_settings();
    settings["patch"] = json!({"spec": {"template": {"spec": {"tolerationz": []}}}});
    let told = built(&settings).submit_training_job(&samples::job("a")).await;
    let told = told.expect_err("an unknown key");
    assert_eq!(told.exit_class(), ExitClass::Configuration, "{told}");
    assert!(told.to_string().contains("tolerationz"), "{told}");
    let told = built(&settings).probe().await.expect_err("before a job is there");
    assert!(told.to_string().contains("tolerationz"), "{told}");
    cluster.submitter().probe().await.expect("a Job that could be made");
    assert_eq!(cluster.made(), 0, "looking makes none");
}

/// Connections that are refused before anything is sent.
#[tokio::test]
async fn unsafe_or_missing_ways_to_the_cluster_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    let user = json!({"token": "s3cr3t"});
    let https = "https://cluster.example.org";
    let table: [(Value, &str); 4] = [
        (json!({"server": "http://cluster.example.org"}), "use https"),
        (json!({"server": https, "insecure-skip-tls-verify": true}), "insecure-skip-tls-verify"),
        (json!({"server": https, "proxy-url": "http://proxy.example.org"}), "proxy"),
        (json!({"server": https, "certificate-authority": "/nowhere"}), "/nowhere"),
    ];
    for (cluster, says) in table {
        std::fs::write(&path, kubeconfig(&cluster, &user).to_string()).expect("written");
        refused(built(&settings(&path)).as_ref(), ExitClass::Configuration, says).await;
    }
    let mut other = settings(&path);
    other["context"] = json!("elsewhere");
    refused(built(&other).as_ref(), ExitClass::Configuration, "elsewhere").await;
    let absent = settings(&folder.path().join("absent"));
    refused(built(&absent).as_ref(), ExitClass::Configuration, "absent").await;
    let mut inside = settings(&path);
    inside["kubeconfig"] = Value::Null;
    refused(built(&inside).as_ref(), ExitClass::Configuration, "set `kubeconfig`").await;
}
