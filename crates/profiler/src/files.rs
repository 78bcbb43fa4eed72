//! Which files hold a span of hours: `root/…/yyyy/mm/dd/hh/*.jsonl`, in a folder or in a bucket.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, Months, SubsecRound as _, TimeDelta, Timelike, Utc};
use mloop_core::capture::hour_folder;
use mloop_core::profile::InputFile;
use mloop_platform::PlatformError;
use mloop_s3::{Bucket, Object, S3Error};

use crate::objects;

/// What the names of capture and label files end with.
pub(crate) const SUFFIX: &str = ".jsonl";

/// Where files of one kind are.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// A folder on a local disk.
    Folder(PathBuf),
    /// A folder of a bucket.
    Bucket(Bucket),
}

impl Root {
    /// Lists files, sorted by name.
    ///
    /// # Errors
    /// When the root is not there, it cannot be read, or there are more files than `max_files`.
    pub(crate) async fn list(
        &self,
        what: &'static str,
        which: Which,
        max_files: usize,
    ) -> Result<Vec<SourceFile>, PlatformError> {
        let mut files = match self {
            Self::Folder(root) => {
                let root = root.clone();
                blocking("listing the files of a window", move || {
                    list(what, &root, &which, max_files)
                })
                .await?
            }
            Self::Bucket(bucket) => objects::list(what, bucket, &which, max_files).await?,
        };
        if files.len() > max_files {
            let problem = format!(
                "the window has more files than `max_files` ({max_files}); raise it or take a shorter window"
            );
            return Err(PlatformError::invalid(listing(what, self), problem));
        }
        files.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(files)
    }
}

/// Which files below a root are meant.
#[derive(Debug, Clone)]
pub(crate) struct Which {
    /// Below this folder of the root; empty: below the root itself.
    pub(crate) folder: String,
    /// Those that lie in the folder of one of these hours; none: all, however deep they lie.
    pub(crate) hours: Option<Hours>,
    /// What their names end with.
    pub(crate) suffix: &'static str,
}

impl Which {
    /// Files of captured lines or labels.
    pub(crate) fn lines(folder: &str, hours: Hours) -> Self {
        Self { folder: folder.to_owned(), hours: Some(hours), suffix: SUFFIX }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

/// What is being done, for messages.
pub(crate) fn listing(what: &str, root: &dyn fmt::Display) -> String {
    format!("listing the {what} files below {root}")
}

/// A file, as it stood when it was listed: what is written to it later is left for later.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// Where it is.
    pub(crate) origin: Origin,
    /// Its path below the root, with `/` between the parts.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// When it was last written to.
    pub(crate) modified: DateTime<Utc>,
}

/// Where a file is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// On a local disk.
    Path(PathBuf),
    /// In a bucket.
    Object(Bucket, Object),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Object(bucket, object) => write!(f, "{bucket}{}", object.name),
        }
    }
}

impl SourceFile {
    /// As a profile records it.
    pub(crate) fn input(&self) -> InputFile {
        InputFile { path: self.name.clone(), size: self.size }
    }

    /// The bytes that it had when it was listed. Blocks, and so does reading them.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(match &self.origin {
            Origin::Path(path) => {
                Box::new(BufReader::with_capacity(64 * 1024, File::open(path)?.take(self.size)))
            }
            Origin::Object(bucket, object) => Box::new(objects::open(bucket, object)?),
        })
    }
}

