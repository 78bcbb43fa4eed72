//! Channels to people.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use mloop_core::Subject;
use mloop_core::episode::{Episode, EpisodeOutcome};
use mloop_core::notification::{Notification, Severity, Topic};

use crate::{Again, Outbox, PlatformError, Waiting};

/// Messages that are read at once, and how often at most in one call of [`deliver_pending`].
const BATCH: u32 = 100;
const BATCHES: usize = 10;

/// Refusals after which a message is given up. The pauses between them double, so that the last comes a
/// week after the first: time to mend what is refused, such as the name of a channel.
const REFUSALS: u32 = 12;

/// Pause after the first refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Delivers messages to people.
///
/// # Contract
/// - Delivered at least once: a channel that can tell drops a second message of the same id.
/// - The error says what the channel answered, and holds no secret.
#[cfg_attr(feature = "testing", mockall::automock)]
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Stable name, unique within a configuration.
    fn name(&self) -> &str;

    /// Looks whether messages could be delivered, where that can be told without sending one; then
    /// true. Changes nothing.
    ///
    /// # Errors
    /// As a delivery would fail.
    async fn probe(&self) -> Result<bool, PlatformError> {
        Ok(false)
    }

    /// Delivers one message.
    ///
    /// # Errors
    /// [`PlatformError::Unavailable`] when a later try may succeed; [`PlatformError::Partly`] when some
    /// of its [parts](Self::parts) have the message.
    async fn notify(&self, notification: &Notification) -> Result<(), PlatformError>;

    /// Those it reaches one by one, each as a notifier of its own under a name of its own. What some of
    /// them missed waits for each alone, so that the others get it once.
    fn parts(&self) -> Vec<Arc<dyn Notifier>> {
        vec![]
    }
}

/// Tells people that a training job was submitted, and why. Slack by name, since that is where it
/// usually goes; the notifier decides. Who has a ledger queues [`submission`] there instead.
///
/// # Errors
/// The notifier's.
pub async fn send_slack_alert(
    notifier: &dyn Notifier,
    episode: &Episode,
    at: DateTime<Utc>,
) -> Result<(), PlatformError> {
    notifier.notify(&submission(episode, at)).await
}

/// The message that a training job was submitted, and why.
///
/// Its id is that of the episode, so that a repeat after a kill is recognised; as that of the others.
#[must_use]
pub fn submission(episode: &Episode, at: DateTime<Utc>) -> Notification {
    let subject = episode.subject.clone();
    let job = &episode.job.id;
    let serving = episode.serving.map_or("nothing".to_owned(), |version| version.to_string());
    let text = format!(
        "Attempt {} replaces {serving}. Why:\n- {}",
        episode.attempt,
        episode.reasons.join("\n- ")
    );
    Notification {
        id: format!("{}-submitted", episode.id),
        topic: Topic::Retraining,
        severity: Severity::Warning,
        title: format!("Retraining of {subject} submitted as {job}"),
        subject,
        text,
        at,
    }
}

/// The message that an attempt ended without a version to deploy; none for one that did not end, or left
/// one.
#[must_use]
pub fn attempt_ended(episode: &Episode) -> Option<Notification> {
    let closing = episode.closed.as_ref().filter(|one| one.outcome.may_be_tried_again())?;
    let (subject, job) = (episode.subject.clone(), &episode.job.id);
    let what = match closing.outcome {
        EpisodeOutcome::Rejected => "its version was rejected",
        EpisodeOutcome::Inconclusive => "whether its version is better could not be told",
        _ => "it failed",
    };
    let left = closing.version.map_or(String::new(), |version| format!(" It left {version}."));
    let serving = episode.serving.map_or("nothing".to_owned(), |version| version.to_string());
    let text = format!(
        "Attempt {} to replace {serving} ended: {}.{left} {serving} goes on serving. It was made since:\n- {}",
        episode.attempt,
        closing.detail,
        episode.reasons.join("\n- ")
    );
    Some(Notification {
        id: format!("{}-ended", episode.id),
        topic: Topic::Retraining,
        severity: Severity::Warning,
        title: format!("Retraining of {subject} as {job}: {what}"),
        subject,
        text,
        at: closing.at,
    })
}

/// The message that a cause stands and that no attempt follows, as many having failed as are allowed.
/// `episode` is the last of them, `reason` one sentence with what can be done.
#[must_use]
pub fn attempts_used_up(episode: &Episode, reason: &str, at: DateTime<Utc>) -> Notification {
    let subject = episode.subject.clone();
    Notification {
        id: format!("{}-last", episode.id),
        topic: Topic::Retraining,
        severity: Severity::Critical,
        title: format!("Retraining of {subject} is given up: a person is needed"),
        subject,
        text: format!(
            "{reason}.\nThe last attempt was asked for since:\n- {}",
            episode.reasons.join("\n- ")
        ),
        at,
    }
}

