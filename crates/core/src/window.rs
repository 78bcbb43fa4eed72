//! Half-open windows of time, in UTC.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A window whose end is not after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the window from {start} to {end} is {what}: its end must be after its start (a DAG needs CronDataIntervalTimetable for an interval that is not empty)",
    what = if start == end { "empty" } else { "inverted" }
)]
pub struct InvalidWindow {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// From `start` (included) to `end` (excluded), UTC, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bounds", into = "Bounds")]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
struct Bounds {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Window {
    /// Makes a window.
    ///
    /// # Errors
    /// [`InvalidWindow`] when it would be empty or inverted.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, InvalidWindow> {
        if start < end { Ok(Self { start, end }) } else { Err(InvalidWindow { start, end }) }
    }

    /// The first moment inside.
    #[must_use]
    pub fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// The first moment after.
    #[must_use]
    pub fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> TimeDelta {
        self.end - self.start
    }

    /// Whether a moment lies inside.
    #[must_use]
    pub fn contains(&self, moment: DateTime<Utc>) -> bool {
        self.start <= moment && moment < self.end
    }

    /// Whether a moment lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether another window lies wholly inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The whole UTC day that a moment lies in; none at the end of all time.
    #[must_use]
    pub fn day_of(moment: DateTime<Utc>) -> Option<Self> {
        let start = moment.date_naive().and_hms_opt(0, 0, 0)?.and_utc();
        let end = start.checked_add_signed(TimeDelta::days(1))?;
        Self::new(start, end).ok()
    }

    /// The smallest window that covers both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The starts of the clock hours that the window touches, in order.
    pub fn hours(&self) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let hour = TimeDelta::hours(1);
        let past = TimeDelta::seconds(self.start.timestamp().rem_euclid(3600))
            + TimeDelta::nanoseconds(i64::from(self.start.timestamp_subsec_nanos()));
        let end = self.end;
        std::iter::successors(Some(self.start - past), move |start| Some(*start + hour))
            .take_while(move |start| *start < end)
    }
}

impl TryFrom<Bounds> for Window {
    type Error = InvalidWindow;

    fn try_from(bounds: Bounds) -> Result<Self, Self::Error> {
        Self::new(bounds.start, bounds.end)
    }
}

impl From<Window> for Bounds {
    fn from(window: Window) -> Self {
        Self { start: window.start, end: window.end }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        write!(f, "[{}, {})", text(self.start), text(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a moment")
    }

    #[test]
    fn empty_and_inverted_windows_are_refused() {
        let noon = at("2026-03-01T12:00:00Z");
        let later = at("2026-03-01T13:00:00Z");
        assert!(Window::new(noon, noon).expect_err("empty").to_string().contains("is empty"));
        assert!(Window::new(later, noon).expect_err("inverted").to_string().contains("inverted"));
        let window = Window::new(noon, later).expect("an hour");
        assert!(window.contains(noon) && !window.contains(later));
    }

    #[test]
    fn hours_cover_the_window_and_no_more() {
        let window = Window::new(at("2026-03-01T12:59:59.5Z"), at("2026-03-01T14:00:00Z"));
        let hours: Vec<_> = window.expect("a window").hours().collect();
        assert_eq!(hours, [at("2026-03-01T12:00:00Z"), at("2026-03-01T13:00:00Z")]);
    }
}
