//! How a file gets on that is sent or received: as long as it moves, it may take its time.
//!
//! What is handed over counts as moved. A peer's and this system's own buffers hold a few megabytes, so
//! that a sender hears late of a peer that has stopped, and of how slow one is.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{Stream, try_unfold};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until};

use crate::{HttpError, Policy};

/// Bytes of a file that are handed over at once.
const CHUNK: usize = 64 << 10;

/// Lowest rate, in bytes per second, at which a server puts away what it was sent before it answers:
/// MLflow hands a file on to its store first.
const STORING_RATE: u64 = 8 << 20;

/// How far a file has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    began: Instant,
    moved: Instant,
    bytes: u64,
}

/// The limit that a transfer reaches next, unless something moves before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Idle(Duration),
    Answer(Duration),
    Rate(u64),
}

impl Transfer {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, moved: now, bytes: 0 }
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.moved = Instant::now();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits for the next part of an answer.
    ///
    /// # Errors
    /// When it does not come in time, or the whole is too slow.
    pub(crate) async fn next<T>(
        &self,
        call: &str,
        policy: &Policy,
        part: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let (end, limit) = self.end(policy);
        tokio::time::timeout_at(end, part).await.map_err(|_| limit.reached(call))
    }

    fn end(&self, policy: &Policy) -> (Instant, Limit) {
        let idle = self.moved + policy.timeout;
        let slow = self.began + policy.timeout + lasting(self.bytes, policy.lowest_rate);
        if idle <= slow {
            (idle, Limit::Idle(policy.timeout))
        } else {
            (slow, Limit::Rate(policy.lowest_rate))
        }
    }

    /// As [`Transfer::end`], of a file of `size` bytes that is sent and then answered.
    fn end_of_sending(&self, size: u64, policy: &Policy) -> (Instant, Limit) {
        if self.bytes < size {
            return self.end(policy);
        }
        let answering = policy.timeout + lasting(size, STORING_RATE);
        (self.moved + answering, Limit::Answer(answering))
    }
}

impl Limit {
    fn reached(self, call: &str) -> HttpError {
        let call = call.to_owned();
        match self {
            Self::Idle(after) => {
                HttpError::TimedOut { call, what: "nothing of the file moved", after }
            }
            Self::Answer(after) => {
                HttpError::TimedOut { call, what: "no answer to the whole file", after }
            }
            Self::Rate(lowest) => HttpError::TooSlow { call, lowest },
        }
    }
}

/// How long so many bytes take at a rate.
fn lasting(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}

/// An upload that is watched while it goes on.
#[derive(Debug)]
pub(crate) struct Upload {
    transfer: Arc<Mutex<Transfer>>,
    size: u64,
}

impl Upload {
    /// Of a file of `size` bytes, beginning now.
    pub(crate) fn of(size: u64) -> Self {
        Self { transfer: Arc::new(Mutex::new(Transfer::begin())), size }
    }

    /// The parts of the file, each of which counts as moved once it is asked for.
    pub(crate) fn parts(&self, file: File) -> impl Stream<Item = io::Result<Vec<u8>>> + use<> {
        try_unfold((file, Arc::clone(&self.transfer)), |(mut file, transfer)| async move {
            let mut part = vec![0; CHUNK];
            let bytes = file.read(&mut part).await?;
            part.truncate(bytes);
            transfer.lock().unwrap_or_else(PoisonError::into_inner).advance(bytes);
            Ok((bytes > 0).then_some((part, (file, transfer))))
        })
    }

    /// Ends when the upload, or the answer to it, is late.
    pub(crate) async fn late(&self, call: &str, policy: &Policy) -> HttpError {
        loop {
            let transfer = *self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
            let (end, limit) = transfer.end_of_sending(self.size, policy);
            if end <= Instant::now() {
                return limit.reached(call);
            }
            sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_ends_when_nothing_moves_or_too_little() {
        let policy = Policy { timeout: Duration::from_secs(30), ..Policy::default() };
        let policy = Policy { lowest_rate: 1000, ..policy };
        let began = Instant::now();
        let secs = Duration::from_secs;
        let idle = Limit::Idle(secs(30));
        for (moved, bytes, end, limit) in [
            (0, 0, 30, idle),
            (20, 1_000_000, 50, idle),
            (20, 20_000, 50, idle),
            // A byte at a time, each within the limit of silence.
            (29, 1, 30, Limit::Rate(1000)),
            (58, 30_000, 60, Limit::Rate(1000)),
            (3_600, 3_600_000, 3_630, idle),
        ] {
            let transfer = Transfer { began, moved: began + secs(moved), bytes };
            let (found, by) = transfer.end(&policy);
            assert_eq!((found - began).as_secs(), end, "{moved} {bytes}");
            assert_eq!(by, limit, "{moved} {bytes}");
        }
        // 80 MiB: the server has ten seconds more to put them away.
        let size = 80 << 20;
        for (bytes, end) in [(size - 1, 40), (size, 50)] {
            let transfer = Transfer { began, moved: began + secs(10), bytes };
            let (found, _) = transfer.end_of_sending(size, &policy);
            assert_eq!((found - began).as_secs(), end, "{bytes}");
        }
    }
}
