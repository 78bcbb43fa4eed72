//! Python environments, from lock files with the digest of every file.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{Installer, call};
use crate::{BenchError, place};

/// What to do where the system's Python cannot make environments.
const ADVICE: &str = "the bench needs python3, 3.11 or later, with venv: on Debian \
                      `apt-get install python3-venv`";

impl Installer<'_> {
    /// The interpreter of an environment with what `tests/services/NAME.txt` lists. The folder's
    /// name has the digest of that file, so that a changed list is a new environment.
    pub(crate) fn environment(&self, name: &str) -> Result<PathBuf, BenchError> {
        let lock = lock_file(name);
        let place = format!("venvs/{}", locked(name, &lock)?);
        // The interpreter is a link to the system's, which may have gone since.
        let folder = self.folder(&place, "bin/python", |folder| {
            let uv = self.uv()?;
            let base = base()?;
            call(self.quiet(&uv).args(["venv", "--python"]).arg(&base).arg(folder))?;
            let python = folder.join("bin/python");
            let mut install = self.quiet(&uv);
            install.args(["pip", "install", "--require-hashes", "--no-deps"]);
            // Nothing is compiled here, with tools that no lock file names.
            install.args(["--only-binary", ":all:", "--python"]);
            call(install.arg(python).arg("-r").arg(&lock)).map(drop)
        })?;
        Ok(folder.join("bin/python"))
    }

    /// `uv`, which installs a hundred packages in seconds.
    fn uv(&self) -> Result<PathBuf, BenchError> {
        let lock = lock_file("uv");
        let place = format!("venvs/{}", locked("uv", &lock)?);
        let folder = self.folder(&place, "bin/uv", |folder| {
            let base = base()?;
            let made = call(Command::new(base).args(["-m", "venv"]).arg(folder));
            made.map_err(|error| BenchError::Failed(format!("{ADVICE}\n{error}")))?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r"]);
            call(pip.arg(&lock)).map(drop)
        })?;
        Ok(folder.join("bin/uv"))
    }

    /// uv with its own cache inside of ours, and without the right to fetch a Python.
    fn quiet(&self, uv: &Path) -> Command {
        let mut command = Command::new(uv);
        command.arg("--quiet").env("UV_CACHE_DIR", self.cache.join("uv"));
        command.env("UV_PYTHON_DOWNLOADS", "never").env_remove("VIRTUAL_ENV");
        // An index that pip was told of serves uv as well.
        if let Some(index) = std::env::var_os("PIP_INDEX_URL") {
            command.env("UV_DEFAULT_INDEX", index);
        }
        command
    }
}

fn lock_file(name: &str) -> PathBuf {
    place::sources().join(format!("{name}.txt"))
}

/// The name of an environment with the digest of its lock file.
fn locked(name: &str, lock: &Path) -> Result<String, BenchError> {
    let text =
        std::fs::read(lock).map_err(BenchError::io(format!("reading {}", lock.display())))?;
    Ok(format!("{name}-{:.12}", hex::encode(Sha256::digest(text))))
}

/// The system's interpreter itself, whatever `python3` is a shim for.
fn base() -> Result<PathBuf, BenchError> {
    let script = "import sys; assert sys.version_info >= (3, 11); print(sys.executable)";
    let said = call(Command::new("python3").args(["-c", script]));
    let said = said.map_err(|error| BenchError::Failed(format!("{ADVICE}\n{error}")))?;
    Ok(PathBuf::from(said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_files_pin_everything_and_name_no_registry() {
        for name in ["airflow", "kubernetes", "mlflow", "moto", "oracles", "smtp", "uv"] {
            let text = std::fs::read_to_string(lock_file(name)).expect(name);
            assert!(!text.contains("://"), "{name}");
            // A package begins at the start of a line; its digests are indented below it.
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let (digests, packages): (Vec<&str>, Vec<&str>) =
                lines.partition(|line| line.starts_with("    --hash=sha256:"));
            assert!(
                packages.iter().all(|line| line.contains("==") && line.ends_with('\\')),
                "{name}"
            );
            assert!(!packages.is_empty() && digests.len() >= packages.len(), "{name}");
        }
    }
}
