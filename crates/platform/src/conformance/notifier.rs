//! The rules of notifiers.

use super::samples;
use crate::Notifier;

/// Whether a channel can tell that it saw a message before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// It can: the second one is dropped.
    Dropped,
    /// It cannot: people may see a message twice.
    Delivered,
}

/// Sends messages through a channel that works. `received` tells how often the other end got the
/// message of an id.
///
/// # Panics
/// With the broken rule.
pub async fn check_notifier(
    notifier: &dyn Notifier,
    repeats: Repeats,
    received: &(dyn Fn(&str) -> usize + Sync),
) {
    assert!(!notifier.name().is_empty(), "a notifier without a name has no place in the outbox");
    assert_eq!(notifier.name(), notifier.name(), "the name is stable");
    let [one, two] = ["conformance-one", "conformance-two"].map(samples::notification);
    assert_eq!(received(&one.id), 0, "the suite needs a fresh channel");
    notifier.probe().await.expect("a channel that works passes a look");
    notifier.notify(&one).await.expect("a message is delivered");
    assert_eq!(received(&one.id), 1, "a success means that the message arrived");
    notifier.notify(&one).await.expect("a repeat is no error");
    let expected = if repeats == Repeats::Dropped { 1 } else { 2 };
    assert_eq!(received(&one.id), expected, "a repeat is {repeats:?}");
    notifier.notify(&two).await.expect("another message");
    assert_eq!(received(&two.id), 1, "one message does not stand in for another");
    let parts = notifier.parts();
    let mut names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
    names.push(notifier.name());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), parts.len() + 1, "each part has a name of its own: {names:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::RecordingNotifier;
    use crate::{MockNotifier, PlatformError};

    #[tokio::test]
    async fn the_fake_passes() {
        let fake = RecordingNotifier::new("recorder");
        let count = |id: &str| fake.messages().iter().filter(|m| m.id == id).count();
        check_notifier(&fake, Repeats::Dropped, &count).await;
        assert_eq!(fake.calls(), 3);
    }

    #[tokio::test]
    async fn the_fake_fails_as_often_as_it_is_told() {
        let fake = RecordingNotifier::new("recorder");
        fake.fail_next(1);
        let message = samples::notification("m");
        let error = fake.notify(&message).await.expect_err("told to fail");
        assert!(matches!(error, PlatformError::Unavailable { .. }), "{error:?}");
        assert_eq!(fake.notify(&message).await.map_err(|e| e.to_string()), Ok(()));
        assert_eq!(fake.messages(), [message]);
    }

    #[tokio::test]
    #[should_panic(expected = "passes a look")]
    async fn a_channel_that_fails_when_looked_at_is_caught() {
        let mut shy = MockNotifier::new();
        shy.expect_name().return_const("shy".to_owned());
        let answer = || Err(PlatformError::invalid("looking", "go away"));
        shy.expect_probe().once().returning(answer);
        check_notifier(&shy, Repeats::Dropped, &|_| 0).await;
    }

    #[tokio::test]
    #[should_panic(expected = "a success means that the message arrived")]
    async fn a_channel_that_swallows_messages_is_caught() {
        let mut swallower = MockNotifier::new();
        swallower.expect_name().return_const("swallower".to_owned());
        swallower.expect_probe().once().returning(|| Ok(true));
        swallower.expect_notify().once().returning(|_| Ok(()));
        check_notifier(&swallower, Repeats::Dropped, &|_| 0).await;
    }
}
