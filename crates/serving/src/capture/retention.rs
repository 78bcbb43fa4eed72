//! Removal of capture files that are too old or too many.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, NaiveDateTime, Utc};

use super::writer::VARIANT;
use crate::settings::CaptureSettings;

/// One capture file. Sorts by time, across endpoints: oldest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    hour: DateTime<Utc>,
    name: String,
    path: PathBuf,
    bytes: u64,
}

/// Removes files whose hour ended more than `max_age_days` ago, and then the oldest ones until the
/// rest leaves room for what is written until the next sweep; how many. Files that are `open` stay,
/// and so does everything that is no capture file.
pub(super) fn sweep(
    settings: &CaptureSettings,
    now: DateTime<Utc>,
    open: &BTreeSet<PathBuf>,
) -> u64 {
    let mut files = found(&settings.dir);
    files.sort_unstable();
    let days = Duration::days(i64::from(settings.max_age_days));
    // A sweep comes after every `rotate_bytes`, and one write has at most as many.
    let budget = settings.max_bytes.saturating_sub(2 * settings.rotate_bytes());
    let mut total: u64 = files.iter().map(|file| file.bytes).sum();
    let mut removed = 0;
    for file in files {
        let is_old = now - (file.hour + Duration::hours(1)) > days;
        if open.contains(&file.path) || !(is_old || total > budget) {
            continue;
        }
        match fs::remove_file(&file.path) {
            Ok(()) => {
                total -= file.bytes;
                removed += 1;
                remove_empty_folders(&file.path);
            }
            Err(error) => tracing::warn!(
                path = %file.path.display(),
                "an old capture file cannot be removed: {error}"
            ),
        }
    }
    removed
}

/// All files at `{endpoint}/AllTraffic/yyyy/mm/dd/hh/*.jsonl`.
fn found(root: &Path) -> Vec<Found> {
    let variants = children(root).into_iter().map(|endpoint| endpoint.join(VARIANT));
    let mut hours: Vec<PathBuf> = variants.collect();
    for _ in ["year", "month", "day", "hour"] {
        hours = hours.iter().flat_map(|folder| children(folder)).collect();
    }
    hours.iter().flat_map(|folder| of_hour(folder)).collect()
}

fn of_hour(folder: &Path) -> Vec<Found> {
    let Some(hour) = hour_of(folder) else { return Vec::new() };
    let file = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let bytes = fs::metadata(&path).ok()?.len();
        name.ends_with(".jsonl").then_some(Found { hour, name, path, bytes })
    };
    children(folder).into_iter().filter_map(file).collect()
}

/// The hour that the last four parts of a path stand for.
fn hour_of(folder: &Path) -> Option<DateTime<Utc>> {
    let parts: Option<Vec<&str>> = folder.iter().map(OsStr::to_str).collect();
    let parts = parts?;
    let last = parts.get(parts.len().checked_sub(4)?..)?.join("/");
    NaiveDateTime::parse_from_str(&format!("{last}:00"), "%Y/%m/%d/%H:%M")
        .ok()
        .map(|time| time.and_utc())
}

/// What is in a folder; what cannot be read counts as empty and is met again next time.
fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// The folders of hour, day, month and year, as far as they are empty now.
fn remove_empty_folders(file: &Path) {
    for folder in file.ancestors().skip(1).take(4) {
        // Fails where the folder is not empty, and there it should.
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}
