//! The last line, on standard output and in the result file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// The result file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing the result to {}", path.display())]
pub(crate) struct ResultFileError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// Writes text to standard output: a schema, completions, what people asked to see, the last line.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!("nobody reads standard output any more: {error}");
    }
}

/// What the unfinished copy of a result file ends in, after the file's name and the writer's process
/// id.
const PARTIAL: &str = ".partial";

/// An unfinished copy that is older was left by a run that was killed: writing a line takes no time.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Writes one compact line to a file: a reader finds the old content or all of the new.
pub(crate) fn write_result(path: &Path, line: &Value) -> Result<(), ResultFileError> {
    sweep(path);
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}{PARTIAL}", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = File::create(&partial)
        .and_then(|mut file| {
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|cause| {
        // The partial file may never have come to be; what counts is the cause above.
        drop(fs::remove_file(&partial));
        ResultFileError { path: path.to_owned(), cause }
    })
}

/// Removes the unfinished copies of a result file that killed runs left. What cannot be removed hinders
/// nobody.
fn sweep(path: &Path) {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let writer = found
            .to_str()
            .and_then(|found| found.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(PARTIAL));
        let is_ours = writer.is_some_and(|writer| writer.bytes().all(|b| b.is_ascii_digit()));
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if is_ours && is_old {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Largest termination message that Kubernetes keeps of a container, in bytes.
const SHORT: usize = 4096;

/// Characters of an error's message that stay when a line is shortened.
const SHORT_MESSAGE: usize = 800;

/// Writes the short form of a line to a file that is there already, in place: Kubernetes mounts it, so
/// that it cannot be replaced.
pub(crate) fn write_short(path: &Path, line: &Value) -> Result<(), ResultFileError> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path);
    let written = written.and_then(|mut file| file.write_all(shortened(line).as_bytes()));
    written.map_err(|cause| ResultFileError { path: path.to_owned(), cause })
}

/// The line, without its largest parts if it is too long; what it is and how it ended always stay.
fn shortened(line: &Value) -> String {
    let mut line = line.clone();
    if let Some(Value::String(message)) = line.pointer_mut("/error/message")
        && let Some((end, _)) = message.char_indices().nth(SHORT_MESSAGE)
    {
        message.truncate(end);
        message.push('…');
    }
    loop {
        let text = line.to_string();
        let Some(parts) = line.as_object_mut().filter(|_| text.len() > SHORT) else { return text };
        let kept = ["schema", "run_id", "outcome", "error"];
        let free = parts.iter().filter(|(key, _)| !kept.contains(&key.as_str()));
        let largest = free.max_by_key(|(_, part)| part.to_string().len());
        let Some(key) = largest.map(|(key, _)| key.clone()) else { return text };
        parts.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_line_loses_its_largest_parts_and_no_more() {
        let line = json!({"schema": "s", "outcome": "blessed", "version": {"digest": "d"},
            "evaluation": vec![0.123_456; 1000], "notes": "n".repeat(3000)});
        let short: Value = serde_json::from_str(&shortened(&line)).expect("JSON");
        let mut keys: Vec<_> = short.as_object().expect("an object").keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["notes", "outcome", "schema", "version"]);
        let fits = json!({"outcome": "rejected", "evaluation": [1]});
        assert_eq!(shortened(&fits), fits.to_string());

        let error = json!({"message": "ü".repeat(5000), "exit_code": 20});
        let short = shortened(&json!({"outcome": "error", "error": error}));
        assert!(short.len() <= SHORT, "{}", short.len());
        let short: Value = serde_json::from_str(&short).expect("JSON");
        assert_eq!(short["error"]["exit_code"], 20);
        assert!(short["error"]["message"].as_str().expect("text").ends_with("ü…"));
    }

    #[test]
    fn a_termination_message_keeps_its_file() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("termination-log");
        fs::write(&path, "left by an earlier try, and longer than what comes").expect("written");
        let before = fs::metadata(&path).expect("there").ino();
        write_short(&path, &json!({"outcome": "blessed"})).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), r#"{"outcome":"blessed"}"#);
        assert_eq!(fs::metadata(&path).expect("there").ino(), before, "a mount stays what it is");
        let refused = write_short(&folder.path().join("no/x"), &Value::Null);
        assert!(refused.is_err(), "the folder is not there");
    }

    #[test]
    fn what_killed_runs_left_of_a_result_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let left = |name: &str, hours: u64| {
            let file = File::create(folder.path().join(name)).expect("made");
            let now = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            file.set_modified(now - Duration::from_secs(hours * 3600)).expect("set");
        };
        let (swept, kept) = ("r.json.17.partial", ["s.json.17.partial", "r.json.x.partial"]);
        for name in [swept, kept[0], kept[1]] {
            left(name, 2);
        }
        left("r.json.18.partial", 0);
        write_result(&folder.path().join("r.json"), &Value::Null).expect("written");
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(!is_there(swept));
        assert!(kept.iter().all(|name| is_there(name)), "they are none of this result's");
        assert!(is_there("r.json.18.partial"), "its writer may be at work");
    }

    #[test]
    fn a_result_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.json");
        fs::write(&path, "old and longer than the new one\n").expect("written");
        write_result(&path, &serde_json::json!({"a": "x\ny"})).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "{\"a\":\"x\\ny\"}\n");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        let error = write_result(&folder.path().join("no/r.json"), &Value::Null);
        assert!(error.expect_err("no folder").to_string().starts_with("writing the result to"));
    }
}
