//! `configs/services/` with the addresses of the bench.

use mloop_kubernetes::testing::TOKEN;
use mloop_services::Services;
use mloop_testkit::configs::Change;
use mloop_testkit::program;
use mloop_testkit::small::training_changes;
use mloop_tests::root;
use serde_json::json;

use crate::dags::Woken;
use crate::world::World;

/// What stands in no log and in no result.
const WEBHOOK: &str = "services/T0/B0/hunter2";

/// Who trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// As shipped: runs of a DAG, whose events wake the next one.
    Airflow,
    /// The same, with every event lost.
    AirflowUnheard,
    /// Processes beside the task that asks for them.
    Processes,
    /// Jobs of Kubernetes.
    Kubernetes,
    /// Jobs of SageMaker.
    SageMaker,
}

impl Jobs {
    /// A word for them, as names of models and DAGs may have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Airflow => "airflow",
            Self::AirflowUnheard => "unheard",
            Self::Processes => "processes",
            Self::Kubernetes => "kubernetes",
            Self::SageMaker => "sagemaker",
        }
    }

    /// Jobs outside of Airflow emit no event when they end.
    pub(crate) fn woken(self) -> Woken {
        if self == Self::Airflow { Woken::ByEvents } else { Woken::ByTheClock }
    }

    /// Whether they are runs of the training DAG.
    pub(crate) fn are_runs(self) -> bool {
        matches!(self, Self::Airflow | Self::AirflowUnheard)
    }
}

/// The submitter as shipped.
const AIRFLOW: &str = "  kind: airflow\n  settings:\n    url: https://airflow.example.org\n    \
                       dag_id: mloop_training\n    task_id: train\n    username: mloop\n    \
                       password_file: secrets/airflow-password\n";

impl World {
    /// Addresses, places, names and sizes, and how long things take that are far quicker here.
    pub(crate) fn changes(&self, services: &Services) -> Vec<Change> {
        let to = str::to_owned;
        let (monitoring, retraining) = ("monitoring_config.yaml", "retrain_config.yaml");
        let (training, deployment) = ("training_config.yaml", "deployment_config.yaml");
        let (postgres, smtp) = (services.postgres(), services.smtp());
        let ledger =
            format!("{}@127.0.0.1:{}/{}", postgres.admin, postgres.port, self.database.name);
        let mail = format!(
            "host: {}\n      port: {}\n      ca_file: {}",
            smtp.host,
            smtp.port,
            smtp.ca_file.display()
        );
        let mut changes = training_changes();
        let mlflow = self.mlflow();
        for file in [monitoring, retraining, training, deployment] {
            changes.push((file, "model: fashion\n", format!("model: {}\n", self.name)));
            let of_example = "https://mlflow.example.org\n    username: mloop";
            changes.push((
                file,
                of_example,
                format!("{}\n    username: {}", mlflow.url, mlflow.username),
            ));
        }
        for file in [monitoring, retraining, deployment] {
            changes.push((file, "mloop@db.example.org:5432/mloop", ledger.clone()));
        }
        for file in [monitoring, training, deployment] {
            changes.push((file, "/srv/mloop", self.folder().display().to_string()));
        }
        for file in [monitoring, deployment] {
            let url = services.alertmanager().url.clone();
            changes.push((file, "https://alertmanager.example.org", url));
        }
        for file in [monitoring, retraining] {
            changes.push((file, "host: smtp.example.org", mail.clone()));
            changes.push((file, "<mloop@example.org>", format!("<{}>", self.sender())));
        }
        for file in [monitoring, training, deployment] {
            changes.push((file, "company-models", self.name.clone()));
        }
        for file in [monitoring, training] {
            let moto = &services.moto().url;
            let s3 = format!("s3: {{region: eu-central-1, endpoint_url: {moto}}}");
            changes.push((file, "s3: {region: eu-central-1}", s3));
        }
        let connection = format!(
            "region: eu-central-1\n      endpoint_url: {}\n      s3_endpoint_url: {}",
            self.simulator.url(),
            services.moto().url
        );
        changes.extend([
            (monitoring, "https://prometheus.example.org", services.prometheus().url.clone()),
            (monitoring, "https://pushgateway.example.org", services.pushgateway().url.clone()),
            (
                monitoring,
                "{server_address: fashion-production}",
                format!("{{server_address: fashion-production, job: {}}}", self.name),
            ),
            (monitoring, "max_p99_ms: 250.0", to("max_p99_ms: 5000.0")),
            (monitoring, "settle_secs: 120", to("settle_secs: 1")),
            (retraining, AIRFLOW, self.submitter(services)),
            (
                retraining,
                "windows: {at_least: 2, of_windows: 3}",
                to("windows: {at_least: 1, of_windows: 1}"),
            ),
            (deployment, "region: eu-central-1", connection),
            (deployment, "latency_p99_millis: 500.0", to("latency_p99_millis: 5000.0")),
            (deployment, "latency_requests: 100", to("latency_requests: 10")),
            (deployment, "poll_ms: 15000", to("poll_ms: 200")),
        ]);
        if self.jobs == Jobs::Kubernetes {
            // A Secret of the cluster, where the others have a file.
            let (file, secret) =
                ("password_file: secrets/mlflow-password", "password_env: MLFLOW_PASSWORD");
            changes.push((training, file, to(secret)));
        }
        changes
    }

