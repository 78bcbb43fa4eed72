//! The deployer keeps its contract.

use mloop_core::deployment::EndpointState;
use mloop_deployer::conformance::check_deployer;
use mloop_deployer::{DeployError, Invocation};
use serde_json::json;

use crate::common::{
    PATIENCE, call, deploy, deployer, digest, in_production, name, settled, sound, switch, world,
    world_with,
};

#[tokio::test]
async fn the_deployer_keeps_its_contract() {
    let world = world().await;
    let [first, second] = [1, 2].map(|seed| world.candidate(seed));
    let names = [&name("staging"), &name("production")];
    check_deployer(&world.deployer(), names, [&first, &second], &sound(), PATIENCE).await;
    // One model for each version, shared by both endpoints; staging and production differ in their
    // instances and in data capture.
    assert_eq!((world.effects("CreateModel"), world.effects("CreateEndpointConfig")), (2, 3));
    assert_eq!((world.effects("CreateEndpoint"), world.effects("UpdateEndpoint")), (2, 2));
    assert_eq!(world.effects("DeleteEndpoint"), 1);
}

#[tokio::test]
async fn another_host_finds_what_the_first_one_made() {
    let world = world().await;
    let first = world.candidate(1);
    in_production(&world.deployer(), &first).await;
    // Other folder, other process: the same names.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let copy = crate::common::candidate(elsewhere.path(), 1);
    world.deployer().deployer.deploy_model(&deploy(&copy)).await.expect("deployed");
    settled(&world.deployer(), "staging").await;
    assert_eq!((world.effects("CreateModel"), world.effects("CreateEndpointConfig")), (1, 2));
    let objects = crate::common::s3(&world.s3_url).list_objects_v2().bucket(&world.bucket);
    let objects = objects.send().await.expect("a list");
    assert_eq!(objects.key_count(), Some(1), "{objects:?}");
}

#[tokio::test]
async fn what_is_asked_for_is_as_the_settings_say() {
    let world = world().await;
    let first = world.candidate(1);
    in_production(&world.deployer(), &first).await;
    let calls = world.simulator.calls();
    let request = |operation: &str| {
        let call = calls.iter().find(|call| call.operation == operation && call.effect);
        call.unwrap_or_else(|| panic!("no {operation}")).request.clone()
    };
    let model = request("CreateModel");
    assert_eq!(model["EnableNetworkIsolation"], json!(true));
    assert_eq!(model["PrimaryContainer"]["Image"], json!(crate::common::image()));
    let environment = &model["PrimaryContainer"]["Environment"];
    assert_eq!(*environment, json!({"MLOOP_VERSION_DIGEST": digest(&first).to_string()}));
    assert!(model["Tags"].to_string().contains("vision"), "{model}");
    let config = request("CreateEndpointConfig");
    let [variant] = config["ProductionVariants"].as_array().expect("a list").as_slice() else {
        panic!("{config}");
    };
    assert_eq!(
        (&variant["VariantName"], &variant["ModelName"]),
        (&json!("primary"), &model["ModelName"])
    );
    assert_eq!(variant["InitialInstanceCount"], json!(2));
    assert_eq!(config["DataCaptureConfig"]["InitialSamplingPercentage"], json!(100));
    let name = config["EndpointConfigName"].as_str().expect("a name");
    assert!(name.starts_with("mloop-fashion-") && name.len() <= 63, "{name}");
}

#[tokio::test]
async fn a_strangers_endpoint_is_left_alone() {
    let world = world().await;
    let [ours, theirs] = [1, 2].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    in_production(&platform, &ours).await;
    let mut settings = world.settings();
    settings["production"]["instance_type"] = json!("ml.c5.large");
    let stranger = deployer(&settings);
    let request = switch(&theirs, Some(&ours));
    stranger.deployer.switch_to_production(&request).await.expect("their switch");
    settled(&platform, "production").await;
    let request = switch(&world.candidate(3), Some(&ours));
    let error = platform.deployer.switch_to_production(&request).await;
    let error = error.expect_err("a stranger's version serves");
    assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
    for part in [digest(&ours).short(12), digest(&theirs).short(12)] {
        assert!(error.to_string().contains(&part), "{error}");
    }
    let answer = platform.client.invoke(&name("production"), &sound()).await.expect("an answer");
    assert_eq!(answer.digest, Some(digest(&theirs)));
}

