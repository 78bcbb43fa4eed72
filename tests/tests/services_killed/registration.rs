//! `training_main` and MLflow: one version, of one run and one logged model.

use mloop_services::Services;
use serde_json::{Value, json};

use crate::stand::Place::{After, Before, Point};
use crate::stand::{Place, Stand, TRAIN};
use crate::world::World;

const EXPERIMENT: &str = "POST /api/2.0/mlflow/experiments/create";
const RUN: &str = "POST /api/2.0/mlflow/runs/create";
const HISTORY: &str = "POST /api/2.0/mlflow/runs/log-batch";
const PLACE: &str = "POST /api/2.0/mlflow/logged-models";
const WEIGHTS: &str = "PUT /api/2.0/mlflow-artifacts/artifacts/*/model.safetensors";
const DESCRIBED: &str = "PUT /api/2.0/mlflow-artifacts/artifacts/*/MLmodel";
const COMPLETE: &str = "PATCH /api/2.0/mlflow/logged-models/*";
const OUTPUT: &str = "POST /api/2.0/mlflow/runs/outputs";
const END: &str = "POST /api/2.0/mlflow/runs/update";
const MODEL: &str = "POST /api/2.0/mlflow/registered-models/create";
const VERSION: &str = "POST /api/2.0/mlflow/model-versions/create";
const READY: &str = "POST /api/2.0/mlflow/model-versions/set-tag";
const ALIAS: &str = "POST /api/2.0/mlflow/registered-models/alias";

/// All acting calls, in their order.
const PLACES: [Place; 28] = [
    Point("training.trained"),
    Point("training.assembled"),
    Before(EXPERIMENT),
    After(EXPERIMENT),
    Before(RUN),
    After(RUN),
    Before(HISTORY),
    After(HISTORY),
    Before(PLACE),
    After(PLACE),
    Before(WEIGHTS),
    After(WEIGHTS),
    Before(DESCRIBED),
    After(DESCRIBED),
    Before(COMPLETE),
    After(COMPLETE),
    Before(OUTPUT),
    After(OUTPUT),
    Before(END),
    After(END),
    Before(MODEL),
    After(MODEL),
    Before(VERSION),
    After(VERSION),
    Before(READY),
    After(READY),
    Before(ALIAS),
    After(ALIAS),
];

/// The versions, runs and logged models that MLflow has of a world's model, marked ones included.
fn registered(world: &World) -> [Value; 3] {
    let url = Services::running().mlflow().url.clone();
    let api = ["api", "2.0", "mlflow"];
    let ask = |call: [&str; 2], query| world.ask(&url, &[&api[..], &call[..]].concat(), query);
    let filter = format!("name='{}'", world.name);
    let versions = ask(["model-versions", "search"], ("filter", &filter));
    let experiment = ask(["experiments", "get-by-name"], ("experiment_name", &world.name));
    let body = json!({"experiment_ids": [experiment["experiment"]["experiment_id"]]});
    let search = |what| world.post(&url, &[&api[..], &[what, "search"]].concat(), &body);
    [
        versions["model_versions"].clone(),
        search("runs")["runs"].clone(),
        search("logged-models")["models"].clone(),
    ]
}

#[test]
fn a_version_is_registered_once() {
    let world = World::new("killed-training");
    let stand = Stand::of(&world);
    let last = stand.killed(TRAIN, &PLACES, &[0]);
    assert_eq!(last["outcome"], "blessed", "{last}");
    let [versions, runs, models] = registered(&world);
    for found in [&versions, &runs, &models] {
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found:#}");
    }
    let ready = json!({"key": "staging_ready", "value": "true"});
    assert!(versions[0]["tags"].as_array().expect("tags").contains(&ready), "{versions:#}");
    assert_eq!(runs[0]["info"]["status"], "FINISHED");
    assert_eq!(models[0]["info"]["status"], "LOGGED_MODEL_READY");
    // Once more changes nothing.
    let again = stand.done(TRAIN, &[0]);
    assert_eq!((&again["adopted"], &again["version"]), (&json!(true), &last["version"]));
    assert_eq!(registered(&world)[0].as_array().map(Vec::len), Some(1));
}
