//! Every kind has an example in `configs/examples/` that builds, and every method that a monitor
//! can name has its definition in `docs/metrics.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use mloop_config::{Component, Document};
use mloop_core::counts::OutcomeCounts;
use mloop_core::profile::{ColumnCounts, ProfileKey};
use mloop_core::registry::KindRegistry;
use mloop_core::schema::{
    CategoricalSchema, ColumnKind, ColumnSchema, GroupSchema, NumericSchema, PREDICTION_COLUMN,
    PROFILE_FORMAT, VectorSchema,
};
use mloop_core::{
    Evidence, ModelName, ProfileSchema, Sha256Digest, Subject, SystemClock, TargetName, Window,
};
use mloop_deployer::DeployerRegistry;
use mloop_monitor::MonitorRegistry;
use mloop_monitor::conformance::unchanged;
use mloop_platform::{
    LatencySourceRegistry, LedgerRegistry, ModelRegistryKinds, NotifierRegistry, PlatformDeps,
    SourceRegistry, SubmitterRegistry,
};
use mloop_reporter::{ReporterDeps, ReporterRegistry};
use mloop_tests::root;
use mloop_trainer::TrainerRegistry;
use mloop_trigger::TriggerRegistry;
use serde_json::{Value, json};

fn examples() -> PathBuf {
    root().join("configs/examples")
}

/// Holds for every secret of the examples: an address, since some are.
const SECRET: &str = "https://hooks.example.org/services/secret";

/// A copy of the examples, with a file behind each of their references to secrets.
fn folder() -> PathBuf {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
        std::fs::create_dir_all(copy.join("secrets")).expect("a folder");
        for entry in std::fs::read_dir(examples()).expect("configs/examples") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("an example");
            for reference in text.split_whitespace().filter(|word| word.starts_with("secrets/")) {
                std::fs::write(copy.join(reference), SECRET).expect("written");
            }
            std::fs::write(copy.join(path.file_name().expect("a name")), text).expect("written");
        }
        for below in ["capture", "labels", "tables"] {
            std::fs::create_dir_all(copy.join("state").join(below)).expect("a folder");
        }
        copy
    });
    COPY.clone()
}

fn component(path: &Path) -> Component {
    let document = Document::read(path).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_value(document.value().clone()).expect("kind, name and settings")
}

/// Examples beside the first one of a kind, which may be used in more than one way.
const MORE: [&str; 1] = ["source_capture_files_s3.yaml"];

/// Builds the examples of every kind of a contract, notes the files, and looks for the kinds in the
/// documentation.
fn build<P: 'static, D: 'static>(
    contract: &str,
    registry: &KindRegistry<P, D>,
    deps: &D,
    files: &mut BTreeSet<String>,
) {
    for kind in registry.kinds() {
        let first = format!("{contract}_{kind}");
        let more = MORE.into_iter().filter(|file| file.starts_with(&format!("{first}_")));
        for file in more.map(str::to_owned).chain([format!("{first}.yaml")]) {
            let Component { kind: written, name, settings } = component(&folder().join(&file));
            assert_eq!(written, kind, "{file}");
            let name = name.unwrap_or_else(|| panic!("{file} has no `name`"));
            if let Err(error) = registry.build(kind, &name, &settings, deps) {
                panic!("{file}: {error:?}");
            }
            assert!(files.insert(file));
        }
    }
    let kinds: Vec<String> = registry.kinds().map(|kind| format!("`{kind}`")).collect();
    let row = format!("| {contract} | {} |\n", kinds.join(", "));
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).expect("the page");
    assert!(page.contains(&row), "docs/configuration.md lacks the row {row}");
}

fn platform() -> PlatformDeps {
    let deps = PlatformDeps::new(folder(), Arc::new(SystemClock));
    deps.with_secrets(mloop_config::secrets())
}

fn monitors() -> MonitorRegistry {
    let mut registry = MonitorRegistry::new("monitor");
    mloop_monitors::register_builtin(&mut registry);
    registry
}

