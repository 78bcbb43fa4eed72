//! Measurements that a reader may hold us to; each writes `docs/bench/NAME.json`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::services;
use crate::shell::{Outcome, cargo, quietly, root, run as call, stage, target};

/// Runs of each program that are counted.
const RUNS: usize = 30;

/// The target of a start: `--help` ends within so many milliseconds.
const TARGET_MS: f64 = 20.0;

/// A program, and a run of it that finds nothing to do, with the exit code that says so.
struct Subject {
    program: &'static str,
    idle: &'static str,
    arguments: &'static [&'static str],
    code: i32,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        program: "deployment_main",
        idle: "run, nothing to deploy",
        arguments: &["run", "--config", "deployment_config.yaml"],
        code: 99,
    },
    Subject {
        program: "retraining_main",
        idle: "run, nothing known yet",
        arguments: &["--config", "retrain_config.yaml"],
        code: 99,
    },
    Subject {
        program: "monitoring_main",
        idle: "--check",
        arguments: &["--check", "--config", "monitoring_config.yaml"],
        code: 0,
    },
    Subject {
        program: "training_main",
        idle: "--check",
        arguments: &["--check", "--config", "training_config.yaml"],
        code: 0,
    },
];

/// What always runs is measured until it listens.
const SERVER: &str = "model_server";

pub(crate) fn run(name: &str) -> Outcome {
    match name {
        "start" => start(),
        "demo" => crate::demo::measure(),
        "adapters" => adapters(),
        other => Err(format!("there is no benchmark `{other}`; there are: start, demo, adapters")),
    }
}

/// What calls to services cost on our side.
fn adapters() -> Outcome {
    stage("release build", || {
        call(cargo().args(["build", "--release", "--locked", "--package", "mloop-bench"]))
    })?;
    let file = target().join("adapters.json");
    services::around(|| stage("calls", || call(Command::new(released("mloop_bench")).arg(&file))))?;
    let text = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let rows: Vec<Value> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    write("adapters", &rows)
}

/// Start-up time and size of the release binaries.
fn start() -> Outcome {
    // These and nothing else of the workspace, whose test helpers would bring their features along.
    stage("release build", || {
        let programs = SUBJECTS.iter().map(|subject| subject.program).chain([SERVER]);
        let packages = programs.flat_map(|program| ["--package", program]);
        call(cargo().args(["build", "--release", "--locked"]).args(packages))
    })?;
    let folder = shipped_configurations()?;
    let mut rows = vec![];
    println!("{:<18}{:>9}{:>14}{:>14}  idle run", "program", "MB", "--help, ms", "idle, ms");
    for Subject { program, idle, arguments, code } in &SUBJECTS {
        let path = released(program);
        let help = median(&path, &folder, &["--help"], 0)?;
        let nothing = median(&path, &folder, arguments, *code)?;
        rows.extend(told(program, help, (*idle, nothing))?);
    }
    let path = released(SERVER);
    let help = median(&path, &folder, &["--help"], 0)?;
    let listens = median_of(|| until_it_listens(&path, &folder))?;
    rows.extend(told(SERVER, help, ("serve, until it listens", listens))?);
    write("start", &rows)
}

fn released(program: &str) -> PathBuf {
    target().join("release").join(program)
}

/// Prints the line of a program, and makes its rows.
fn told(program: &str, help: f64, (idle, nothing): (&str, f64)) -> Outcome<[Value; 2]> {
    let path = released(program);
    let size = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let megabytes = size.len() as f64 / 1e6;
    println!("{program:<18}{megabytes:>9.1}{help:>14.2}{nothing:>14.2}  {idle}");
    Ok([("--help", help), (idle, nothing)].map(|(work, milliseconds)| {
        json!({
            "work": format!("{program}: {work}"),
            "ours": {"wall_s": milliseconds / 1000.0, "binary_mb": megabytes},
            "peer": null,
            "ratio": null,
            "target": format!("{TARGET_MS} ms"),
            "met": milliseconds <= TARGET_MS,
        })
    }))
}