#[tokio::test]
async fn a_staging_endpoint_that_is_another_team_s_is_neither_changed_nor_removed() {
    let world = world().await;
    let platform = world.deployer();
    in_production(&platform, &world.candidate(1)).await;
    let calls = world.simulator.calls();
    let model = calls.iter().find(|call| call.operation == "CreateModel").expect("a model");
    let variant = json!({
        "VariantName": "theirs", "ModelName": model.request["ModelName"],
        "InitialInstanceCount": 1, "InstanceType": "ml.m5.large",
    });
    let config = json!({"EndpointConfigName": "theirs", "ProductionVariants": [variant]});
    call(&world, "CreateEndpointConfig", &config).await;
    let endpoint = json!({"EndpointName": "staging", "EndpointConfigName": "theirs"});
    call(&world, "CreateEndpoint", &endpoint).await;
    settled(&platform, "staging").await;

    let error = platform.deployer.deploy_model(&deploy(&world.candidate(2))).await;
    let error = error.expect_err("another team's endpoint");
    assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("it is not mloop's; name another"), "{error}");
    platform.janitor.remove_endpoint(&name("staging")).await.expect("left alone");
    let effects = ["UpdateEndpoint", "DeleteEndpoint"].map(|operation| world.effects(operation));
    assert_eq!(effects, [0, 0]);
    assert!(settled(&platform, "staging").await.is_some(), "it is there still");
}

#[tokio::test]
async fn an_answer_of_any_status_is_an_answer() {
    let world = world().await;
    let platform = world.deployer();
    in_production(&platform, &world.candidate(1)).await;
    let production = name("production");
    let bad = Invocation { body: b"no image".to_vec(), ..sound() };
    let answer = platform.client.invoke(&production, &bad).await.expect("an answer");
    assert_eq!((answer.status, answer.digest), (400, None));
    assert!(String::from_utf8_lossy(&answer.body).contains("error"), "the server's own words");
    let unknown = Invocation { content_type: "text/csv".to_owned(), ..sound() };
    let answer = platform.client.invoke(&production, &unknown).await.expect("an answer");
    assert_eq!(answer.status, 415);
    let nobody = platform.client.invoke(&name("nobody"), &sound()).await.expect("an answer");
    assert_eq!((nobody.status, nobody.digest), (400, None));
    assert!(String::from_utf8_lossy(&nobody.body).contains("not found"));
    let labelled = Invocation {
        inference_id: Some("case-7".to_owned()),
        custom_attributes: Some("site=north".to_owned()),
        fresh_connection: true,
        ..sound()
    };
    let answer = platform.client.invoke(&production, &labelled).await.expect("an answer");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["attributes"]["site"], json!("north"), "handed through: {body}");
}

#[tokio::test]
async fn a_version_that_cannot_serve_fails_in_staging_and_can_be_replaced() {
    let patience = std::time::Duration::from_millis(500);
    let world = world_with(|settings| settings.health_timeout = patience).await;
    let [good, bad] = [1, 2].map(|seed| world.candidate(seed));
    std::fs::write(bad.folder.join("model.safetensors"), b"no weights").expect("written");
    let platform = world.deployer();
    platform.deployer.deploy_model(&deploy(&bad)).await.expect("asked for");
    let found = settled(&platform, "staging").await.expect("an endpoint");
    assert_eq!(found.state, EndpointState::Failed);
    assert!(found.detail.contains("ping health check"), "{found:?}");
    platform.deployer.deploy_model(&deploy(&good)).await.expect("deleted and made anew");
    let found = settled(&platform, "staging").await.expect("an endpoint");
    assert_eq!((found.state, found.configured), (EndpointState::InService, Some(digest(&good))));
}
