//! The documentation, held against what it speaks of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mloop_cli::Exit;
use mloop_core::version::files;
use mloop_testkit::program::Program;
use mloop_tests::{root, rules};
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README and its like, and everything in docs/.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root().join("docs")];
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        found.push(root().join(name));
    }
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What stands between pairs of a mark on one line: `code`, for example.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let mut found = vec![];
    for line in text.lines() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inside, after)) = after.split_once(close) else { break };
            found.push(inside);
            rest = after;
        }
    }
    found
}

/// The cells of the rows of a page's tables whose first cell is a number, or several; one row each.
fn numbered_rows(page: &str) -> Vec<(u8, Vec<&str>)> {
    let mut rows = vec![];
    for line in page.lines().filter_map(|line| line.strip_prefix('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let codes: Result<Vec<u8>, _> =
            cells[0].split(',').map(|code| code.trim().parse()).collect();
        rows.extend(codes.unwrap_or_default().into_iter().map(|code| (code, cells.clone())));
    }
    rows
}

#[test]
fn every_exit_code_has_its_row_and_the_dags_retry_what_it_says() {
    let page = read("docs/exit-codes.md");
    let rows = numbered_rows(&page);
    let mut codes: Vec<u8> = rows.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    assert_eq!(codes, Exit::ALL.map(Exit::code));

    let retried: BTreeSet<u8> =
        rows.iter().filter(|(_, cells)| cells[5] == "**yes**").map(|(code, _)| *code).collect();
    let wanted = [Exit::Transient, Exit::LeaseHeld, Exit::Stopped].map(Exit::code);
    assert_eq!(retried, BTreeSet::from(wanted));
    let dags = read("dags/mloop_tasks.py");
    let set = between(&dags, "_RETRIED = {", "}");
    let set: BTreeSet<u8> =
        set[0].split(',').map(|code| code.trim().parse().expect("a code")).collect();
    assert_eq!(set, retried);
}

#[test]
fn the_readme_has_all_exit_codes_but_that_of_a_bug() {
    let page = read("README.md");
    let mut codes: Vec<u8> = numbered_rows(&page).into_iter().map(|(code, _)| code).collect();
    codes.sort_unstable();
    let all = Exit::ALL.into_iter().filter(|exit| *exit != Exit::Bug).map(Exit::code);
    assert_eq!(codes, all.collect::<Vec<_>>());
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in between(&text, "](", ")") {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().expect("a folder").join(target);
            assert!(path.exists(), "{}: {link}", page.display());
        }
    }
}

/// Paths in code marks that begin at the root of the repository.
fn named_paths(text: &str) -> Vec<&str> {
    let tops = ["crates/", "bins/", "configs/", "dags/", "docs/", "tests/", "xtask/", ".ci/"];
    let is_path = |code: &&str| {
        tops.iter().any(|top| code.starts_with(top))
            && !code.contains([' ', '*', '{', '<', '…'])
            // Written by `cargo xtask bench`, which CI does not run.
            && !code.starts_with("docs/bench/")
    };
    between(text, "`", "`").into_iter().filter(is_path).collect()
}

#[test]
fn files_that_are_named_are_there() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for path in named_paths(&text) {
            assert!(root().join(path).exists(), "{}: {path}", page.display());
        }
    }
    assert_eq!(named_paths("`crates/x.rs` or `crates/<name>`, `a/b`"), ["crates/x.rs"]);
}

#[test]
fn the_architecture_page_stays_one_page() {
    assert!(read("ARCHITECTURE.md").lines().count() <= 150);
}

#[test]
fn the_architecture_page_names_every_crate() {
    let page = read("ARCHITECTURE.md");
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    let own = manifest["workspace"]["dependencies"].as_table().expect("a table").values();
    let folders: Vec<&str> = own.filter_map(|of| of.get("path")?.as_str()).collect();
    assert!(folders.len() > 15, "{folders:?}");
    for folder in folders {
        assert!(page.contains(&format!("`{folder}`")), "ARCHITECTURE.md lacks {folder}");
    }
}

