//! Latencies of longer spans than a window, from the windows that were counted before it.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use mloop_core::latency::LatencySpan;
use mloop_core::{Profile, Window};
use mloop_platform::{PlatformError, ProfilePlace, ProfileQuery, ProfileStore};

/// Profiles that are in memory at once.
pub(crate) const PAGE: u32 = 24;

/// The latencies of the windows of the same version and schema that ended, from `from` on, before
/// `current` began.
pub(crate) async fn earlier(
    profiles: &dyn ProfileStore,
    current: &Profile,
    from: DateTime<Utc>,
) -> Result<Vec<LatencySpan>, PlatformError> {
    let Ok(span) = Window::new(from, current.window.start()) else { return Ok(vec![]) };
    let (subject, version) = (current.key.subject.clone(), Some(current.key.version));
    let mut query = ProfileQuery { subject, version, span, after: None, limit: PAGE };
    let mut found = vec![];
    loop {
        let page = profiles.within(&query).await?;
        let Some(last) = page.last() else { return Ok(found) };
        query.after = Some(ProfilePlace::of(&last.profile));
        let same = page.into_iter().map(|stored| stored.profile);
        let same = same.filter(|profile| profile.schema == current.schema);
        found.extend(same.map(|Profile { window, latency, .. }| LatencySpan { window, latency }));
    }
}

/// The window with those that lead up to it, none overlapping, none missing between: as far back as
/// `from`, or as they go.
pub(crate) fn leading_up_to(
    current: &LatencySpan,
    from: DateTime<Utc>,
    earlier: &[LatencySpan],
) -> LatencySpan {
    let mut sum = current.clone();
    // Windows as long as this one come of the same schedule, and so lead on.
    let fit = |one: &&LatencySpan| {
        (one.window.length() == current.window.length(), Reverse(one.window.start()))
    };
    loop {
        let next = earlier
            .iter()
            .filter(|one| one.window.end() == sum.window.start() && one.window.start() >= from);
        let Some(next) = next.max_by_key(fit) else { return sum };
        sum.window = sum.window.union(&next.window);
        sum.latency.merge(&next.latency);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use mloop_core::latency::LatencyHistogram;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a moment");
        noon + TimeDelta::minutes(minutes)
    }

    /// A window in minutes from noon, with so many requests.
    fn span((from, until, requests): (i64, i64, u64)) -> LatencySpan {
        let mut latency = LatencyHistogram::new(Some(2_000));
        (0..requests).for_each(|_| latency.observe(1_000));
        LatencySpan { window: Window::new(at(from), at(until)).expect("a span"), latency }
    }

    #[test]
    fn hours_are_added_as_far_back_as_they_lead() {
        let hours = [(-60, 0, 10), (-120, -60, 100), (-180, -120, 1_000)];
        let table = [
            ("the span of the window", 0, hours.to_vec(), (0, 1)),
            ("a shorter span is the window's", 30, hours.to_vec(), (0, 1)),
            ("two hours", -60, hours.to_vec(), (-60, 11)),
            ("three hours", -120, hours.to_vec(), (-120, 111)),
            ("more than was counted", -600, hours.to_vec(), (-180, 1_111)),
            ("an hour that is not whole within", -90, hours.to_vec(), (-60, 11)),
            ("a gap", -600, vec![hours[0], hours[2]], (-60, 11)),
            ("nothing directly before", -600, vec![hours[1], hours[2]], (0, 1)),
            (
                "a window of another schedule over the same hours",
                -120,
                [hours.to_vec(), vec![(-120, 0, 110), (-30, 0, 5)]].concat(),
                (-120, 111),
            ),
            ("only one of another schedule", -120, vec![(-120, 0, 110), (-30, 0, 5)], (-120, 111)),
        ];
        for (name, from, earlier, (begin, requests)) in table {
            let earlier: Vec<LatencySpan> = earlier.into_iter().map(span).collect();
            let found = leading_up_to(&span((0, 60, 1)), at(from), &earlier);
            let expected = Window::new(at(begin), at(60)).expect("a span");
            assert_eq!((found.window, found.latency.count()), (expected, requests), "{name}");
        }
    }
}