/// The hours from that of `first` to that of `last`, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hours {
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Hours {
    /// The hours that two moments and all between them lie in.
    pub(crate) fn between(first: DateTime<Utc>, last: DateTime<Utc>) -> Self {
        Self { first, last }
    }

    /// The hours that a window touches.
    pub(crate) fn of(window: &mloop_core::Window) -> Self {
        Self::between(window.start(), window.end() - TimeDelta::nanoseconds(1))
    }

    /// Whether a folder, given by its first numbers, can hold one of the hours.
    pub(crate) fn touch(&self, folder: &[u32]) -> bool {
        let depth = folder.len();
        &parts(self.first)[..depth] <= folder && folder <= &parts(self.last)[..depth]
    }

    /// The fewest folders that hold all of these hours and no other: months, days and hours, each ended by
    /// `/`.
    pub(crate) fn folders(&self) -> Vec<String> {
        let hour = |moment: DateTime<Utc>| moment.trunc_subsecs(0).with_minute(0)?.with_second(0);
        let (Some(mut at), Some(last)) = (hour(self.first), hour(self.last)) else { return vec![] };
        let mut folders = vec![];
        while at <= last {
            let month = at.checked_add_months(Months::new(1));
            let day = at.checked_add_signed(TimeDelta::days(1));
            let next = at.checked_add_signed(TimeDelta::hours(1));
            let is_whole = |end: Option<DateTime<Utc>>| {
                end.is_some_and(|end| end - TimeDelta::hours(1) <= last)
            };
            let (length, end) = match (at.day(), at.hour()) {
                (1, 0) if is_whole(month) => ("yyyy/mm/".len(), month),
                (_, 0) if is_whole(day) => ("yyyy/mm/dd/".len(), day),
                _ => ("yyyy/mm/dd/hh/".len(), next),
            };
            folders.push(format!("{}/", hour_folder(at))[..length].to_owned());
            let Some(end) = end else { break };
            at = end;
        }
        folders
    }
}

/// Folders of numbers: year, month, day and hour.
const HOUR_DEPTH: usize = 4;

fn parts(moment: DateTime<Utc>) -> [u32; HOUR_DEPTH] {
    // Years before 0 have no folder.
    [u32::try_from(moment.year()).unwrap_or(0), moment.month(), moment.day(), moment.hour()]
}

/// Lists files below a root, in no order. Blocks.
fn list(
    what: &str,
    root: &Path,
    which: &Which,
    max_files: usize,
) -> Result<Vec<SourceFile>, PlatformError> {
    let doing = || listing(what, &root.display());
    if !root.is_dir() {
        let problem = "there is no such folder; correct the path in the configuration, or create the folder if nothing was written yet";
        return Err(PlatformError::invalid(doing(), problem));
    }
    let start = root.join(&which.folder);
    if !start.is_dir() {
        tracing::warn!(folder = %start.display(), "there is no {what} folder yet: the window is empty");
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    walk(&start, &mut Vec::new(), which, &mut files)
        .map_err(|(path, error)| failure(doing(), &path.display(), &error))?;
    // One more tells that there are too many.
    files.into_iter().take(max_files.saturating_add(1)).map(|path| describe(root, path)).collect()
}

/// Goes through the folders of the hours, or without any through all.
fn walk(
    folder: &Path,
    numbers: &mut Vec<u32>,
    which: &Which,
    files: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (folder.to_owned(), error);
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let is_meant = path.to_string_lossy().ends_with(which.suffix);
        let Some(hours) = &which.hours else {
            if path.is_dir() {
                walk(&path, numbers, which, files)?;
            } else if is_meant {
                files.push(path);
            }
            continue;
        };
        if numbers.len() == HOUR_DEPTH {
            if is_meant {
                files.push(path);
            }
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(number) = name.and_then(|name| name.parse().ok()) else { continue };
        numbers.push(number);
        if hours.touch(numbers) && path.is_dir() {
            walk(&path, numbers, which, files)?;
        }
        numbers.pop();
    }
    Ok(())
}

fn describe(root: &Path, path: PathBuf) -> Result<SourceFile, PlatformError> {
    let metadata = fs::metadata(&path);
    let found = metadata.and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (size, modified) =
        found.map_err(|error| failure("describing a file".to_owned(), &path.display(), &error))?;
    let below = path.strip_prefix(root).unwrap_or(&path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    let name = parts.join("/");
    Ok(SourceFile { name, size, modified: modified.into(), origin: Origin::Path(path) })
}

/// What a caller can do about a file that could not be read.
pub(crate) fn failure(doing: String, place: &dyn fmt::Display, cause: &io::Error) -> PlatformError {
    if let Some(error) = cause.get_ref().and_then(|inner| inner.downcast_ref::<S3Error>()) {
        return error.clone().platform(&doing);
    }
    let system = format!("the file system at {place}");
    // An `io::Error` cannot be cloned; its kind and text are all that is used of it.
    let copy = io::Error::new(cause.kind(), cause.to_string());
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            PlatformError::Denied { system, doing, cause: copy.into() }
        }
        // Also a file that retention removed since it was listed: the next look does not see it.
        _ => PlatformError::unavailable(system, doing, copy),
    }
}

