//! The rules of the ledger.

use std::time::Duration;

use chrono::TimeDelta;
use mloop_core::deployment::{ChangeCall, DeploymentVerdict, Phase, Step};
use mloop_core::profile::StoredProfile;
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::{RunId, Sha256Digest, Subject};

use super::samples;
use crate::{
    Again, Journal, Lease, Leases, Ledger, Message, Outbox, PlatformError, ProfilePlace,
    ProfileQuery, ProfileStore, RunQuery,
};

mod profiles;

/// Longer than any suite takes.
const LONG: Duration = Duration::from_secs(600);

/// Walks an empty ledger through everything that the loop writes.
///
/// # Panics
/// With the broken rule.
pub async fn check_ledger(ledger: &Ledger) {
    ledger.journal.probe().await.expect("an empty ledger can be used");
    one_holder_at_a_time(ledger.leases.as_ref()).await;
    an_overtaken_run_writes_nothing(ledger).await;
    a_run_is_written_once(ledger.journal.as_ref()).await;
    runs_come_oldest_first(ledger.journal.as_ref()).await;
    what_was_told_stays_told(ledger.journal.as_ref()).await;
    episodes_and_versions_are_kept(ledger).await;
    the_journal_keeps_the_first_entry(ledger).await;
    a_call_is_known_until_it_returns(ledger).await;
    profiles::profiles_have_revisions(ledger.profiles.as_ref()).await;
    profiles::profiles_are_read_in_pages(ledger.profiles.as_ref()).await;
    profiles::hours_merge_into_days(ledger.profiles.as_ref()).await;
    profiles::only_windows_apart_are_merged(ledger.profiles.as_ref()).await;
    a_message_is_settled_once(ledger.outbox.as_ref()).await;
    what_cannot_be_delivered_delays_no_other(ledger.outbox.as_ref()).await;
    records_are_written_with_their_messages(ledger).await;
    ledger.journal.probe().await.expect("a ledger with records can be used");
}

async fn take(leases: &dyn Leases, name: &str, holder: &str, ttl: Duration) -> Lease {
    leases.acquire(name, holder, ttl).await.expect("the lease is free or ours")
}

fn is_lost(result: Result<(), PlatformError>, what: &str) {
    let refused = result.expect_err(what);
    assert!(matches!(refused, PlatformError::LeaseLost { .. }), "{what}: {refused:?}");
}

async fn one_holder_at_a_time(leases: &dyn Leases) {
    let first = take(leases, "lease", "first", LONG).await;
    let again = take(leases, "lease", "first", LONG).await;
    assert_eq!(first, again, "a holder that asks again keeps its lease and number");
    take(leases, "another lease", "second", LONG).await;

    let refusal = leases.acquire("lease", "second", LONG).await.expect_err("it is held");
    let PlatformError::LeaseHeld { holder, .. } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(holder, "first", "the refusal names the holder");

    leases.renew(&first, Duration::ZERO).await.expect("ours");
    leases.renew(&first, Duration::ZERO).await.expect("expired, but nobody took it");
    let second = take(leases, "lease", "second", LONG).await;
    assert!(second.fence > first.fence, "a new holder gets a higher number: {second:?}");
    is_lost(leases.renew(&first, LONG).await, "an overtaken lease is not renewed");

    leases.release(&first).await.expect("what is no longer ours is left alone");
    leases.acquire("lease", "third", LONG).await.expect_err("the second still holds it");
    leases.release(&second).await.expect("ours");
    leases.release(&second).await.expect("a repeated release is fine");
    is_lost(leases.renew(&second, LONG).await, "what was given back is not renewed");
    let third = take(leases, "lease", "third", LONG).await;
    assert!(third.fence > second.fence, "numbers ascend over a release: {third:?}");
    leases.release(&third).await.expect("ours");

    let holders: Vec<String> = (0..8).map(|number| format!("holder {number}")).collect();
    let race = holders.iter().map(|holder| leases.acquire("raced", holder, LONG));
    let won = futures::future::join_all(race).await.iter().filter(|lease| lease.is_ok()).count();
    assert_eq!(won, 1, "of those who ask at once, one gets the lease");
}

