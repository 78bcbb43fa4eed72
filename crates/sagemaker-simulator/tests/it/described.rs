//! The simulator against botocore's description of SageMaker, and against boto3.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use mloop_platform::conformance::samples;
use mloop_services::{Service, Services};
use mloop_serving::testing::tiny_image;
use serde_json::{Value, json};

use crate::common::{KEYS, World, deploy, digest, in_production, s3, settled, switch, world};

/// Runs a script with the interpreter that has boto3.
async fn python(script: &str, arguments: &[&str]) -> Output {
    let python = Services::running().python(Service::Moto).to_owned();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let mut command = tokio::process::Command::new(python);
    command.arg(script).args(arguments).kill_on_drop(true);
    let output = command.output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), output).await;
    output.expect("it ends in time").expect("it starts")
}

/// The number of calls of each operation, all of which are as botocore describes them.
async fn checked(world: &World) -> Value {
    let output = python("check_calls.py", &[&world.simulator.url()]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn what_mloop_asks_and_is_answered_is_as_botocore_describes_it() {
    let world = world().await;
    let [first, second] = [1, 2].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    platform.deployer.deploy_model(&deploy(&first)).await.expect("deployed");
    settled(&platform, "staging").await;
    in_production(&platform, &first).await;
    world.fault(json!({"fault": "silent_rollback", "reason": "no capacity"}));
    platform.deployer.switch_to_production(&switch(&second, Some(&first))).await.expect("asked");
    settled(&platform, "production").await;
    platform.janitor.remove_endpoint(&deploy(&first).endpoint).await.expect("removed");
    platform.janitor.endpoints().await.expect("a list");
    let jobs = json!({
        "connection": world.settings()["connection"],
        "role_arn": world.settings()["role_arn"],
        "image": world.settings()["image"],
        "command": ["training_main", "--config", "/opt/ml/input/data/config/c.yaml"],
        "channels": {"config": format!("s3://{}/config", world.bucket)},
        "jobs": format!("s3://{}/jobs", world.bucket),
        "instance_type": "ml.m5.xlarge",
        "tags": {"team": "vision"},
    });
    let jobs = serde_json::from_value(jobs).expect("settings");
    let jobs = mloop_sagemaker::testing::submitter(jobs, KEYS);
    let spec = samples::job("a job");
    jobs.submit_training_job(&spec).await.expect("submitted");
    jobs.status(&spec.job_id).await.expect("a status");
    jobs.cancel(&spec.job_id).await.expect("asked to stop");

    let count = checked(&world).await;
    for operation in [
        "CreateModel",
        "DescribeModel",
        "CreateEndpointConfig",
        "DescribeEndpointConfig",
        "CreateEndpoint",
        "DescribeEndpoint",
        "UpdateEndpoint",
        "DeleteEndpoint",
        "ListEndpoints",
        "CreateTrainingJob",
        "DescribeTrainingJob",
        "StopTrainingJob",
    ] {
        assert!(count[operation].as_u64() >= Some(1), "{operation} was not checked: {count}");
    }
    // And as the documented policies allow it; invocations are none of the control plane's calls.
    let [deployer, submitter, ..] = policies().map(|policy| actions(&policy));
    assert!(deployer.contains("sagemaker:InvokeEndpoint"));
    for operation in count.as_object().expect("an object").keys() {
        let policy = if operation.contains("TrainingJob") { &submitter } else { &deployer };
        let action = format!("sagemaker:{operation}");
        assert!(policy.contains(&action), "docs/how-to/sagemaker.md does not allow {action}");
    }
}

fn page(path: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(page).expect("a page")
}

/// The policies of the documentation: the hosts of deployments and of trainings, SageMaker's trust, the roles
/// of endpoints and of trainings.
fn policies() -> [Value; 5] {
    let page = page("docs/how-to/sagemaker.md");
    let blocks = page.split("```json").skip(1).filter_map(|block| block.split("```").next());
    let found: Vec<Value> =
        blocks.map(|block| serde_json::from_str(block).expect("a policy")).collect();
    found.try_into().expect("five policies")
}

/// All that a member of a policy's statements says, such as `Action`.
fn said(policy: &Value, member: &str) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().expect("statements");
    let of = |statement: &Value| match &statement[member] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let all = statements.iter().flat_map(of);
    all.filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

fn actions(policy: &Value) -> BTreeSet<String> {
    said(policy, "Action")
}

#[test]
fn the_containers_roles_reach_what_the_examples_name_and_change_nothing_else() {
    let [.., endpoint, training] = policies();
    for policy in [&endpoint, &training] {
        let actions = actions(policy);
        let changes =
            |action: &&String| ["sagemaker:", "iam:"].iter().any(|of| action.starts_with(of));
        assert_eq!(actions.iter().find(changes), None);
    }
    for (policy, example) in [
        (endpoint, "configs/examples/deployer_sagemaker.yaml"),
        (training, "configs/examples/submitter_sagemaker.yaml"),
    ] {
        let resources = said(&policy, "Resource");
        let text = page(example);
        let named = text.split_whitespace().filter_map(|word| word.strip_prefix("s3://"));
        let named: Vec<&str> = named.map(|place| place.trim_end_matches('/')).collect();
        assert!(named.len() >= 2, "{text}");
        for place in named {
            let resource = format!("arn:aws:s3:::{place}/*");
            assert!(resources.contains(&resource), "{example} names {resource}: {resources:?}");
        }
    }
}

#[tokio::test]
async fn boto3_goes_the_same_ways() {
    let world = world().await;
    let candidates = [1, 2].map(|seed| world.candidate(seed));
    let mut arguments = vec![world.simulator.url(), world.bucket.clone()];
    for candidate in &candidates {
        let name = format!("version-{}.tar.gz", candidate.version.version.number);
        let archive = world.folder.path().join(&name);
        let packed = std::process::Command::new("tar")
            .args(["-czf".as_ref(), archive.as_os_str(), "-C".as_ref()])
            .arg(&candidate.folder)
            .arg(".")
            .status();
        assert!(packed.expect("tar").success());
        let put = s3(&world.s3_url).put_object().bucket(&world.bucket).key(&name);
        put.body(std::fs::read(&archive).expect("read").into()).send().await.expect("put");
        arguments.push(name);
    }
    arguments.extend(candidates.iter().map(|candidate| digest(candidate).to_string()));
    arguments.push(tiny_image(3));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = python("drive.py", &arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "passed\n");
    checked(&world).await;
}
