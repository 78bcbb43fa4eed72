//! Builds everything and turns the loop once.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::shell::{Outcome, cargo, run as call, stage, target};
use crate::{bench, data};

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    turn(arguments).map(drop)
}

/// Turns the loop, and keeps what its steps cost.
pub(crate) fn measure() -> Outcome {
    let path = turn(&[])?.join("costs.json");
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rows: Vec<Value> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    bench::write("demo", &rows)
}

/// Gives the folder of the demo.
fn turn(arguments: &[&str]) -> Outcome<PathBuf> {
    stage("build", || call(cargo().args(["build", "--locked", "--workspace", "--bins"])))?;
    let mut demo = Command::new(target().join("debug/mloop_demo"));
    demo.args(arguments);
    let named = arguments.iter().position(|word| *word == "--dir");
    let folder = match named.and_then(|place| arguments.get(place + 1)) {
        Some(folder) => PathBuf::from(folder),
        None => target().join("demo"),
    };
    if named.is_none() {
        demo.arg("--dir").arg(&folder);
    }
    match data::fetch() {
        Ok(folder) => {
            demo.arg("--fashion-mnist").arg(folder);
        }
        Err(problem) => println!("The full data set is not used:\n{problem}"),
    }
    call(&mut demo)?;
    Ok(folder)
}