/// Looks whether these channels could deliver; gives the names of those that can tell, for `--check`.
///
/// # Errors
/// That of the first that could not.
pub async fn probe_notifiers(
    notifiers: &[Arc<dyn Notifier>],
) -> Result<Vec<String>, PlatformError> {
    let mut reached = vec![];
    for notifier in notifiers {
        if notifier.probe().await? {
            reached.push(format!("notifier {}", notifier.name()));
        }
    }
    Ok(reached)
}

/// Sends what waits in the outbox about a subject, all receivers at once, so that a dead one delays no other.
///
/// A receiver that cannot be reached, or that refuses our credentials, is left until the next call, which
/// begins with another message: it may have been this one alone. A receiver that refuses a message for
/// good gets those after it; the refused one is tried again after a pause, which doubles with each refusal,
/// goes out if the reason was mended, and is given up after the twelfth refusal, about a week later. Where
/// a message reached some of a receiver's parts only, it waits for the others alone, until the next call.
///
/// Gives the receivers that failed with their errors: one for each message that was refused now, one for
/// all that were ever given up.
pub async fn deliver_pending(
    outbox: &dyn Outbox,
    subject: &Subject,
    notifiers: &[Arc<dyn Notifier>],
) -> Vec<(String, PlatformError)> {
    let deliveries = notifiers.iter().map(|notifier| async move {
        let parts = notifier.parts();
        let missed = parts.iter().map(|part| deliver_all(outbox, subject, part.as_ref()));
        let mut errors: Vec<_> = join_all(missed).await.into_iter().flatten().collect();
        errors.extend(deliver_all(outbox, subject, notifier.as_ref()).await);
        errors
    });
    join_all(deliveries).await.into_iter().flatten().collect()
}

/// Sends what waits for one receiver; gives its name with each error.
async fn deliver_all(
    outbox: &dyn Outbox,
    subject: &Subject,
    notifier: &dyn Notifier,
) -> Vec<(String, PlatformError)> {
    let (mut errors, name) = (vec![], notifier.name());
    if let Err(error) = deliver_to(outbox, subject, notifier, &mut errors).await {
        errors.push(error);
    }
    match outbox.given_up(subject, name).await {
        Ok(0) => {}
        Ok(count) => {
            let doing = format!("delivering messages about {subject}");
            let problem = format!(
                "{count} were refused {REFUSALS} times and given up; the ledger keeps them, see \"Messages\" in docs/ledger.md"
            );
            errors.push(PlatformError::invalid(doing, problem));
        }
        Err(error) => errors.push(error),
    }
    errors.into_iter().map(|error| (name.to_owned(), error)).collect()
}

