//! Messages to a file, and to whoever reads standard error.

use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use mloop_core::notification::{Notification, Severity};
use mloop_platform::files::replaceable;
use mloop_platform::{BuildError, Notifier, PlatformDeps, PlatformError, Spec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::disk::{blocking, failed, lock, make_folder, open_private, sync_folder};

/// Settings of kind `file`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileNotifierSettings {
    /// The file; one JSON object a line is appended. It may be moved away at any time, as logrotate does.
    path: PathBuf,
}

impl Spec<Arc<dyn Notifier>, PlatformDeps> for FileNotifierSettings {
    const KIND: &'static str = "file";

    fn build(self, name: String, deps: &PlatformDeps) -> Result<Arc<dyn Notifier>, BuildError> {
        Ok(Arc::new(FileNotifier { name, path: deps.resolve(&self.path) }))
    }
}

/// Appends messages to a JSON-lines file; a message whose id stands there already is not repeated.
pub struct FileNotifier {
    name: String,
    path: PathBuf,
}

#[async_trait]
impl Notifier for FileNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn probe(&self) -> Result<bool, PlatformError> {
        let path = self.path.clone();
        let doing = "looking at the file of messages";
        blocking(doing, move || could_append(&path).map(|()| true).map_err(failed(doing, &path)))
            .await
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let (path, notification) = (self.path.clone(), notification.clone());
        blocking("writing a message", move || {
            let doing = format!("appending the message {}", notification.id);
            append_once(&path, &notification).map_err(failed(&doing, &path))
        })
        .await
    }
}

/// Looks whether messages could be appended, and makes nothing.
fn could_append(path: &Path) -> std::io::Result<()> {
    // The lock stands in the same folder.
    replaceable(path)?;
    if path.exists() {
        std::fs::OpenOptions::new().append(true).open(path)?;
    }
    Ok(())
}

/// A message is repeated by the next runs, if at all: among the last of the file.
const LOOKED_AT: u64 = 1 << 20;

fn append_once(path: &Path, notification: &Notification) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_folder)?;
    let _held = lock(&path.with_extension("lock"))?;
    let mut file = open_private(path)?;
    let unseen = file.metadata()?.len().saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(unseen))?;
    let mut torn = false;
    // By bytes: a line that was torn may end within a character, and the first may begin there.
    for line in BufReader::new(&file).split(b'\n') {
        let known = serde_json::from_slice::<Notification>(&line?);
        if known.as_ref().is_ok_and(|known| known.id == notification.id) {
            return Ok(());
        }
        torn = known.is_err();
    }
    let mut text = serde_json::to_string(notification)?;
    text.push('\n');
    if torn {
        // A write that a power cut ended half-way: what follows begins on a line of its own.
        text.insert(0, '\n');
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Settings of kind `stderr`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StderrNotifierSettings {}

impl Spec<Arc<dyn Notifier>, PlatformDeps> for StderrNotifierSettings {
    const KIND: &'static str = "stderr";

    fn build(self, name: String, _deps: &PlatformDeps) -> Result<Arc<dyn Notifier>, BuildError> {
        Ok(Arc::new(StderrNotifier { name }))
    }
}

/// Writes messages to standard error, between the lines of the log but whatever its level.
pub struct StderrNotifier {
    name: String,
}

#[async_trait]
impl Notifier for StderrNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let told = tell(&mut io::stderr().lock(), notification);
        told.map_err(|cause| PlatformError::unavailable("standard error", "telling people", cause))
    }
}

/// In one piece, so that lines of other processes do not come between.
fn tell(to: &mut impl io::Write, notification: &Notification) -> io::Result<()> {
    let Notification { id, title, text, severity, at, .. } = notification;
    let severity = match severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
    };
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    to.write_all(format!("{at} {severity} {title} ({id})\n{text}\n").as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use mloop_core::notification::Topic;
    use mloop_core::{ModelName, Subject, TargetName};

    use super::*;

    fn message(id: &str) -> Notification {
        Notification {
            id: id.to_owned(),
            topic: Topic::Monitoring,
            severity: Severity::Warning,
            subject: Subject {
                model: ModelName::new("m").expect("a name"),
                target: TargetName::new("t").expect("a name"),
            },
            title: "title".to_owned(),
            text: "text".to_owned(),
            at: "2026-03-01T00:00:00Z".parse().expect("a moment"),
        }
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_told_by_a_look() {
        let folder = tempfile::tempdir().expect("a folder");
        let at =
            |name: &str| FileNotifier { name: "file".to_owned(), path: folder.path().join(name) };
        assert!(at("alerts/alerts.jsonl").probe().await.expect("its folder can be made"));
        assert!(!folder.path().join("alerts").exists(), "nothing was made");
        std::fs::write(folder.path().join("alerts"), "").expect("written");
        for (name, stands_there) in [("alerts/alerts.jsonl", "a file"), ("", "a folder")] {
            let looked = at(name).probe().await.expect_err(stands_there);
            assert!(looked.to_string().contains("check the path"), "{looked}");
        }
        assert!(at("alerts").probe().await.expect("a file to append to"));
    }

    #[test]
    fn people_who_read_standard_error_are_told_all_of_it() {
        let mut told = vec![];
        tell(&mut told, &message("run-1")).expect("written");
        let expected = "2026-03-01T00:00:00Z WARNING title (run-1)\ntext\n";
        assert_eq!(String::from_utf8_lossy(&told), expected);
    }

    #[tokio::test]
    async fn a_message_is_written_once_also_after_a_torn_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("alerts/alerts.jsonl");
        let notifier = FileNotifier { name: "file".to_owned(), path: path.clone() };
        notifier.notify(&message("a")).await.expect("written");
        notifier.notify(&message("a")).await.expect("a repeat");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"{\"id\":\"to\xe2\x80").expect("half a line, and half a character");
        notifier.notify(&message("b")).await.expect("written");
        notifier.notify(&message("b")).await.expect("a repeat");
        // However long the file grows.
        let old = serde_json::to_string(&message("old")).expect("JSON") + "\n";
        file.write_all(old.repeat(10_000).as_bytes()).expect("written");
        notifier.notify(&message("c")).await.expect("written");
        notifier.notify(&message("c")).await.expect("a repeat");
        let text = std::fs::read(&path).expect("there");
        assert!(text.len() as u64 > LOOKED_AT);
        let text = String::from_utf8_lossy(&text).replace(&old, "");
        let read = |line: &str| serde_json::from_str::<Notification>(line).ok();
        let ids: Vec<String> = text.lines().filter_map(read).map(|message| message.id).collect();
        assert_eq!(ids, ["a", "b", "c"], "{text}");
    }
}
