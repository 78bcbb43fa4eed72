//! A simulator with a bucket of its own, and a deployer that speaks to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use mloop_core::deployment::{EndpointDescription, EndpointState};
use mloop_core::{EndpointName, Sha256Digest, SystemClock};
use mloop_deployer::conformance::{Candidate, sample_version};
use mloop_deployer::{Always, DeployRequest, Endpoints, Invocation, SwitchRequest};
use mloop_http::{Client, Method, Policy, Request};
use mloop_sagemaker_simulator::{Delays, Fault, Settings, Simulator, Storage};
use mloop_services::Services;
use mloop_serving::testing::{tiny_image, write_tiny_version};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Moto takes any.
pub(crate) const KEYS: [&str; 2] = ["test", "test"];

/// Longest time that a change may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A simulator, its object store, and a folder for versions.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) bucket: String,
    pub(crate) folder: TempDir,
    pub(crate) s3_url: String,
}

pub(crate) async fn world() -> World {
    world_with(|_| {}).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let s3_url = Services::running().moto().url.clone();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let bucket = format!("mloop-{}-{count}", std::process::id());
    let made = s3(&s3_url).create_bucket().bucket(&bucket).send().await;
    made.expect("a bucket");
    let credentials = Some((KEYS[0].to_owned(), KEYS[1].to_owned()));
    let storage = Storage { endpoint_url: Some(s3_url.clone()), credentials };
    let mut settings = Settings {
        delays: Delays::all(Duration::from_millis(30)),
        region: "us-east-1".to_owned(),
        ..Settings::new(storage)
    };
    change(&mut settings);
    let simulator = Simulator::start(settings, Arc::new(SystemClock)).await.expect("it listens");
    World { simulator, bucket, folder: tempfile::tempdir().expect("a folder"), s3_url }
}

/// A client of the object store.
pub(crate) fn s3(url: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(Credentials::new(KEYS[0], KEYS[1], None, None, "test"));
    aws_sdk_s3::Client::from_conf(config.build())
}

impl World {
    /// Settings of a deployer for this simulator.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "connection": {
                "region": "us-east-1",
                "endpoint_url": self.simulator.url(),
                "s3_endpoint_url": self.s3_url,
                "timeout_secs": 20,
            },
            "role_arn": "arn:aws:iam::123456789012:role/mloop",
            "image": image(),
            "artifacts": format!("s3://{}/models", self.bucket),
            "production": {"instance_type": "ml.m5.large", "instance_count": 2},
            "data_capture": {
                "percentage": 100,
                "destination": format!("s3://{}/captured", self.bucket),
            },
            "tags": {"team": "vision"},
            "deletion_poll_ms": 20,
            "deletion_timeout_secs": 20,
        })
    }

    /// A deployer, as a process of its own would have it.
    pub(crate) fn deployer(&self) -> Endpoints {
        deployer(&self.settings())
    }

    /// A version of the smallest network.
    pub(crate) fn candidate(&self, seed: u32) -> Candidate {
        candidate(self.folder.path(), seed)
    }

    pub(crate) fn fault(&self, fault: Value) {
        let fault: Fault = serde_json::from_value(fault).expect("a fault");
        self.simulator.fault([fault]);
    }

    /// How often a call changed something.
    pub(crate) fn effects(&self, operation: &str) -> usize {
        let calls = self.simulator.calls();
        calls.iter().filter(|call| call.operation == operation && call.effect).count()
    }
}

pub(crate) fn deployer(settings: &Value) -> Endpoints {
    let settings = serde_json::from_value(settings.clone()).expect("settings");
    mloop_sagemaker::testing::endpoints(settings, KEYS)
}

pub(crate) fn image() -> String {
    format!("123456789012.dkr.ecr.us-east-1.amazonaws.com/model-server@sha256:{}", "5".repeat(64))
}

pub(crate) fn candidate(folder: &Path, seed: u32) -> Candidate {
    let folder = folder.join(format!("version-{seed}"));
    let digest = write_tiny_version(&folder, seed).expect("written");
    let mut version = sample_version(u64::from(seed), "replaced");
    version.version.digest = digest;
    Candidate { version, folder }
}

pub(crate) fn name(name: &str) -> EndpointName {
    EndpointName::new(name).expect("a name")
}

/// A request that every version answers.
pub(crate) fn sound() -> Invocation {
    let content_type = "application/json".to_owned();
    Invocation { content_type, body: tiny_image(3).into_bytes(), ..Invocation::default() }
}

pub(crate) fn deploy(candidate: &Candidate) -> DeployRequest {
    let Candidate { version, folder } = candidate.clone();
    let permission = Arc::new(Always);
    DeployRequest { endpoint: name("staging"), version, folder, permission }
}

pub(crate) fn switch(candidate: &Candidate, current: Option<&Candidate>) -> SwitchRequest {
    let current = current.map(digest);
    let Candidate { version, folder } = candidate.clone();
    let permission = Arc::new(Always);
    SwitchRequest { endpoint: name("production"), version, folder, current, permission }
}

pub(crate) fn digest(candidate: &Candidate) -> Sha256Digest {
    candidate.version.version.digest
}

/// Waits until an endpoint is no longer changing.
pub(crate) async fn settled(platform: &Endpoints, endpoint: &str) -> Option<EndpointDescription> {
    let endpoint = name(endpoint);
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = platform.deployer.describe(&endpoint).await.expect("described");
        let changing = |found: &EndpointDescription| {
            found.state == EndpointState::Changing || found.pending.is_some()
        };
        if !found.as_ref().is_some_and(changing) {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "{endpoint} does not settle: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Puts a version into production.
pub(crate) async fn in_production(platform: &Endpoints, candidate: &Candidate) {
    let request = switch(candidate, None);
    platform.deployer.switch_to_production(&request).await.expect("a first switch");
    let found = settled(platform, "production").await.expect("an endpoint");
    assert_eq!(found.configured, Some(digest(candidate)), "{found:?}");
}

/// A call that mloop would not make.
pub(crate) async fn call(world: &World, operation: &str, request: &Value) {
    let url = world.simulator.url().parse().expect("an address");
    let asked = Request::new(Method::Post, &url, &[])
        .json(request)
        .header("x-amz-target", &format!("SageMaker.{operation}"))
        .header("authorization", "AWS4-HMAC-SHA256 somebody");
    let client = Client::new(Policy::default()).expect("a client");
    let answer = client.send(&asked).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}