    fn submitter(&self, services: &Services) -> String {
        let program = program::path("training_main").expect("built").display().to_string();
        match self.jobs {
            Jobs::Airflow | Jobs::AirflowUnheard => {
                let airflow = services.airflow();
                let shipped = AIRFLOW.replace("https://airflow.example.org", &airflow.url);
                let suffix = self.jobs.woken().suffix(self.jobs.name());
                let dag = format!("dag_id: mloop_training{suffix}");
                let shipped = shipped.replace("dag_id: mloop_training", &dag);
                shipped.replace("username: mloop", &format!("username: {}", airflow.username))
            }
            Jobs::Processes => {
                let hold = format!(
                    "RUST_LOG: info, MLOOP_FAILPOINT: training.planned, MLOOP_FAILPOINT_MARK: {}",
                    self.held().display()
                );
                example("process", &[("RUST_LOG: info", hold)])
            }
            Jobs::Kubernetes => {
                let cluster = self.cluster.as_ref().expect("a cluster");
                let at = json!({"server": format!("http://{}", cluster.address())});
                let kubeconfig = cluster.kubeconfig(&at, TOKEN).display().to_string();
                let command = format!("[{program},");
                let kubeconfig = format!("kubeconfig: {kubeconfig}");
                let secrets = "    - {env: AWS_ACCESS_KEY_ID, name: aws-id, key: id}\n    - {env: \
                               AWS_SECRET_ACCESS_KEY, name: aws-secret, key: secret}\n  run_as_user";
                let changes = [
                    ("kubeconfig: null", kubeconfig),
                    ("[training_main,", command),
                    ("  run_as_user", secrets.to_owned()),
                ];
                example("kubernetes", &changes)
            }
            Jobs::SageMaker => {
                let connection = format!(
                    "{{region: eu-central-1, endpoint_url: {}, s3_endpoint_url: {}}}",
                    self.simulator.url(),
                    services.moto().url
                );
                example(
                    "sagemaker",
                    &[
                        ("{region: eu-central-1}", connection),
                        ("[training_main,", format!("[{program},")),
                        ("company-models", self.name.clone()),
                        ("company-secrets", self.name.clone()),
                    ],
                )
            }
        }
    }

    /// The training configuration as a container has it that finds everything in channels.
    pub(crate) fn in_channels(&self) -> String {
        let path = self.configs().join("training_config.yaml");
        let mut text = std::fs::read_to_string(path).expect("just written");
        let here = self.folder().display();
        for (from, to) in [
            ("secrets/mlflow-password".to_owned(), "../secrets/mlflow-password"),
            (format!("{here}/data/"), "../data/"),
            (format!("s3://{}/captured", self.name), "../captured"),
            (format!("s3://{}/labels", self.name), "../labels"),
            (format!("{here}/training"), "../../../checkpoints/work"),
        ] {
            assert!(text.contains(&from), "the configuration no longer holds `{from}`");
            text = text.replace(&from, to);
        }
        // Folders need no connection to S3.
        let is_needed = |line: &&str| !line.trim_start().starts_with("s3: {region");
        text.lines().filter(is_needed).map(|line| format!("{line}\n")).collect()
    }

    pub(crate) fn write_secrets(&self, services: &Services) {
        let folder = self.configs().join("secrets");
        std::fs::create_dir_all(&folder).expect("made");
        let webhook = format!("http://{}/{WEBHOOK}", self.chat.address());
        for (file, secret) in [
            ("ledger-password", services.postgres().password.as_str()),
            ("mlflow-password", self.mlflow().password.as_str()),
            ("airflow-password", services.airflow().password.as_str()),
            ("smtp-password", services.smtp().password.as_str()),
            ("slack-webhook-url", webhook.as_str()),
        ] {
            std::fs::write(folder.join(file), secret).expect("written");
        }
    }
}

/// A shipped example of a submitter, for this machine: it has no images.
fn example(kind: &str, changes: &[(&str, String)]) -> String {
    let path = root().join(format!("configs/examples/submitter_{kind}.yaml"));
    let mut text = std::fs::read_to_string(path).expect("a shipped file");
    for (from, to) in changes {
        assert!(text.contains(from), "the example no longer holds `{from}`");
        text = text.replace(from, to);
    }
    text.lines().map(|line| format!("  {line}\n")).collect()
}
