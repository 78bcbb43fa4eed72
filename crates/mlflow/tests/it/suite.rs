//! The contract's suite, the kind as a configuration names it, and the number of calls.

use std::path::Path;
use std::sync::Arc;

use mloop_core::FixedClock;
use mloop_core::version::{aliases, files};
use mloop_http::testing::{Fault, Relay};
use mloop_platform::conformance::{check_registry_of, samples};
use mloop_platform::{ModelRegistry, ModelRegistryKinds, PlatformDeps, PlatformError};
use serde_json::{Value, json};

use crate::server::Bare;
use crate::{Place, registry, url};

fn built(settings: &Value, base: &Path) -> Arc<dyn ModelRegistry> {
    let mut kinds = ModelRegistryKinds::new("registry");
    mloop_mlflow::register_models(&mut kinds);
    let deps = PlatformDeps::new(base, Arc::new(FixedClock(samples::day_one())));
    kinds.build("mlflow", "versions", settings, &deps).expect("a registry")
}

#[tokio::test]
async fn the_registry_keeps_its_contract() {
    let place = Place::new("suite");
    let settings = json!({ "url": url(), "http": { "timeout_secs": 60 } });
    let registry = built(&settings, place.folder.path());
    check_registry_of(registry.as_ref(), place.model.clone(), &place.path("work")).await;
}

/// Each call costs the server and the network: a new one needs a reason.
#[tokio::test]
async fn a_registration_makes_as_many_calls_as_it_needs() {
    let place = Place::new("calls");
    let calls = async |name: &str| {
        let relay = Relay::new(&url(), |_| Fault::None);
        let files =
            [(files::WEIGHTS, name), (files::SCHEMA, "{}"), (files::METRICS, r#"{"a": 1}"#)];
        let version = registry(&relay.url()).register(&place.with(name, &files)).await;
        assert!(version.expect("a version").is_staging_ready());
        relay.asked().into_iter().map(|asked| asked.line).collect::<Vec<_>>()
    };
    // For each file one call to put it and one to read it back, MLmodel and the manifest among them.
    let files = 2 * 5;
    // Experiment and registered model are made once.
    let first = calls("first").await;
    assert_eq!(first.len(), files + 19, "{first:#?}");
    let second = calls("second").await;
    assert_eq!(second.len(), files + 16, "{second:#?}");
    let again = calls("second").await;
    assert_eq!(again.len(), 1, "{again:#?}");
}

#[tokio::test]
async fn runs_go_to_the_experiment_that_is_named() {
    let place = Place::new("experiment");
    let name = format!("of {}", place.model);
    let settings = json!({ "url": url(), "experiment": name });
    let registry = built(&settings, place.folder.path());
    registry.register(&place.candidate("weights")).await.expect("a version");
    let server = Bare::at(&url());
    let found = server.get("experiments/get-by-name", &[("experiment_name", &name)]).await;
    let id = &found["experiment"]["experiment_id"];
    let runs = server.post("runs/search", &json!({ "experiment_ids": [id] })).await;
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1));

    // A deleted experiment keeps its name, and takes no runs.
    server.post("experiments/delete", &json!({ "experiment_id": id })).await;
    let error = registry.register(&place.candidate("other")).await.expect_err("no experiment");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("was deleted on the server: restore it"), "{error}");
}

/// Made before the server kept artifacts itself, say.
#[tokio::test]
async fn an_experiment_that_keeps_its_files_elsewhere_is_refused() {
    let place = Place::new("elsewhere");
    let body = json!({ "name": place.model, "artifact_location": "s3://bucket/x" });
    Bare::at(&url()).post("experiments/create", &body).await;
    let error = registry(&url()).register(&place.candidate("weights")).await;
    let error = error.expect_err("nowhere to put the files");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("s3://bucket/x/models/") && told.contains("--serve-artifacts"), "{told}");
    assert_eq!(registry(&url()).versions(&place.model).await.expect("a list"), []);
}

#[tokio::test]
async fn all_pages_of_versions_are_read_and_those_of_others_left_out() {
    let place = Place::new("pages");
    let (server, model) = (Bare::at(&url()), place.model.as_str());
    server.post("registered-models/create", &json!({ "name": model })).await;
    let digest = place.candidate("x").manifest.digest();
    let create = async |tags: Value| {
        let body = json!({ "name": model, "source": "s3://bucket/x", "tags": tags });
        server.post("model-versions/create", &body).await;
    };
    create(json!([])).await;
    create(json!([{ "key": "mloop.key", "value": "k" }])).await;
    create(json!([
        { "key": "mloop.key", "value": "k" },
        { "key": "mloop.digest", "value": "no digest" },
    ]))
    .await;
    for number in 0..201 {
        create(json!([
            { "key": "mloop.key", "value": number.to_string() },
            { "key": "mloop.digest", "value": digest },
        ]))
        .await;
    }
    let relay = Relay::new(&url(), |_| Fault::None);
    let found = registry(&relay.url()).versions(&place.model).await.expect("a list");
    let numbers: Vec<u64> = found.iter().map(|version| version.version.number).collect();
    assert_eq!(numbers, (4..=204).rev().collect::<Vec<u64>>());
    assert_eq!(relay.asked().len(), 2, "two pages");

    // An alias that somebody gave to a version of his own is not passed over.
    let body = json!({ "name": model, "alias": aliases::CHAMPION, "version": "1" });
    server.post("registered-models/alias", &body).await;
    let error = registry(&url()).alias(&place.model, aliases::CHAMPION).await;
    let error = error.expect_err("not a version of mloop's");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("version 1, which mloop did not register"), "{error}");
}

#[tokio::test]
async fn names_that_the_server_keeps_for_itself_are_refused_in_its_words() {
    let place = Place::new("reserved");
    let registry = registry(&url());
    let version = registry.register(&place.candidate("weights")).await.expect("a version");
    for alias in ["latest", "v1", "a b"] {
        let error = registry.set_alias(&place.model, alias, &version.version).await;
        let error = error.expect_err(alias);
        assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains("INVALID_PARAMETER_VALUE: "), "{error}");
    }
    let taken = place.with("taken", &[("MLmodel", "x")]);
    let error = registry.register(&taken).await.expect_err("a name that is taken");
    assert!(error.to_string().contains("`MLmodel` may not be among"), "{error}");
}
