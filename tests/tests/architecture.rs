//! The arrows between the crates, held against what cargo resolves.

use std::collections::BTreeSet;

use mloop_tests::{compiled_by, dependencies, metadata, root, rules};

/// The layers, from the vocabulary up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Vocabulary,
    Contract,
    Light,
    Adapter,
    Orchestrators,
    Edge,
    /// Binaries, tools and tests: they put the others together.
    Top,
}

/// The layer of a crate, by its name; a new crate must be given one here.
fn layer(name: &str) -> Option<Layer> {
    Some(match name {
        "mloop-core" | "mloop-stats" => Layer::Vocabulary,
        "mloop-monitor" | "mloop-reporter" | "mloop-trigger" | "mloop-deployer"
        | "mloop-trainer" | "mloop-platform" => Layer::Contract,
        "mloop-monitors" | "mloop-reporters" | "mloop-triggers" | "mloop-local" => Layer::Light,
        "mloop-profiler" | "mloop-ledger" | "mloop-prometheus" | "mloop-vision"
        | "mloop-serving" | "mloop-http" | "mloop-mlflow" | "mloop-sagemaker" | "mloop-slack"
        | "mloop-email" | "mloop-alertmanager" | "mloop-airflow" | "mloop-kubernetes"
        | "mloop-s3" => Layer::Adapter,
        "mloop-orchestrators" => Layer::Orchestrators,
        "mloop-config" | "mloop-cli" => Layer::Edge,
        "monitoring_main"
        | "retraining_main"
        | "training_main"
        | "deployment_main"
        | "model_server"
        | "mloop-sagemaker-simulator"
        | "mloop-testkit"
        | "mloop-services"
        | "mloop-bench"
        | "mloop-demo"
        | "mloop-tests"
        | "xtask" => Layer::Top,
        _ => return None,
    })
}

/// Whether `from` may depend on `to`.
fn allowed(from: &str, to: &str) -> bool {
    let (Some(source), Some(target)) = (layer(from), layer(to)) else { return false };
    match source {
        Layer::Vocabulary => false,
        Layer::Contract => target == Layer::Vocabulary || (to == "mloop-platform" && from != to),
        Layer::Light => matches!(target, Layer::Vocabulary | Layer::Contract) || to == "mloop-http",
        Layer::Adapter => {
            matches!(target, Layer::Vocabulary | Layer::Contract)
                || matches!(to, "mloop-http" | "mloop-s3")
                || (from == "mloop-serving" && to == "mloop-vision")
        }
        Layer::Orchestrators => matches!(target, Layer::Vocabulary | Layer::Contract),
        Layer::Edge => to == "mloop-core" || (from == "mloop-cli" && to == "mloop-config"),
        Layer::Top => true,
    }
}

#[test]
fn every_arrow_between_own_crates_is_in_the_table() {
    let metadata = metadata();
    let own: BTreeSet<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let mut wrong = vec![];
    for package in metadata.workspace_packages() {
        if layer(&package.name).is_none() {
            wrong.push(format!("{} has no layer", package.name));
        }
        for dependency in dependencies(package).filter(|name| own.contains(name)) {
            if !allowed(&package.name, dependency) {
                wrong.push(format!("{} → {dependency}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the table does not allow: {wrong:#?}");
}

#[test]
fn the_table_refuses_what_it_must_refuse() {
    for (from, to) in [
        ("mloop-core", "mloop-stats"),
        ("mloop-stats", "mloop-core"),
        ("mloop-monitor", "mloop-reporter"),
        ("mloop-monitors", "mloop-triggers"),
        ("mloop-profiler", "mloop-vision"),
        ("mloop-orchestrators", "mloop-monitors"),
        ("mloop-orchestrators", "mloop-ledger"),
        ("mloop-config", "mloop-platform"),
        ("mloop-ledger", "mloop-config"),
    ] {
        assert!(!allowed(from, to), "{from} → {to}");
    }
    assert!(allowed("mloop-serving", "mloop-vision") && allowed("mloop-local", "mloop-http"));
    assert!(allowed("mloop-profiler", "mloop-s3") && !allowed("mloop-local", "mloop-s3"));
}

/// The tests of contracts and orchestrators use mocks and fakes of contracts, not the real things.
#[test]
fn contracts_and_orchestrators_are_tested_without_implementations() {
    let metadata = metadata();
    let mut wrong = vec![];
    for package in metadata.workspace_packages() {
        if !matches!(layer(&package.name), Some(Layer::Contract | Layer::Orchestrators)) {
            continue;
        }
        let own = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in own {
            if !matches!(layer(&dependency.name), Some(Layer::Vocabulary | Layer::Contract)) {
                wrong.push(format!("{} → {}", package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_vendor_crate_is_named_by_its_owner_alone() {
    let (metadata, rules) = (metadata(), rules());
    let own: BTreeSet<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let mut wrong = vec![];
    for package in metadata.workspace_packages() {
        if layer(&package.name) == Some(Layer::Top) {
            continue;
        }
        for dependency in dependencies(package).filter(|name| !own.contains(name)) {
            match rules.owners.get(dependency) {
                Some(owner) if *owner == package.name.as_str() => {}
                Some(owner) => {
                    wrong.push(format!("{} names {dependency} of {owner}", package.name));
                }
                None if rules.free.helpers.contains(dependency) => {}
                None => wrong.push(format!("{dependency} of {} is undecided", package.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "see tests/vendors.toml: {wrong:#?}");
}

/// Longest file: who opens one should see what it is about, and find it.
const MOST_LINES: usize = 500;

/// Longest `main.rs` and `compose.rs` of a program: they put the others together and decide nothing.
const MOST_LINES_OF: [(&str, usize); 2] = [("main.rs", 25), ("compose.rs", 120)];

#[test]
fn no_file_is_too_long() {
    let (mut folders, mut seen, mut wrong) = (vec![], 0, vec![]);
    folders.extend(["bins", "crates", "tests", "xtask"].map(|folder| root().join(folder)));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let lines = std::fs::read_to_string(&path).expect("UTF-8").lines().count();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let of_program =
                folder.parent().is_some_and(|of| of.parent() == Some(&root().join("bins")));
            let special = MOST_LINES_OF.iter().find(|(special, _)| of_program && *special == name);
            let most = special.map_or(MOST_LINES, |(_, most)| *most);
            seen += 1;
            if lines > most {
                wrong.push(format!("{}: {lines} lines, at most {most}", path.display()));
            }
        }
    }
    assert!(seen > 400, "{seen} files");
    assert!(wrong.is_empty(), "split them: {wrong:#?}");
}

#[test]
fn programs_do_not_compile_what_they_do_not_need() {
    let metadata = metadata();
    for (program, unreachable) in rules().unreachable {
        let compiled = compiled_by(&metadata, &program);
        for name in unreachable {
            assert!(!compiled.contains(&name), "{program} compiles {name}");
        }
    }
    // The walk itself works: what is needed is found.
    assert!(compiled_by(&metadata, "monitoring_main").contains("datafusion"));
}

#[test]
fn programs_are_built_with_every_kind_that_there_is() {
    let metadata = metadata();
    let mut checked = 0;
    for package in metadata.workspace_packages() {
        let Some(default) = package.features.get("default") else { continue };
        if !package.name.ends_with("_main") {
            continue;
        }
        let others: BTreeSet<&String> =
            package.features.keys().filter(|feature| *feature != "default").collect();
        let built: BTreeSet<&String> = default.iter().collect();
        assert_eq!(built, others, "{}", package.name);
        checked += 1;
    }
    assert_eq!(checked, 4, "the four binaries");
}