#[test]
fn the_readme_tells_what_each_dependency_is_for() {
    let page = read("README.md");
    let (_, after) = page.split_once("\n## Dependencies").expect("a section");
    let (section, _) = after.split_once("\n## ").expect("a next one");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    // Remarks in brackets, heading and line below it apart.
    let names = rows.flat_map(|(crates, _)| crates.split('(').next().into_iter());
    let names = names.flat_map(|crates| crates.split(", ").map(str::trim));
    let told: BTreeSet<&str> = names.filter(|name| *name != "crate").collect();
    let rules = rules();
    for name in rules.owners.keys() {
        assert!(told.contains(&**name), "README.md does not tell what {name} is for");
    }
    for name in told {
        let known = rules.owners.contains_key(name) || rules.free.helpers.contains(name);
        assert!(known, "README.md tells of {name}, which tests/vendors.toml does not know");
    }
}

#[test]
fn the_pages_name_tables_files_and_codes() {
    let tables = read("crates/ledger/src/migrations/sqlite/0001_initial.sql");
    let tables = between(&tables, "CREATE TABLE ", " ");
    let files = [
        files::MODEL,
        files::WEIGHTS,
        files::TRAINING_CONFIG,
        files::METRICS,
        files::EVALUATION,
        files::SCHEMA,
        files::REFERENCE,
        files::ANCHOR,
        files::GOLDEN,
        files::MANIFEST,
    ];
    let refusals = read("crates/serving/src/error.rs") + &read("crates/serving/src/invocations.rs");
    let codes = refusals.split("StatusCode::").filter_map(|after| {
        let (status, after) = after.split_once(", \"")?;
        let is_name = status.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        is_name.then(|| after.split('"').next()).flatten()
    });
    for (page, names) in [
        ("docs/ledger.md", tables),
        ("docs/data.md", files.to_vec()),
        ("docs/server.md", codes.collect()),
    ] {
        assert!(names.len() >= 8, "{page}: {names:?}");
        let text = read(page);
        let lacking: Vec<_> =
            names.into_iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert!(lacking.is_empty(), "{page} lacks {lacking:?}");
    }
}

/// Metric names that a source file writes.
fn metric_names(source: &str) -> BTreeSet<String> {
    let quoted = between(source, "\"mloop_", "\"").into_iter();
    let plain = quoted.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    plain.map(|name| format!("mloop_{name}")).collect()
}

#[test]
fn every_exported_metric_is_documented_and_no_other() {
    let page = read("docs/metrics.md");
    let mut written = metric_names(&read("crates/prometheus/src/families.rs"));
    written.extend(metric_names(&read("crates/serving/src/metrics.rs")));
    assert!(written.len() > 15, "{written:?}");
    let documented = between(&page, "`mloop_", "`").into_iter();
    let documented: BTreeSet<String> = documented
        .map(|name| format!("mloop_{}", name.split('{').next().unwrap_or_default()))
        .collect();
    assert_eq!(documented, written, "documented on the left, written on the right");
}

#[test]
fn examples_of_last_lines_are_last_lines() {
    let page = read("docs/last-line.md");
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("{\"")) {
        let line: Value = serde_json::from_str(line).expect("one line is one JSON object");
        let (schema, outcome) = (line["schema"].as_str(), line["outcome"].as_str());
        assert!(outcome.is_some(), "{line}");
        seen.insert(schema.expect("a schema").to_owned());
    }
    let wanted = ["monitoring", "retraining", "training", "deployment", "serving"];
    assert_eq!(seen, BTreeSet::from(wanted.map(|name| format!("mloop.{name}/1"))));
}

/// The content of the first code block of a language.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, after) = page.split_once(&format!("```{language}\n")).expect("a block begins");
    after.split_once("```").expect("a block ends").0
}

#[test]
fn mistakes_are_answered_as_the_documentation_shows() {
    let page = read("docs/configuration.md");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("bad.yaml"), block(&page, "yaml")).expect("written");
    let program = Program::new("monitoring_main", ["--config", "bad.yaml", "--check"]);
    let program = program.expect("cargo build --workspace --bins comes first");
    let finished = program.within(folder.path()).run().expect("it runs");
    assert_eq!(finished.code, Some(20));
    let message = finished.last["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(message, block(&page, "text").trim_end());
}

#[test]
fn pages_are_found() {
    let names: BTreeSet<_> = pages()
        .iter()
        .filter_map(|page| page.file_name().map(Path::new).map(Path::to_owned))
        .collect();
    for name in ["README.md", "metrics.md", "add-a-monitor.md"] {
        assert!(names.contains(Path::new(name)), "{name}");
    }
}