async fn an_overtaken_run_writes_nothing(ledger: &Ledger) {
    let (journal, subject) = (ledger.journal.as_ref(), samples::subject("fencing"));
    let name = "fencing";
    let old = take(ledger.leases.as_ref(), name, "old", Duration::ZERO).await;
    let deployment = samples::deployment(&subject, 1);
    let entry = samples::entry(&deployment, Step::Planned, Phase::Intent, "old");
    journal.save_deployment(&old, &deployment).await.expect("nobody overtook it");
    take(ledger.leases.as_ref(), name, "new", LONG).await;

    let closed =
        mloop_core::deployment::Deployment { closed_at: Some(samples::day_one()), ..deployment };
    is_lost(journal.save_deployment(&old, &closed).await, "an overtaken deployment");
    is_lost(journal.append(&old, &entry).await, "an overtaken journal entry");
    let call = samples::call(&closed, old.fence, None);
    is_lost(journal.save_call(&old, &call).await, "an overtaken call");
    let episode = samples::episode(&subject, 1);
    is_lost(journal.save_episode(&old, &episode).await, "an overtaken episode");

    let kept = journal.deployments(&subject).await.expect("a list");
    assert_eq!(kept[0].closed_at, None, "a refused write leaves no trace");
    assert_eq!(journal.entries(&closed.id).await.expect("a list"), [], "no trace");
    assert_eq!(journal.unreturned_calls(&subject).await.expect("a list"), [], "no trace");
    assert_eq!(journal.episodes(&subject).await.expect("a list"), [], "no trace");
}

async fn a_run_is_written_once(journal: &dyn Journal) {
    let subject = samples::subject("runs-once");
    let run = samples::monitoring_run(&subject, 0);
    assert_eq!(journal.run(&run.run_id).await.expect("an answer"), None, "not written yet");
    journal.record_run(&run).await.expect("a first record");
    let mut again = RunRecord { outcome: "ok".to_owned(), ..run.clone() };
    again.body = serde_json::json!({ "findings": [] });
    journal.record_run(&again).await.expect("a repeated record");
    let kept = journal.run(&run.run_id).await.expect("an answer");
    assert_eq!(kept.as_ref(), Some(&again), "a repeat replaces the record");
    let query = RunQuery { kind: RunKind::Monitoring, subject, since: None, limit: 10 };
    let runs = async || journal.runs(&query).await.expect("runs");
    assert_eq!(runs().await, std::slice::from_ref(&again), "and leaves one");

    let mut later = RunRecord { as_of: again.as_of + TimeDelta::days(4), ..again.clone() };
    journal.record_run(&later).await.expect("a repeat that says the same");
    assert_eq!(runs().await, std::slice::from_ref(&again), "the same again changes nothing");
    later.body = serde_json::json!({ "findings": [], "stale": true, "rows": 7 });
    journal.record_run(&later).await.expect("a stale repeat");
    let kept = journal.run(&run.run_id).await.expect("an answer");
    assert_eq!(kept.as_ref(), Some(&again), "a stale repeat takes no record's place");
    assert_eq!(runs().await, [again], "a stale repeat takes no record's place");
}

