//! Waiting until a window can be judged: until it has ended, and until late files have come.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::{Clock, Window};

/// So far ahead the end of a window may lie, since the scheduler's clock may be ahead of this
/// machine's; one further ahead is a mistake, and refused.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(1);

/// How often the clock is looked at again, should it have been set back meanwhile.
const LOOKS: u32 = 3;

/// Waits for a window that is about to end, and for files that arrive late: `settle` after its end.
/// One that ends further ahead is not waited for.
pub(crate) async fn until_settled(window: Window, settle: Duration, clock: &dyn Clock) {
    for _ in 0..LOOKS {
        let Some(left) = left(window, settle, clock.now()) else { return };
        tracing::info!("the window ends and settles in {:.1} s", left.as_secs_f64());
        tokio::time::sleep(left).await;
    }
}

/// How long is still to be waited; none: not at all.
fn left(window: Window, settle: Duration, now: DateTime<Utc>) -> Option<Duration> {
    if window.end() - now > MAX_AHEAD {
        return None;
    }
    let settle = TimeDelta::from_std(settle).ok()?;
    let left = (window.end() - now).checked_add(&settle)?;
    left.to_std().ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_about_to_end_is_waited_for_and_one_far_ahead_is_not() {
        let end: DateTime<Utc> = "2026-03-01T13:00:00Z".parse().expect("a moment");
        let window = Window::new(end - TimeDelta::hours(1), end).expect("an hour");
        // Seconds after the end, seconds to settle, seconds to wait.
        let table = [
            (-61, 0, None),
            (-61, 30, None),
            (-60, 0, Some(60)),
            (-3, 0, Some(3)),
            (-3, 30, Some(33)),
            (0, 0, None),
            (0, 30, Some(30)),
            (10, 30, Some(20)),
            (30, 30, None),
            (7200, 30, None),
        ];
        for (passed, settle, expected) in table {
            let now = end + TimeDelta::seconds(passed);
            let found = left(window, Duration::from_secs(settle), now);
            assert_eq!(found, expected.map(Duration::from_secs), "{passed} s after, {settle} s");
        }
    }
}
