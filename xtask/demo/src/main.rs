//! Turns the loop once on one machine, on real images, and tells the story as it goes.
//!
//! Everything that mloop does here is done by its own binaries, called as a DAG would call them, with
//! the configurations of `configs/`. This program plays the rest of the world: the camera that
//! takes pictures, the people who label them, and the scheduler.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a story for people at a terminal")]

mod page;
mod stage;
mod story;
mod tell;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::story::Options;

const HELP: &str = "\
mloop_demo --dir DIR [--fashion-mnist DIR] [--keep] [--quick]

  --dir DIR            folder of everything that the demo leaves; what an earlier demo left is removed
  --fashion-mnist DIR  the four files of Fashion-MNIST, for traffic that was never trained on;
                       without, part of the committed slice plays the traffic
  --keep               leave the model server running
  --quick              less traffic and fewer epochs: for a test of the demo, not for its numbers";

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(options)) => match story::tell(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!(
                    "\nThe demo stopped: {problem}\nIts files are in {}",
                    options.folder.display()
                );
                ExitCode::FAILURE
            }
        },
        Err(problem) => {
            eprintln!("{problem}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let (mut folder, mut full_data, mut keep, mut quick) = (None, None, false, false);
    while let Some(argument) = given.next() {
        let mut value =
            || given.next().map(PathBuf::from).ok_or(format!("{argument} needs a folder"));
        match argument.as_str() {
            "--dir" => folder = Some(value()?),
            "--fashion-mnist" => full_data = Some(value()?),
            "--keep" => keep = true,
            "--quick" => quick = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let folder = folder.ok_or("--dir is missing")?;
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    Ok(Some(Options { folder, full_data, keep, quick }))
}
