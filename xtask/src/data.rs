//! Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT licence, Zalando SE) from Debian's package.
//!
//! The package is downloaded and unpacked without root, checked by digest, and cached.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::shell::{Outcome, cache, quietly};

const PACKAGE: &str = "dataset-fashion-mnist";

/// SHA-256 of version 0.0~git20200523.55506a9-1 of the package.
const DIGEST: &str = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0";

/// Its files, with their SHA-256.
const FILES: [(&str, &str); 4] = [
    (
        "train-images-idx3-ubyte.gz",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    (
        "train-labels-idx1-ubyte.gz",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    (
        "t10k-images-idx3-ubyte.gz",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    (
        "t10k-labels-idx1-ubyte.gz",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
];

pub(crate) fn run() -> Outcome {
    println!("Fashion-MNIST, its digests compared: {}", fetch()?.display());
    Ok(())
}

/// The folder with the four files, fetched if need be; their digests are compared at each use.
pub(crate) fn fetch() -> Outcome<PathBuf> {
    let folder = cache()?.join("fashion-mnist");
    match checked(&folder, &FILES) {
        Ok(()) => return Ok(folder),
        Err(problem) if folder.exists() => {
            println!("{problem}: the cache is filled anew");
            std::fs::remove_dir_all(&folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Err(_) => {}
    }
    let work = cache()?.join(format!("fashion-mnist.{}.part", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let outcome = download(&work).and_then(|package| unpack(&package, &work, &folder));
    // The work folder is of no use to anybody, whatever the outcome.
    drop(std::fs::remove_dir_all(&work));
    outcome.map(|()| folder)
}

/// Fails unless a folder holds these files with these digests.
fn checked(folder: &Path, files: &[(&str, &str)]) -> Outcome {
    for (name, expected) in files {
        let path = folder.join(name);
        let found = digest(&path)?;
        if found != *expected {
            return Err(format!("{} has the digest {found}, not {expected}", path.display()));
        }
    }
    Ok(())
}

fn digest(path: &Path) -> Outcome<String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

fn download(work: &Path) -> Outcome<PathBuf> {
    let get = |options: &[String]| {
        let mut command = Command::new("apt-get");
        command.args(options).args(["download", PACKAGE]).current_dir(work);
        quietly(&mut command)
    };
    if let Err(first) = get(&[]) {
        // No package lists on this machine: fetch them into a folder of our own, which needs no root.
        let own = private_lists(work)?;
        let mut update = Command::new("apt-get");
        quietly(update.args(&own).arg("update"))
            .and_then(|_| get(&own))
            .map_err(|second| format!("{PACKAGE} cannot be had:\n{first}\n{second}"))?;
    }
    let entries =
        std::fs::read_dir(work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| format!("apt-get left no package in {}", work.display()))
}

fn private_lists(work: &Path) -> Outcome<Vec<String>> {
    let mut options = vec![];
    for (key, name) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
        let folder = work.join(name);
        let partial = folder.join("partial");
        std::fs::create_dir_all(&partial)
            .map_err(|error| format!("{}: {error}", partial.display()))?;
        options.extend(["-o".to_owned(), format!("{key}={}", folder.display())]);
    }
    options.extend(["-o".to_owned(), "Debug::NoLocking=true".to_owned()]);
    Ok(options)
}

fn unpack(package: &Path, work: &Path, folder: &Path) -> Outcome {
    let found = digest(package)?;
    if found != DIGEST {
        return Err(format!("{PACKAGE} has the digest {found}, {DIGEST} was expected: not used"));
    }
    let unpacked = work.join("unpacked");
    quietly(Command::new("dpkg").arg("-x").arg(package).arg(&unpacked))?;
    let files = unpacked.join("usr/share/datasets/fashion-mnist");
    checked(&files, &FILES)?;
    // Another process may have been faster, and then its folder is as good as ours.
    std::fs::rename(&files, folder)
        .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
        .map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_used_only_with_their_digests() {
        let folder = std::env::temp_dir().join(format!("mloop-data-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        // SHA-256 of "abc", from FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let files = [("a", abc)];
        let missing = checked(&folder, &files).expect_err("no file");
        std::fs::write(folder.join("a"), "abc").expect("written");
        let whole = checked(&folder, &files);
        std::fs::write(folder.join("a"), "abd").expect("written");
        let damaged = checked(&folder, &files).expect_err("another content");
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(missing.contains("No such file"), "{missing}");
        assert_eq!(whole, Ok(()));
        assert!(damaged.contains("has the digest"), "{damaged}");
    }

    #[test]
    fn another_package_is_not_unpacked() {
        let folder = std::env::temp_dir().join(format!("mloop-package-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let package = folder.join("x.deb");
        std::fs::write(&package, "another").expect("written");
        let refused = unpack(&package, &folder, &folder.join("out")).expect_err("refused");
        let left = folder.join("out").exists();
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(refused.contains("not used") && !left, "{refused}");
    }
}