#[test]
fn every_kind_has_an_example_that_builds_and_every_example_a_kind() {
    let (deps, mut files) = (platform(), BTreeSet::new());
    build("monitor", &monitors(), &(), &mut files);

    let mut triggers = TriggerRegistry::new("trigger");
    mloop_triggers::register_builtin(&mut triggers);
    build("trigger", &triggers, &(), &mut files);

    let mut ledgers = LedgerRegistry::new("ledger");
    mloop_ledger::register_builtin(&mut ledgers);
    build("ledger", &ledgers, &deps, &mut files);

    let mut sources = SourceRegistry::new("source");
    mloop_profiler::register_builtin(&mut sources);
    build("source", &sources, &deps, &mut files);

    let mut latency = LatencySourceRegistry::new("latency_source");
    mloop_local::register_latency_sources(&mut latency);
    mloop_prometheus::register_latency_sources(&mut latency);
    build("latency_source", &latency, &deps, &mut files);

    let mut trainers = TrainerRegistry::new("trainer");
    mloop_vision::register(&mut trainers);
    // Its images lie beside the shipped examples, not beside their copies.
    let beside = PlatformDeps::new(examples(), Arc::new(SystemClock));
    build("trainer", &trainers, &beside, &mut files);

    let mut models = ModelRegistryKinds::new("registry");
    mloop_local::register_models(&mut models);
    mloop_mlflow::register_models(&mut models);
    build("registry", &models, &deps, &mut files);

    let mut submitters = SubmitterRegistry::new("submitter");
    mloop_local::register_submitters(&mut submitters);
    mloop_sagemaker::register_submitters(&mut submitters);
    mloop_airflow::register_submitters(&mut submitters);
    mloop_kubernetes::register_submitters(&mut submitters);
    build("submitter", &submitters, &deps, &mut files);

    let mut deployers = DeployerRegistry::new("deployer");
    mloop_local::register_deployers(&mut deployers);
    mloop_sagemaker::register_deployers(&mut deployers);
    build("deployer", &deployers, &deps, &mut files);

    let mut notifiers = NotifierRegistry::new("notifier");
    mloop_local::register_notifiers(&mut notifiers);
    mloop_slack::register_builtin(&mut notifiers);
    mloop_email::register_builtin(&mut notifiers);
    mloop_alertmanager::register_builtin(&mut notifiers);
    build("notifier", &notifiers, &deps, &mut files);

    let mut reporters = ReporterRegistry::new("reporter");
    mloop_reporters::register_builtin(&mut reporters);
    mloop_prometheus::register_builtin(&mut reporters);
    let ledger = component(&folder().join("ledger_sqlite.yaml"));
    let ledger = ledgers.build("sqlite", "ledger", &ledger.settings, &deps).expect("a ledger");
    let notifier = notifiers.build("stderr", "console", &Value::Null, &deps).expect("a notifier");
    let (platform, notifiers) = (deps, vec![notifier]);
    let deps = ReporterDeps { platform, notifiers, outbox: ledger.outbox };
    build("reporter", &reporters, &deps, &mut files);

    let found = std::fs::read_dir(examples()).expect("configs/examples");
    let found = found.map(|entry| entry.expect("an entry").file_name());
    let found: BTreeSet<String> = found.map(|name| name.into_string().expect("UTF-8")).collect();
    assert_eq!(found, files, "examples on the left, kinds on the right");
}

