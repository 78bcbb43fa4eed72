//! A channel that remembers.

use std::sync::Mutex;

use async_trait::async_trait;
use mloop_core::notification::Notification;

use super::lock;
use crate::{Notifier, PlatformError};

/// Keeps what it was asked to deliver; drops a second message of the same id.
pub struct RecordingNotifier {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: usize,
    messages: Vec<Notification>,
    failures: usize,
}

impl RecordingNotifier {
    /// A channel that nobody has used yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: Mutex::default() }
    }

    /// Makes the next so many calls fail as unreachable (`usize::MAX`: all of them).
    pub fn fail_next(&self, calls: usize) {
        lock(&self.state).failures = calls;
    }

    /// The delivered messages, in order, each once.
    #[must_use]
    pub fn messages(&self) -> Vec<Notification> {
        lock(&self.state).messages.clone()
    }

    /// How often it was asked to deliver, failures and repeats included.
    #[must_use]
    pub fn calls(&self) -> usize {
        lock(&self.state).calls
    }
}

#[async_trait]
impl Notifier for RecordingNotifier {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError> {
        let mut state = lock(&self.state);
        state.calls += 1;
        if state.failures > 0 {
            state.failures -= 1;
            let doing = format!("delivering `{}`", notification.title);
            return Err(PlatformError::unavailable(&self.name, doing, "told to fail"));
        }
        if state.messages.iter().all(|known| known.id != notification.id) {
            state.messages.push(notification.clone());
        }
        Ok(())
    }
}
