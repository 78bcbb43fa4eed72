//! What goes wrong, and what the deployer makes of it.

use mloop_core::deployment::EndpointState;
use mloop_core::exit_class::{Classified, ExitClass};
use mloop_deployer::DeployError;
use serde_json::{Value, json};

use crate::common::{
    call, deploy, deployer, digest, in_production, name, settled, sound, switch, world,
};

#[tokio::test]
async fn each_acting_call_whose_answer_is_lost_has_one_effect_twenty_times() {
    let world = world().await;
    let lose =
        |operation: &str| world.fault(json!({"fault": "lose_answer", "operation": operation}));
    let used = |what: &str| assert_eq!(world.simulator.waiting_faults(), vec![], "{what}");
    // Each time as a process of its own, which remembers nothing.
    for round in 0..20 {
        let change = if round == 0 { "CreateEndpoint" } else { "UpdateEndpoint" };
        ["CreateModel", "CreateEndpointConfig", change].into_iter().for_each(lose);
        let asked = world.deployer().deployer.deploy_model(&deploy(&world.candidate(round))).await;
        asked.unwrap_or_else(|error| panic!("round {round}: {error}"));
        used("a deployment");
        settled(&world.deployer(), "staging").await;
    }
    let made = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint"];
    assert_eq!(made.map(|operation| world.effects(operation)), [20, 20, 1, 19]);

    let [first, second] = [1, 2].map(|seed| world.candidate(seed));
    in_production(&world.deployer(), &first).await;
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        lose("UpdateEndpoint");
        let asked = world.deployer().deployer.switch_to_production(&switch(to, Some(from))).await;
        asked.expect("a look decides");
        used("a switch");
        let found = settled(&world.deployer(), "production").await.expect("an endpoint");
        assert_eq!(found.configured, Some(digest(to)), "round {round}");
    }
    assert_eq!(world.effects("UpdateEndpoint"), 19 + 20);

    for round in 0..20 {
        lose("DeleteEndpoint");
        world.deployer().janitor.remove_endpoint(&name("staging")).await.expect("gone or going");
        used("a removal");
        assert_eq!(settled(&world.deployer(), "staging").await, None, "round {round}");
        world.deployer().deployer.deploy_model(&deploy(&first)).await.expect("deployed");
        settled(&world.deployer(), "staging").await;
    }
    assert_eq!(
        ["DeleteEndpoint", "CreateEndpoint"].map(|one| world.effects(one)),
        [20, 1 + 1 + 20]
    );
}

#[tokio::test]
async fn what_passes_by_itself_is_waited_for() {
    let world = world().await;
    let [first, second] = [1, 2].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    let operations = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"];
    for operation in operations {
        world.fault(json!({"fault": "throttle", "operation": operation, "times": 2}));
    }
    world.fault(json!({"fault": "lose_request", "operation": "CreateModel"}));
    world.fault(json!({"fault": "not_found", "operation": "CreateEndpointConfig", "times": 3}));
    world.fault(json!({"fault": "not_found", "operation": "CreateEndpoint", "times": 3}));
    in_production(&platform, &first).await;
    world.fault(json!({"fault": "not_found", "operation": "UpdateEndpoint", "times": 3}));
    world.fault(json!({"fault": "error", "operation": "UpdateEndpoint", "status": 500,
        "code": "InternalFailure", "message": "try again"}));
    platform.deployer.switch_to_production(&switch(&second, Some(&first))).await.expect("asked");
    let found = settled(&platform, "production").await.expect("an endpoint");
    assert_eq!(found.configured, Some(digest(&second)));
    world.fault(json!({"fault": "not_found", "operation": "DescribeEndpointConfig", "times": 2}));
    let elsewhere = world.deployer();
    let found = settled(&elsewhere, "production").await.expect("an endpoint");
    assert_eq!(found.configured, Some(digest(&second)), "ours, and no stranger's");
    assert_eq!(world.simulator.waiting_faults(), vec![], "every fault had its turn");
    for operation in ["CreateEndpoint", "UpdateEndpoint"] {
        assert_eq!(world.effects(operation), 1, "{operation}");
    }
    assert_eq!(world.effects("CreateModel"), 2);
}

