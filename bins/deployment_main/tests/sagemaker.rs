//! From the registry to traffic on SageMaker, through the real binary and the simulator. Start the
//! bench with `cargo xtask services up moto`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use mloop_core::capture::InferenceAnswer;
use mloop_core::evaluation::GoldenCase;
use mloop_core::version::files;
use mloop_core::{EndpointName, Manifest, ModelName, ModelVersion, Sha256Digest, SystemClock};
use mloop_deployer::conformance::sample_version;
use mloop_deployer::{Always, DeployRequest, Endpoints, Invocation};
use mloop_platform::{ModelRegistry, ModelRegistryKinds, PlatformDeps, Registration};
use mloop_sagemaker_simulator::{Delays, Settings, Simulator, Storage};
use mloop_services::Services;
use mloop_serving::testing::{tiny_image, tiny_version};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Moto takes any.
const KEYS: [&str; 2] = ["test", "test"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A simulator, a registry, and a configuration that knows both.
struct World {
    simulator: Simulator,
    folder: TempDir,
    settings: Value,
    registry: Arc<dyn ModelRegistry>,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    last: Value,
    log: String,
}

impl World {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let s3_url = Services::running().moto().url.clone();
        let bucket = format!("mloop-run-{}-{count}", std::process::id());
        make_bucket(&s3_url, &bucket).await;
        let credentials = Some((KEYS[0].to_owned(), KEYS[1].to_owned()));
        let storage = Storage { endpoint_url: Some(s3_url.clone()), credentials };
        let delays = Delays::all(Duration::from_millis(100));
        let settings =
            Settings { delays, region: "us-east-1".to_owned(), ..Settings::new(storage) };
        let simulator =
            Simulator::start(settings, Arc::new(SystemClock)).await.expect("it listens");
        let folder = tempfile::tempdir().expect("a folder");
        let settings = json!({
            "connection": {
                "region": "us-east-1",
                "endpoint_url": simulator.url(),
                "s3_endpoint_url": s3_url,
                "timeout_secs": 20,
            },
            "role_arn": "arn:aws:iam::123456789012:role/mloop",
            "image": format!("registry/model-server@sha256:{}", "5".repeat(64)),
            "artifacts": format!("s3://{bucket}/models"),
            "production": {"instance_type": "ml.m5.large", "instance_count": 2},
            "deletion_poll_ms": 20,
        });
        let mut kinds = ModelRegistryKinds::new("registry");
        mloop_local::register_models(&mut kinds);
        let deps = PlatformDeps::new(folder.path().to_owned(), Arc::new(SystemClock));
        let registry = json!({"path": "registry"});
        let registry = kinds.build("directory", "registry", &registry, &deps).expect("built");
        let world = Self { simulator, folder, settings, registry };
        world.configure();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// JSON is YAML too.
    fn configure(&self) {
        let config = json!({
            "version": 1,
            "model": "fashion",
            "target": "production",
            "ledger": {"kind": "sqlite", "settings": {"path": "ledger.sqlite"}},
            "registry": {"kind": "directory", "settings": {"path": "registry"}},
            "deployer": {"kind": "sagemaker", "settings": self.settings},
            "production_endpoint": "production",
            "staging_endpoint": "staging",
            "work": "work",
            "smoke_tests": {
                "probability_tolerance": 0.001,
                "latency_p99_millis": 5000.0,
                "warmup_requests": 2,
                "latency_requests": 10,
                "max_error_share": 0.0,
            },
            "bake": {"verify_requests": 5, "patience_secs": 30, "poll_ms": 20},
            "lease_secs": 2,
            "notifiers": [{"kind": "file", "settings": {"path": "alerts.jsonl"}}],
        });
        std::fs::write(self.path("deployment.yaml"), config.to_string()).expect("written");
    }

    fn platform(&self) -> Endpoints {
        let settings = serde_json::from_value(self.settings.clone()).expect("settings");
        mloop_sagemaker::testing::endpoints(settings, KEYS)
    }

    fn fault(&self, fault: Value) {
        self.simulator.fault([serde_json::from_value(fault).expect("a fault")]);
    }

    fn effects(&self, operation: &str) -> usize {
        let calls = self.simulator.calls();
        calls.iter().filter(|call| call.operation == operation && call.effect).count()
    }

    /// Registers a version whose golden answers are those that its weights really give.
    async fn register(&self, seed: u32) -> ModelVersion {
        let mut version = tiny_version(seed);
        let golden = serde_json::to_string(&golden(&self.answer_of(seed, &version).await));
        version.insert(files::GOLDEN.to_owned(), golden.expect("text").into_bytes());
        version.remove(files::MANIFEST);
        let bytes = version.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        let manifest = Manifest::of_bytes(bytes).expect("plain names");
        let json = serde_json::to_vec(&manifest).expect("names and numbers");
        version.insert(files::MANIFEST.to_owned(), json);
        let folder = self.path(&format!("version-{seed}"));
        write(&folder, &version);
        let registration = Registration {
            model: ModelName::new("fashion").expect("a name"),
            key: Sha256Digest::of(&seed.to_le_bytes()),
            folder,
            manifest,
            tags: std::collections::BTreeMap::new(),
            staging_ready: true,
        };
        self.registry.register(&registration).await.expect("registered")
    }

    /// What a version answers to the tiny image, asked at an endpoint of its own.
    async fn answer_of(
        &self,
        seed: u32,
        version: &std::collections::BTreeMap<String, Vec<u8>>,
    ) -> InferenceAnswer {
        let folder = self.path(&format!("asked-{seed}"));
        write(&folder, version);
        let manifest = serde_json::from_slice::<Value>(&version[files::MANIFEST]).expect("JSON");
        let mut asked = sample_version(u64::from(seed), &manifest.to_string());
        let endpoint = EndpointName::new(format!("asked-{seed}")).expect("a name");
        asked.model = ModelName::new("asked").expect("a name");
        let platform = self.platform();
        let permission = Arc::new(Always);
        let request =
            DeployRequest { endpoint: endpoint.clone(), version: asked, folder, permission };
        platform.deployer.deploy_model(&request).await.expect("deployed");
        let end = tokio::time::Instant::now() + PATIENCE;
        let body = loop {
            let answer = platform.client.invoke(&endpoint, &image()).await.expect("an answer");
            if answer.status == 200 {
                break answer.body;
            }
            assert!(tokio::time::Instant::now() < end, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        platform.janitor.remove_endpoint(&endpoint).await.expect("removed");
        serde_json::from_slice(&body).expect("an answer")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deployment_main"));
        command.args(arguments).args(["--config", "deployment.yaml"]);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
        // The standard chain, and nothing of the machine that runs the tests.
        command.env_clear().env("HOME", self.folder.path());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments)).await
    }

    /// A run that waits for the lease of one that was killed.
    async fn run_after_the_lease(&self, change: impl Fn(&mut Command)) -> Ended {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut command = self.command(&["run"]);
            change(&mut command);
            let run = ended(command).await;
            if run.code != Some(31) {
                return run;
            }
            assert!(tokio::time::Instant::now() < end, "the lease does not expire");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills a run at a fail point; none when it was, else its exit code.
    async fn killed_at(&self, point: &str, passing: u32) -> Option<i32> {
        let mark = self.path("mark");
        let run = async {
            self.run_after_the_lease(|command| {
                command.env("MLOOP_FAILPOINT", format!("{point}@{passing}"));
                command.env("MLOOP_FAILPOINT_MARK", &mark);
            })
            .await
        };
        tokio::select! {
            run = run => run.code,
            // Dropping the run kills its process.
            () = appears(&mark) => None,
        }
    }

    /// The digest of the version that answers for production.
    async fn serving(&self) -> Option<Sha256Digest> {
        let production = EndpointName::new("production").expect("a name");
        let answer = self.platform().client.invoke(&production, &image()).await;
        answer.expect("an answer").digest
    }

    fn endpoints(&self) -> Vec<String> {
        let inventory = self.simulator.inventory();
        let endpoints = inventory["endpoints"].as_object().expect("an object");
        let there = endpoints.iter().filter(|(_, endpoint)| endpoint["status"] != "Deleting");
        there.map(|(name, _)| name.clone()).collect()
    }
}

async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.expect("it ends in time").expect("it starts");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let last = out.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    Ended { code: output.status.code(), last: last.unwrap_or_default(), log }
}

async fn appears(file: &Path) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn make_bucket(url: &str, bucket: &str) {
    use mloop_http::{Client, Method, Policy, Request};
    let base = url.parse().expect("an address");
    let made = Request::new(Method::Put, &base, &[bucket]).header(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request",
    );
    let client = Client::new(Policy::default()).expect("a client");
    let answer = client.send(&made).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

fn write(folder: &Path, version: &std::collections::BTreeMap<String, Vec<u8>>) {
    std::fs::create_dir_all(folder).expect("made");
    for (name, bytes) in version {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
}

fn image() -> Invocation {
    let content_type = "application/json".to_owned();
    Invocation { content_type, body: tiny_image(3).into_bytes(), ..Invocation::default() }
}

fn golden(answer: &InferenceAnswer) -> GoldenCase {
    GoldenCase {
        name: "one".to_owned(),
        content_type: "application/json".to_owned(),
        body_base64: base64::engine::general_purpose::STANDARD.encode(tiny_image(3)),
        prediction: answer.prediction.clone(),
        probabilities: answer.probabilities.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_reach_production_one_after_the_other() {
    let world = World::new().await;
    for seed in [1, 2] {
        let version = world.register(seed).await;
        let run = world.run(&["run"]).await;
        assert_eq!((run.code, &run.last["outcome"]), (Some(0), &json!("switched")), "{run:#?}");
        assert_eq!(world.serving().await, Some(version.version.digest));
        assert_eq!(world.endpoints(), ["production"], "staging is gone");
        let again = world.run(&["run"]).await;
        assert_eq!(again.code, Some(99), "{again:#?}");
    }
    assert_eq!(world.effects("UpdateEndpoint"), 1);
    // The way back, and the same name as the first time.
    let models = world.effects("CreateModel");
    let back = world.run(&["rollback"]).await;
    assert_eq!((back.code, &back.last["outcome"]), (Some(13), &json!("rolled_back")), "{back:#?}");
    assert_eq!(world.effects("CreateModel"), models);
    assert_eq!(world.effects("UpdateEndpoint"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_rollback_is_told_as_rolled_back() {
    let world = World::new().await;
    let first = world.register(1).await;
    assert_eq!(world.run(&["run"]).await.code, Some(0));
    world.register(2).await;
    world.fault(json!({"fault": "silent_rollback", "endpoint": "production"}));
    let run = world.run(&["run"]).await;
    assert_eq!((run.code, &run.last["outcome"]), (Some(13), &json!("rolled_back")), "{run:#?}");
    assert_eq!(world.serving().await, Some(first.version.digest));
    let told = std::fs::read_to_string(world.path("alerts.jsonl")).expect("alerts");
    assert!(told.contains("was rolled back"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_ends_with_its_exit_code_and_production_as_it_was() {
    for (fault, code) in [
        (
            json!({"fault": "error", "operation": "DescribeEndpoint", "status": 400,
                "code": "ExpiredTokenException", "message": "expired"}),
            21,
        ),
        (
            json!({"fault": "error", "operation": "CreateModel", "status": 400,
                "code": "UnrecognizedClientException", "message": "who"}),
            21,
        ),
        (json!({"fault": "throttle", "operation": "CreateEndpoint", "times": 100}), 30),
        (json!({"fault": "failed", "endpoint": "staging", "reason": "no capacity"}), 12),
        (json!({"fault": "failed", "endpoint": "production", "reason": "broken"}), 40),
        (json!({"fault": "update_rollback_failed", "endpoint": "production"}), 40),
        (
            json!({"fault": "error", "operation": "CreateEndpointConfig", "status": 400,
                "code": "ResourceLimitExceeded", "message": "quota"}),
            40,
        ),
    ] {
        let world = World::new().await;
        let first = world.register(1).await;
        assert_eq!(world.run(&["run"]).await.code, Some(0));
        world.register(2).await;
        world.fault(fault.clone());
        let run = world.run(&["run"]).await;
        assert_eq!(run.code, Some(code), "{fault}: {run:#?}");
        if fault["endpoint"] != json!("production") {
            assert_eq!(world.serving().await, Some(first.version.digest), "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_the_exit_code_says_so() {
    let world = World::new().await;
    world.register(1).await;
    let mut command = world.command(&["run"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let run = ended(command).await;
    assert_eq!(run.code, Some(21), "{run:#?}");
    let said = run.last["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("refused the credentials"), "{run:#?}");
    assert!(!run.log.contains("panicked"), "{}", run.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_and_repeated_it_ends_with_one_effect_of_each() {
    for point in mloop_sagemaker::DEPLOYER_POINTS {
        let world = World::new().await;
        let version = world.register(1).await;
        let counted = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"];
        let before = counted.map(|operation| world.effects(operation));
        // First on the way to staging, then on the way to production, as far as that is the second
        // passing of a run that finds staging made.
        assert_eq!(world.killed_at(point, 1).await, None, "{point} is reached");
        let second = world.killed_at(point, 2).await;
        assert!(matches!(second, None | Some(0)), "{point}: {second:?}");
        let run = world.run_after_the_lease(|_| {}).await;
        let expected = if second.is_none() { Some(0) } else { Some(99) };
        assert_eq!(run.code, expected, "{point}: {run:#?}");
        assert_eq!(world.serving().await, Some(version.version.digest), "{point}");
        assert_eq!(world.endpoints(), ["production"], "{point}");
        let made = counted.map(|operation| world.effects(operation));
        let made: Vec<usize> = made.iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(made, [1, 2, 2], "{point}: {counted:?}");
    }
}
