//! Pods that really run, in the stand-in: what they are given, and how their end comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::JobSubmitter;
use mloop_platform::conformance::samples;
use serde_json::{Value, json};

use crate::cluster::{Cluster, built};

/// Bound of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// A submitter whose jobs run a script of the shell: `$0` is the configuration, `$2` the job file, `$4`
/// the work folder, `$6` the termination message, `$HERE` a folder of the test.
fn submitter(cluster: &Cluster, script: &str, here: &Path) -> std::sync::Arc<dyn JobSubmitter> {
    cluster.put_config_map("training", "training_config.yaml", "epochs: 8");
    cluster.put_secret("mlflow", "password", "hunter2");
    let mut settings = cluster.plain_settings();
    settings["command"] = json!(["/bin/sh", "-c", script, "/etc/mloop/training_config.yaml"]);
    settings["work"] = json!({"claim": "checkpoints"});
    settings["env"] = json!({"HERE": here});
    settings["secrets"] = json!([{"env": "PASSWORD", "name": "mlflow", "key": "password"}]);
    built(&settings)
}

async fn end_of(submitter: &dyn JobSubmitter, spec: &JobSpec) -> JobStatus {
    let began = Instant::now();
    loop {
        let status = submitter.status(&spec.job_id).await.expect("a status");
        if !matches!(status, JobStatus::Queued | JobStatus::Running) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "no end: {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_there(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < PATIENCE, "{} does not come", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pod_gets_its_files_and_secrets_and_nothing_else() {
    let (cluster, here) = (Cluster::with_a_node(), tempfile::tempdir().expect("a folder"));
    let script = r#"printf '{"outcome": "inconclusive", "spec": %s, "config": "%s", "password": "%s",
        "home": "%s"}' "$(cat "$2")" "$(cat "$0")" "$PASSWORD" "$HOME" > "$6"; exit 11"#;
    let (submitter, spec) = (submitter(&cluster, script, here.path()), samples::job("a"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    let told = end_of(submitter.as_ref(), &spec).await;
    let JobStatus::Finished { exit_code: 11, result } = told else { panic!("{told:?}") };
    let carried: JobSpec = serde_json::from_value(result["spec"].clone()).expect("a job");
    assert_eq!(carried, spec);
    let rest = (&result["config"], &result["password"], &result["home"]);
    assert_eq!(rest, (&json!("epochs: 8"), &json!("hunter2"), &json!("")));
}

#[tokio::test]
async fn a_pod_that_is_killed_is_followed_by_one_that_goes_on() {
    let (cluster, here) = (Cluster::with_a_node(), tempfile::tempdir().expect("a folder"));
    let script = r#"[ -e "$4/begun" ] || { touch "$4/begun"; kill -9 $$; }
        echo '{"outcome": "blessed"}' > "$6""#;
    let (submitter, spec) = (submitter(&cluster, script, here.path()), samples::job("a"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    let told = end_of(submitter.as_ref(), &spec).await;
    let blessed = json!({"outcome": "blessed"});
    assert_eq!(told, JobStatus::Finished { exit_code: 0, result: blessed });
    let code = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone()
    };
    assert_eq!(cluster.pods().iter().map(code).collect::<Vec<_>>(), [json!(137), json!(0)]);
    assert_eq!(cluster.made(), 1);
}

#[tokio::test]
async fn a_pod_of_a_cancelled_job_may_save() {
    let (cluster, here) = (Cluster::with_a_node(), tempfile::tempdir().expect("a folder"));
    let script = r#"trap 'touch "$HERE/saved"; exit 143' TERM
        touch "$HERE/runs"; while :; do sleep 0.02; done"#;
    let (submitter, spec) = (submitter(&cluster, script, here.path()), samples::job("a"));
    submitter.submit_training_job(&spec).await.expect("submitted");
    until_there(&here.path().join("runs")).await;
    assert_eq!(submitter.status(&spec.job_id).await.expect("a status"), JobStatus::Running);
    submitter.cancel(&spec.job_id).await.expect("stopped");
    until_there(&here.path().join("saved")).await;
    assert_eq!(submitter.status(&spec.job_id).await.expect("a status"), JobStatus::Unknown);
}

#[tokio::test]
async fn a_pod_that_cannot_be_started_says_why() {
    let cluster = Cluster::with_a_node();
    let submitter = built(&cluster.plain_settings());
    let spec = samples::job("a");
    submitter.submit_training_job(&spec).await.expect("submitted");
    end_of(submitter.as_ref(), &spec).await;
    let pod = cluster.pods().remove(0);
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 128, "{pod}");
    assert_eq!(ended["message"], "configmap \"training\" not found");
}
