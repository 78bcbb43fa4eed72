//! A small problem with every role on its own service.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use mloop_config::Document;
use mloop_core::capture::{CaptureRecord, hour_folder};
use mloop_core::{Clock as _, EndpointName, Secret, Sha256Digest, SystemClock};
use mloop_deployer::{EndpointClient, Invocation};
use mloop_http::testing::{Reply, Server};
use mloop_http::{Client, Credentials, Method, Policy, Service};
use mloop_kubernetes::testing::Cluster;
use mloop_platform::{Lease, Leases, LedgerRegistry, PlatformDeps};
use mloop_s3::testing::{KEYS, TestBucket};
use mloop_sagemaker_simulator::{Delays, Settings, Simulator, Storage};
use mloop_services::{MlflowAuth, Services};
use mloop_testkit::camera::Camera;
use mloop_testkit::program::{Finished, Program};
use mloop_testkit::small::{pictures, write_data_sets};
use mloop_testkit::traffic::{Sender, label_lines, moved};
use mloop_testkit::{configs, jobs};
use tempfile::TempDir;

use crate::callers::{Measuring, record};
use crate::configured::Jobs;
use crate::dags::Woken;
use crate::database::Database;

/// Its own model, database, bucket, SageMaker and chat; the rest is the bench's.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) chat: Server,
    pub(crate) database: Database,
    /// Where jobs of Kubernetes run.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) jobs: Jobs,
    bucket: TestBucket,
    folder: TempDir,
    /// Name of the model and of the bucket, and the sender of mails: no other test has it.
    pub(crate) name: String,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub(crate) fn new(jobs: Jobs) -> Self {
        // Two tests may begin in one millisecond.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{count}", jobs.name(), SystemClock.now().timestamp_millis());
        let services = Services::running();
        let folder = tempfile::tempdir().expect("a folder");
        write_data_sets(&folder.path().join("data")).expect("written");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let s3_url = services.moto().url.clone();
        let bucket = runtime.block_on(TestBucket::create(&s3_url, &name));
        let credentials = Some((KEYS[0].to_owned(), KEYS[1].to_owned()));
        let settings = Settings {
            delays: Delays::all(Duration::from_millis(200)),
            // What is captured is asked for, rather than waited for.
            capture_every: Duration::from_secs(3600),
            run_jobs: jobs == Jobs::SageMaker,
            ..Settings::new(Storage { endpoint_url: Some(s3_url), credentials })
        };
        let simulator = runtime.block_on(Simulator::start(settings, Arc::new(SystemClock)));
        let simulator = simulator.expect("it listens");
        let chat = Server::new(&[Reply::of(200, "", "ok")]);
        let database = Database::new(&name.replace('-', "_"));
        let cluster = (jobs == Jobs::Kubernetes).then(Cluster::with_a_node);
        let world =
            Self { simulator, chat, database, cluster, jobs, bucket, folder, name, runtime };
        configs::write_services(&world.configs(), &world.changes(&services)).expect("written");
        world.write_secrets(&services);
        if let Some(cluster) = &world.cluster {
            let file = "training_config.yaml";
            let text = std::fs::read_to_string(world.configs().join(file)).expect("just written");
            cluster.put_config_map("mloop-training", file, &text);
            cluster.put_secret("mlflow", "password", &world.mlflow().password);
            cluster.put_secret("aws-id", "id", KEYS[0]);
            cluster.put_secret("aws-secret", "secret", KEYS[1]);
        }
        if jobs == Jobs::SageMaker {
            let config = world.folder().join("config");
            std::fs::create_dir(&config).expect("made");
            let text = world.in_channels();
            std::fs::write(config.join("training_config.yaml"), text).expect("written");
            world.upload(&config, "config");
            world.upload(&world.folder().join("data"), "data");
            let secrets = world.folder().join("secrets");
            std::fs::create_dir(&secrets).expect("made");
            let password = world.mlflow().password;
            std::fs::write(secrets.join("mlflow-password"), password).expect("written");
            world.upload(&secrets, "mloop/training");
        }
        world
    }

    /// Copies all files of a folder into the bucket.
    fn upload(&self, folder: &Path, prefix: &str) {
        for path in files(folder) {
            let below = path.strip_prefix(folder).expect("below").display().to_string();
            let content = std::fs::read(&path).expect("read");
            self.runtime.block_on(self.bucket.put(&format!("{prefix}/{below}"), content));
        }
    }

    /// The folder of the configurations: where the bench's Airflow has the tasks of the shipped DAGs
    /// look for them, or one of its own.
    pub(crate) fn configs(&self) -> PathBuf {
        match self.jobs.woken() {
            Woken::ByEvents => Services::running().airflow().configs_folder.clone(),
            Woken::ByTheClock => self.folder().join("configs"),
        }
    }

    /// Its MLflow: one that asks nobody who calls, or, where the cluster or a channel brings the password
    /// to the training, one that asks everybody. That one takes half a second for each call.
    pub(crate) fn mlflow(&self) -> MlflowAuth {
        let services = Services::running();
        if matches!(self.jobs, Jobs::Kubernetes | Jobs::SageMaker) {
            return services.mlflow_auth().clone();
        }
        MlflowAuth {
            url: services.mlflow().url.clone(),
            username: "mloop".to_owned(),
            password: "any".to_owned(),
        }
    }

    /// Written by a job of the submitter `process` that holds until it is removed.
    pub(crate) fn held(&self) -> PathBuf {
        self.folder().join("held")
    }

    /// Where the submitter `process` keeps its jobs.
    pub(crate) fn processes(&self) -> PathBuf {
        self.configs().join("state/jobs")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The sender of its mails.
    pub(crate) fn sender(&self) -> String {
        format!("mloop@{}.example.org", self.name)
    }

    /// Runs a binary with one of the configurations, as an operator would.
    pub(crate) fn run(
        &self,
        program: &str,
        before: &[&str],
        config: &str,
        more: &[&str],
    ) -> Finished {
        let config = self.configs().join(config).display().to_string();
        let arguments = [before, &["--config", &config], more].concat();
        let program = Program::new(program, &arguments).expect("built");
        let program =
            program.env("AWS_ACCESS_KEY_ID", KEYS[0]).env("AWS_SECRET_ACCESS_KEY", KEYS[1]);
        let program = program.env("MLFLOW_PASSWORD", self.mlflow().password);
        program.env("AWS_EC2_METADATA_DISABLED", "true").run().expect("runs")
    }

    /// Trains a first version and puts it into production.
    pub(crate) fn first_version(&self) {
        ended_with(&self.run("training_main", &[], "training_config.yaml", &[]), 0);
        ended_with(&self.run("deployment_main", &["run"], "deployment_config.yaml", &[]), 0);
    }

    /// Sends deployments to where no registry is, or back.
    pub(crate) fn move_the_registry(&self, away: bool) {
        let path = self.configs().join("deployment_config.yaml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        let (here, nowhere) = (self.mlflow().url, "https://nowhere.invalid".to_owned());
        let (from, to) = if away { (here, nowhere) } else { (nowhere, here) };
        assert!(text.contains(&from), "{text}");
        std::fs::write(&path, text.replace(&from, &to)).expect("written");
    }

    fn leases(&self) -> Arc<dyn Leases> {
        let path = self.configs().join("retrain_config.yaml");
        let document = Document::read(&path).expect("a configuration");
        let mut kinds = LedgerRegistry::new("ledger");
        mloop_ledger::register_postgres(&mut kinds);
        let deps = PlatformDeps::new(document.folder(), Arc::new(SystemClock));
        let settings = &document.value()["ledger"]["settings"];
        let deps = deps.with_secrets(mloop_config::secrets());
        kinds.build("postgres", "ledger", settings, &deps).expect("a ledger").leases
    }

    /// Takes a lease as another run would.
    pub(crate) fn take_the_lease(&self, name: &str) -> Lease {
        let leases = self.leases();
        let taken = leases.acquire(name, "another-run", Duration::from_secs(300));
        self.runtime.block_on(taken).expect("nobody has it")
    }

    pub(crate) fn give_back(&self, lease: &Lease) {
        self.runtime.block_on(self.leases().release(lease)).expect("given back");
    }

    /// A client of the endpoints, with the very settings of the configuration.
    fn client(&self) -> Arc<dyn EndpointClient> {
        let path = self.configs().join("deployment_config.yaml");
        let document = Document::read(&path).expect("a configuration");
        let settings = document.value()["deployer"]["settings"].clone();
        let settings = serde_json::from_value(settings).expect("settings");
        mloop_sagemaker::testing::endpoints(settings, KEYS).client
    }

    /// Sends pictures through cameras that have changed, and labels them. What was captured and measured
    /// counts for the last full hour too, which monitoring's next run is about. Gives how long each
    /// request took.
    pub(crate) fn drifted_traffic(&self) -> Vec<Duration> {
        let production = EndpointName::new("fashion-production").expect("a name");
        let client = Arc::new(Measuring::new(self.client()));
        let sender = Sender::new(client.clone(), production, Camera::Cheap, "window-1");
        let counted = self.runtime.block_on(sender.send(&pictures(101, 300)));
        assert_eq!((counted.sent, counted.failed), (300, 0));
        let labels = format!("labels/{}/window-1.jsonl", hour_folder(SystemClock.now()));
        self.runtime.block_on(self.bucket.put(&labels, label_lines(&counted.labels)));
        let records = self.captured();
        let ours = records.iter().filter(|record| record.id().starts_with("window-1"));
        let ours: Vec<CaptureRecord> = ours.cloned().collect();
        assert_eq!(ours.len(), 300, "the simulator captures what production answered");
        let hour = this_hour() - TimeDelta::hours(1);
        let lines = moved(&ours, hour).join("\n") + "\n";
        let replayed =
            format!("captured/fashion-production/primary/{}/replayed.jsonl", hour_folder(hour));
        self.runtime.block_on(self.bucket.put(&replayed, lines));
        if self.jobs == Jobs::SageMaker {
            // A channel's files are as new as their copies, so that none of the job's own hour count.
            let earlier = format!("labels/{}/window-1.jsonl", hour_folder(hour));
            self.runtime.block_on(self.bucket.put(&earlier, label_lines(&counted.labels)));
        }
        let taken = client.taken();
        let labels = [("server_address", "fashion-production"), ("job", &*self.name)];
        let url = &Services::running().prometheus().url.clone();
        self.runtime.block_on(record(url, &labels, &taken, hour, SystemClock.now()));
        taken
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
    pub(crate) fn answering(&self) -> Option<Sha256Digest> {
        let production = EndpointName::new("fashion-production").expect("a name");
        let picture = &pictures(7, 1)[0];
        let asked = Invocation {
            content_type: "image/png".to_owned(),
            body: picture.pixels.to_png(),
            fresh_connection: true,
            ..Invocation::default()
        };
        let answer = self.runtime.block_on(self.client().invoke(&production, &asked));
        answer.expect("an answer").digest
    }

    /// Asks a server for JSON.
    pub(crate) fn ask(&self, url: &str, path: &[&str], query: (&str, &str)) -> serde_json::Value {
        self.ask_as(Credentials::None, url, path, query)
    }

    /// Asks its MLflow.
    pub(crate) fn ask_mlflow(&self, path: &[&str], query: (&str, &str)) -> serde_json::Value {
        let MlflowAuth { url, username, password } = self.mlflow();
        let password = Secret::new(password);
        self.ask_as(Credentials::Basic { username, password }, &url, path, query)
    }

    fn ask_as(
        &self,
        caller: Credentials,
        url: &str,
        path: &[&str],
        query: (&str, &str),
    ) -> serde_json::Value {
        let client = Client::new(Policy::default()).expect("a client");
        let service = Service::new("a service", url.parse().expect("an address"), client);
        let service = service.with(caller);
        let request = service.request(Method::Get, path).query(query.0, query.1);
        let answer = self.runtime.block_on(service.call("asking", &request));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{url}: {}", answer.excerpt(500));
        answer.json().expect("JSON")
    }

    /// The mails that it sent.
    pub(crate) fn mails(&self) -> Vec<String> {
        let services = Services::running();
        let entries = std::fs::read_dir(&services.smtp().mailbox).expect("the mailbox");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let whole = paths.filter(|path| path.extension().is_some_and(|end| end == "eml"));
        let mails = whole.map(|path| std::fs::read_to_string(path).expect("a mail"));
        mails.filter(|mail| mail.contains(&self.sender())).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        jobs::end(&self.processes());
        // Whatever cannot be removed is overwritten by the next world.
        for entry in std::fs::read_dir(self.configs()).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = path.is_dir();
            drop(if is_folder {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            });
        }
    }
}

pub(crate) fn ended_with(finished: &Finished, code: i32) {
    assert_eq!(finished.code, Some(code), "{}\n{}", finished.last, finished.stderr);
}

pub(crate) fn this_hour() -> DateTime<Utc> {
    SystemClock.now().duration_trunc(TimeDelta::hours(1)).expect("hours divide a day")
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (vec![], vec![folder.to_owned()]);
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            found.push(path);
        }
    }
    found
}
