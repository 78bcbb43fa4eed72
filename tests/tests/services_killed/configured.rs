//! `configs/services/` with the addresses of the bench, each behind a trap.

use std::path::Path;
use std::sync::Arc;

use mloop_services::Services;
use mloop_testkit::configs::{self, Change};
use mloop_testkit::program;
use mloop_testkit::small::training_changes;
use mloop_tests::root;

use crate::trap::Trap;
use crate::world::World;

/// The submitter as shipped.
const AIRFLOW: &str = "  kind: airflow\n  settings:\n    url: https://airflow.example.org\n    \
                       dag_id: mloop_training\n    task_id: train\n    username: mloop\n    \
                       password_file: secrets/airflow-password\n";

/// Writes the configurations of a world into a folder. `submitter` is YAML below `submitter:`.
pub(crate) fn configure(
    world: &World,
    folder: &Path,
    trap: &Arc<Trap>,
    database: &str,
    submitter: String,
) {
    let services = Services::running();
    let at = |url: &str| trap.before(url);
    let (postgres, smtp) = (services.postgres(), services.smtp());
    let (monitoring, retraining) = ("monitoring_config.yaml", "retrain_config.yaml");
    let (training, deployment) = ("training_config.yaml", "deployment_config.yaml");
    let mail = format!(
        "host: {}\n      port: {}\n      ca_file: {}",
        smtp.host,
        smtp.port,
        smtp.ca_file.display()
    );
    let mut changes = training_changes();
    for file in [monitoring, retraining, training, deployment] {
        changes.push((file, "model: fashion\n", format!("model: {}\n", world.name)));
        changes.push((file, "https://mlflow.example.org", at(&services.mlflow().url)));
    }
    for file in [monitoring, retraining, deployment] {
        let place = format!("{}@127.0.0.1:{}/{database}", postgres.admin, postgres.port);
        changes.push((file, "mloop@db.example.org:5432/mloop", place));
    }
    for file in [monitoring, training, deployment] {
        changes.push((file, "/srv/mloop", world.folder().display().to_string()));
    }
    for file in [monitoring, deployment] {
        let url = at(&services.alertmanager().url);
        changes.push((file, "https://alertmanager.example.org", url));
    }
    for file in [monitoring, retraining] {
        changes.push((file, "host: smtp.example.org", mail.clone()));
    }
    for file in [monitoring, training, deployment] {
        changes.push((file, "company-models", world.name.clone()));
    }
    for file in [monitoring, training] {
        // Reading changes nothing that a kill could leave half done.
        let moto = &services.moto().url;
        let s3 = format!("s3: {{region: eu-central-1, endpoint_url: {moto}}}");
        changes.push((file, "s3: {region: eu-central-1}", s3));
    }
    let connection = format!(
        "region: eu-central-1\n      endpoint_url: {}\n      s3_endpoint_url: {}",
        at(&world.simulator.url()),
        at(&services.moto().url)
    );
    changes.extend([
        (monitoring, "https://prometheus.example.org", services.prometheus().url.clone()),
        (monitoring, "https://pushgateway.example.org", at(&services.pushgateway().url)),
        (retraining, AIRFLOW, submitter),
        (deployment, "region: eu-central-1", connection),
    ]);
    changes.extend(haste());
    configs::write_services(folder, &changes).expect("written");
    write_secrets(world, folder, trap);
}

/// What versions and runs that are made and killed by the dozen need otherwise.
fn haste() -> Vec<Change> {
    let (retraining, deployment) = ("retrain_config.yaml", "deployment_config.yaml");
    let change = |file, from, to: &str| (file, from, to.to_owned());
    vec![
        // A second version by hand has no traffic to be better on.
        change("training_config.yaml", "without_fresh: inconclusive", "without_fresh: frozen_only"),
        change("monitoring_config.yaml", "settle_secs: 120", "settle_secs: 1"),
        change(
            retraining,
            "windows: {at_least: 2, of_windows: 3}",
            "windows: {at_least: 1, of_windows: 1}",
        ),
        change(retraining, "lease_secs: 60", "lease_secs: 1"),
        change(deployment, "lease_secs: 120", "lease_secs: 1"),
        change(deployment, "poll_ms: 15000", "poll_ms: 20"),
        change(deployment, "patience_secs: 3600", "patience_secs: 30"),
        change(deployment, "verify_requests: 20", "verify_requests: 3"),
        change(deployment, "warmup_requests: 10", "warmup_requests: 1"),
        change(deployment, "latency_requests: 100", "latency_requests: 3"),
        change(deployment, "latency_p99_millis: 500.0", "latency_p99_millis: 5000.0"),
    ]
}

fn write_secrets(world: &World, folder: &Path, trap: &Arc<Trap>) {
    let services = Services::running();
    let chat = trap.before(&format!("http://{}", world.chat.address()));
    let webhook = format!("{chat}/services/T0/B0/x");
    let secrets = folder.join("secrets");
    std::fs::create_dir_all(&secrets).expect("made");
    for (file, secret) in [
        ("ledger-password", services.postgres().password.as_str()),
        // This MLflow asks nobody who calls.
        ("mlflow-password", "any"),
        ("airflow-password", services.airflow().password.as_str()),
        ("smtp-password", services.smtp().password.as_str()),
        ("slack-webhook-url", webhook.as_str()),
    ] {
        std::fs::write(secrets.join(file), secret).expect("written");
    }
}

/// The shipped submitter, of this DAG.
pub(crate) fn airflow(url: &str, dag: &str) -> String {
    let shipped = AIRFLOW.replace("https://airflow.example.org", url);
    let user = format!("username: {}", Services::running().airflow().username);
    shipped.replace("mloop_training", dag).replace("username: mloop", &user)
}

/// The shipped example of a submitter to SageMaker.
pub(crate) fn sagemaker(world: &World, at: &dyn Fn(&str) -> String) -> String {
    let path = root().join("configs/examples/submitter_sagemaker.yaml");
    let text = std::fs::read_to_string(path).expect("a shipped file");
    let moto = Services::running().moto().url.clone();
    let (endpoint, s3) = (at(&world.simulator.url()), at(&moto));
    let connection =
        format!("{{region: eu-central-1, endpoint_url: {endpoint}, s3_endpoint_url: {s3}}}");
    assert!(text.contains("{region: eu-central-1}"), "{text}");
    let text = text.replace("{region: eu-central-1}", &connection);
    let text = text.replace("company-models", &world.name);
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// A program with AWS's credentials in its environment.
pub(crate) fn credentialed(program: program::Program) -> program::Program {
    let [id, secret] = mloop_s3::testing::KEYS;
    let program = program.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    program.env("AWS_EC2_METADATA_DISABLED", "true")
}
