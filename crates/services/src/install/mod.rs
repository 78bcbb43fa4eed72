//! Installing what services are made of, into the cache; nothing on the system is changed.

mod debian;
mod python;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bounded::{run_within, shown};
use crate::{BenchError, place};

pub(crate) use debian::{Package, Programs};

/// The installer of one call.
pub(crate) struct Installer<'a> {
    cache: PathBuf,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Installer<'a> {
    /// An installer into the cache.
    pub(crate) fn new(tell: &'a (dyn Fn(&str) + Sync)) -> Result<Self, BenchError> {
        Ok(Self { cache: place::cache()?, tell })
    }

    /// A folder of the cache that is complete and has the file `proof`. `fill` makes it where it is
    /// not; of several threads or processes that want it, one does.
    fn folder(
        &self,
        name: &str,
        proof: &str,
        fill: impl FnOnce(&Path) -> Result<(), BenchError>,
    ) -> Result<PathBuf, BenchError> {
        let folder = self.cache.join(name);
        let complete = folder.join(".complete");
        let is_there = || complete.exists() && folder.join(proof).exists();
        if is_there() {
            return Ok(folder);
        }
        let parent = folder.parent().unwrap_or(&self.cache);
        place::make(parent)?;
        let path = folder.with_extension("lock");
        let held = File::create(&path).map_err(BenchError::io(path.display().to_string()))?;
        held.lock().map_err(BenchError::io(format!("locking {}", path.display())))?;
        if is_there() {
            return Ok(folder);
        }
        let began = Instant::now();
        place::clear(&folder)?;
        fill(&folder)?;
        place::write(&complete, "")?;
        let seconds = began.elapsed().as_secs_f64();
        (self.tell)(&format!("installed in {seconds:.1} s: {}", folder.display()));
        Ok(folder)
    }
}

/// Longest time of one call: a slow network has brought the largest of all, Airflow's hundred packages, by
/// then.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs a program to its end; what it said is told only when it fails.
pub(crate) fn call(command: &mut Command) -> Result<String, BenchError> {
    let output = run_within(command, LIMIT)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let text = format!("{}: {}\n{}", shown(command), output.status, said.trim());
    Err(BenchError::Failed(text))
}
