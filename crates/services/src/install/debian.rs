//! Programs that Debian packages: the system's where they are, else unpacked into the cache. Nothing
//! is installed, so that neither root is needed nor a server starts by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Installer, call};
use crate::{BenchError, place};

/// A package, and what is needed of it.
pub(crate) struct Package {
    /// Its name. Debian's PostgreSQL is a name that depends on the one with a version.
    pub(crate) name: &'static str,
    /// A program of it.
    pub(crate) program: &'static str,
    /// Whether its programs need more than the C library.
    pub(crate) libraries: bool,
}

/// A folder with programs, and where their libraries are if not on the system.
pub(crate) struct Programs {
    pub(crate) folder: PathBuf,
    libraries: Vec<PathBuf>,
}

impl Programs {
    /// Lets a command, or what it becomes, find the libraries.
    pub(crate) fn lend(&self, command: &mut Command) {
        if let (false, Ok(path)) =
            (self.libraries.is_empty(), std::env::join_paths(&self.libraries))
        {
            command.env("LD_LIBRARY_PATH", path);
        }
    }
}

impl Installer<'_> {
    /// The folder of a package's programs.
    pub(crate) fn programs(&self, package: &Package) -> Result<Programs, BenchError> {
        if let Some(folder) = on_the_system(package.program) {
            return Ok(Programs { folder, libraries: vec![] });
        }
        // An unpacked program fits the release that it was made for.
        let place = format!("debian/{}/{}", release(), package.name);
        let root = self.folder(&place, "usr", |folder| unpacked(package, folder))?;
        let inside = |folder: PathBuf| root.join(folder.strip_prefix("/").unwrap_or(&folder));
        let folders = postgres_folders(&inside("/usr/lib/postgresql".into()));
        let mut folders = [inside("/usr/bin".into())].into_iter().chain(folders);
        let folder = folders.find(|folder| folder.join(package.program).is_file());
        let lacking = || {
            let (name, program) = (package.name, package.program);
            BenchError::Failed(format!("Debian's package {name} has no {program}"))
        };
        let libraries = ["/usr/lib", "/lib"].iter().flat_map(|parent| {
            let entries = std::fs::read_dir(inside(parent.into())).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path()))
        });
        let multiarch = |path: &PathBuf| path.to_string_lossy().ends_with("-linux-gnu");
        let libraries = libraries.filter(multiarch).collect();
        Ok(Programs { folder: folder.ok_or_else(lacking)?, libraries })
    }
}

/// The folder of a program: in `PATH`, or where Debian keeps PostgreSQL's, the newest first.
fn on_the_system(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(postgres_folders("/usr/lib/postgresql".as_ref()));
    // What stands in `PATH` may be a link; the other programs are where it leads.
    let found = folders.filter_map(|folder| folder.join(program).canonicalize().ok());
    found.filter(|file| file.is_file()).find_map(|file| Some(file.parent()?.to_path_buf()))
}

/// `VERSION/bin` of all versions, the newest first.
fn postgres_folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let version = |name: &str| name.parse::<u32>().ok();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// The code name of this Debian.
fn release() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// Downloads a package with the libraries that it needs, and unpacks all into one folder.
fn unpacked(package: &Package, folder: &Path) -> Result<(), BenchError> {
    let work = folder.join("packages");
    place::make(&work)?;
    let fetch = |options: &[String]| -> Result<(), BenchError> {
        let mut simulate = apt(options, &work);
        let said = call(simulate.args(["install", "-s", "--no-install-recommends", package.name]))?;
        let mut download = apt(options, &work);
        call(download.arg("download").args(wanted(&said, package))).map(drop)
    };
    if let Err(first) = fetch(&[]) {
        // No package lists on this machine: fetch them into a folder of our own.
        let own = private_lists(&work)?;
        call(apt(&own, &work).arg("update")).and_then(|_| fetch(&own)).map_err(|second| {
            let name = package.name;
            let text = format!(
                "Debian's package {name} cannot be had; install it by other means, so that {} is \
                 in PATH\n{first}\n{second}",
                package.program
            );
            BenchError::Failed(text)
        })?;
    }
    let entries = std::fs::read_dir(&work).map_err(BenchError::io(work.display().to_string()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for file in files.filter(|file| file.extension().is_some_and(|end| end == "deb")) {
        call(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder))?;
    }
    place::clear(&work)
}

/// apt-get as if nothing were installed here, so that the cache serves other machines as well.
fn apt(options: &[String], work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=true"]);
    command.args(options).current_dir(work);
    command
}

fn private_lists(work: &Path) -> Result<Vec<String>, BenchError> {
    let mut options = vec![];
    for (key, name) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
        let folder = work.join(name);
        place::make(&folder.join("partial"))?;
        options.extend(["-o".to_owned(), format!("{key}={}", folder.display())]);
    }
    Ok(options)
}

/// `NAME=VERSION` of what is to be unpacked, from the lines `Inst NAME (VERSION …` of a simulated
/// installation: the package, those that carry its name with a version, and libraries.
fn wanted(simulated: &str, package: &Package) -> Vec<String> {
    // The C library is the system's; the others are compilers and scripts that no program of ours
    // calls, a hundred megabytes of them.
    let needless = ["libc6", "libllvm", "libz3", "libperl", "libjs", "libpam-modules"];
    let is_wanted = |name: &&str| {
        let library = package.libraries
            && name.starts_with("lib")
            && !name.ends_with("-perl")
            && !needless.iter().any(|start| name.starts_with(start));
        let versioned =
            |rest: &str| rest.rsplit('-').next().is_some_and(|end| end.parse::<u32>().is_ok());
        *name == package.name || library || name.strip_prefix(package.name).is_some_and(versioned)
    };
    let lines = simulated.lines().filter_map(|line| line.strip_prefix("Inst "));
    let pairs = lines.filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        Some((name, rest.trim_start_matches('(').split(' ').next()?))
    });
    let chosen = pairs.filter(|(name, _)| is_wanted(name));
    chosen.map(|(name, version)| format!("{name}={version}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULATED: &str = "\
Inst libc6 (2.36-9 Debian:12/stable [amd64])
Inst libfile-find-rule-perl (0.34 Debian:12/stable [all])
Inst libssl3 (3.0.22-1 Debian:12/stable [amd64])
Inst libllvm14 (1:14.0.6-12 Debian:12/stable [amd64])
Inst postgresql-common (248 Debian:12/stable [all])
Inst postgresql-client-15 (15.20-0 Debian:12/stable [amd64])
Inst postgresql-15 (15.20-0 Debian:12/stable [amd64])
Inst postgresql (15+248 Debian:12/stable [all])
Conf libc6 (2.36-9 Debian:12/stable [amd64])";

    #[test]
    fn programs_and_libraries_are_taken_and_nothing_else() {
        let postgres = Package { name: "postgresql", program: "postgres", libraries: true };
        let names = [
            "libssl3=3.0.22-1",
            "postgresql-client-15=15.20-0",
            "postgresql-15=15.20-0",
            "postgresql=15+248",
        ];
        assert_eq!(wanted(SIMULATED, &postgres), names);
        let alone = Package { libraries: false, ..postgres };
        assert_eq!(wanted(SIMULATED, &alone), names[1..]);
    }

    #[test]
    fn the_newest_postgresql_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for version in ["9", "15", "13", "common"] {
            std::fs::create_dir_all(folder.path().join(version).join("bin")).expect("made");
        }
        let found = postgres_folders(folder.path());
        let wanted = ["15/bin", "13/bin", "9/bin"].map(|bin| folder.path().join(bin));
        assert_eq!(found, wanted);
    }
}
