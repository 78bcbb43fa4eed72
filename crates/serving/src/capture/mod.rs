//! Data capture: request and answer as SageMaker writes them, and never in a request's way.
//!
//! A handler hands a captured request to a bounded queue and goes on; one thread writes. When the
//! queue is full, in number or in bytes, the record is dropped and counted.

mod retention;
mod writer;

use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, Utc};
use mloop_core::capture::{CaptureData, CaptureRecord, EventMetadata, Payload};
use mloop_core::{Clock, EndpointName, Sha256Digest};

use crate::error::ServeError;
use crate::metrics::CaptureCounts;
use crate::settings::CaptureSettings;
use writer::{Message, Writer};

/// A request that was answered.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) endpoint: EndpointName,
    pub(crate) at: DateTime<Utc>,
    pub(crate) inference_id: Option<String>,
    pub(crate) content_type: String,
    pub(crate) input: Bytes,
    pub(crate) output: Bytes,
}

impl Captured {
    fn size(&self) -> usize {
        self.input.len() + self.output.len()
    }

    fn into_record(self, event_id: String) -> CaptureRecord {
        CaptureRecord {
            capture_data: CaptureData {
                endpoint_input: Some(Payload::new("INPUT", &self.content_type, &self.input)),
                endpoint_output: Some(Payload::new("OUTPUT", "application/json", &self.output)),
            },
            event_metadata: EventMetadata {
                event_id,
                inference_id: self.inference_id,
                inference_time: self.at.trunc_subsecs(0),
            },
            event_version: "0".to_owned(),
        }
    }
}

/// What handlers, writer and metrics share.
#[derive(Debug, Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    removed_files: AtomicU64,
}

/// The way into the capture files.
#[derive(Debug)]
pub(crate) struct Capture {
    queue: SyncSender<Message>,
    most_bytes: usize,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Capture {
    /// Begins to write below the folder of the settings.
    pub(crate) fn start(
        settings: CaptureSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        check(&settings)?;
        let failed = |doing, source| {
            let path = settings.dir.clone();
            ServeError::Write { doing, path, source }
        };
        fs::create_dir_all(&settings.dir).map_err(|source| failed("making", source))?;
        let (queue, messages) = mpsc::sync_channel(settings.queue);
        let shared = Arc::new(Shared::default());
        let most_bytes = settings.queue_bytes;
        let dir = settings.dir.clone();
        let writer = Writer::new(settings, Arc::clone(&shared), clock);
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let writer = thread.spawn(move || writer.run(&messages)).map_err(|source| {
            ServeError::Write { doing: "starting to write to", path: dir, source }
        })?;
        Ok(Self { queue, most_bytes, shared, writer: Mutex::new(Some(writer)) })
    }

    /// Hands over a request; never waits.
    pub(crate) fn offer(&self, captured: Captured) {
        let size = captured.size();
        let waiting = self.shared.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = waiting.saturating_add(size) <= self.most_bytes;
        if !fits || self.queue.try_send(Message::Record(Box::new(captured))).is_err() {
            self.shared.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes everything that was handed over, and ends. Blocks.
    pub(crate) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        // Either fails only when the writer has ended already, in a panic that the log tells of.
        let told = self.queue.send(Message::Close).is_ok();
        if writer.join().is_err() || !told {
            tracing::error!("the capture writer ended before its time, which is a bug");
        }
    }

    pub(crate) fn counts(&self) -> CaptureCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CaptureCounts {
            written: load(&self.shared.written),
            dropped: load(&self.shared.dropped),
            failed: load(&self.shared.failed),
            removed_files: load(&self.shared.removed_files),
        }
    }
}

fn check(settings: &CaptureSettings) -> Result<(), ServeError> {
    let wrong = |setting, problem| Err(ServeError::Setting { setting, problem });
    if settings.max_bytes < 1 << 20 {
        return wrong("--capture-max-bytes", "must be at least 1048576 (1 MiB)");
    }
    if settings.max_age_days == 0 {
        return wrong("--capture-max-age-days", "must be at least 1");
    }
    if settings.flush_every.is_zero() || settings.flush_every.as_secs() > 60 {
        return wrong("--capture-flush-ms", "must lie between 1 and 60000");
    }
    if settings.queue == 0 {
        return wrong("the capture queue", "must have room for at least 1");
    }
    Ok(())
}

/// Ids of events, unique among all processes: digests of who this process is and a counter.
#[derive(Debug)]
struct EventIds {
    process: String,
    next: u64,
}

impl EventIds {
    fn new(started: DateTime<Utc>) -> Self {
        let nanos = started.timestamp_nanos_opt().unwrap_or_default();
        // The address of a fresh allocation keeps apart what one process starts at one moment.
        let place = Box::new(0_u8);
        let process = format!("{nanos}/{}/{:p}", std::process::id(), &raw const *place);
        Self { process, next: 0 }
    }

    /// A UUID of version 8, the one for ids made in ways of one's own (RFC 9562, section 5.8).
    fn next(&mut self) -> String {
        self.next += 1;
        let hex = Sha256Digest::of(format!("{}/{}", self.process, self.next).as_bytes()).short(32);
        let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
        format!("{a}-{b}-8{c}-8{d}-{e}")
    }
}

#[cfg(test)]
mod tests;