async fn records_are_written_with_their_messages(ledger: &Ledger) {
    let (journal, subject) = (ledger.journal.as_ref(), samples::subject("messages"));
    let lease = take(ledger.leases.as_ref(), "messages", "run", LONG).await;
    let receivers = ["pager", "log"].map(str::to_owned).to_vec();
    let about = |id: &str| {
        let notification = samples::notification(&format!("of-{id}"));
        [Message { notification, receivers: receivers.clone() }]
    };
    let run = samples::monitoring_run(&subject, 0);
    let episode = samples::episode(&subject, 1);
    let deployment = samples::deployment(&subject, 1);
    let entry = samples::entry(&deployment, Step::Notified, Phase::Outcome, "told");
    journal.save_deployment(&lease, &deployment).await.expect("a deployment");
    let waiting = async |receiver: &str| {
        let subject = samples::notification("any").subject;
        let found = ledger.outbox.pending(&subject, receiver, 10).await.expect("a list");
        found.into_iter().map(|message| message.notification.id).collect::<Vec<_>>()
    };
    let write = async || {
        journal.record_run_with(&run, &about("run")).await.expect("a run");
        journal.save_episode_with(&lease, &episode, &about("episode")).await.expect("an episode");
        journal.append_with(&lease, &entry, &about("entry")).await.expect("an entry");
    };
    write().await;
    assert_eq!(journal.run(&run.run_id).await.expect("an answer").as_ref(), Some(&run));
    assert_eq!(journal.episodes(&subject).await.expect("a list"), std::slice::from_ref(&episode));
    assert_eq!(
        journal.entries(&deployment.id).await.expect("a list"),
        std::slice::from_ref(&entry)
    );
    let all = ["of-run", "of-episode", "of-entry"];
    assert_eq!(waiting("pager").await, all, "a record's messages are queued with it");
    for id in all {
        ledger.outbox.delivered("pager", id).await.expect("settled");
    }
    write().await;
    assert!(waiting("pager").await.is_empty(), "a repeat tells nobody twice");
    assert_eq!(waiting("log").await, all, "and keeps what waits");

    ledger.leases.release(&lease).await.expect("ours");
    take(ledger.leases.as_ref(), "messages", "another run", LONG).await;
    let late = journal.save_episode_with(&lease, &episode, &about("late episode")).await;
    is_lost(late, "an overtaken episode with a message");
    let late = journal.append_with(&lease, &entry, &about("late entry")).await;
    is_lost(late, "an overtaken entry with a message");
    assert!(waiting("pager").await.is_empty(), "nobody is told of what was refused");
}

async fn runs_come_oldest_first(journal: &dyn Journal) {
    let subject = samples::subject("runs");
    for hour in [2, 0, 1] {
        journal.record_run(&samples::monitoring_run(&subject, hour)).await.expect("a record");
    }
    let other_kind = RunRecord {
        run_id: RunId::derive(&["retraining"]),
        kind: RunKind::Retraining,
        window: None,
        ..samples::monitoring_run(&subject, 3)
    };
    journal.record_run(&other_kind).await.expect("a record");
    let query = RunQuery { kind: RunKind::Monitoring, subject, since: None, limit: 10 };
    let ends = |runs: Vec<RunRecord>| -> Vec<i64> {
        let end = |run: &RunRecord| run.window.expect("a window").end() - samples::day_one();
        runs.iter().map(|run| end(run).num_hours() - 1).collect()
    };
    let all = journal.runs(&query).await.expect("runs");
    assert_eq!(ends(all), [0, 1, 2], "oldest first, of this kind only");
    let newest = RunQuery { limit: 2, ..query.clone() };
    let found = journal.runs(&newest).await.expect("runs");
    assert_eq!(ends(found), [1, 2], "a limit keeps the newest");
    let moment = samples::hour(1).end() + TimeDelta::minutes(5);
    let since = RunQuery { since: Some(moment), ..query };
    let found = journal.runs(&since).await.expect("runs");
    assert_eq!(ends(found), [1, 2], "`since` includes its moment");
}

async fn what_was_told_stays_told(journal: &dyn Journal) {
    let subject = samples::subject("told");
    let [one, other] = [1, 2].map(|number| samples::deployment(&subject, number).id);
    let run = |hour: i64, kind, deployment: Option<&str>, outcome: &str| RunRecord {
        run_id: RunId::derive(&["told", &hour.to_string()]),
        kind,
        window: None,
        outcome: outcome.to_owned(),
        body: serde_json::json!({ "deployment": deployment }),
        ..samples::monitoring_run(&subject, hour)
    };
    let told = async |id, outcome| journal.was_told(id, outcome).await.expect("an answer");
    assert!(!told(&one, "switched").await, "nothing was recorded yet");
    let (about, outcome) = (Some(one.as_str()), "switched");
    let foreign = run(0, RunKind::Monitoring, about, outcome);
    journal.record_run(&foreign).await.expect("a record");
    assert!(!told(&one, outcome).await, "a run of another binary tells nothing");
    journal.record_run(&run(1, RunKind::Deployment, about, outcome)).await.expect("a record");
    for hour in 2..5 {
        let idle = run(hour, RunKind::Deployment, None, "nothing_to_deploy");
        journal.record_run(&idle).await.expect("a record");
    }
    assert!(told(&one, outcome).await, "what was told stays told");
    assert!(!told(&one, "rolled_back").await, "another outcome is another matter");
    assert!(!told(&other, outcome).await, "so is another deployment");
}

