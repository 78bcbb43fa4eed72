//! What is asked for again after a failure: nothing that changes something, but after a look.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mloop_core::Sha256Digest;
use mloop_core::exit_class::{Classified, ExitClass};
use mloop_deployer::{DeployError, Deployer};
use mloop_http::testing::{Fault, Relay};
use mloop_platform::conformance::samples;
use serde_json::{Value, json};

use crate::common::{
    World, call, deploy, deployer, digest, in_production, name, s3, settled, switch, world,
    world_with,
};
use crate::jobs::{settings, submitter};

/// Each call that changes something, and the look that decides about its repeat.
const ACTING: [(&str, &str); 5] = [
    ("CreateModel", "DescribeModel"),
    ("CreateEndpointConfig", "DescribeEndpointConfig"),
    ("CreateEndpoint", "DescribeEndpoint"),
    ("UpdateEndpoint", "DescribeEndpoint"),
    ("DeleteEndpoint", "DescribeEndpoint"),
];

/// The same of training jobs.
const JOBS: [(&str, &str); 2] =
    [("CreateTrainingJob", "DescribeTrainingJob"), ("StopTrainingJob", "DescribeTrainingJob")];

/// As often as the settings try unless told otherwise.
const TRIES: usize = 4;

fn operations(world: &World) -> Vec<String> {
    world.simulator.calls().into_iter().map(|call| call.operation).collect()
}

fn count(world: &World, operation: &str) -> usize {
    operations(world).iter().filter(|called| *called == operation).count()
}

/// Between two equal acting calls there is a look.
fn assert_looks_between(world: &World) {
    let calls = operations(world);
    for (acting, look) in ACTING.into_iter().chain(JOBS) {
        let is_it = |called: &&String| *called == acting || *called == look;
        let [mut acted, mut looked] = [false, true];
        for called in calls.iter().filter(is_it) {
            if called == look {
                looked = true;
            } else {
                assert!(!acted || looked, "{acting} twice without {look}: {calls:?}");
                [acted, looked] = [true, false];
            }
        }
    }
}

/// Two versions, of which the first one is in production and on staging, all while a fault befalls
/// each kind of acting call; then the second one takes over, and staging is removed.
async fn all_that_acts(fault: &Value) -> World {
    let world = world().await;
    let [first, second] = [1, 2].map(|seed| world.candidate(seed));
    let platform = world.deployer();
    for (operation, _) in ACTING {
        let mut fault = fault.clone();
        fault["operation"] = json!(operation);
        world.fault(fault);
    }
    platform.deployer.deploy_model(&deploy(&first)).await.expect("deployed");
    settled(&platform, "staging").await;
    in_production(&platform, &first).await;
    platform.deployer.switch_to_production(&switch(&second, Some(&first))).await.expect("asked");
    let found = settled(&platform, "production").await.expect("an endpoint");
    assert_eq!(found.configured, Some(digest(&second)), "{fault}");
    platform.janitor.remove_endpoint(&name("staging")).await.expect("asked");
    assert_eq!(settled(&platform, "staging").await, None, "{fault}");
    assert_eq!(world.simulator.waiting_faults(), vec![], "every fault had its turn");
    world
}

#[tokio::test]
async fn a_lost_answer_makes_nothing_be_asked_for_twice() {
    let world = all_that_acts(&json!({"fault": "lose_answer"})).await;
    // Two models, two configurations of staging and production and one of the second version, two
    // endpoints.
    for (operation, expected) in ACTING.map(|(operation, _)| operation).iter().zip([2, 3, 2, 1, 1])
    {
        assert_eq!(world.effects(operation), expected, "{operation}");
        assert_eq!(count(&world, operation), expected, "{operation} is not repeated");
    }
}

#[tokio::test]
async fn what_had_no_effect_is_repeated_after_a_look() {
    for fault in [
        json!({"fault": "throttle", "times": 2}),
        json!({"fault": "lose_request", "times": 2}),
        json!({"fault": "error", "times": 2, "status": 500, "code": "InternalFailure",
            "message": "try again"}),
    ] {
        let world = all_that_acts(&fault).await;
        for (operation, expected) in
            ACTING.map(|(operation, _)| operation).iter().zip([2, 3, 2, 1, 1])
        {
            assert_eq!(world.effects(operation), expected, "{operation}: {fault}");
            assert_eq!(count(&world, operation), expected + 2, "{operation}: {fault}");
        }
        assert_looks_between(&world);
    }
}

#[tokio::test]
async fn tries_end() {
    let world = world().await;
    let first = world.candidate(1);
    let platform = world.deployer();
    let request = deploy(&first);
    let asked = || platform.deployer.deploy_model(&request);
    for (operation, _) in &ACTING[..3] {
        world.fault(json!({"fault": "throttle", "operation": operation, "times": TRIES}));
        let error = asked().await.expect_err("busy for too long");
        assert_eq!(error.exit_class(), ExitClass::Transient, "{error:?}");
        assert_eq!((count(&world, operation), world.effects(operation)), (TRIES, 0), "{operation}");
    }
    asked().await.expect("deployed");
    assert_looks_between(&world);
}

