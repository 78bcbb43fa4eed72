//! The DAGs: they compile, and call the binaries by what those really take. Airflow is not needed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use mloop_testkit::program;
use mloop_tests::root;
use serde::Deserialize;

/// A task, as `tests/dags/commands.py` tells it.
#[derive(Debug, Deserialize)]
struct Task {
    file: String,
    doc: String,
    task: String,
    command: String,
    binary: String,
    subcommand: Option<String>,
    flags: Vec<String>,
    variables: Vec<String>,
    env: BTreeSet<String>,
    /// After which Airflow ends the task.
    timeout_hours: u64,
}

fn python(arguments: &[&str], cache: &Path) -> Result<String, String> {
    let mut command = Command::new("python3");
    command.args(arguments).env("PYTHONPYCACHEPREFIX", cache).current_dir(root());
    let output = command.output().expect("python3 runs: see CONTRIBUTING.md");
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).expect("UTF-8"));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn tasks(folder: &str) -> Result<Vec<Task>, String> {
    let cache = tempfile::tempdir().expect("a folder");
    let text = python(&["tests/dags/commands.py", folder], cache.path())?;
    Ok(text.lines().map(|line| serde_json::from_str(line).expect("a task")).collect())
}

/// What is wrong with a task's command line, apart from what the binary says to it.
fn problems(task: &Task) -> Vec<String> {
    let mut found = vec![];
    if task.command.contains("{{") {
        found
            .push("a template stands in the command, so a value could be read as shell".to_owned());
    }
    let unset = |name: &&String| !task.env.contains(*name) && !task.doc.contains(name.as_str());
    found.extend(task.variables.iter().filter(unset).map(|name| {
        format!("${name} is neither in the task's env nor named in the DAG's docstring")
    }));
    let mut bare = task.command.clone();
    for name in &task.variables {
        bare = bare.replace(&format!("\"${name}\""), "").replace(&format!("${{{name}:+"), "");
    }
    if bare.contains('$') {
        found.push("a variable is not quoted".to_owned());
    }
    found
}

fn help(binary: &str, subcommand: Option<&str>) -> String {
    let path = program::path(binary).expect("cargo build --workspace --bins comes first");
    let output = Command::new(path).args(subcommand).arg("--help").output().expect("it starts");
    assert!(output.status.success(), "{binary} {subcommand:?} --help: {}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn all_compile() {
    let cache = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(root().join("dags")).expect("dags/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let path = path.to_str().expect("UTF-8");
            python(&["-m", "py_compile", path], cache.path()).expect(path);
        }
    }
}

#[test]
fn every_binary_is_called_and_values_reach_it_through_the_environment_alone() {
    let tasks = tasks("dags").expect("the DAGs are read");
    let called: BTreeSet<&str> = tasks.iter().map(|task| task.binary.as_str()).collect();
    let all = ["deployment_main", "monitoring_main", "retraining_main", "training_main"];
    assert_eq!(called, BTreeSet::from(all));
    for task in &tasks {
        assert_eq!(problems(task), [""; 0], "{} {}", task.file, task.task);
    }
}

#[test]
fn every_flag_and_subcommand_is_one_that_the_binary_has() {
    for task in tasks("dags").expect("the DAGs are read") {
        let whole = help(&task.binary, None);
        if let Some(subcommand) = &task.subcommand {
            let listed =
                whole.lines().any(|line| line.split_whitespace().next() == Some(subcommand));
            assert!(listed, "{}: {} has no `{subcommand}`", task.file, task.binary);
        }
        let help = help(&task.binary, task.subcommand.as_deref());
        for flag in &task.flags {
            let known = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            let known: BTreeSet<&str> = known.collect();
            assert!(known.contains(flag.as_str()), "{}: {} has no {flag}", task.file, task.binary);
        }
    }
}

/// Longest time of an upload, seconds: `upload_timeout_secs` of the deployer.
const UPLOAD: u64 = 900;

#[test]
fn airflow_waits_longer_for_a_deployment_than_the_deployment_for_its_platform() {
    let path = root().join("configs/services/deployment_config.yaml");
    let document = mloop_config::Document::read(&path).expect("the shipped configuration");
    let patience = document.value()["bake"]["patience_secs"].as_u64().expect("seconds");
    let tasks = tasks("dags").expect("the DAGs are read");
    let waiting = tasks.iter().filter(|task| {
        task.binary == "deployment_main" && task.subcommand.as_deref() != Some("smoke-test")
    });
    let short: Vec<&str> = waiting
        // There, and back where it does not answer.
        .filter(|task| task.timeout_hours * 3600 < 2 * patience + UPLOAD)
        .map(|task| task.task.as_str())
        .collect();
    assert_eq!(short, [""; 0], "tasks that Airflow ends before they can say how far they came");
}

#[test]
fn mistakes_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let dag = folder.path().join("bad_dag.py");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    let check = |call: &str| {
        std::fs::write(&dag, format!("\"\"\"Set MLOOP_KNOWN.\"\"\"\n{call}\n")).expect("written");
        tasks(&path).map(|tasks| tasks.iter().flat_map(problems).collect::<Vec<_>>().join("; "))
    };
    for (call, expected) in [
        (r#"binary("t", 'x --a "$MLOOP_KNOWN" "$B"', env={"B": "{{ ts }}"})"#, ""),
        (r#"binary("t", "x --window-start {{ ts }}")"#, "a template stands in the command"),
        (r#"binary("t", 'x --a "$MLOOP_NEW"')"#, "$MLOOP_NEW is neither in the task's env"),
        (r#"binary("t", "x --a $MLOOP_KNOWN")"#, "not quoted"),
    ] {
        let found = check(call).expect("it is read");
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    }
    for (call, expected) in [
        (r#"binary("t", f"x {name}")"#, "is no constant"),
        (r#"BashOperator(task_id="t", bash_command="x")"#, "past binary()"),
    ] {
        let refusal = check(call).expect_err("it is refused");
        assert!(refusal.contains(expected), "{refusal}");
    }
}
