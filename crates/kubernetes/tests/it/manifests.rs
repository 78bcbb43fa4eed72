//! Jobs as they are sent, and the rights that are needed for it, against the schemas of every release
//! of Kubernetes since 1.25, and against each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use mloop_config::Document;
use mloop_platform::conformance::samples;
use mloop_services::{Service, Services};
use serde_json::{Value, json};

use crate::cluster::{Cluster, built};

/// Validates objects by the strict schemas of each release: one line for each problem.
const VALIDATE: &str = "
import json, sys
import kubernetes_validate
from kubernetes_validate.utils import all_versions
versions = [v for v in sorted(set(all_versions())) if tuple(map(int, v.split('.')[:2])) >= (1, 25)]
print(len(versions))
for name, thing in json.load(sys.stdin).items():
    for version in versions:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except Exception as error:
            print(f'{version} {name}: {getattr(error, \"message\", error)}'.replace(chr(10), ' ')[:300])
";

/// What the schemas find wrong with objects, and of how many releases they are.
fn problems(objects: &Value) -> (usize, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("objects.json");
    std::fs::write(&file, objects.to_string()).expect("written");
    let python = Services::running().python(Service::Kubernetes).to_owned();
    let input = std::fs::File::open(&file).expect("there");
    let output =
        Command::new(python).args(["-c", VALIDATE]).stdin(input).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines = text.lines().map(str::to_owned);
    let versions = lines.next().expect("a number").parse().expect("a number");
    (versions, lines.collect())
}

/// Jobs as the API server gets them, by settings.
async fn sent(all: &[Value]) -> Vec<Value> {
    let mut jobs = vec![];
    for more in all {
        let cluster = Cluster::new();
        let mut settings = cluster.plain_settings();
        for (key, value) in more.as_object().expect("settings") {
            settings[key] = value.clone();
        }
        built(&settings).submit_training_job(&samples::job("a")).await.expect("submitted");
        let posts = cluster.asked().into_iter().filter(|asked| asked.line.starts_with("POST"));
        jobs.extend(posts.map(|asked| serde_json::from_str::<Value>(&asked.body).expect("JSON")));
    }
    assert_eq!(jobs.len(), all.len());
    jobs
}

fn rbac() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to/kubernetes-rbac.yaml");
    let document = Document::read(&path).unwrap_or_else(|error| panic!("{error}"));
    document.value()["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn jobs_and_rights_fit_every_release() {
    let everything = json!({
        "resources": {"cpu": "500m", "memory": "16Gi", "gpus": 2, "ephemeral_storage": "20Gi"},
        "env": {"RUST_LOG": "info"},
        "secrets": [{"env": "MLFLOW_PASSWORD", "name": "mlflow", "key": "password"}],
        "kueue": {"queue": "gpus", "priority_class": "low"},
        "work": {"claim": "checkpoints"},
        "service_account": "trainer",
        "active_deadline_secs": 7200,
        "patch": {"spec": {"template": {"spec": {
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}}}},
    });
    let sized = json!({"work": {"size_limit": "50Gi"}, "config_map": null});
    let mut objects = json!({});
    for (number, job) in sent(&[json!({}), everything, sized]).await.into_iter().enumerate() {
        objects[format!("job {number}")] = job;
    }
    for object in rbac() {
        objects[object["kind"].as_str().expect("a kind")] = object.clone();
    }
    assert_eq!(objects.as_object().expect("a map").len(), 6, "three Jobs and three kinds");
    let (versions, found) = problems(&objects);
    assert!(versions >= 13, "{versions} releases");
    assert!(found.is_empty(), "{found:#?}");

    // The schemas see mistakes.
    let mut wrong = objects["job 0"].clone();
    wrong["spec"]["backoffLimit"] = json!("2");
    let mut unknown = objects["job 0"].clone();
    unknown["spec"]["template"]["spec"]["tolerationz"] = json!([]);
    let (versions, found) = problems(&json!({"wrong": wrong, "unknown": unknown}));
    assert_eq!(found.len(), 2 * versions, "{found:#?}");
}

/// Verb and resource of a request.
fn right(line: &str) -> (String, String) {
    let (method, target) = line.split_once(' ').expect("a method");
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> =
        path.split('/').skip_while(|part| *part != "namespaces").skip(2).collect();
    let verb = match (method, parts.len()) {
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("DELETE", _) => "delete",
        (other, _) => other,
    };
    (verb.to_owned(), parts[0].to_owned())
}

/// The rights of docs/how-to/kubernetes-rbac.yaml are those that are used: none is missing, and none
/// is given for nothing.
#[tokio::test]
async fn the_documented_rights_are_those_that_are_used() {
    let cluster = Cluster::new();
    let submitter = cluster.submitter();
    let spec = samples::job("a");
    submitter.submit_training_job(&spec).await.expect("submitted");
    cluster.end(&cluster.jobs()[0], 0, "", false);
    submitter.status(&spec.job_id).await.expect("a status");
    let mut foreign = samples::job("b");
    foreign.cause.attempt = 2;
    let theirs = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": format!("mloop-{}", foreign.job_id)},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}});
    cluster.put(&theirs);
    submitter.submit_training_job(&foreign).await.expect_err("compared and left alone");
    let open = samples::job("c");
    submitter.submit_training_job(&open).await.expect("submitted");
    submitter.cancel(&open.job_id).await.expect("stopped");
    let used: BTreeSet<_> = cluster.asked().iter().map(|asked| right(&asked.line)).collect();

    let role = rbac().into_iter().find(|object| object["kind"] == "Role").expect("a role");
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().expect("a list").iter();
        list.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        for resource in words(&rule["resources"]) {
            let pairs = words(&rule["verbs"]).into_iter().map(|verb| (verb, resource.clone()));
            given.extend(pairs);
        }
    }
    assert_eq!(used, given, "used on the left, given on the right");
}

#[test]
fn the_file_of_rights_is_where_the_page_says() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to");
    let page = std::fs::read_to_string(docs.join("kubernetes.md")).expect("the page");
    assert!(page.contains("kubernetes-rbac.yaml"), "the page names the file");
}