/// An hour like its reference: a numeric column and vectors, labels, two sites; two classes with scores,
/// or numbers that are predicted.
fn evidence(numbers: bool) -> Evidence {
    let model = ModelName::new("m").expect("a name");
    let classes = vec!["a".to_owned(), "b".to_owned()];
    let numeric = NumericSchema { edges: (0..=20).map(f64::from).collect(), step: 0.5 };
    let known = CategoricalSchema { categories: classes.clone() };
    let components = vec![vec![0.5]; 2];
    let vector = VectorSchema { dimension: 2, pairs: 2, bandwidth: 1.0, seed: 1, components };
    let column = |name: &str, kind| ColumnSchema { name: name.to_owned(), kind };
    let schema = ProfileSchema {
        format: PROFILE_FORMAT,
        model: model.clone(),
        classes: if numbers { vec![] } else { classes },
        positive: (!numbers).then(|| "b".to_owned()),
        columns: vec![
            column("brightness", ColumnKind::Numeric(numeric.clone())),
            column("embedding", ColumnKind::Vector(vector.clone())),
            column(
                PREDICTION_COLUMN,
                match numbers {
                    true => ColumnKind::Numeric(numeric),
                    false => ColumnKind::Categorical(known),
                },
            ),
        ],
        groups: vec![GroupSchema::of("site", &["north", "south"])],
        latency_objective_micros: Some(2_000),
    };
    let subject = Subject { model, target: TargetName::new("t").expect("a name") };
    let key = ProfileKey { subject, version: Sha256Digest::of(b"v") };
    let moment = |text: &str| text.parse().expect("a moment");
    let hour = Window::new(moment("2026-03-01T00:00:00Z"), moment("2026-03-01T01:00:00Z"));
    let mut evidence = unchanged(&schema, key, hour.expect("an hour"), 100);
    for profile in [&mut evidence.reference, &mut evidence.current] {
        let layout = schema.outcomes();
        profile.overall = OutcomeCounts::new(layout);
        for row in 0..400usize {
            // Three of four are right.
            let (truth, score) =
                (row % 2, if row % 4 == 0 { 0.75 } else { 0.25 + (row % 2) as f64 / 2.0 });
            let prediction = usize::from(score > 0.5);
            if numbers {
                profile.overall.errors.observe(Some(row as i64 % 7 - 3));
            } else {
                profile.overall.observe(layout, prediction, Some(truth), Some(score));
                profile.losses.observe(layout, &[1.0 - score, score], truth);
            }
            if let Some(ColumnCounts::Vector(counts)) = profile.columns.get_mut("embedding") {
                let features = [score, 1.0 - score, -score, 0.5];
                counts.observe(&vector, &[score, 0.0], Some(&features));
            }
        }
        for counts in profile.groups.iter_mut().flat_map(|group| group.values.values_mut()) {
            *counts = profile.overall.clone();
        }
    }
    evidence
}

/// Settings that make every monitor tell everything that it can.
fn talkative() -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("data_quality", json!({"max_out_of_range_increase": 0.1, "least_rows": 1})),
        ("latency", json!({"objective_share": 0.99})),
    ];
    let schema = |kind: &str| {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = monitors().schema(kind, &mut generator).expect("a kind").to_value();
        (schema, serde_json::to_value(generator.definitions()).expect("JSON"))
    };
    let (_, definitions) = schema("drift");
    for method in words(&definitions["Method"]) {
        // Those that need an order are for numeric columns alone.
        all.push(("drift", json!({"method": method, "categorical_method": "psi"})));
    }
    let (_, definitions) = schema("performance");
    for metric in words(&definitions["Metric"]) {
        let bounds = json!([{"metric": metric, "limit": 0.5, "max_drop": 0.1}]);
        all.push(("performance", json!({"metrics": bounds})));
    }
    for metric in ["accuracy", "precision", "recall", "f1", "auc"] {
        let bounds = json!([{"metric": metric, "estimated": true, "limit": 0.5, "max_drop": 0.1}]);
        all.push(("performance", json!({"metrics": bounds})));
    }
    let (_, definitions) = schema("fairness");
    for metric in words(&definitions["Metric"]) {
        all.push(("fairness", json!({"metrics": [metric], "min_ratio": 0.8})));
    }
    all
}

/// The words of an enum's schema.
fn words(schema: &Value) -> Vec<String> {
    let choices = schema["oneOf"].as_array().expect("a choice of documented words");
    choices.iter().map(|one| one["const"].as_str().expect("a word").to_owned()).collect()
}

#[tokio::test]
async fn every_method_and_check_is_defined_in_the_documentation() {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).expect("docs/metrics.md");
    let (registry, of_classes, of_numbers) = (monitors(), evidence(false), evidence(true));
    let (mut kinds, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (kind, settings) in talkative() {
        let monitor = registry.build(kind, "m", &settings, &()).expect(kind);
        kinds.insert(kind);
        let is_of_numbers = ["mae", "rmse"].iter().any(|name| settings.to_string().contains(name));
        let evidence = if is_of_numbers { &of_numbers } else { &of_classes };
        for finding in monitor.check(evidence).await.expect("it looks") {
            names.extend([finding.method, finding.check]);
        }
    }
    assert_eq!(kinds, registry.kinds().collect(), "a monitor is missing from this test");
    assert!(names.len() >= 50, "{names:?}");
    let undefined: Vec<_> =
        names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(undefined.is_empty(), "docs/metrics.md does not define {undefined:?}");
}
