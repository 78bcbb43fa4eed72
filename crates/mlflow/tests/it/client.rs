//! MLflow's own Python client reads what was registered here.

use std::collections::BTreeMap;
use std::process::Stdio;

use mloop_core::evaluation::{
    EVALUATION_FORMAT, EvaluationReport, GateRule, GateVerdict, SetComparison,
};
use mloop_core::version::{aliases, files, tags};
use mloop_core::{Sha256Digest, VersionRef};
use mloop_platform::{ModelRegistry as _, Registration};
use mloop_services::{Service, Services};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{Place, registry, url};

const SCRIPT: &str = include_str!("client.py");

fn evaluation() -> EvaluationReport {
    let set = SetComparison {
        set: "frozen".to_owned(),
        dataset: Sha256Digest::of(b"frozen"),
        n: 1000,
        challenger_accuracy: 0.91,
        champion_accuracy: Some(0.9),
        difference: Some(0.01),
        interval: Some([0.001, 0.019]),
        discordant: Some([20, 10]),
        rule: GateRule::NonInferiority,
        margin: 0.01,
        verdict: GateVerdict::Blessed,
        reason: "not worse".to_owned(),
    };
    EvaluationReport {
        schema: EVALUATION_FORMAT.to_owned(),
        champion: Some(VersionRef { number: 1, digest: Sha256Digest::of(b"champion") }),
        confidence: 0.95,
        sets: vec![set],
        classes: vec!["boot".to_owned(), "shirt".to_owned()],
        confusion: vec![],
        verdict: GateVerdict::Blessed,
    }
}

/// A version as a training leaves it: 300 epochs of 4 numbers, one of them none; 120 settings.
fn trained(place: &Place) -> Registration {
    let epochs: Vec<Value> = (1..=300)
        .map(|epoch| {
            let loss = if epoch == 7 { json!(null) } else { json!(1.0 / f64::from(epoch)) };
            json!({
                "epoch": epoch, "training_loss": loss, "validation_loss": 0.5,
                "validation_accuracy": 0.9, "learning_rate": 0.001,
            })
        })
        .collect();
    let settings: BTreeMap<String, Value> =
        (0..119).map(|number| (format!("s{number}"), json!(number))).collect();
    let texts = [
        (files::MODEL, json!({"format": "mloop.vision/1", "classes": ["boot", "shirt"]})),
        (files::METRICS, json!({"schema": "x", "kept_epoch": 290, "epochs": epochs})),
        (files::TRAINING_CONFIG, json!({"trainer": "cv", "settings": settings})),
        (files::EVALUATION, json!(evaluation())),
        (files::SCHEMA, json!({})),
    ]
    .map(|(name, value)| (name, value.to_string()));
    let mut contents: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let weights = "0123456789abcdef".repeat(200_000);
    contents.push((files::WEIGHTS, &weights));
    let mut registration = place.with("trained", &contents);
    registration.tags.insert(tags::VERDICT.to_owned(), "blessed".to_owned());
    registration
}

/// What MLflow's client sees.
async fn seen(place: &Place, key: &str) -> Value {
    let services = Services::running();
    let mut command = Command::new(services.python(Service::Mlflow));
    command.arg("-c").arg(SCRIPT).arg(url()).arg(place.model.as_str()).arg(key);
    command.arg(place.path("downloaded")).env("MLFLOW_DISABLE_TELEMETRY", "true");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("python ran");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(text.trim().lines().last().expect("a line")).expect("JSON")
}

#[tokio::test]
async fn mlflows_own_client_finds_reads_and_downloads_what_was_registered() {
    let place = Place::new("client");
    let wanted = trained(&place);
    let version = registry(&url()).register(&wanted).await.expect("a version");
    let set = registry(&url()).set_alias(&place.model, aliases::CHAMPION, &version.version).await;
    set.expect("an alias");
    let seen = seen(&place, &wanted.key.to_string()).await;

    assert_eq!(seen["by_alias"], "1");
    assert_eq!(seen["by_tag"], json!(["1"]));
    assert_eq!(seen["tags"][tags::STAGING_READY], "true");
    assert_eq!(seen["tags"]["origin"], "test");

    let digest = wanted.manifest.digest().to_string();
    assert_eq!(seen["flavors"]["mloop"]["digest"], digest.as_str());
    assert_eq!(seen["flavors"]["mloop"]["data"], files::WEIGHTS);
    assert_eq!(seen["flavors"]["mloop"]["classes"], json!(["boot", "shirt"]));
    assert_eq!(seen["inputs"], json!(["image"]));
    assert_eq!(seen["outputs"], json!(["prediction", "confidence", "probabilities"]));

    let expected: BTreeMap<&str, String> = wanted
        .manifest
        .files()
        .iter()
        .map(|entry| (entry.path.as_str(), entry.sha256.to_string()))
        .collect();
    let mut files_seen = seen["files"].clone();
    // The last of these the client writes itself.
    for extra in ["MLmodel", files::MANIFEST, "registered_model_meta"] {
        assert!(files_seen.as_object_mut().expect("a map").remove(extra).is_some(), "{extra}");
    }
    assert_eq!(files_seen, json!(expected), "every file, with its digest");

    assert_eq!(seen["run"]["status"], "FINISHED");
    assert_eq!(seen["run"]["params"], 120 + 4, "settings, and what the gate said");
    assert_eq!(seen["run"]["champion"], version_of_the_report().as_str());
    assert_eq!(seen["run"]["accuracy"], 0.91);
    assert_eq!(seen["run"]["datasets"], json!(["frozen"]));
    assert_eq!(seen["run"]["outputs"], 1);
    assert_eq!(seen["history"]["steps"], json!((1..=300).collect::<Vec<_>>()));
    assert_eq!(seen["history"]["nan_at"], json!([7]));
    assert_eq!(seen["model_status"], "READY");
}

fn version_of_the_report() -> String {
    evaluation().champion.map(|champion| champion.to_string()).unwrap_or_default()
}