/// A folder of its own with the shipped configurations, and nothing that ever ran there.
fn shipped_configurations() -> Outcome<PathBuf> {
    let work = target().join("bench");
    drop(std::fs::remove_dir_all(&work));
    let folder = work.join("configs");
    let make = || {
        std::fs::create_dir_all(&folder)?;
        for name in ["capture", "labels"] {
            std::fs::create_dir_all(work.join("var").join(name))?;
        }
        // The training data that the shipped configuration names.
        std::os::unix::fs::symlink(root().join("tests"), work.join("tests"))?;
        for name in ["monitoring", "retrain", "training", "deployment"] {
            let name = format!("{name}_config.yaml");
            std::fs::copy(root().join("configs").join(&name), folder.join(&name))?;
        }
        Ok(())
    };
    make().map_err(|error: std::io::Error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Median wall time in milliseconds of a program's runs, which must end with this exit code.
fn median(program: &Path, folder: &Path, arguments: &[&str], code: i32) -> Outcome<f64> {
    median_of(|| {
        let began = Instant::now();
        let mut command = quiet(program, folder, arguments);
        let status = command.status().map_err(|error| format!("{}: {error}", program.display()))?;
        if status.code() != Some(code) {
            return Err(format!("{} {}: {status}", program.display(), arguments.join(" ")));
        }
        Ok(began.elapsed())
    })
}

/// How long a server without a model takes until it has told where it listens.
fn until_it_listens(program: &Path, folder: &Path) -> Outcome<Duration> {
    let file = folder.join("address.json");
    drop(std::fs::remove_file(&file));
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", "state"];
    let mut command = quiet(program, folder, &arguments);
    let began = Instant::now();
    let mut server =
        command.arg("--address-file").arg(&file).spawn().map_err(|error| error.to_string())?;
    while !file.exists() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_micros(100));
    }
    let took = began.elapsed();
    server.kill().and_then(|()| server.wait()).map_err(|error| error.to_string())?;
    if file.exists() { Ok(took) } else { Err(format!("{} does not listen", program.display())) }
}

fn quiet(program: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let (input, out, log) = (Stdio::null(), Stdio::null(), Stdio::null());
    command.args(arguments).current_dir(folder).stdin(input).stdout(out).stderr(log);
    command
}

/// The median of some runs, in milliseconds.
fn median_of(run: impl Fn() -> Outcome<Duration>) -> Outcome<f64> {
    // The first run reads the program from disk.
    run()?;
    let mut times = (0..RUNS).map(|_| run()).collect::<Outcome<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1000.0)
}

/// Writes the rows of a benchmark to `docs/bench/NAME.json`, and `docs/benchmarks.md` anew from all of
/// these files.
pub(crate) fn write(name: &str, rows: &[Value]) -> Outcome {
    let said = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        quietly(command.args(arguments).current_dir(root())).map(|text| text.trim().to_owned())
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let report = json!({
        "name": name,
        "when": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
        "commit": said("git", &["rev-parse", "HEAD"])?,
        "machine": format!("{}, {cores} cores", model.unwrap_or("unknown processor")),
        "versions": {"rustc": said("rustc", &["--version"])?},
        "rows": rows,
    });
    let folder = root().join("docs/bench");
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n";
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(fail)?;
    std::fs::write(&path, text).map_err(fail)?;
    println!("wrote {}", path.display());
    let page = page(&folder).map_err(fail)?;
    std::fs::write(root().join("docs/benchmarks.md"), page).map_err(fail)
}

/// What a table can show of our side: the head of the column, the key and the digits.
const COLUMNS: [(&str, &str, usize); 5] = [
    ("seconds", "wall_s", 4),
    ("CPU seconds", "cpu_s", 4),
    ("peak MB", "peak_mb", 0),
    ("binary MB", "binary_mb", 1),
    ("requests", "requests", 0),
];

/// All benchmarks as Markdown tables.
fn page(folder: &Path) -> std::io::Result<String> {
    let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    let mut text =
        "# Benchmarks\n\nMade from the files in `docs/bench/` by `cargo xtask bench NAME`, \
                    which wrote those; nothing here is typed by hand.\n"
            .to_owned();
    for path in paths {
        let report: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        text.push_str(&table(&report));
    }
    Ok(text)
}

/// The table of a report, with the columns that it has values for.
fn table(report: &Value) -> String {
    let word = |key: &str| report[key].as_str().unwrap_or_default();
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has = |key: &str| rows.iter().any(|row| !row["ours"][key].is_null());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(_, key, _)| has(key)).collect();
    let judged = rows.iter().any(|row| !row["target"].is_null());
    let mut heads: Vec<&str> = columns.iter().map(|(head, _, _)| *head).collect();
    heads.insert(0, "work");
    heads.extend(if judged { &["target", "met"][..] } else { &[] });
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = heads.iter().map(|head| match *head {
        "work" | "target" | "met" => "---".to_owned(),
        _ => "---:".to_owned(),
    });
    let mut text = format!(
        "\n## {}\n\n{}, {}, commit {:.12}, {}.\n\n",
        word("name"),
        word("when"),
        word("machine"),
        word("commit"),
        report["versions"]["rustc"].as_str().unwrap_or_default()
    );
    text.push_str(&line(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>()));
    text.push_str(&line(&rule.collect::<Vec<_>>()));
    for row in rows {
        let shown = |(_, key, digits): &(&str, &str, usize)| {
            let value = row["ours"][*key].as_f64();
            value.map_or(String::new(), |value| format!("{value:.digits$}"))
        };
        let mut cells = vec![row["work"].as_str().unwrap_or_default().to_owned()];
        cells.extend(columns.iter().map(shown));
        if judged {
            cells.push(row["target"].as_str().unwrap_or_default().to_owned());
            let met = row["met"].as_bool().map(|met| if met { "yes" } else { "**no**" });
            cells.push(met.unwrap_or_default().to_owned());
        }
        text.push_str(&line(&cells));
    }
    text
}
