//! Time that passes when the test says so.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mloop_core::Clock;

use super::lock;

/// A clock that stands still until it is moved.
pub struct SteppedClock(Mutex<DateTime<Utc>>);

impl SteppedClock {
    /// A clock that shows this moment.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        *lock(&self.0) += by;
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> DateTime<Utc> {
        *lock(&self.0)
    }
}