/// Runs what waits for the disk or the network off the threads that wait for everything else.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, PlatformError> + Send + 'static,
) -> Result<T, PlatformError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PlatformError::unavailable("the runtime", doing, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a moment")
    }

    #[tokio::test]
    async fn only_the_hours_asked_for_are_listed_and_sorted() {
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
        let root_folder = Root::Folder(root.path().to_owned());
        let list =
            async |folder, max| root_folder.list("capture", Which::lines(folder, hours), max).await;
        let files = list("e/v", 3).await.expect("listed");
        let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        let expected = [
            ("e/v/2026/02/28/23/b.jsonl", 5),
            ("e/v/2026/03/01/00/a.jsonl", 5),
            ("e/v/2026/03/01/00/z.jsonl", 5),
        ];
        assert_eq!(names, expected);
        let error = list("e/v", 2).await.expect_err("three");
        assert!(error.to_string().contains("`max_files` (2)"), "{error}");
        assert_eq!(list("e/other", 3).await.expect("none").len(), 0);
    }

    #[test]
    fn a_root_that_is_not_there_is_a_mistake_of_the_configuration() {
        let root = tempfile::tempdir().expect("a folder");
        let hours = Hours::between(at("2026-03-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
        let error = list("label", &root.path().join("no"), &Which::lines("", hours), 9);
        assert!(matches!(error, Err(PlatformError::Invalid { .. })), "{error:?}");
    }

    #[test]
    fn hours_become_the_fewest_folders() {
        let table: [(&str, &str, &[&str]); 5] = [
            ("2026-03-01T12:59:59Z", "2026-03-01T12:00:00Z", &["2026/03/01/12/"]),
            (
                "2026-03-01T23:30:00Z",
                "2026-03-02T01:10:00Z",
                &["2026/03/01/23/", "2026/03/02/00/", "2026/03/02/01/"],
            ),
            (
                "2026-03-01T22:00:00.5Z",
                "2026-03-04T00:59:59.9Z",
                &[
                    "2026/03/01/22/",
                    "2026/03/01/23/",
                    "2026/03/02/",
                    "2026/03/03/",
                    "2026/03/04/00/",
                ],
            ),
            (
                "2025-12-31T23:00:00Z",
                "2026-03-01T23:00:00Z",
                &["2025/12/31/23/", "2026/01/", "2026/02/", "2026/03/01/"],
            ),
            ("2026-03-01T12:00:00Z", "2026-03-01T10:00:00Z", &[]),
        ];
        for (first, last, expected) in table {
            let hours = Hours::between(at(first), at(last));
            assert_eq!(hours.folders(), expected, "{first} to {last}");
        }
    }

    proptest::proptest! {
        /// No hour is listed twice or left out, and none that was not asked for is listed.
        #[test]
        fn folders_hold_each_hour_once(start in 0i64..40_000, hours in 0i64..2_500) {
            let first = at("2024-01-01T00:00:00Z") + TimeDelta::hours(start);
            let last = first + TimeDelta::hours(hours);
            let folders = Hours::between(first, last).folders();
            for hour in -2..=hours + 2 {
                let folder = format!("{}/", hour_folder(first + TimeDelta::hours(hour)));
                let holding = folders.iter().filter(|held| folder.starts_with(*held)).count();
                proptest::prop_assert_eq!(holding, usize::from((0..=hours).contains(&hour)));
            }
        }
    }
}