async fn deliver_to(
    outbox: &dyn Outbox,
    subject: &Subject,
    notifier: &dyn Notifier,
    refused: &mut Vec<PlatformError>,
) -> Result<(), PlatformError> {
    for _ in 0..BATCHES {
        let batch = outbox.pending(subject, notifier.name(), BATCH).await?;
        let is_last = batch.len() < BATCH as usize;
        for waiting in batch {
            deliver(outbox, notifier, &waiting, refused).await?;
        }
        // What failed is not due again.
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Sends one message, and writes down what became of it.
async fn deliver(
    outbox: &dyn Outbox,
    notifier: &dyn Notifier,
    Waiting { notification, refusals }: &Waiting,
    refused: &mut Vec<PlatformError>,
) -> Result<(), PlatformError> {
    let (name, id) = (notifier.name(), notification.id.as_str());
    let Err(error) = notifier.notify(notification).await else {
        return outbox.delivered(name, id).await;
    };
    if let PlatformError::Partly { missed, .. } = &error {
        // The parts first: killed in between, all get it again, and none is forgotten.
        outbox.enqueue(notification, missed).await?;
        outbox.delivered(name, id).await?;
    } else if is_about_the_receiver(&error) {
        outbox.not_delivered(name, id, Again::Soon).await?;
        return Err(error);
    } else {
        outbox.not_delivered(name, id, after(*refusals + 1)).await?;
    }
    refused.push(error);
    Ok(())
}

/// When a message is tried again that was refused so often.
fn after(refusals: u32) -> Again {
    if refusals >= REFUSALS {
        return Again::Never;
    }
    Again::After(FIRST_PAUSE * 2_u32.pow(refusals.saturating_sub(1)))
}

/// Whether the next message would fail in the same way.
fn is_about_the_receiver(error: &PlatformError) -> bool {
    error.is_transient() || matches!(error, PlatformError::Denied { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mloop_core::FixedClock;

    use super::*;
    use crate::conformance::samples;
    use crate::fakes::{InMemoryLedger, SteppedClock};

    /// A chat that answers the message `bad` with an error, and delivers the others.
    fn chat(error: fn() -> PlatformError) -> Arc<dyn Notifier> {
        let mut chat = MockNotifier::new();
        chat.expect_name().return_const("chat".to_owned());
        chat.expect_parts().returning(Vec::new);
        let answer = move |message: &Notification| match message.id.as_str() {
            "bad" => Err(error()),
            _ => Ok(()),
        };
        chat.expect_notify().returning(answer);
        Arc::new(chat)
    }

    /// A chat that delivers, but for messages `bad…`.
    fn picky(told: &Arc<Mutex<Vec<String>>>, error: fn() -> PlatformError) -> Arc<dyn Notifier> {
        let (mut chat, told) = (MockNotifier::new(), Arc::clone(told));
        chat.expect_name().return_const("chat".to_owned());
        chat.expect_parts().returning(Vec::new);
        chat.expect_notify().returning(move |message| {
            if message.id.starts_with("bad") {
                return Err(error());
            }
            told.lock().expect("no panic").push(message.id.clone());
            Ok(())
        });
        Arc::new(chat)
    }

    /// A list of two, of whom `b` is away as long as that is so.
    fn list(b_is_away: bool, told: &Arc<Mutex<Vec<String>>>) -> Arc<dyn Notifier> {
        let recipient = |name: &'static str, told: Arc<Mutex<Vec<String>>>| {
            move || {
                let (mut part, told) = (MockNotifier::new(), Arc::clone(&told));
                part.expect_name().return_const(name.to_owned());
                part.expect_notify().returning(move |message| {
                    if b_is_away {
                        return Err(PlatformError::unavailable("list", "sending", "away"));
                    }
                    told.lock().expect("no panic").push(format!("{name}: {}", message.id));
                    Ok(())
                });
                Arc::new(part) as Arc<dyn Notifier>
            }
        };
        let b = recipient("list <b>", Arc::clone(told));
        let mut list = MockNotifier::new();
        list.expect_name().return_const("list".to_owned());
        list.expect_parts().returning(move || vec![b()]);
        let told = Arc::clone(told);
        list.expect_notify().returning(move |message| {
            let mut told = told.lock().expect("no panic");
            told.push(format!("a: {}", message.id));
            if !b_is_away {
                told.push(format!("b: {}", message.id));
                return Ok(());
            }
            let missed = vec!["list <b>".to_owned()];
            let (system, doing, cause) = ("list".to_owned(), "sending".to_owned(), "away".into());
            Err(PlatformError::Partly { system, doing, missed, cause })
        });
        Arc::new(list)
    }

    #[tokio::test]
    async fn who_missed_a_message_gets_it_later_and_the_others_once() {
        let outbox = InMemoryLedger::new(Arc::new(FixedClock(samples::day_one())));
        let subject = samples::subject("production");
        let receivers = ["list".to_owned()];
        outbox.enqueue(&samples::notification("m"), &receivers).await.expect("queued");
        let told = Arc::new(Mutex::new(vec![]));
        for _ in 0..5 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &[list(true, &told)]).await;
            assert_eq!(failed.len(), 1, "each call tells of it: {failed:?}");
            assert!(failed[0].1.is_transient(), "{failed:?}");
        }
        assert_eq!(*told.lock().expect("no panic"), ["a: m"], "who has it gets it once");
        outbox.enqueue(&samples::notification("n"), &receivers).await.expect("queued");
        for _ in 0..5 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &[list(false, &told)]).await;
            assert_eq!(failed.len(), 0, "{failed:?}");
        }
        let all = ["a: m", "list <b>: m", "a: n", "b: n"];
        assert_eq!(*told.lock().expect("no panic"), all, "and the other when it is back");
    }

    async fn left_after(error: fn() -> PlatformError) -> (usize, Vec<String>) {
        let outbox = InMemoryLedger::new(Arc::new(FixedClock(samples::day_one())));
        let receivers = ["chat".to_owned()];
        for id in ["first", "bad", "last"] {
            outbox.enqueue(&samples::notification(id), &receivers).await.expect("queued");
        }
        let subject = samples::subject("production");
        let failed = deliver_pending(outbox.as_ref(), &subject, &[chat(error)]).await;
        let left = outbox.pending(&subject, "chat", 10).await.expect("a list");
        (failed.len(), left.into_iter().map(|message| message.notification.id).collect())
    }

    #[tokio::test]
    async fn a_look_names_who_could_be_reached() {
        let channel = |name: &str, answer: fn() -> Result<bool, PlatformError>| {
            let mut channel = MockNotifier::new();
            channel.expect_name().return_const(name.to_owned());
            channel.expect_probe().once().returning(answer);
            Arc::new(channel) as Arc<dyn Notifier>
        };
        let channels = [channel("file", || Ok(true)), channel("chat", || Ok(false))];
        let reached = probe_notifiers(&channels).await.expect("both work");
        assert_eq!(reached, ["notifier file"]);
        let broken = channel("mail", || Err(PlatformError::invalid("looking", "no such host")));
        probe_notifiers(&[channel("file", || Ok(true)), broken]).await.expect_err("told");
    }

    #[tokio::test]
    async fn a_receiver_that_is_down_or_locked_keeps_its_messages() {
        let both = ["last".to_owned(), "bad".to_owned()];
        let left = left_after(|| PlatformError::unavailable("chat", "sending", "down")).await;
        assert_eq!(left, (1, both.to_vec()));
        let left = left_after(|| PlatformError::Denied {
            system: "chat".to_owned(),
            doing: "sending".to_owned(),
            cause: "no".into(),
        });
        assert_eq!(left.await, (1, both.to_vec()));
    }

    /// A ledger and its clock.
    fn outbox() -> (Arc<SteppedClock>, Arc<InMemoryLedger>) {
        let clock = Arc::new(SteppedClock::new(samples::day_one()));
        (clock.clone(), InMemoryLedger::new(clock))
    }

    async fn queue(outbox: &InMemoryLedger, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            let message = samples::notification(&id);
            outbox.enqueue(&message, &["chat".to_owned()]).await.expect("queued");
        }
    }

    #[tokio::test]
    async fn however_many_messages_are_refused_a_new_one_goes_out() {
        let (clock, outbox) = outbox();
        let subject = samples::subject("production");
        queue(&outbox, (0..150).map(|number| format!("bad {number}"))).await;
        queue(&outbox, ["good".to_owned()]).await;
        let told = Arc::new(Mutex::new(vec![]));
        let channel = [picky(&told, || PlatformError::invalid("sending", "too long"))];
        for (call, refused, expected) in [(1, 150, &["good"][..]), (2, 0, &["good"])] {
            let failed = deliver_pending(outbox.as_ref(), &subject, &channel).await;
            assert_eq!(failed.len(), refused, "call {call}");
            assert_eq!(*told.lock().expect("no panic"), expected, "call {call}");
        }
        // Their pause is over, and the new one still comes first.
        clock.advance(Duration::from_secs(3600));
        queue(&outbox, ["new".to_owned()]).await;
        let failed = deliver_pending(outbox.as_ref(), &subject, &channel).await;
        assert_eq!(failed.len(), 150);
        assert_eq!(*told.lock().expect("no panic"), ["good", "new"]);
    }

    #[tokio::test]
    async fn a_message_that_always_looks_like_a_dead_receiver_delays_others_by_one_call() {
        let (_clock, outbox) = outbox();
        let subject = samples::subject("production");
        queue(&outbox, ["bad".to_owned(), "good".to_owned()]).await;
        let told = Arc::new(Mutex::new(vec![]));
        let channel = [picky(&told, || PlatformError::unavailable("chat", "sending", "500"))];
        for (call, expected) in [(1, &[][..]), (2, &["good"])] {
            let failed = deliver_pending(outbox.as_ref(), &subject, &channel).await;
            assert_eq!(failed.len(), 1, "call {call}");
            assert_eq!(*told.lock().expect("no panic"), expected, "call {call}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_refused_for_a_week_is_given_up_and_told_of_ever_after() {
        let (clock, outbox) = outbox();
        let subject = samples::subject("production");
        queue(&outbox, ["bad".to_owned()]).await;
        let channel =
            [picky(&Arc::default(), || PlatformError::invalid("sending", "no such channel"))];
        let (mut refusals, mut hours) = (0, 0);
        while outbox.given_up(&subject, "chat").await.expect("a count") == 0 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &channel).await;
            refusals += usize::from(!failed.is_empty());
            hours += 1;
            assert!(hours < 24 * 14, "it is tried for ever");
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(refusals, REFUSALS as usize);
        assert!((24 * 7..24 * 8).contains(&hours), "{hours} hours");
        for _ in 0..2 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &channel).await;
            let [(name, error)] = failed.as_slice() else { panic!("{failed:?}") };
            assert!(name == "chat" && error.to_string().contains("1 were refused"), "{error}");
        }
    }

    #[test]
    fn pauses_double_up_to_the_last_refusal() {
        let minutes = |minutes: u64| Again::After(Duration::from_secs(60 * minutes));
        let table =
            [(1, minutes(5)), (2, minutes(10)), (11, minutes(5 * 1024)), (12, Again::Never)];
        for (refusals, expected) in table {
            assert_eq!(after(refusals), expected, "{refusals}");
        }
    }
}
