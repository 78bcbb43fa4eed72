//! How far long work has come: a bar on a terminal, a line now and then elsewhere.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The least time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5)));

/// Writes something to the terminal above the bars.
pub(crate) fn above(write: impl FnOnce()) {
    BARS.suspend(write);
}

/// Progress of one piece of work.
pub struct ProgressLine {
    what: String,
    bar: ProgressBar,
    last: Mutex<Option<Instant>>,
}

impl ProgressLine {
    /// Progress of work called `what`.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = BARS.add(ProgressBar::no_length());
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {eta} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(what.clone());
        Self { what, bar, last: Mutex::new(None) }
    }

    /// Shows that `done` of `all` steps are done. `important` news get their line at once.
    pub fn update(&self, done: u64, all: u64, message: &str, important: bool) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all);
            self.bar.set_position(done);
            self.bar.set_message(message.to_owned());
        } else if self.line_is_due(important || done == all) {
            tracing::info!("{} {done}/{all} {message}", self.what);
        }
    }

    fn line_is_due(&self, at_once: bool) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = at_once || last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then_and_for_important_news() {
        let line = ProgressLine::new("training");
        assert!(line.line_is_due(false));
        assert!(!line.line_is_due(false));
        assert!(line.line_is_due(true));
    }
}