#[tokio::test]
async fn jobs_are_looked_for_before_they_are_asked_for_again() {
    let world = world_with(|settings| settings.delays.starting_job = Duration::from_secs(60)).await;
    let submitter = submitter(&settings(&world, &["training_main"], &json!({})));
    let faults = [
        (json!({"fault": "lose_answer"}), 1),
        (json!({"fault": "throttle", "times": 2}), 3),
        (json!({"fault": "lose_request", "times": 2}), 3),
    ];
    let [mut asked, mut stopped] = [0, 0];
    for (made, (fault, tries)) in faults.into_iter().enumerate() {
        let spec = samples::job(&fault.to_string());
        for (operation, _) in JOBS {
            let mut fault = fault.clone();
            fault["operation"] = json!(operation);
            world.fault(fault);
        }
        submitter.submit_training_job(&spec).await.expect("submitted");
        asked += tries;
        assert_eq!(count(&world, "CreateTrainingJob"), asked, "{fault}");
        assert_eq!(world.effects("CreateTrainingJob"), made + 1, "{fault}");
        submitter.cancel(&spec.job_id).await.expect("asked to stop");
        stopped += tries;
        assert_eq!(count(&world, "StopTrainingJob"), stopped, "{fault}");
    }
    assert_eq!(world.simulator.waiting_faults(), vec![], "every fault had its turn");
    assert_looks_between(&world);
}

#[tokio::test]
async fn between_two_tries_somebody_else_may_be_faster() {
    for fault in ["not_found", "lose_request", "throttle"] {
        let world = world().await;
        let [first, second, third] = [1, 2, 3].map(|seed| world.candidate(seed));
        let platform = world.deployer();
        in_production(&platform, &first).await;
        // So that somebody else needs one call alone.
        let deployer: &Arc<dyn Deployer> = &platform.deployer;
        deployer.switch_to_production(&switch(&third, Some(&first))).await.expect("asked");
        settled(&platform, "production").await;
        deployer.rollback(&switch(&first, Some(&third))).await.expect("asked");
        settled(&platform, "production").await;
        let updates = |world: &World| -> Vec<Value> {
            let calls = world.simulator.calls().into_iter();
            let updates = calls.filter(|call| call.operation == "UpdateEndpoint");
            updates.map(|call| call.request).collect()
        };
        let to_third = updates(&world)[0].clone();
        world.fault(json!({"fault": fault, "operation": "UpdateEndpoint"}));
        let request = switch(&second, Some(&first));
        let (ours, ()) = tokio::join!(deployer.switch_to_production(&request), async {
            while updates(&world).len() < 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            call(&world, "UpdateEndpoint", &to_third).await;
        });
        let error = ours.expect_err("somebody else was faster");
        assert!(matches!(error, DeployError::Conflict { .. }), "{fault}: {error:?}");
        assert_eq!(world.effects("UpdateEndpoint"), 3, "{fault}: it is not asked for again");
        let found = settled(&platform, "production").await.expect("an endpoint");
        assert_eq!(found.configured, Some(digest(&third)), "{fault}");
    }
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_twenty_times_leaves_one_object() {
    let world = world().await;
    let first = world.candidate(1);
    let store = s3(&world.s3_url);
    let versioned = aws_sdk_s3::types::VersioningConfiguration::builder()
        .status(aws_sdk_s3::types::BucketVersioningStatus::Enabled)
        .build();
    let call = store.put_bucket_versioning().bucket(&world.bucket);
    call.versioning_configuration(versioned).send().await.expect("every write is kept");
    let relay = Relay::new(&world.s3_url, |asked| {
        if asked.line.starts_with("PUT ") { Fault::CutAfter } else { Fault::None }
    });
    let mut settings = world.settings();
    settings["connection"]["s3_endpoint_url"] = json!(relay.url());
    // The SDK tries each upload as often as it may, and is never answered.
    let platforms: Vec<_> = (0..20).map(|_| deployer(&settings)).collect();
    let request = deploy(&first);
    let asked = platforms.iter().map(|platform| platform.deployer.deploy_model(&request));
    for asked in join_all(asked).await {
        asked.expect("a look finds the object");
    }
    let uploads = relay.asked().iter().filter(|asked| asked.line.starts_with("PUT ")).count();
    assert!(uploads >= TRIES, "{uploads} answers were lost");

    let found = store.list_object_versions().bucket(&world.bucket).send().await.expect("a list");
    let [object] = found.versions() else { panic!("written more than once: {found:?}") };
    let key = object.key().expect("a key");
    let content = store.get_object().bucket(&world.bucket).key(key).send().await.expect("there");
    let content = content.body.collect().await.expect("read").into_bytes();
    let expected = format!("models/fashion/{}/model.tar.gz", Sha256Digest::of(&content));
    assert_eq!(key, expected, "the key holds the digest of the content");
    assert_eq!(world.effects("CreateModel"), 1);
}
