//! What our own side of a call to a service costs: processor time, memory and requests.
//!
//! `cargo xtask bench adapters` builds it for release, starts the services and calls it. The services
//! are processes of their own, so that what this one uses is ours.
#![expect(clippy::print_stdout, reason = "a tool for people at a terminal")]

mod gauge;
mod relay;
mod services;
mod works;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use gauge::{Cost, measure};
use services::{Bench, simulate};
use works::Work;

/// What went wrong, for people.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Repetitions of each work that are measured, after one that is not.
const RUNS: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread: what it uses is what the call uses.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| match words[..] {
        [rows] => runtime.block_on(run(Path::new(rows))),
        ["simulator", s3_url] => runtime.block_on(simulate(s3_url)),
        _ => Err("mloop_bench ROWS: measures, and writes the rows there".into()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("mloop_bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(rows: &Path) -> Outcome {
    let bench = Bench::start().await?;
    let works = works::all(&bench)?;
    let mut found = vec![];
    println!("{:<72}{:>9}{:>9}{:>9}{:>9}", "work", "CPU, ms", "wall, ms", "peak MB", "requests");
    for work in &works {
        let cost = measure(work, &bench, RUNS).await?;
        println!(
            "{:<72}{:>9.2}{:>9.1}{:>9.1}{:>9}",
            work.name(),
            cost.cpu.as_secs_f64() * 1e3,
            cost.wall.as_secs_f64() * 1e3,
            cost.peak_mb,
            cost.requests
        );
        found.push(row(work, &cost));
    }
    std::fs::write(rows, serde_json::to_vec(&found)?)?;
    Ok(())
}

fn row(work: &Work, cost: &Cost) -> Value {
    json!({
        "work": work.name(),
        "ours": {
            "wall_s": cost.wall.as_secs_f64(),
            "cpu_s": cost.cpu.as_secs_f64(),
            "peak_mb": cost.peak_mb,
            "requests": cost.requests,
        },
        "peer": null,
        "ratio": null,
        "target": null,
        "met": null,
    })
}
