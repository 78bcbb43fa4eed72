//! Which files hold a span of hours: `root/…/yyyy/mm/dd/hh/*.jsonl`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use mloop_core::profile::InputFile;
use mloop_platform::PlatformError;

/// A file, as it stood when it was listed: what is written to it later is left for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its path below the root, with `/` between the parts.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// When it was last written to.
    pub(crate) modified: DateTime<Utc>,
}

impl SourceFile {
    /// As a profile records it.
    pub(crate) fn input(&self) -> InputFile {
        InputFile { path: self.name.clone(), size: self.size }
    }
}

/// The hours from that of `first` to that of `last`, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hours {
    from: [u32; 4],
    to: [u32; 4],
}

impl Hours {
    /// The hours that two moments and all between them lie in.
    pub(crate) fn between(first: DateTime<Utc>, last: DateTime<Utc>) -> Self {
        Self { from: parts(first), to: parts(last) }
    }

    /// The hours that a window touches.
    pub(crate) fn of(window: &mloop_core::Window) -> Self {
        Self::between(window.start(), window.end() - TimeDelta::nanoseconds(1))
    }

    /// Whether a folder, given by its first numbers, can hold one of the hours.
    fn touch(&self, folder: &[u32]) -> bool {
        let depth = folder.len();
        &self.from[..depth] <= folder && folder <= &self.to[..depth]
    }
}

fn parts(moment: DateTime<Utc>) -> [u32; 4] {
    // Years before 0 have no folder.
    [u32::try_from(moment.year()).unwrap_or(0), moment.month(), moment.day(), moment.hour()]
}

/// Lists the files of the hours below `root/folder`, sorted by name.
///
/// # Errors
/// When `root` is not there, a folder cannot be read, or there are more files than `max_files`.
pub(crate) fn list(
    what: &str,
    root: &Path,
    folder: &Path,
    hours: &Hours,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    list_of(what, root, folder, hours, "jsonl", max_files)
}

/// The same, of files with another extension.
pub(crate) fn list_of(
    what: &str,
    root: &Path,
    folder: &Path,
    hours: &Hours,
    extension: &str,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    let doing = || format!("listing the {what} files below {}", root.display());
    if !root.is_dir() {
        let problem = "there is no such folder; correct the path in the configuration, or create the folder if nothing was written yet";
        return Err(PlatformError::invalid(doing(), problem));
    }
    let start = root.join(folder);
    if !start.is_dir() {
        tracing::warn!(folder = %start.display(), "there is no {what} folder yet: the window is empty");
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    walk(&start, &mut Vec::new(), Some(hours), extension, &mut files)
        .map_err(|(path, error)| io_error(doing(), &path, error))?;
    described(doing, root, files, max_files)
}

/// Lists the files with an extension anywhere below `root`, sorted by name.
///
/// # Errors
/// As for [`list`].
pub(crate) fn list_all(
    what: &str,
    root: &Path,
    extension: &str,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    let doing = || format!("listing the {what} files below {}", root.display());
    let mut files = Vec::new();
    walk(root, &mut Vec::new(), None, extension, &mut files)
        .map_err(|(path, error)| io_error(doing(), &path, error))?;
    described(doing, root, files, max_files)
}

fn described(
    doing: impl Fn() -> String,
    root: &Path,
    files: Vec<PathBuf>,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    if files.len() > max_files {
        let problem = format!(
            "the window has {} files, more than `max_files` ({max_files}); raise it or take a shorter window",
            files.len()
        );
        return Err(PlatformError::invalid(doing(), problem));
    }
    let mut files: Vec<SourceFile> =
        files.into_iter().map(|path| describe(root, path)).collect::<Result<_, _>>()?;
    files.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    Ok(files)
}

/// Goes through the folders of the hours, or without any through all.
fn walk(
    folder: &Path,
    numbers: &mut Vec<u32>,
    hours: Option<&Hours>,
    extension: &str,
    files: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (folder.to_owned(), error);
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let is_file = |path: &Path| path.extension().is_some_and(|found| found == extension);
        let Some(hours) = hours else {
            if path.is_dir() {
                walk(&path, numbers, None, extension, files)?;
            } else if is_file(&path) {
                files.push(path);
            }
            continue;
        };
        if numbers.len() == hours.from.len() {
            if is_file(&path) {
                files.push(path);
            }
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(number) = name.and_then(|name| name.parse().ok()) else { continue };
        numbers.push(number);
        if hours.touch(numbers) && path.is_dir() {
            walk(&path, numbers, Some(hours), extension, files)?;
        }
        numbers.pop();
    }
    Ok(())
}

fn describe(root: &Path, path: PathBuf) -> Result<SourceFile, PlatformError> {
    let metadata = fs::metadata(&path);
    let found = metadata.and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (size, modified) =
        found.map_err(|error| io_error("describing a file".to_owned(), &path, error))?;
    let below = path.strip_prefix(root).unwrap_or(&path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    Ok(SourceFile { name: parts.join("/"), size, modified: modified.into(), path })
}

/// What a caller can do about a file that could not be read.
pub(crate) fn io_error(doing: String, path: &Path, cause: io::Error) -> PlatformError {
    let system = format!("the file system at {}", path.display());
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            PlatformError::Denied { system, doing, cause: cause.into() }
        }
        // Also a file that retention removed since it was listed: the next look does not see it.
        _ => PlatformError::unavailable(system, doing, cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a moment")
    }

    #[test]
    fn only_the_hours_asked_for_are_listed_and_sorted() {
        let root = tempfile::tempdir().expect("a folder");
        for name in [
            "e/v/2026/02/28/23/b.jsonl",
            "e/v/2026/03/01/00/z.jsonl",
            "e/v/2026/03/01/00/a.jsonl",
            "e/v/2026/03/01/00/a.jsonl.part",
            "e/v/2026/03/01/02/c.jsonl",
            "e/v/notes/x.jsonl",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
            fs::write(path, "12345").expect("a file");
        }
        let hours = Hours::between(at("2026-02-28T23:59:59Z"), at("2026-03-01T01:00:00Z"));
        let files = list("capture", root.path(), Path::new("e/v"), &hours, 3).expect("listed");
        let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        let expected = [
            ("e/v/2026/02/28/23/b.jsonl", 5),
            ("e/v/2026/03/01/00/a.jsonl", 5),
            ("e/v/2026/03/01/00/z.jsonl", 5),
        ];
        assert_eq!(names, expected);
        let error = list("capture", root.path(), Path::new("e/v"), &hours, 2).expect_err("three");
        assert!(error.to_string().contains("`max_files` (2)"), "{error}");
        let none = list("capture", root.path(), Path::new("e/other"), &hours, 3).expect("none");
        assert_eq!(none, []);
    }

    #[test]
    fn a_root_that_is_not_there_is_a_mistake_of_the_configuration() {
        let root = tempfile::tempdir().expect("a folder");
        let hours = Hours::between(at("2026-03-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        let error = list("label", &root.path().join("no"), Path::new(""), &hours, 9);
        assert!(matches!(error, Err(PlatformError::Invalid { .. })), "{error:?}");
    }
}
