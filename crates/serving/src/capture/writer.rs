//! The thread that writes capture files.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mloop_core::capture::hour_folder;
use mloop_core::{Clock, EndpointName};

use super::{Captured, EventIds, Shared, retention};
use crate::settings::CaptureSettings;

/// SageMaker's name for the variant of an endpoint that has only one.
pub(super) const VARIANT: &str = "AllTraffic";

/// Bytes of lines that are held before they are written, whatever the time.
const BUFFER: usize = 256 << 10;

/// Time after which old files are looked for although no file was begun.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) enum Message {
    Record(Box<Captured>),
    Close,
}

/// A file that is being written. Only whole lines are ever written to it.
struct Open {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    lines: u64,
    bytes: u64,
    since: Instant,
}

impl Open {
    /// Lines and bytes written.
    fn write_out(&mut self) -> io::Result<(u64, u64)> {
        self.file.write_all(&self.buffer)?;
        let bytes = self.buffer.len() as u64;
        self.bytes += bytes;
        self.buffer.clear();
        Ok((std::mem::take(&mut self.lines), bytes))
    }
}

pub(super) struct Writer {
    settings: CaptureSettings,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    ids: EventIds,
    /// By endpoint and folder of the hour.
    open: BTreeMap<(EndpointName, String), Open>,
    swept: Option<Instant>,
    /// Bytes written since then, to all files.
    unswept: u64,
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        settings: CaptureSettings,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ids = EventIds::new(clock.now());
        let open = BTreeMap::new();
        Self { settings, shared, clock, ids, open, swept: None, unswept: 0, failing: false }
    }

    /// Writes until told to close, or until nobody can hand anything over any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut flush_at = Instant::now() + self.settings.flush_every;
        loop {
            let patience = flush_at.saturating_duration_since(Instant::now());
            match messages.recv_timeout(patience) {
                Ok(Message::Record(captured)) => self.append(*captured),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= flush_at {
                self.flush();
                flush_at = Instant::now() + self.settings.flush_every;
            }
        }
        while let Ok(Message::Record(captured)) = messages.try_recv() {
            self.append(*captured);
        }
        self.flush();
    }

    fn append(&mut self, captured: Captured) {
        self.shared.waiting_bytes.fetch_sub(captured.size(), Ordering::Relaxed);
        let (endpoint, at) = (captured.endpoint.clone(), captured.at);
        let id = self.ids.next();
        let line = captured.into_record(id).to_line();
        let key = (endpoint, hour_folder(at));
        if !self.open.contains_key(&key) {
            match self.begin(&key, at) {
                Ok(open) => drop(self.open.insert(key.clone(), open)),
                Err(error) => return self.lost(1, &error),
            }
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        open.buffer.extend_from_slice(line.as_bytes());
        open.buffer.push(b'\n');
        open.lines += 1;
        let is_full = open.bytes + open.buffer.len() as u64 >= self.settings.rotate_bytes();
        if is_full || open.buffer.len() >= BUFFER {
            self.write_out(&key, is_full);
        }
    }

    /// Begins a file, after making room for it.
    fn begin(&mut self, key: &(EndpointName, String), at: DateTime<Utc>) -> io::Result<Open> {
        self.sweep();
        let folder = self.settings.dir.join(key.0.as_str()).join(VARIANT).join(&key.1);
        fs::create_dir_all(&folder)?;
        let name = format!("{}-{}.jsonl", at.format("%M-%S-%3f"), self.ids.next());
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        let since = Instant::now();
        Ok(Open { file, path, buffer: Vec::new(), lines: 0, bytes: 0, since })
    }

    /// Writes what is held, and closes the files that have been open for long.
    fn flush(&mut self) {
        let rotate_after = self.settings.rotate_after;
        let keys: Vec<_> = self.open.keys().cloned().collect();
        for key in keys {
            let is_old =
                self.open.get(&key).is_some_and(|open| open.since.elapsed() >= rotate_after);
            self.write_out(&key, is_old);
        }
        if self.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            self.sweep();
        }
    }

    fn write_out(&mut self, key: &(EndpointName, String), then_close: bool) {
        let Some(open) = self.open.get_mut(key) else { return };
        let lines = open.lines;
        match open.write_out() {
            Ok((lines, bytes)) => {
                self.shared.written.fetch_add(lines, Ordering::Relaxed);
                if then_close {
                    self.open.remove(key);
                }
                self.unswept += bytes;
                if self.unswept >= self.settings.rotate_bytes() {
                    self.sweep();
                }
                if lines > 0 && std::mem::take(&mut self.failing) {
                    tracing::info!("capture files can be written again");
                }
            }
            Err(error) => {
                // Half a line may stand at its end: nothing may follow it.
                self.open.remove(key);
                self.lost(lines, &error);
            }
        }
    }

    /// Counts; tells the log once for each series of failures.
    fn lost(&mut self, lines: u64, error: &io::Error) {
        self.shared.failed.fetch_add(lines, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            let dir = self.settings.dir.display();
            tracing::error!(%dir, "capture files cannot be written, requests go on: {error}");
        }
    }

    fn sweep(&mut self) {
        self.swept = Some(Instant::now());
        self.unswept = 0;
        let open = self.open.values().map(|open| open.path.clone()).collect();
        let removed = retention::sweep(&self.settings, self.clock.now(), &open);
        self.shared.removed_files.fetch_add(removed, Ordering::Relaxed);
    }
}