async fn episodes_and_versions_are_kept(ledger: &Ledger) {
    let (journal, subject) = (ledger.journal.as_ref(), samples::subject("episodes"));
    let lease = take(ledger.leases.as_ref(), "episodes", "run", LONG).await;
    let (first, second) = (samples::episode(&subject, 1), samples::episode(&subject, 2));
    for episode in [&second, &first, &first] {
        journal.save_episode(&lease, episode).await.expect("an episode");
    }
    let told = mloop_core::episode::Episode { announced: true, ..first.clone() };
    journal.save_episode(&lease, &told).await.expect("an episode as it now stands");
    let kept = journal.episodes(&subject).await.expect("a list");
    assert_eq!(kept, [second, told], "each once, as last written, newest first");

    let mut version = samples::version(7);
    journal.record_version(&version, Some(first.id)).await.expect("a version");
    journal.record_version(&version, None).await.expect("a repeat");
    version.version.digest = Sha256Digest::of(b"other files");
    let refusal = journal.record_version(&version, None).await.expect_err("another digest");
    assert!(matches!(refusal, PlatformError::Conflict { .. }), "{refusal:?}");
}

async fn the_journal_keeps_the_first_entry(ledger: &Ledger) {
    let (journal, subject) = (ledger.journal.as_ref(), samples::subject("deployments"));
    let lease = take(ledger.leases.as_ref(), "deployments", "run", LONG).await;
    let (first, mut second) = (samples::deployment(&subject, 1), samples::deployment(&subject, 2));
    let orphan = samples::entry(&first, Step::Planned, Phase::Intent, "too early");
    let refusal = journal.append(&lease, &orphan).await.expect_err("never saved");
    assert!(matches!(refusal, PlatformError::Invalid { .. }), "{refusal:?}");
    for deployment in [&first, &second, &second] {
        journal.save_deployment(&lease, deployment).await.expect("a deployment");
    }
    second.verdict = Some(DeploymentVerdict::Switched);
    second.closed_at = Some(samples::day_one());
    journal.save_deployment(&lease, &second).await.expect("as it now stands");
    let kept = journal.deployments(&subject).await.expect("a list");
    assert_eq!(kept, [second.clone(), first], "each once, as last written, newest first");

    let entry = |step, phase, detail| samples::entry(&second, step, phase, detail);
    let verified = entry(Step::StagingVerified, Phase::Outcome, "first");
    let intended = entry(Step::StagingVerified, Phase::Intent, "first");
    let planned = entry(Step::Planned, Phase::Outcome, "first");
    let repeated = entry(Step::Planned, Phase::Outcome, "second");
    for one in [&verified, &planned, &intended, &repeated] {
        journal.append(&lease, one).await.expect("an entry");
    }
    let found = journal.entries(&second.id).await.expect("a list");
    assert_eq!(found, [planned, intended, verified], "the first of each, steps in order");
}

async fn a_call_is_known_until_it_returns(ledger: &Ledger) {
    let (journal, subject) = (ledger.journal.as_ref(), samples::subject("calls"));
    let lease = take(ledger.leases.as_ref(), "calls", "run", LONG).await;
    let [deployment, foreign] =
        ["calls", "other-calls"].map(|target| samples::deployment(&samples::subject(target), 1));
    let [ours, theirs] = [1, 2].map(|fence| samples::call(&deployment, fence, None));
    let refusal = journal.save_call(&lease, &ours).await.expect_err("never saved");
    assert!(matches!(refusal, PlatformError::Invalid { .. }), "{refusal:?}");
    for one in [&deployment, &foreign] {
        journal.save_deployment(&lease, one).await.expect("a deployment");
    }
    for one in [&ours, &theirs, &theirs, &samples::call(&foreign, 3, None)] {
        journal.save_call(&lease, one).await.expect("a call");
    }
    let unreturned = async || journal.unreturned_calls(&subject).await.expect("a list");
    assert_eq!(unreturned().await, [theirs.clone(), ours.clone()], "one of each run, oldest first");
    let back = ChangeCall { returned_at: Some(samples::day_one()), ..ours.clone() };
    journal.save_call(&lease, &back).await.expect("it returned");
    assert_eq!(unreturned().await, [theirs], "a call that returned is waited for no more");
    journal.save_call(&lease, &ours).await.expect("made again");
    assert_eq!(unreturned().await.len(), 2, "a call that is made again is waited for again");
}