#[tokio::test]
async fn refused_credentials_are_told_at_once() {
    let world = world().await;
    let first = world.candidate(1);
    let platform = world.deployer();
    for (status, code) in [
        (400, "UnrecognizedClientException"),
        (400, "ExpiredTokenException"),
        (400, "AccessDeniedException"),
        (403, "MissingAuthenticationTokenException"),
        (403, "InvalidSignatureException"),
    ] {
        for operation in ["DescribeEndpoint", "CreateModel"] {
            let before = world.simulator.calls().len();
            world.fault(json!({"fault": "error", "operation": operation, "status": status,
                "code": code, "message": "no"}));
            let error = platform.deployer.deploy_model(&deploy(&first)).await;
            let error = error.expect_err("refused");
            assert!(matches!(error, DeployError::Denied { .. }), "{code}: {error:?}");
            assert_eq!(error.exit_class(), ExitClass::Credentials);
            let calls = world.simulator.calls();
            let tried = calls[before..].iter().filter(|call| call.operation == operation);
            assert_eq!(tried.filter(|call| call.status == status).count(), 1, "{code}");
        }
    }
    let error = json!({"fault": "error", "operation": "InvokeEndpoint", "status": 403,
        "code": "ExpiredTokenException", "message": "no"});
    world.fault(error);
    let error = platform.client.invoke(&name("staging"), &sound()).await.expect_err("refused");
    assert!(matches!(error, DeployError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_told_as_that() {
    let world = world().await;
    let first = world.candidate(1);
    let mut settings = world.settings();
    settings["connection"]["timeout_secs"] = json!(1);
    settings["invoke_timeout_secs"] = json!(1);
    let platform = deployer(&settings);
    in_production(&platform, &first).await;
    let transient = |error: DeployError, what: &str| {
        assert_eq!(error.exit_class(), ExitClass::Transient, "{what}: {error:?}");
    };
    for fault in [
        json!({"fault": "slow", "operation": "DescribeEndpoint", "millis": 3000}),
        json!({"fault": "lose_request", "operation": "DescribeEndpoint"}),
        json!({"fault": "throttle", "operation": "DescribeEndpoint"}),
        json!({"fault": "error", "operation": "DescribeEndpoint", "status": 500,
            "code": "InternalFailure", "message": "broken"}),
    ] {
        let mut fault = fault;
        fault["times"] = json!(4);
        world.fault(fault.clone());
        let error = platform.deployer.describe(&name("production")).await;
        transient(error.expect_err("no answer"), &fault.to_string());
    }
    for fault in [
        json!({"fault": "slow", "operation": "InvokeEndpoint", "millis": 3000}),
        json!({"fault": "lose_answer", "operation": "InvokeEndpoint"}),
        json!({"fault": "throttle", "operation": "InvokeEndpoint"}),
    ] {
        let before = world.simulator.calls().len();
        world.fault(fault.clone());
        let error = platform.client.invoke(&name("production"), &sound()).await;
        transient(error.expect_err("no answer"), &fault.to_string());
        let calls = world.simulator.calls();
        let asked = calls[before..].iter().filter(|call| call.operation == "InvokeEndpoint");
        assert!(asked.count() <= 1, "a request is never repeated: {fault}");
    }
    settings["connection"]["endpoint_url"] = json!("http://127.0.0.1:9");
    let nobody = deployer(&settings);
    let error = nobody.deployer.describe(&name("production")).await.expect_err("nobody listens");
    transient(error, "refused");
}

#[tokio::test]
async fn every_end_of_an_update_is_told() {
    let [serves, fails] = [EndpointState::InService, EndpointState::Failed];
    for (fault, state, is_back) in [
        (json!({"fault": "silent_rollback"}), serves, true),
        (json!({"fault": "silent_rollback", "reason": "no capacity"}), serves, true),
        (json!({"fault": "update_rollback_failed", "reason": "mixed"}), fails, true),
        (json!({"fault": "out_of_service"}), fails, true),
        (json!({"fault": "failed", "reason": "broken"}), fails, true),
    ] {
        let world = world().await;
        let [first, second] = [1, 2].map(|seed| world.candidate(seed));
        let platform = world.deployer();
        in_production(&platform, &first).await;
        world.fault(fault.clone());
        platform
            .deployer
            .switch_to_production(&switch(&second, Some(&first)))
            .await
            .expect("asked");
        let found = settled(&platform, "production").await.expect("an endpoint");
        assert_eq!(found.state, state, "{fault}: {found:?}");
        assert_eq!(found.configured == Some(digest(&first)), is_back, "{fault}: {found:?}");
        if let Some(reason) = fault["reason"].as_str() {
            assert!(found.detail.contains(reason), "{fault}: {found:?}");
        }
        let back = platform.deployer.rollback(&switch(&first, Some(&second))).await;
        match fault["fault"].as_str() {
            // SageMaker permits nothing but its deletion, which is a person's to decide.
            Some("failed") => {
                let error = back.expect_err("failed for good");
                assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
                assert!(error.to_string().contains("never deletes production"), "{error}");
            }
            _ => {
                back.expect("a way back");
                let found = settled(&platform, "production").await.expect("an endpoint");
                assert_eq!((found.state, found.configured), (serves, Some(digest(&first))));
            }
        }
    }
}

#[tokio::test]
async fn what_is_busy_is_left_alone() {
    let world = world().await;
    let [first, second, third] = [1, 2, 3].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    in_production(&platform, &first).await;
    world.fault(json!({"fault": "system_updating", "millis": 600}));
    let error = platform.deployer.switch_to_production(&switch(&second, Some(&first))).await;
    let error = error.expect_err("maintained");
    assert_eq!(error.exit_class(), ExitClass::Transient, "{error:?}");
    assert_eq!(world.effects("UpdateEndpoint"), 0);
    settled(&platform, "production").await;
    // Somebody else's update in flight.
    world.fault(json!({"fault": "stuck", "endpoint": "production"}));
    platform.deployer.switch_to_production(&switch(&second, Some(&first))).await.expect("asked");
    let error = platform.deployer.switch_to_production(&switch(&third, Some(&first))).await;
    let error = error.expect_err("a stranger's update");
    assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
    assert_eq!(world.effects("UpdateEndpoint"), 1);
    // Creating for ever: neither changed nor deleted.
    world.fault(json!({"fault": "stuck", "endpoint": "staging"}));
    platform.deployer.deploy_model(&deploy(&first)).await.expect("asked");
    for busy in [
        platform.deployer.deploy_model(&deploy(&second)).await,
        platform.janitor.remove_endpoint(&name("staging")).await,
    ] {
        assert_eq!(busy.expect_err("busy").exit_class(), ExitClass::Transient);
    }
}

#[tokio::test]
async fn a_way_back_is_refused_when_production_is_not_what_it_expects() {
    let world = world().await;
    let [first, second, third] = [1, 2, 3].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    in_production(&platform, &first).await;
    platform.deployer.switch_to_production(&switch(&second, Some(&first))).await.expect("asked");
    settled(&platform, "production").await;
    let back_from = async |current| {
        let asked = platform.deployer.rollback(&switch(&first, Some(current))).await;
        asked.expect_err("not yet, or never")
    };
    let conflict = back_from(&third).await;
    assert!(matches!(conflict, DeployError::Conflict { .. }), "{conflict:?}");
    assert!(conflict.to_string().contains("find out who changed it"), "{conflict}");
    assert_eq!(world.effects("UpdateEndpoint"), 1);

    // On its way to the third.
    world.fault(json!({"fault": "stuck", "endpoint": "production"}));
    platform.deployer.switch_to_production(&switch(&third, Some(&second))).await.expect("asked");
    let conflict = back_from(&second).await;
    assert!(matches!(conflict, DeployError::Conflict { .. }), "{conflict:?}");
    assert_eq!(back_from(&third).await.exit_class(), ExitClass::Transient);
    assert_eq!(world.effects("UpdateEndpoint"), 2);
}

#[tokio::test]
async fn the_same_name_with_other_content_is_a_conflict() {
    let world = world().await;
    let first = world.candidate(1);
    world.deployer().deployer.deploy_model(&deploy(&first)).await.expect("deployed");
    let calls = world.simulator.calls();
    let made = calls.iter().find(|call| call.operation == "CreateModel").expect("a model");
    // A second account of the same kind, in which somebody else was first.
    let other = crate::common::world().await;
    let mut request = made.request.clone();
    request["PrimaryContainer"]["Image"] = json!("theirs:latest");
    request.as_object_mut().expect("an object").remove("Tags");
    call(&other, "CreateModel", &request).await;
    let mut settings = other.settings();
    settings["artifacts"] = json!(format!("s3://{}/models", world.bucket));
    settings["data_capture"] = Value::Null;
    let error = deployer(&settings).deployer.deploy_model(&deploy(&first)).await;
    let error = error.expect_err("another image");
    assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("another image"), "{error}");
    // The same for an object in the way.
    let key = made.request["PrimaryContainer"]["ModelDataUrl"].as_str().expect("a URL");
    let key = key.replace(&format!("s3://{}/", world.bucket), "");
    let third = crate::common::world().await;
    let put = crate::common::s3(&third.s3_url).put_object().bucket(&third.bucket).key(key);
    put.body(b"theirs".to_vec().into()).send().await.expect("put");
    let error = third.deployer().deployer.deploy_model(&deploy(&first)).await;
    let error = error.expect_err("another object");
    assert!(error.to_string().contains("other content"), "{error}");
    assert_eq!(third.effects("CreateModel"), 0);
}
