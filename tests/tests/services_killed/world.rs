//! A small problem with every role on its own service, none of which takes long.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use mloop_config::Document;
use mloop_core::capture::{CaptureRecord, hour_folder};
use mloop_core::{Clock as _, EndpointName, SystemClock};
use mloop_deployer::{EndpointClient, Invocation};
use mloop_http::testing::{Reply, Server};
use mloop_http::{Client, Method, Policy, Request};
use mloop_s3::testing::{KEYS, TestBucket};
use mloop_sagemaker_simulator::{Delays, Settings, Simulator, Storage};
use mloop_services::Services;
use mloop_testkit::camera::Camera;
use mloop_testkit::small::{pictures, write_data_sets};
use mloop_testkit::traffic::{Sender, label_lines, moved};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::database::Database;

/// Its own model, database, bucket, SageMaker and chat; the rest is the bench's.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) chat: Server,
    pub(crate) database: Database,
    bucket: TestBucket,
    folder: TempDir,
    /// Name of the model and of the bucket: no other test has it.
    pub(crate) name: String,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// A world without configurations.
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}-{}", SystemClock.now().timestamp_millis());
        let folder = tempfile::tempdir().expect("a folder");
        write_data_sets(&folder.path().join("data")).expect("written");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let s3_url = Services::running().moto().url.clone();
        let bucket = runtime.block_on(TestBucket::create(&s3_url, &name));
        let credentials = Some((KEYS[0].to_owned(), KEYS[1].to_owned()));
        // Jobs never begin, so that none ends while it is looked at.
        let starting_job = Duration::from_secs(3600);
        let settings = Settings {
            delays: Delays { starting_job, ..Delays::all(Duration::from_millis(30)) },
            // What is captured is asked for, rather than waited for.
            capture_every: Duration::from_secs(3600),
            ..Settings::new(Storage { endpoint_url: Some(s3_url), credentials })
        };
        let simulator = runtime.block_on(Simulator::start(settings, Arc::new(SystemClock)));
        let simulator = simulator.expect("it listens");
        let chat = Server::new(&[Reply::of(200, "", "ok")]);
        let database = Database::new(&name.replace('-', "_"));
        Self { simulator, chat, database, bucket, folder, name, runtime }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the endpoints, with the very settings of a configuration.
    fn client(&self, configs: &Path) -> Arc<dyn EndpointClient> {
        let document = Document::read(&configs.join("deployment_config.yaml"));
        let settings = document.expect("a configuration").value()["deployer"]["settings"].clone();
        let settings = serde_json::from_value(settings).expect("settings");
        mloop_sagemaker::testing::endpoints(settings, KEYS).client
    }

    /// Sends pictures through cameras that have changed, and labels them. What was captured counts for
    /// the last full hour, whose begin and end this gives.
    pub(crate) fn drifted_traffic(&self, configs: &Path) -> [DateTime<Utc>; 2] {
        let sender = Sender::new(self.client(configs), production(), Camera::Cheap, "window-1");
        let counted = self.runtime.block_on(sender.send(&pictures(101, 300)));
        assert_eq!((counted.sent, counted.failed), (300, 0));
        let labels = format!("labels/{}/window-1.jsonl", hour_folder(SystemClock.now()));
        self.runtime.block_on(self.bucket.put(&labels, label_lines(&counted.labels)));
        let mut records = self.captured();
        records.retain(|record| record.id().starts_with("window-1"));
        assert_eq!(records.len(), 300, "the simulator captures what production answered");
        let end = SystemClock.now().duration_trunc(TimeDelta::hours(1));
        let end = end.expect("hours divide a day");
        let start = end - TimeDelta::hours(1);
        let lines = moved(&records, start).join("\n") + "\n";
        let replayed =
            format!("captured/fashion-production/primary/{}/replayed.jsonl", hour_folder(start));
        self.runtime.block_on(self.bucket.put(&replayed, lines));
        [start, end]
    }

    /// What production answered, as the simulator captured it.
    fn captured(&self) -> Vec<CaptureRecord> {
        self.runtime.block_on(self.simulator.write_captured()).expect("written");
        let below = "captured/fashion-production/primary";
        let files = self.runtime.block_on(self.bucket.read_all(below));
        let texts = files.iter().map(|(_, content)| std::str::from_utf8(content).expect("text"));
        texts.flat_map(str::lines).map(|line| CaptureRecord::parse(line).expect("whole")).collect()
    }

    /// The digest of the version that answers for production.
    pub(crate) fn answering(&self, configs: &Path) -> Value {
        let picture = &pictures(7, 1)[0];
        let asked = Invocation {
            content_type: "image/png".to_owned(),
            body: picture.pixels.to_png(),
            fresh_connection: true,
            ..Invocation::default()
        };
        let client = self.client(configs);
        let answer = self.runtime.block_on(client.invoke(&production(), &asked));
        json!(answer.expect("an answer").digest.expect("a digest"))
    }

    /// How often a call of SageMaker changed something.
    pub(crate) fn effects(&self, operation: &str) -> usize {
        let calls = self.simulator.calls();
        calls.iter().filter(|call| call.operation == operation && call.effect).count()
    }

    /// How often Slack was told a message, by a text of it.
    pub(crate) fn told(&self, text: &str) -> usize {
        self.chat.asked().iter().filter(|asked| asked.body.contains(text)).count()
    }

    /// Asks a server for JSON.
    pub(crate) fn ask(&self, url: &str, path: &[&str], query: (&str, &str)) -> Value {
        let request = Request::new(Method::Get, &url.parse().expect("an address"), path);
        self.answer(&request.query(query.0, query.1))
    }

    /// Asks a server for JSON by a body.
    pub(crate) fn post(&self, url: &str, path: &[&str], body: &Value) -> Value {
        let request = Request::new(Method::Post, &url.parse().expect("an address"), path);
        self.answer(&request.json(body))
    }

    fn answer(&self, request: &Request) -> Value {
        let client = Client::new(Policy::default()).expect("a client");
        let answer = self.runtime.block_on(client.send(request)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.excerpt(500));
        answer.json().expect("JSON")
    }
}

fn production() -> EndpointName {
    EndpointName::new("fashion-production").expect("a name")
}
