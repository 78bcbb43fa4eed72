//! `configs/services/` is a configuration that works: all that is wrong with it as shipped is that nobody
//! has these addresses.

use std::collections::BTreeMap;
use std::path::Path;

use mloop_config::Document;
use mloop_testkit::configs::{self, Change};
use mloop_testkit::program::Program;
use mloop_testkit::small::write_data_sets;
use serde_json::Value;

use crate::world::{World, ended_with};

const BINARIES: [(&str, &str); 4] = [
    ("monitoring_main", "monitoring_config.yaml"),
    ("retraining_main", "retrain_config.yaml"),
    ("training_main", "training_config.yaml"),
    ("deployment_main", "deployment_config.yaml"),
];

/// With the addresses of services that are there, `--check` reaches all.
pub(crate) fn the_shipped_configurations_reach_all_services(world: &World) {
    for (program, config) in BINARIES {
        let checked = world.run(program, &[], config, &["--check"]);
        ended_with(&checked, 0);
        assert_eq!(checked.last["outcome"], "checked", "{}", checked.last);
    }
}

/// A file behind each reference to a secret.
fn write_secrets(folder: &Path) {
    std::fs::create_dir_all(folder.join("secrets")).expect("made");
    for (_, config) in BINARIES {
        let text = std::fs::read_to_string(folder.join(config)).expect("a configuration");
        for reference in text.split_whitespace().filter(|word| word.starts_with("secrets/")) {
            std::fs::write(folder.join(reference), "https://hooks.example.invalid/services/x")
                .expect("written");
        }
    }
}

#[test]
fn the_shipped_configurations_build_and_say_that_nobody_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let invalid = |(_, config): (&str, &'static str)| -> Change {
        (config, ".example.org", ".example.invalid".to_owned())
    };
    let mut changes: Vec<Change> = BINARIES.map(invalid).into();
    // AWS's own address is somebody's.
    let connection = "region: eu-central-1\n      endpoint_url: https://sagemaker.example.invalid";
    changes.push(("deployment_config.yaml", "region: eu-central-1", connection.to_owned()));
    for file in ["monitoring_config.yaml", "training_config.yaml"] {
        let s3 = "s3: {region: eu-central-1, endpoint_url: https://s3.example.invalid}";
        changes.push((file, "s3: {region: eu-central-1}", s3.to_owned()));
    }
    // Images that are not there would be mistakes of the configuration.
    write_data_sets(&folder.path().join("data")).expect("written");
    for file in ["monitoring_config.yaml", "training_config.yaml"] {
        changes.push((file, "/srv/mloop", folder.path().display().to_string()));
    }
    configs::write_services(folder.path(), &changes).expect("written");
    write_secrets(folder.path());
    for (program, config) in BINARIES {
        let checked = Program::new(program, ["--config", config, "--check"]).expect("built");
        let checked = checked
            .within(folder.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        let checked = checked.run().expect("runs");
        ended_with(&checked, 30);
        let said = checked.last["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains("example.invalid"), "{program}: {}", checked.last);
    }
}

/// Whoever shares a ledger sends what waits in it, each to the receiver that it knows by this name.
#[test]
fn a_name_of_a_notifier_means_the_same_receiver_in_all_shipped_configurations() {
    for write in [configs::write, configs::write_services] {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &[]).expect("written");
        write_secrets(folder.path());
        let mut known = BTreeMap::<String, Value>::new();
        for (_, config) in BINARIES {
            let document = Document::read(&folder.path().join(config)).expect("a configuration");
            let notifiers = document.value()["notifiers"].as_array().cloned().unwrap_or_default();
            for notifier in notifiers {
                let name = notifier.get("name").unwrap_or(&notifier["kind"]);
                let name = name.as_str().expect("a name").to_owned();
                let settings = notifier["settings"].clone();
                let first = known.entry(name.clone()).or_insert_with(|| settings.clone());
                assert_eq!(*first, settings, "{config}: `{name}` is another receiver elsewhere");
            }
        }
        assert!(!known.is_empty());
    }
}