async fn a_message_is_settled_once(outbox: &dyn Outbox) {
    let [mail, chat] = ["mail", "chat"].map(str::to_owned);
    let [one, two] = ["one", "two"].map(samples::notification);
    outbox.enqueue(&one, &[mail.clone(), chat.clone()]).await.expect("queued");
    outbox.enqueue(&two, std::slice::from_ref(&mail)).await.expect("queued");
    let mut changed = one.clone();
    changed.text = "another text".to_owned();
    outbox.enqueue(&changed, &[mail.clone(), chat.clone()]).await.expect("a repeat");
    let subject = one.subject.clone();
    let pending = async |receiver: &str, limit| {
        let found = outbox.pending(&subject, receiver, limit).await.expect("a list");
        found.into_iter().map(|message| message.notification).collect::<Vec<_>>()
    };
    let both = [one.clone(), two.clone()];
    assert_eq!(pending(&mail, 10).await, both, "each once, as first written, in order");
    assert_eq!(pending(&mail, 1).await, both[..1], "no more than the limit");

    outbox.delivered(&mail, &one.id).await.expect("settled");
    outbox.delivered(&mail, &one.id).await.expect("settled again");
    outbox.enqueue(&one, &[mail.clone(), chat.clone()]).await.expect("a late repeat");
    assert_eq!(pending(&mail, 10).await, [two], "a settled message never comes back");
    assert_eq!(pending(&chat, 10).await, both[..1], "one receiver's delivery is not another's");
    outbox.enqueue(&one, &["late".to_owned()]).await.expect("a further receiver");
    assert_eq!(pending("late", 10).await, [one], "gets it too");
    assert_eq!(pending("nobody", 10).await, [], "nothing waits");
    let other = samples::subject("staging");
    let foreign = outbox.pending(&other, &chat, 10).await.expect("a list");
    assert_eq!(foreign, [], "a loop sends no other loop's messages");
}

async fn what_cannot_be_delivered_delays_no_other(outbox: &dyn Outbox) {
    let receivers = ["slow".to_owned()];
    for id in ["q1", "q2", "q3"] {
        outbox.enqueue(&samples::notification(id), &receivers).await.expect("queued");
    }
    let subject = samples::notification("any").subject;
    let pending = async || {
        let found = outbox.pending(&subject, "slow", 10).await.expect("a list");
        let each = found.into_iter().map(|one| (one.notification.id, one.refusals));
        each.collect::<Vec<_>>()
    };
    let is = |expected: &[(&str, u32)]| -> Vec<(String, u32)> {
        expected.iter().map(|(id, refusals)| ((*id).to_owned(), *refusals)).collect()
    };
    let failed = async |id: &str, again| {
        outbox.not_delivered("slow", id, again).await.expect("written down");
    };
    failed("q1", Again::Soon).await;
    let rule = "what was tried comes after what was not";
    assert_eq!(pending().await, is(&[("q2", 0), ("q3", 0), ("q1", 0)]), "{rule}");
    failed("q2", Again::After(Duration::ZERO)).await;
    failed("q3", Again::After(LONG)).await;
    let rule = "a refused message is not tried before its time";
    assert_eq!(pending().await, is(&[("q1", 0), ("q2", 1)]), "{rule}");
    outbox.enqueue(&samples::notification("q4"), &receivers).await.expect("queued");
    let rule = "a new message waits for none that failed";
    assert_eq!(pending().await, is(&[("q4", 0), ("q1", 0), ("q2", 1)]), "{rule}");

    failed("q2", Again::Never).await;
    outbox.enqueue(&samples::notification("q2"), &receivers).await.expect("a repeat");
    assert_eq!(pending().await, is(&[("q4", 0), ("q1", 0)]), "what is given up is tried no more");
    let given_up = async |subject, receiver| outbox.given_up(subject, receiver).await;
    assert_eq!(given_up(&subject, "slow").await.expect("a count"), 1, "and counted");
    assert_eq!(given_up(&subject, "nobody").await.expect("a count"), 0, "for its receiver");
    let other = samples::subject("another-loop");
    assert_eq!(given_up(&other, "slow").await.expect("a count"), 0, "for its loop");
}

#[cfg(test)]
mod tests;
