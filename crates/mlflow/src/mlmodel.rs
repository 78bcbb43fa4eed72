//! The file `MLmodel`, by which MLflow's clients know what a model is.

use chrono::DateTime;
use mloop_core::Manifest;
use mloop_core::version::files;
use serde_json::{Value, json};

use crate::logged::Logged;

/// What `model_server` takes, as MLflow writes signatures: the bytes of one image.
const INPUTS: &str = r#"[{"type": "binary", "name": "image", "required": true}]"#;

/// What it answers, without what only monitoring reads.
const OUTPUTS: &str = r#"[{"type": "string", "name": "prediction", "required": true}, {"type": "double", "name": "confidence", "required": true}, {"type": "array", "items": {"type": "double"}, "name": "probabilities", "required": true}]"#;

/// The content, JSON, which YAML includes. It depends on the logged model and its files alone, so that
/// racing registrations write the same. `model` is the content of [`files::MODEL`].
pub(crate) fn mlmodel(logged: &Logged, manifest: &Manifest, model: Option<&Value>) -> Vec<u8> {
    let of_model = |key: &str| model.and_then(|model| model.get(key)).cloned().unwrap_or_default();
    let has = |name: &str| manifest.files().iter().any(|entry| entry.path == name);
    let named = |name: &str| has(name).then(|| name.to_owned());
    let bytes: u64 = manifest.files().iter().map(|entry| entry.size).sum();
    let created = DateTime::from_timestamp_millis(logged.created_ms).unwrap_or_default();
    let content = json!({
        "artifact_path": logged.source(),
        "flavors": {
            "mloop": {
                "format": of_model("format"),
                "data": named(files::WEIGHTS),
                "model": named(files::MODEL),
                "manifest": files::MANIFEST,
                "digest": manifest.digest(),
                "input": of_model("input"),
                "classes": of_model("classes"),
            },
        },
        "model_id": logged.id,
        "model_size_bytes": bytes,
        "model_uuid": logged.id,
        "run_id": logged.run,
        "signature": { "inputs": INPUTS, "outputs": OUTPUTS, "params": null },
        "utc_time_created": created.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
    });
    format!("{content:#}\n").into_bytes()
}
