//! `configs/services/` with the addresses of the bench.

use mloop_services::Services;
use mloop_testkit::configs::Change;
use mloop_testkit::program;
use mloop_testkit::small::training_changes;
use mloop_tests::root;

use crate::world::World;

/// What stands in no log and in no result.
const WEBHOOK: &str = "services/T0/B0/hunter2";

/// Who trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// As shipped: runs of a DAG.
    OfAirflow,
    /// Jobs of SageMaker.
    OfSageMaker,
}

/// The submitter as shipped.
const AIRFLOW: &str = "  kind: airflow\n  settings:\n    url: https://airflow.example.org\n    \
                       dag_id: mloop_training\n    task_id: train\n    username: mloop\n    \
                       password_file: secrets/airflow-password\n";

impl World {
    /// Addresses, places, names and sizes, and how long things take that are far quicker here.
    pub(crate) fn changes(&self, services: &Services, jobs: Jobs) -> Vec<Change> {
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
        for file in [monitoring, retraining, training, deployment] {
            changes.push((file, "model: fashion\n", format!("model: {}\n", self.name)));
            changes.push((file, "https://mlflow.example.org", services.mlflow().url.clone()));
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
        let connection = format!(
            "region: eu-central-1\n      endpoint_url: {}\n      s3_endpoint_url: {}",
            self.simulator.url(),
            services.moto().url
        );
        changes.extend([
            (monitoring, "https://prometheus.example.org", services.prometheus().url.clone()),
            (monitoring, "https://pushgateway.example.org", services.pushgateway().url.clone()),
            (monitoring, "settle_secs: 120", to("settle_secs: 1")),
            (retraining, AIRFLOW, self.submitter(services, jobs)),
            (
                retraining,
                "windows: {at_least: 2, of_windows: 3}",
                to("windows: {at_least: 1, of_windows: 1}"),
            ),
            (deployment, "region: eu-central-1", connection),
            (deployment, "company-models", self.name.clone()),
            (deployment, "latency_p99_millis: 500.0", to("latency_p99_millis: 5000.0")),
            (deployment, "latency_requests: 100", to("latency_requests: 10")),
            (deployment, "poll_ms: 15000", to("poll_ms: 200")),
        ]);
        changes
    }

    fn submitter(&self, services: &Services, jobs: Jobs) -> String {
        if jobs == Jobs::OfSageMaker {
            return self.jobs_of_sagemaker();
        }
        let airflow = services.airflow();
        let shipped = AIRFLOW.replace("https://airflow.example.org", &airflow.url);
        shipped.replace("username: mloop", &format!("username: {}", airflow.username))
    }

    /// The shipped example, whose command and configuration are those of this machine: the simulator
    /// has no images and runs jobs here.
    fn jobs_of_sagemaker(&self) -> String {
        let path = root().join("configs/examples/submitter_sagemaker.yaml");
        let mut text = std::fs::read_to_string(path).expect("a shipped file");
        let program = program::path("training_main").expect("built");
        let config = Self::configs().join("training_config.yaml");
        let connection = format!(
            "{{region: eu-central-1, endpoint_url: {}, s3_endpoint_url: {}}}",
            self.simulator.url(),
            Services::running().moto().url
        );
        for (from, to) in [
            ("{region: eu-central-1}", connection),
            ("[training_main,", format!("[{},", program.display())),
            ("/opt/ml/input/data/config/training_config.yaml", config.display().to_string()),
            ("company-models", self.name.clone()),
        ] {
            assert!(text.contains(from), "the example no longer holds `{from}`");
            text = text.replace(from, &to);
        }
        let channels = ["  channels:", "    config: s3:", "    data: s3:"];
        let kept = text.lines().filter(|line| !channels.iter().any(|one| line.starts_with(one)));
        kept.map(|line| format!("  {line}\n")).collect()
    }

    pub(crate) fn write_secrets(&self, services: &Services) {
        let folder = Self::configs().join("secrets");
        std::fs::create_dir_all(&folder).expect("made");
        let webhook = format!("http://{}/{WEBHOOK}", self.chat.address());
        for (file, secret) in [
            ("ledger-password", services.postgres().password.as_str()),
            // This MLflow asks nobody who calls.
            ("mlflow-password", "any"),
            ("airflow-password", services.airflow().password.as_str()),
            ("smtp-password", services.smtp().password.as_str()),
            ("slack-webhook-url", webhook.as_str()),
        ] {
            std::fs::write(folder.join(file), secret).expect("written");
        }
    }
}
