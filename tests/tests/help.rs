//! What `--help` tells is what holds: examples, exit codes, and options that apply.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use mloop_testkit::program;
use mloop_tests::root;

const BINARIES: [&str; 4] =
    ["monitoring_main", "retraining_main", "training_main", "deployment_main"];

const SUBCOMMANDS: [&str; 6] =
    ["run", "deploy", "smoke-test", "switch-to-production", "rollback", "status"];

fn help(binary: &str, subcommand: Option<&str>) -> String {
    let path = program::path(binary).expect("cargo build --workspace --bins comes first");
    let output = Command::new(path).args(subcommand).arg("--help").output().expect("it starts");
    assert!(output.status.success(), "{binary} {subcommand:?} --help: {}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The options that a help text lists.
fn options(help: &str) -> BTreeSet<&str> {
    help.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
        .collect()
}

/// Exit code → the binaries that end with it, by the table of the documentation.
fn documented() -> BTreeMap<u8, BTreeSet<&'static str>> {
    let page = std::fs::read_to_string(root().join("docs/exit-codes.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let mut codes = BTreeMap::new();
    for row in rows {
        let mut cells = row.split('|').map(str::trim);
        let Some(code) = cells.next().and_then(|code| code.parse::<u8>().ok()) else { continue };
        let ends = cells.zip(BINARIES).filter(|(cell, _)| !matches!(*cell, "" | "–"));
        codes.insert(code, ends.map(|(_, binary)| binary).collect());
    }
    assert!(codes.len() > 10, "{codes:?}");
    codes
}

#[test]
fn exit_codes_are_those_of_the_documentation() {
    let codes = documented();
    for binary in BINARIES {
        let help = help(binary, None);
        let (_, told) = help.split_once("Exit codes. ").expect(binary);
        let told: BTreeSet<u8> = told
            .split(|character: char| character.is_whitespace() || character == ';')
            .filter_map(|word| word.strip_suffix(':')?.parse().ok())
            .collect();
        let wanted = codes.iter().filter(|(_, binaries)| binaries.contains(binary));
        let wanted: BTreeSet<u8> = wanted.map(|(code, _)| *code).collect();
        assert_eq!(told, wanted, "{binary}: told on the left, documented on the right");
    }
}

/// The commands of the examples, each on one line.
fn commands(examples: &str) -> Vec<String> {
    let joined = examples.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_help_has_an_example_of_its_own_command_and_fits_a_terminal() {
    let subcommands = SUBCOMMANDS.map(|subcommand| ("deployment_main", Some(subcommand)));
    let server = [("model_server", None), ("model_server", Some("serve"))];
    let show = ["show", "replay"].map(|subcommand| ("monitoring_main", Some(subcommand)));
    let whole = BINARIES.map(|binary| (binary, None)).into_iter();
    for (binary, subcommand) in whole.chain(subcommands).chain(show).chain(server) {
        let help = help(binary, subcommand);
        let (_, examples) = help.split_once("\nExample").unwrap_or_else(|| {
            panic!("{binary} {subcommand:?} has no example:\n{help}");
        });
        let command =
            [Some(binary), subcommand].into_iter().flatten().collect::<Vec<_>>().join(" ");
        assert!(examples.contains(&command), "{command}:\n{examples}");
        for line in commands(examples) {
            let mut words = line.split_whitespace();
            assert_eq!(words.next(), Some(binary), "{line}");
            let empty = tempfile::tempdir().expect("a folder");
            let mut called = Command::new(program::path(binary).expect("built"));
            // A server would stay.
            let only_look = (binary == "model_server").then_some("--check");
            called.args(words).args(only_look).current_dir(empty.path());
            let ended = called.output().expect("it starts");
            let said = String::from_utf8_lossy(&ended.stderr);
            // What it names is not there; but it is understood.
            let is_there = ended.status.success() && binary != "model_server";
            assert!(!is_there && !said.contains("Usage:"), "{line}: {said}");
        }
        let widest = help.lines().max_by_key(|line| line.chars().count()).unwrap_or_default();
        assert!(widest.chars().count() <= 100, "{binary} {subcommand:?}: {widest}");
    }
}

#[test]
fn options_are_listed_where_they_apply_and_nowhere_else() {
    let all = ["--version", "--again", "--wait-timeout"];
    for (binary, subcommand, wanted) in [
        ("monitoring_main", None, &["--version"][..]),
        ("retraining_main", None, &["--wait-timeout"]),
        ("training_main", None, &[]),
        ("deployment_main", Some("run"), &all),
        ("deployment_main", Some("deploy"), &all),
        ("deployment_main", Some("smoke-test"), &["--version", "--wait-timeout"]),
        ("deployment_main", Some("switch-to-production"), &["--version", "--wait-timeout"]),
        ("deployment_main", Some("rollback"), &["--version", "--wait-timeout"]),
        ("deployment_main", Some("status"), &[]),
    ] {
        let help = help(binary, subcommand);
        let (usage, _) = help.split_once("\nExample").expect("examples");
        let listed = options(usage);
        assert!(listed.contains("--config"), "{listed:?}");
        let listed = all.into_iter().filter(|option| listed.contains(option)).collect::<Vec<_>>();
        let wanted = all.into_iter().filter(|option| wanted.contains(option)).collect::<Vec<_>>();
        assert_eq!(listed, wanted, "{binary} {subcommand:?}");
    }
}
